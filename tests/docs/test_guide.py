"""The samples of the guide run, page by page, as a person would type them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mpicluster
from mpicluster.launch import process

DOCS = Path(mpicluster.__file__).parent.parent / "docs"
PAGES = sorted(p for p in DOCS.glob("*.md") if "```python\n" in p.read_text())


def samples(page: Path) -> str:
    """All samples of a page, each on the lines that it has there."""
    text = page.read_text()
    lines = [""] * len(text.splitlines())
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        first = text[: block.start(1)].count("\n")
        for i, line in enumerate(block[1].splitlines()):
            lines[first + i] = line
    return "\n".join(lines)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    state, sockets = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPICLUSTER_STATE_DIR", str(state))
        patch.setenv("XDG_RUNTIME_DIR", str(sockets))
        with mpicluster.Cluster(n=4):
            yield
        deadline = time.monotonic() + 15
        while left := process.marked("MPICLUSTER_STATE_DIR", str(state)):
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.02)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_samples_of_a_page_run(cluster, tmp_path, page):
    script = tmp_path / f"{page.stem}.md"  # tracebacks name the page and its line
    script.write_text(samples(page))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(DOCS.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_there_are_pages():
    assert {"getting-started", "direct", "balanced", "spmd", "errors", "ecosystem"} <= {p.stem for p in PAGES}
