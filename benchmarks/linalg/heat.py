"""Heat, by blocks of rows. It imports torchvision, which is not needed for this: an empty module stands in where it is not installed."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mpi4py import MPI

from benchmarks.linalg.measures import MatrixSize
from benchmarks.linalg.work import long, positive, rows, timed
from benchmarks.take import take
from benchmarks.work import Measurement, expect

COMM = MPI.COMM_WORLD


def load() -> Any:
    """Heat, and torch with one thread."""
    if importlib.util.find_spec("torchvision") is None:
        for name in ("torchvision", "torchvision.transforms", "torchvision.datasets"):
            module = types.ModuleType(name)
            module.__getattr__ = _absent  # type: ignore[method-assign]
            module.__spec__ = importlib.util.spec_from_loader(name, loader=None)
            sys.modules[name] = module
            if "." in name:
                setattr(sys.modules["torchvision"], name.partition(".")[2], module)
    import heat
    import torch

    torch.set_num_threads(1)
    return heat


def _absent(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


def mine(n: int) -> tuple[int, int]:
    quotient, remainder = divmod(n, COMM.size)
    lo = COMM.rank * quotient + min(COMM.rank, remainder)
    return lo, lo + quotient + (COMM.rank < remainder)


@contextmanager
def job(ranks: int) -> Iterator[Mapping[str, Measurement]]:
    """This job itself: all ranks measure, rank 0 writes."""
    expect(COMM.size == ranks, f"{COMM.size} ranks, not {ranks}")
    ht = load()

    def matrix(n: int, columns: int, seed: int) -> Any:
        return ht.array(rows(*mine(n), columns, seed), is_split=0)

    def vector(n: int) -> Any:
        return ht.array(long(*mine(n)), is_split=0)

    def of(f: Callable[..., Any], *operands: Callable[[MatrixSize], Any]) -> Any:
        def measure(size: MatrixSize) -> list[float]:
            given = [operand(size) for operand in operands]
            return timed(lambda: f(*given), size.repeat, COMM.Barrier)

        return measure

    def transposed(a: Any) -> Any:
        return ht.resplit(ht.transpose(a), 0)

    measurements: Mapping[str, Any] = {
        "matmul": of(ht.matmul, lambda s: matrix(s.square, s.square, 1), lambda s: matrix(s.square, s.square, 2)),
        "qr_tall": of(ht.linalg.qr, lambda s: matrix(*s.tall, 1)),
        "svd_tall": of(ht.linalg.svd, lambda s: matrix(*s.tall, 1)),
        "qr_square": of(ht.linalg.qr, lambda s: matrix(s.square, s.square, 1)),
        "eigh": of(ht.linalg.eigh, lambda s: ht.array(positive(*mine(s.spectral), s.spectral), is_split=0)),
        "svd": of(ht.linalg.svd, lambda s: matrix(s.spectral, s.spectral, 1)),
        "transpose": of(transposed, lambda s: matrix(s.transposed, s.transposed, 1)),
        "sum": of(ht.sum, lambda s: vector(s.long)),
        "norm": of(ht.linalg.norm, lambda s: vector(s.long)),
        "elementwise": of(lambda x, y: 2 * x + y, lambda s: vector(s.long), lambda s: vector(s.long)),
    }
    yield measurements


if __name__ == "__main__":
    take(job, write=COMM.rank == 0)
