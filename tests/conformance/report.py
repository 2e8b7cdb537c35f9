"""Writes ``docs/array-api-conformance.md`` of what the standard's suite reported: ``python report.py results.xml VERSION EXAMPLES``."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

DOCS = Path(__file__).parents[2] / "docs"


def outcome(case: ElementTree.Element) -> str:
    """What became of one test."""
    for kind in ("failure", "error", "skipped"):
        if case.find(kind) is not None:
            return "failed" if kind == "error" else {"failure": "failed"}.get(kind, kind)
    return "passed"


def page(xml: Path, version: str, examples: str) -> str:
    """The whole page."""
    cases = list(ElementTree.parse(xml).iter("testcase"))
    results = {f"{c.get('classname', '').rpartition('.')[2]}::{c.get('name')}": outcome(c) for c in cases}
    count = Counter(results.values())
    tried = count["passed"] + count["failed"]
    by_file: dict[str, Counter[str]] = {}
    for name, result in results.items():
        by_file.setdefault(name.partition("::")[0], Counter())[result] += 1
    share = 100 * count["passed"] / max(1, tried)
    summary = (
        f"{date.today().isoformat()}: the standard's own suite, version {version}, against `rc.xp` on 3 engines, {examples} examples a test"
        f" (`make conformance`): **{count['passed']} of {tried} pass** ({share:.1f} %); it skips {count['skipped']}."
    )
    lines = [
        "# Conformance with the array API standard",
        "",
        summary,
        "",
        "| part of the standard | pass | fail | skipped by the suite |",
        "| --- | --- | --- | --- |",
        *(f"| `{file}` | {c['passed']} | {c['failed']} | {c['skipped']} |" for file, c in sorted(by_file.items())),
        "",
    ]
    failed = sorted(name for name, result in results.items() if result == "failed")
    if failed:
        lines += ["Those that fail; the reasons are in [the gaps](array-api-gaps.md):", "", *(f"* `{name}`" for name in failed), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    (DOCS / "array-api-conformance.md").write_text(page(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
