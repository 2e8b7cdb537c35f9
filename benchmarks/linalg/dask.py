"""dask.array, on a local cluster of workers with one thread each. Each sample has operands of its own: else the last result is taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.linalg.measures import MatrixSize
from benchmarks.take import take
from benchmarks.work import Measurement


@contextmanager
def cluster(ranks: int) -> Iterator[Mapping[str, Measurement]]:
    """Workers in processes of their own."""
    import dask
    import dask.array as da
    from distributed import Client, LocalCluster, wait

    dask.config.set({"distributed.worker.memory.target": False, "distributed.worker.memory.spill": False})
    with LocalCluster(n_workers=ranks, threads_per_worker=1, dashboard_address=None) as workers, Client(workers):
        seeds = iter(range(1, 10_000))

        def matrix(n: int, columns: int, block: tuple[int, int]) -> Any:
            return da.random.default_rng(next(seeds)).standard_normal((n, columns), chunks=block)

        def of(f: Callable[..., Any], *operands: Callable[[MatrixSize], Any]) -> Any:
            def measure(size: MatrixSize) -> list[float]:
                samples = []
                for _ in range(size.repeat + 1):
                    given = [operand(size).persist() for operand in operands]
                    wait(given)
                    begin = time.perf_counter()
                    results = f(*given)
                    wait(dask.persist(*(results if isinstance(results, tuple) else (results,))))
                    samples.append(time.perf_counter() - begin)
                return samples[1:]

            return measure

        def square(n: int) -> Any:
            return matrix(n, n, (n // 4, n // 4))

        def definite(s: MatrixSize) -> Any:
            a = square(s.square)
            return a @ a.T + s.square * da.eye(s.square, chunks=s.square // 4)

        def tall(s: MatrixSize) -> Any:
            return matrix(*s.tall, (s.tall[0] // (4 * ranks), s.tall[1]))

        def vector(s: MatrixSize) -> Any:
            return da.random.default_rng(next(seeds)).random(s.long, chunks=s.long // (2 * ranks))

        def right(s: MatrixSize) -> Any:
            return matrix(s.square, s.right_sides, (s.square // 4, s.right_sides))

        measurements: Mapping[str, Any] = {
            "matmul": of(lambda a, b: a @ b, lambda s: square(s.square), lambda s: square(s.square)),
            "cholesky": of(lambda a: da.linalg.cholesky(a, lower=True), definite),
            "solve": of(da.linalg.solve, lambda s: square(s.square), right),
            "qr_tall": of(da.linalg.qr, tall),
            "svd_tall": of(da.linalg.svd, tall),
            "transpose": of(lambda a: a.T.map_blocks(np.ascontiguousarray), lambda s: square(s.transposed)),
            "sum": of(da.sum, vector),
            "norm": of(da.linalg.norm, vector),
            "elementwise": of(lambda x, y: 2 * x + y, vector, vector),
        }
        yield measurements


if __name__ == "__main__":
    take(cluster)
