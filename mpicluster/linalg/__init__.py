"""Linear algebra of arrays divided over the ranks of an MPI communicator: the ``linalg`` extension of the array API standard, and more.

::

    import mpicluster.array as xp

    A, b = xp.random.default_rng(1).standard_normal((8000, 8000)), xp.ones(8000)
    x = xp.linalg.solve(A, b)
    L = xp.linalg.cholesky(A @ A.T)

SPMD as all of `mpicluster.array`. Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

#: What each module exports here. A module adds its own line. None has the name of a function, which it would hide when it is imported.
_NAMES = {
    "checks": "LinAlgError",
    "cholesky_factors": "cho_factor cho_solve cholesky",
    "determinant": "det slogdet",
    "lu_factors": "lu lu_factor lu_solve",
    "solving": "inv solve",
    "triangular": "solve_triangular",
    "qr_factors": "QRResult qr",
    "least_squares": "lstsq",
    "singular": "SVDResult matrix_rank pinv svd svdvals",
    "eigen": "EigResult EighResult eig eigh eigvals eigvalsh",
    "products": "cross matmul matrix_power matrix_transpose outer vecdot",
    "tensors": "tensordot",
    "diagonals": "diagonal trace",
    "norms": "cond matrix_norm norm vector_norm",
    "sparse": "SparseRows",
    "operators": "LinearOperator aslinearoperator block_jacobi jacobi",
    "krylov": "cg minres",
    "arnoldi": "gmres",
    "bidiagonal": "LSQRResult lsqr",
    "lanczos": "eigsh",
    "preconditioned": "lobpcg",
    "randomized": "RandomizedSVD randomized_svd",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mpicluster.linalg' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mpicluster.linalg.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
