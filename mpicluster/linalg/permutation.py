"""Rows of a distributed matrix to other places."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.layout import Layout
from mpicluster.array.mesh import Mesh
from mpicluster.linalg.panels import indices_of

__all__ = ["move_rows"]

Matrix = NDArray[Any]


def move_rows(mesh: Mesh, rows: Matrix, destination: NDArray[np.intp], source: Layout, target: Layout) -> Matrix:
    """Rows, divided by layout ``source`` of axis 0, to where ``destination`` says that each goes, divided by ``target``.

    ``destination``, a permutation, is known to all ranks. At most size - 1 messages each way; each row travels at most once. Memory: the
    rows that come, twice.
    """
    n = len(destination)

    def held(layout: Layout, rank: int) -> NDArray[np.intp]:
        return indices_of(layout.settled((n,), mesh.size), n, mesh.size, rank)

    owner, place = np.empty(n, np.intp), np.empty(n, np.intp)
    for rank in range(mesh.size):
        indices = held(target, rank)
        owner[indices] = rank
        place[indices] = np.arange(len(indices))
    goes = destination[held(source, mesh.rank)]
    sends, receives, come = [], [], []
    with mesh.preparing(n * math.prod(rows.shape[1:]) * rows.itemsize):
        result = np.empty((np.count_nonzero(owner == mesh.rank), *rows.shape[1:]), rows.dtype)
        for peer in range(mesh.size):
            if peer == mesh.rank:
                continue
            theirs = np.flatnonzero(owner[goes] == peer)
            if len(theirs):
                sends.append((peer, rows[theirs]))
            there = destination[held(source, peer)]
            mine = place[there[owner[there] == mesh.rank]]
            if len(mine):
                values = np.empty((len(mine), *rows.shape[1:]), rows.dtype)
                receives.append((peer, values))
                come.append((mine, values))
        kept = np.flatnonzero(owner[goes] == mesh.rank)
        result[place[goes[kept]]] = rows[kept]
    pending = mesh.post(sends, receives)
    mesh.complete(pending)
    for at, values in come:
        result[at] = values
    return result
