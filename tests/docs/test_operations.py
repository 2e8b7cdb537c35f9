"""The tables of operations have a row for every function that there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mpicluster
import mpicluster.array as xp
from mpicluster import linalg
from mpicluster.array import fft

DOCS = Path(mpicluster.__file__).parent.parent / "docs"


def named(page):
    """What stands in code in the first column of a page's tables."""
    rows = [line.split(" | ")[0] for line in (DOCS / page).read_text().splitlines() if line.startswith("| `")]
    return set(re.findall(r"`([\w.]+)`", " ".join(rows)))


def functions(module):
    """Names of its functions: not of types and constants."""
    return [n for n in module.__all__ if callable(getattr(module, n)) and not isinstance(getattr(module, n), type)]


@pytest.mark.parametrize(("page", "names"), [
    ("operations.md", functions(xp) + [f"fft.{n}" for n in functions(fft)]),
    ("linalg.md", functions(linalg)),
])  # fmt: skip
def test_each_function_has_a_row(page, names):
    assert len(names) > 20
    assert sorted(set(names) - named(page)) == []


def test_each_row_says_all():
    for page in ("operations.md", "linalg.md"):
        rows = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("| `")]
        for row in rows:
            cells = [c.strip() for c in re.split(r"(?<!\\)\|", row)[1:-1]]
            assert len(cells) == 5, row
            assert all(cells) or "see there" in cells[1], row
