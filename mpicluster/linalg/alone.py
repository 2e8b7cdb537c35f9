"""What one rank does for all, with the threads of all on its host: where a matrix fits there, and the arithmetic does not divide well.

The others wait without holding a core. Used up to `limits.GATHERED_UP_TO`.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import threadpoolctl
from numpy.typing import NDArray

from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block, Replicated
from mpicluster.array.limits import GATHERED_UP_TO
from mpicluster.array.mesh import Mesh

__all__ = ["on_one_rank"]

Matrix = NDArray[Any]


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
    if x.nbytes > GATHERED_UP_TO:
        raise MemoryError(
            f"{what} of a matrix of {x.nbytes / 2**30:.1f} GiB: it is done on one rank, up to {GATHERED_UP_TO / 2**30:g} GiB (array.limits)"
        )
    threads = _ranks_here(mesh)
    whole = x.gather(0)
    results: tuple[Matrix, ...] = ()
    error: Exception | None = None
    if whole is not None:
        try:
            with threadpoolctl.threadpool_limits(threads):
                results = function(whole)
        except Exception as e:  # noqa: BLE001 - whatever it is, the others must hear of it
            error = e
    _wait_for_first(mesh)
    mesh.settle(error)
    said = mesh.tell([(r.shape, r.dtype) for r in results] if mesh.rank == 0 else None)
    given = results if mesh.rank == 0 else [None] * len(said)
    return tuple(_spread(mesh, r, shape, kind, axis) for r, (shape, kind), axis in zip(given, said, axes, strict=True))


def _ranks_here(mesh: Mesh) -> int:
    """How many ranks of the mesh are on the host of rank 0."""
    hosts = mesh.gather_ints(zlib.crc32(socket.gethostname().encode()))[:, 0]
    return int((hosts == hosts[0]).sum())


def _wait_for_first(mesh: Mesh) -> None:
    """Wait for rank 0 without holding a core."""
    mesh.complete_patiently(mesh.ibcast(np.zeros(1, np.uint8), 0))


def _spread(mesh: Mesh, whole: Matrix | None, shape: tuple[int, ...], kind: Any, axis: int | None) -> DistArray:
    if axis is None:
        values = np.empty(shape, kind) if whole is None else np.ascontiguousarray(whole)
        return DistArray(mesh, Replicated(), shape, mesh.bcast(values, 0))
    layout = Block(axis)
    rows = None if whole is None else np.ascontiguousarray(np.moveaxis(whole, axis, 0))
    sizes = layout.parts(shape, mesh.size)
    rest = tuple(n for i, n in enumerate(shape) if i != axis)
    block = mesh.scatter(rows, np.empty((sizes[mesh.rank], *rest), kind), sizes, 0)
    return DistArray(mesh, layout, shape, np.moveaxis(block, 0, axis))
