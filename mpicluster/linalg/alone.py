"""What rank 0 does for all, with the threads of all on its host: where a matrix fits there, and the arithmetic does not divide well.

Half of the work of eigenvalues and singular values is limited by the speed of memory, and each of its steps would need messages. The others
wait without holding a core. Used up to `limits.GATHERED_UP_TO`.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import threadpoolctl
from numpy.typing import NDArray

from mpicluster.array import limits
from mpicluster.array import local as blocks
from mpicluster.array.agreement import Failure
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Replicated, Shape, block_sizes
from mpicluster.array.mesh import Mesh
from mpicluster.array.statistics import with_block_layout

__all__ = ["alone", "fits", "gathered", "on_one_rank", "scattered", "told"]

Matrix = NDArray[Any]
T = TypeVar("T")


def fits(x: DistArray) -> bool:
    """Whether an array may be copied to one rank."""
    return x.mesh.size == 1 or x.nbytes <= limits.GATHERED_UP_TO


def alone(mesh: Mesh, work: Callable[[], T]) -> T | None:
    """What ``work`` gives on rank 0, where BLAS has the threads of all ranks of its host; None elsewhere.

    All raise if it fails. One message of a byte from rank 0 to each, for which they wait patiently.
    """
    ranks = mesh.on_host_of(0)
    result: T | None = None
    failure = Failure()
    failed = np.zeros(1, np.uint8)
    if mesh.rank == 0:
        with failure, _threads(ranks):
            result = work()
        failed[0] = failure.error is not None
        mesh.exchange([(peer, failed) for peer in range(1, mesh.size)], [])
    else:
        mesh.complete_patiently(mesh.post([], [(0, failed)]))
    if failed[0]:
        mesh.settle(failure.error)
    return result


@functools.cache
def _pools() -> Any:
    """The BLAS libraries of this process."""
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


@contextlib.contextmanager
def _threads(ranks: int) -> Iterator[None]:
    """Have BLAS use the threads of so many ranks, but not more than there are cores for this one."""
    if ranks == 1:
        yield
        return
    each = min((pool["num_threads"] for pool in _pools().info()), default=1)
    with _pools().limit(limits=max(each, min(each * ranks, len(os.sched_getaffinity(0))))):
        yield


def gathered(x: DistArray, kind: np.dtype[Any]) -> tuple[Matrix | None, bool]:
    """A copy of a matrix on rank 0, column-major; None elsewhere. And whether it is transposed, which it is unless x lies by columns.

    size - 1 messages in all, and nothing is transposed on the way.
    """
    x = with_block_layout(x)
    by_columns = isinstance(x.layout, Block) and x.layout.axis == 1
    whole = x.gather(0)
    with x.mesh.preparing(x.nbytes):
        matrix = None if whole is None else (whole if by_columns else whole.T).astype(kind, order="F", copy=False)
    return matrix, not by_columns


def scattered(mesh: Mesh, rows: Matrix | None, shape: Shape, kind: np.dtype[Any]) -> DistArray:
    """A matrix that rank 0 has, in blocks of rows. size - 1 messages in all, for which the others wait patiently."""
    sizes = block_sizes(shape[0], mesh.size)
    with mesh.preparing(math.prod(shape) * kind.itemsize):
        block = np.empty((sizes[mesh.rank], *shape[1:]), kind)
        rows = None if rows is None else np.ascontiguousarray(rows)
    mesh.scatter(rows, block, sizes, 0)
    return DistArray(mesh, Block(0), shape, block)


def told(mesh: Mesh, values: Matrix | None, shape: Shape, kind: Any) -> Matrix:
    """What rank 0 knows, on all. One Bcast."""
    with mesh.preparing(math.prod(shape) * np.dtype(kind).itemsize):
        result = np.empty(shape, kind) if values is None else np.ascontiguousarray(values)
    return mesh.bcast(result, 0)


def on_one_rank(
    x: DistArray, function: Callable[[Matrix], tuple[Matrix, ...]], axes: Sequence[int | None], what: str
) -> tuple[DistArray, ...]:
    """A function of a matrix, done by rank 0 on all of it. Result i is divided along ``axes[i]``, or replicated for None.

    Messages: one of each rank's block to rank 0; a Bcast of the shapes; for each result one to each rank, or a Bcast. Memory: the
    matrix and its results, at rank 0.

    Raises
    ------
    MemoryError
        the matrix is larger than the bound.
    LinAlgError
        the function raises it; on all ranks.
    """
    mesh = x.mesh
    if not fits(x):
        bound = limits.GATHERED_UP_TO / 2**30
        raise MemoryError(f"{what} of a matrix of {x.nbytes / 2**30:.1f} GiB: it is done on one rank, up to {bound:g} GiB (array.limits)")
    whole = x.gather(0)
    results = alone(mesh, lambda: function(whole)) or ()  # type: ignore[arg-type] # rank 0 has it
    said = mesh.tell([(r.shape, r.dtype) for r in results] if mesh.rank == 0 else None)
    given = results if mesh.rank == 0 else [None] * len(said)
    return tuple(_spread(mesh, r, shape, kind, axis) for r, (shape, kind), axis in zip(given, said, axes, strict=True))


def _spread(mesh: Mesh, whole: Matrix | None, shape: Shape, kind: Any, axis: int | None) -> DistArray:
    if axis is None:
        return DistArray(mesh, Replicated(), shape, told(mesh, whole, shape, kind))
    rows = None if whole is None else np.moveaxis(whole, axis, 0)
    divided = scattered(mesh, rows, (shape[axis], *(n for i, n in enumerate(shape) if i != axis)), kind)
    return DistArray(mesh, Block(axis), shape, np.moveaxis(blocks.host(divided.local), 0, axis))
