"""Writes ``docs/array-api-conformance.md`` of what the standard's suite reported.

``python report.py results.xml SUITE VERSION EXAMPLES``
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

DOCS = Path(__file__).parents[2] / "docs"


def outcome(case: ElementTree.Element) -> str:
    """What became of one test."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "passed" if case.find("skipped") is None else "skipped"


def part(case: ElementTree.Element) -> str:
    """The file of a test: its class name is that of the module, and of the test's class if it has one."""
    return next(name for name in case.get("classname", "").split(".") if name.startswith("test_"))


def origin(suite: Path) -> str:
    """Which copy of the suite this is."""
    if (suite / ".git").exists():
        told = subprocess.run(["git", "-C", str(suite), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        return f"The suite is commit {told.stdout.strip()} of `data-apis/array-api-tests`."
    return (
        "The suite is a copy of `data-apis/array-api-tests` that was assembled from package sources: not a checkout, and in a few helpers "
        "not word for word."
    )


def page(xml: Path, suite: Path, version: str, examples: str) -> str:
    """The whole page."""
    cases = list(ElementTree.parse(xml).iter("testcase"))
    count: dict[str, Counter[str]] = {}
    seconds: defaultdict[str, float] = defaultdict(float)
    failed = []
    for case in cases:
        count.setdefault(part(case), Counter())[outcome(case)] += 1
        seconds[part(case)] += float(case.get("time", 0))
        if outcome(case) == "failed":
            failed.append(f"{part(case)}::{case.get('name')}")
    total = sum(count.values(), Counter())
    tried = total["passed"] + total["failed"]
    rows = [*sorted(count.items()), ("all", total)]
    seconds["all"] = sum(seconds.values())
    share = 100 * total["passed"] / max(1, tried)
    summary = (
        f"{date.today().isoformat()}: the standard's own suite, version {version}, against `rc.xp` on 3 engines, with at most {examples} "
        f"examples a test: **{total['passed']} of {tried} pass** ({share:.1f} %), in {seconds['all']:.0f} seconds. "
        f"The suite itself skips {total['skipped']}."
    )
    lines = [
        "# Conformance with the array API standard",
        "",
        summary,
        "",
        f"{origin(suite)} `make conformance SUITE=/path/to/it EXAMPLES={examples}` runs it and writes this page.",
        "",
        "| part of the standard | passed | failed | skipped | seconds |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(f"| {file} | {c['passed']} | {c['failed']} | {c['skipped']} | {seconds[file]:.0f} |" for file, c in rows),
        "",
    ]
    if failed:
        kinds = Counter(re.sub(r"\[.*", "", name, flags=re.DOTALL) for name in failed)
        lines += ["Those that fail, each with its reason, are in [the gaps](array-api-gaps.md#tests-that-fail):", ""]
        lines += [*(f"* `{name}`: {n}" for name, n in sorted(kinds.items())), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    xml, suite, version, examples = sys.argv[1:]
    text = page(Path(xml), Path(suite), version, examples)
    (DOCS / "array-api-conformance.md").write_text(text)
