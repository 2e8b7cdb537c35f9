"""How the cost of linear algebra grows with the number of ranks: measured on few, counted on any. ``python -m benchmarks.growth``.

What is counted are the messages and bytes of this package's own algorithms, from its own layouts and plans; `tests/linalg/test_growth.py`
holds them against what the ranks count when they run. The time of a larger machine is then a model: arithmetic divided by the ranks,
plus messages and bytes at stated prices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import click
import msgspec

from mpicluster.array.layout import Block, Layout, block_sizes, plan
from mpicluster.linalg.panels import Panels

__all__ = ["COUNTS", "Counts", "counted", "predicted"]

DOCS = Path(__file__).resolve().parent.parent / "docs"
ITEM = 8
#: of the model: a core's arithmetic, a message, and a byte between nodes (100 Gbit/s shared by 32 ranks), and one within
FLOPS = 40e9
LATENCY = 3e-6
PER_BYTE = 1 / (12.5e9 / 32)
RIGHT_SIDES = 16


class Counts(msgspec.Struct, frozen=True):
    """Of all ranks together: messages and bytes sent from one to another, and broadcast; and the most that one rank sends or hears."""

    sends: int
    sent: int
    broadcasts: int
    broadcast: int
    #: the largest number of messages, and of bytes, that go out of or into one rank
    messages: int
    nbytes: int
    #: floating-point operations, of all
    flops: float


def _moved(shape: tuple[int, int], size: int, source: Layout, target: Layout) -> tuple[int, int, int, int]:
    """Messages and bytes of a redistribution: of all ranks, and the most of one."""
    source, target = source.settled(shape, size), target.settled(shape, size)
    ranks = range(size) if size <= 64 else (0, size // 2, size - 1)
    plans = [plan.__wrapped__(shape, size, source, target, rank) for rank in ranks]
    messages = [len(p.sends) for p in plans]
    nbytes = [ITEM * sum(part.size for part in p.sends) for p in plans]
    scale = size / len(plans)
    return round(sum(messages) * scale), round(sum(nbytes) * scale), max(messages), max(nbytes)


def _panels(n: int, size: int) -> Panels:
    mesh: Any = SimpleNamespace(size=size, rank=0)
    return Panels.of(mesh, n)


def _transpose(n: int, size: int) -> Counts:
    messages, nbytes, most, largest = _moved((n, n), size, Block(1), Block(0))
    return Counts(messages, nbytes, 0, 0, most, largest, 0.0)


def _matmul(n: int, size: int) -> Counts:
    """A ring: each rank passes on a block of rows size - 1 times."""
    rows = block_sizes(n, size)
    total = ITEM * n * n * (size - 1)
    return Counts(size * (size - 1), total, 0, 0, size - 1, ITEM * n * rows[0] * (size - 1), 2.0 * n**3)


def _cholesky(n: int, size: int) -> Counts:
    """A broadcast of each panel: its rows of L, up to the diagonal."""
    panels = _panels(n, size)
    spans = [panels.rows(k) for k in range(panels.count)]
    broadcast = ITEM * sum((s.stop - s.start) * s.stop for s in spans)
    there, back = _moved((n, n), size, Block(0), panels.layout), _moved((n, n), size, panels.layout, Block(0))
    return _factorization(size, panels, broadcast, [there, back], n**3 / 3)


def _factorization(size: int, panels: Panels, broadcast: int, moves: list[tuple[int, int, int, int]], flops: float) -> Counts:
    if size == 1:
        return Counts(0, 0, 0, 0, 0, 0, flops)
    messages = sum(m[2] for m in moves) + panels.count
    return Counts(
        sum(m[0] for m in moves), sum(m[1] for m in moves), panels.count, broadcast, messages, sum(m[3] for m in moves) + broadcast, flops
    )


def _lu(n: int, size: int) -> Counts:
    """A broadcast of each panel: what is below its first row, and the pivots."""
    panels = _panels(n, size)
    spans = [panels.rows(k) for k in range(panels.count)]
    broadcast = sum(ITEM * (s.stop - s.start) * (n - s.start) + 4 * (s.stop - s.start) + 4 for s in spans)
    return _factorization(size, panels, broadcast, [_moved((n, n), size, Block(0), panels.layout)], 2 * n**3 / 3)


#: the operations whose messages are counted
COUNTS: dict[str, Callable[[int, int], Counts]] = {"transpose": _transpose, "matmul": _matmul, "cholesky": _cholesky, "lu": _lu}
TITLES = {"transpose": "transpose", "matmul": "matrix product", "cholesky": "Cholesky", "lu": "LU"}


def counted(name: str, n: int, size: int) -> Counts:
    """What an operation sends, of a matrix of n rows and columns of doubles, on so many ranks."""
    return COUNTS[name](n, size)


def predicted(name: str, n: int, size: int) -> float:
    """Seconds on a machine of the stated prices. A broadcast costs each rank its bytes twice, and a message for each doubling of ranks."""
    counts = counted(name, n, size)
    doublings = math.ceil(math.log2(size)) if size > 1 else 0
    messages = (counts.messages - counts.broadcasts) + counts.broadcasts * doublings
    nbytes = counts.nbytes + counts.broadcast
    copying = 2 * ITEM * n * n / size / 5e9
    return counts.flops / size / FLOPS + copying + LATENCY * messages + PER_BYTE * nbytes


def two_dimensional(name: str, n: int, size: int) -> float:
    """The same on a square grid of ranks: SUMMA, and ScaLAPACK's factorizations, of which a rank hears O(n**2 / sqrt(p)) elements."""
    flops = counted(name, n, 1).flops
    side = math.isqrt(size)
    if side == 1:
        return flops / FLOPS
    words = {"matmul": 2.0, "cholesky": 1.0, "lu": 1.5}[name] * n * n / side
    steps = n / 128 * (2 if name == "matmul" else 3) * max(1, math.ceil(math.log2(side)))
    return flops / size / FLOPS + LATENCY * steps + PER_BYTE * ITEM * words


def measured(ranks: tuple[int, ...], rounds: int) -> dict[str, dict[int, float]]:
    """Median seconds of the operations on this machine."""
    from benchmarks.harness import run_round
    from benchmarks.linalg.measures import FULL
    from benchmarks.measures import OURS
    from benchmarks.records import Sampled
    from benchmarks.suites import SUITES

    names = ["matmul", "cholesky", "solve", "transpose", "qr_tall"]
    samples: dict[str, dict[int, list[float]]] = {}
    for _ in range(rounds):
        for size in ranks:
            for record in run_round(SUITES["linalg"].contenders[OURS], FULL, size, names, 300.0):
                if isinstance(record, Sampled):
                    samples.setdefault(record.measure, {}).setdefault(size, []).extend(record.samples)
    return {name: {size: median(s) for size, s in sizes.items()} for name, sizes in samples.items()}


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]]


_CLOSING = """## What the model says

Its prices: {prices} (a node's 100 Gbit/s shared by 32 ranks). A broadcast costs each rank its bytes twice (scatter and allgather),
and a message for each doubling of the ranks; that the owner of a panel works alone is hidden by the lookahead, and not counted. It is no
measurement.

With blocks of rows, what a rank hears of a product or a factorization does not shrink as ranks are added: about n² elements. Arithmetic
does. So blocks of rows scale while 2 n³ / (p F) is well above 8 n² b, with F the speed of a rank and b the time of a byte: up to about
p = n / {limit} by these prices; where ranks have the network to themselves, 32 times as far. Beyond that a 2-D grid takes over, of which
a rank hears n² / sqrt(p). There are no algorithms on 2-D grids here yet.
"""


def page(ranks: tuple[int, ...], rounds: int) -> str:
    """The whole page."""
    from benchmarks import machine
    from benchmarks.linalg.measures import MEASURES

    found = measured(ranks, rounds) if rounds else {}
    sizes = (1, 4, 16, 64, 256, 1024, 4096)
    lines = [
        "# How costs grow",
        "",
        "Made by `make growth`. Messages and bytes are counted from the package's own layouts and plans; a test holds them against what",
        "the ranks count when they run.",
        "",
    ]
    if found:
        cores = machine.facts([], {})["cores"]
        lines += [f"## Measured on this machine ({cores} cores), one BLAS thread a rank", ""]
        head = ["operation", *(f"p = {p}" for p in ranks)]
        lines += _table(head, [[MEASURES[m].title, *(f"{t[p]:.2f} s" if p in t else "-" for p in ranks)] for m, t in found.items()])
        lines += ["", "More ranks than cores share them: these show what more ranks cost, not what they gain.", ""]
    for n in (8192, 65536):
        lines += [f"## n = {n:,}: what one rank sends and hears, MB, and messages", ""]
        rows = []
        for name in COUNTS:
            cells = []
            for p in sizes:
                c = counted(name, n, p)
                cells.append(f"{c.nbytes / 1e6:,.0f} ({c.messages:,})")
            rows.append([TITLES[name], *cells])
        lines += [*_table(["operation", *(f"p = {p:,}" for p in sizes)], rows), ""]
        lines += [f"## n = {n:,}: seconds, by the model: blocks of rows, and a 2-D grid", ""]
        rows = []
        for name in ("matmul", "cholesky", "lu"):
            rows.append([TITLES[name], *(f"{predicted(name, n, p):.3g} / {two_dimensional(name, n, p):.3g}" for p in sizes)])
        lines += [*_table(["operation", *(f"p = {p:,}" for p in sizes)], rows), ""]
        crossing = {
            name: next((p for p in sizes if 2 * two_dimensional(name, n, p) < predicted(name, n, p)), None)
            for name in ("matmul", "cholesky", "lu")
        }
        said = ", ".join(f"{TITLES[k]} from p = {v:,}" if v else f"{TITLES[k]} nowhere up to 4,096" for k, v in crossing.items())
        lines += [f"A 2-D grid is more than twice as fast for: {said}.", ""]
    prices = f"{FLOPS / 1e9:.0f} Gflop/s a rank, {LATENCY * 1e6:.0f} us a message, {PER_BYTE * 1e9:.2f} ns a byte"
    limit = f"{4 * FLOPS * PER_BYTE:,.0f}"
    return "\n".join([*lines, _CLOSING.format(prices=prices, limit=limit)])


@click.command()
@click.option("--rounds", type=click.IntRange(0), default=3, show_default=True, help="Of the measured part; 0 leaves it out.")
def main(rounds: int) -> None:
    """Write docs/growth.md."""
    (DOCS / "growth.md").write_text(page((1, 2, 4), rounds))


if __name__ == "__main__":
    main()
