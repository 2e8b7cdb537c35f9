"""What iterative solvers of square systems have in common: how operands become this rank's blocks, and when to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpicluster.array.darray import DistArray
from mpicluster.array.operands import as_dist
from mpicluster.linalg.operators import Applied, LinearOperator, aslinearoperator, mesh_for, spaces_of, type_of
from mpicluster.linalg.vectors import Space

__all__ = ["System", "check_tolerances", "operator_of", "system"]

Host = NDArray[Any]


@dataclass
class System:
    """``A x = b``, as this rank sees it."""

    #: of all vectors
    space: Space
    #: the products with the matrix, and with the preconditioner
    matrix: Applied
    precondition: Callable[[Host], Host]
    #: the right side, not to be written to, and where the iteration begins
    b: Host
    x: Host
    #: whether that is zero because none was given
    from_zero: bool
    #: shape of the solution
    shape: tuple[int, ...]

    @property
    def eps(self) -> float:
        """The distance from 1 to the next number of the type of the vectors."""
        return float(np.finfo(self.b.dtype).eps)

    def residual(self) -> Host:
        """``b - A x``."""
        return self.b.copy() if self.from_zero else self.b - self.matrix(self.x)

    def vector(self) -> DistArray:
        """The iterate, in even blocks: what callbacks get."""
        return self.space.result(self.x)

    def solution(self) -> DistArray:
        """The iterate, of the shape of the right side."""
        vector = self.vector()
        return vector if vector.shape == self.shape else DistArray(vector.mesh, vector.layout, self.shape, vector.local.reshape(-1, 1))


def check_tolerances(rtol: float, atol: float) -> None:
    """See that tolerances are numbers that are not negative.

    Raises
    ------
    ValueError
        one is not.
    """
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not isinstance(value, int | float | np.number) or not value >= 0:
            raise ValueError(f"{name}={value!r} is invalid: it must be a real, non-negative number")


def system(a: Any, b: Any, x0: Any, m: Any, *, columns: bool = False) -> System:
    """The operands of a solver. ``columns``: whether there may be several right sides.

    The type is that of the matrix and the right side together; float64 for integers. At most size - 1 messages each way for what does not
    lie in the blocks of the matrix.

    Raises
    ------
    ValueError
        the matrix is not square, or shapes do not fit it.
    """
    given = getattr(b, "shape", None) or np.shape(b)
    operator = operator_of(a, (given[0], given[0]) if given else (1, 1))
    shape = operator.shape
    if shape[0] != shape[1]:
        raise ValueError(f"expected square matrix, but got shape={shape}")
    n = shape[0]
    mesh = mesh_for(operator, b, x0)
    right = as_dist(b, mesh)
    if right.ndim not in (1, 2) or right.shape[0] != n or (right.ndim == 2 and right.shape[1] != 1 and not columns):
        raise ValueError(f"shapes of A {shape} and b {right.shape} are incompatible")
    space, _ = spaces_of(operator, mesh)
    kind = np.result_type(type_of(operator, space), _inexact(right))
    precondition = _preconditioner(m, shape, space, kind)
    single = right.ndim == 2 and not columns
    block = space.block(right, kind)
    block = block[:, 0] if single else block
    start = None if x0 is None else as_dist(x0, mesh)
    if start is not None and start.shape not in (right.shape, (n,) if block.ndim == 1 else right.shape):
        raise ValueError(f"shapes of A {shape} and x0 {start.shape} are incompatible")
    x = np.zeros_like(block) if start is None else space.block(start, kind).reshape(block.shape).copy()
    return System(space, Applied(operator, space, space, kind), precondition, block, x, start is None, right.shape)


def operator_of(a: Any, shape: tuple[int, ...]) -> Any:
    """An operator; a bare function is one of this shape."""
    if callable(a) and not hasattr(a, "matvec") and not isinstance(a, DistArray):
        return LinearOperator((shape[0], shape[1]), a, matmat=a)
    return aslinearoperator(a)


def _inexact(x: DistArray) -> np.dtype[Any]:
    kind = np.dtype(x.dtype)
    return kind if kind.char in "fdFD" else np.dtype(np.float64)


def _preconditioner(m: Any, shape: tuple[int, ...], space: Space, kind: np.dtype[Any]) -> Callable[[Host], Host]:
    if m is None:
        return lambda block: block
    operator = operator_of(m, shape)
    if tuple(operator.shape) != tuple(shape):
        raise ValueError("matrix and preconditioner have different shapes")
    return Applied(operator, space, space, kind)
