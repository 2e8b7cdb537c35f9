"""What functions of linear algebra ask of their operands: shapes and types. No messages; all ranks raise alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.operands import as_dist, mesh_of
from mpicluster.linalg.kernels import prefix

__all__ = ["LinAlgError", "check_matrix", "check_square", "common_type", "factor_type", "operands", "real_type"]

#: NumPy's own, so that code written for NumPy catches it.
LinAlgError = np.linalg.LinAlgError


def operands(*values: Any) -> tuple[DistArray, ...]:
    """Operands as arrays of one mesh."""
    mesh = mesh_of(*values)
    return tuple(as_dist(v, mesh) for v in values)


def check_matrix(x: DistArray) -> None:
    """See that an array is a matrix, or a stack of them.

    Raises
    ------
    LinAlgError
        it has less than two dimensions.
    """
    if x.ndim < 2:
        raise LinAlgError(f"{x.ndim}-dimensional array given. Array must be at least two-dimensional")


def check_square(x: DistArray) -> None:
    """See that an array is a square matrix, or a stack of them.

    Raises
    ------
    LinAlgError
        it has less than two dimensions, or its last two differ.
    """
    check_matrix(x)
    if x.shape[-1] != x.shape[-2]:
        raise LinAlgError("Last 2 dimensions of the array must be square")


def common_type(*arrays: DistArray) -> np.dtype[Any]:
    """The type in which to compute, as in NumPy: integers and booleans count as float64.

    Raises
    ------
    TypeError
        LAPACK has no such type (float16, long double).
    """
    kinds = [blocks.host(x.local).dtype for x in arrays]
    kinds = [k if k.kind in "fc" else np.dtype(np.float64) for k in kinds]
    for kind in kinds:
        prefix(kind)
    return np.result_type(*kinds)


def real_type(kind: np.dtype[Any]) -> np.dtype[Any]:
    """The real type as precise as a real or complex one."""
    return np.empty(0, kind).real.dtype


def factor_type(a: DistArray, kind: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which to factor a matrix when the solution is of type ``kind``: of its precision, and real if the matrix is."""
    return kind if common_type(a).kind == "c" else real_type(kind)
