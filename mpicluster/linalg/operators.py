"""What iterative methods may be given: anything that can be multiplied with a vector.

===========================  =================================================================================================
a divided array              in any layout
`SparseRows`                 a sparse matrix in blocks of rows
`LinearOperator`             functions of arrays
SciPy's operators, sparse    which every rank has: vectors are brought to all ranks for these
and dense matrices           (a sparse matrix becomes `SparseRows`, a NumPy array is cut into rows)
a function                   of a vector, or of several as columns; its matrix is square
===========================  =================================================================================================

Functions get and give arrays divided in blocks; what they give is brought to the blocks that are needed. They are called on all ranks,
and must raise on all or none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg as scipy_linalg
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.layout import Block
from mpicluster.array.mesh import Mesh
from mpicluster.array.operands import as_dist, mesh_of
from mpicluster.array.statistics import with_block_layout
from mpicluster.linalg.checks import LinAlgError
from mpicluster.linalg.diagonals import diagonal
from mpicluster.linalg.panels import transposed
from mpicluster.linalg.products import matmul
from mpicluster.linalg.sparse import SparseRows
from mpicluster.linalg.vectors import Space, spaces

__all__ = ["Applied", "LinearOperator", "aslinearoperator", "block_jacobi", "jacobi"]

Host = NDArray[Any]
Function = Callable[[Any], Any]


class LinearOperator:
    """A linear map that is given by functions, as SciPy's class of this name; but of divided arrays.

    ``shape``
        (m, n): from vectors of length n to such of length m;
    ``matvec``, ``rmatvec``
        the product with a vector, and that of the adjoint, which only some methods need;
    ``matmat``, ``rmatmat``
        the same of several vectors, as columns; column by column, if not given;
    ``dtype``
        of the matrix; found, if not given, by a product with zeros when it is first needed.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        matvec: Function,
        rmatvec: Function | None = None,
        matmat: Function | None = None,
        dtype: Any = None,
        rmatmat: Function | None = None,
    ) -> None:
        self.shape = (int(shape[0]), int(shape[1]))
        self.dtype = None if dtype is None else np.dtype(dtype)
        self._matvec = matvec
        self._rmatvec = rmatvec
        self._matmat = matmat
        self._rmatmat = rmatmat

    def __repr__(self) -> str:
        return f"<LinearOperator of shape {self.shape}{'' if self.dtype is None else f', {self.dtype}'}>"

    def matvec(self, x: Any) -> Any:
        """The product with a vector."""
        return self._matvec(x)

    def rmatvec(self, y: Any) -> Any:
        """The product of the adjoint with a vector.

        Raises
        ------
        NotImplementedError
            it was not given.
        """
        if self._rmatvec is None:
            raise NotImplementedError("rmatvec is not defined: the method needs the product of the adjoint with a vector")
        return self._rmatvec(y)

    def matmat(self, x: Any) -> Any:
        """The product with several vectors, the columns of an array."""
        return self._matmat(x) if self._matmat is not None else _by_columns(self.matvec, x)

    def rmatmat(self, y: Any) -> Any:
        """The product of the adjoint with several vectors, the columns of an array."""
        return self._rmatmat(y) if self._rmatmat is not None else _by_columns(self.rmatvec, y)

    def __matmul__(self, x: Any) -> Any:
        return self.matvec(x) if x.ndim == 1 else self.matmat(x)


def _by_columns(function: Function, x: DistArray) -> DistArray:
    columns = [function(DistArray(x.mesh, x.layout, x.shape[:1], np.ascontiguousarray(x.local[:, i]))) for i in range(x.shape[1])]
    arrays = [as_dist(c, x.mesh).redistribute(Block(0)) for c in columns]
    block = np.stack([blocks.host(a.local) for a in arrays], axis=1)
    return DistArray(x.mesh, arrays[0].layout, (*arrays[0].shape, len(arrays)), block)


def _conjugate(x: DistArray) -> DistArray:
    return DistArray(x.mesh, x.layout, x.shape, np.conjugate(blocks.host(x.local)))


class MatrixOperator:
    """A matrix as an operator; see `products.matmul` for messages."""

    def __init__(self, matrix: DistArray) -> None:
        self._matrix = with_block_layout(matrix)
        self.shape = (matrix.shape[0], matrix.shape[1])
        self.dtype = np.dtype(matrix.dtype)

    @property
    def matrix(self) -> DistArray:
        """The matrix, in blocks or replicated."""
        return self._matrix

    def matvec(self, x: Any) -> DistArray:
        """The product with a vector, or with several as columns."""
        return matmul(self._matrix, x)

    def rmatvec(self, y: Any) -> DistArray:
        """The product of the adjoint; nothing is transposed."""
        other = transposed(self._matrix)
        return _conjugate(matmul(other, _conjugate(as_dist(y, other.mesh)))) if self.dtype.kind == "c" else matmul(other, y)

    matmat = matvec
    rmatmat = rmatvec


def aslinearoperator(a: Any, /) -> Any:
    """What has ``shape``, ``dtype``, ``matvec`` and ``matmat`` (and ``rmatvec``, ``rmatmat``), of a matrix or what has these already.

    Raises
    ------
    TypeError
        it is nothing that can be multiplied with a vector.
    ValueError
        it is an array that is no matrix.
    """
    if hasattr(a, "matvec") and hasattr(a, "shape"):
        return a
    if sparse.issparse(a):
        return SparseRows.from_scipy(a)
    if isinstance(a, DistArray | np.ndarray | list | tuple):
        matrix = as_dist(a, mesh_of(a))
        if matrix.ndim != 2:
            raise ValueError(f"array must have ndim == 2, not the shape {matrix.shape}")
        return MatrixOperator(matrix)
    raise TypeError(f"{type(a).__name__} is no linear operator: it has no matvec and shape, and is no matrix")


class Applied:
    """An operator as iterations use it: from this rank's block of vectors to its block of the result, in one type.

    What is returned may be the operator's own, or what was given: it is not written to.
    """

    def __init__(self, operator: Any, domain: Space, results: Space, kind: np.dtype[Any]) -> None:
        self._operator = operator
        self._domain = domain
        self._results = results
        self._kind = kind

    def __call__(self, block: Host) -> Host:
        """The block of ``A x``; of several vectors, if it has columns."""
        function = self._operator.matvec if block.ndim == 1 else self._operator.matmat
        return self._applied(function, block, self._domain, self._results)

    def adjoint(self, block: Host) -> Host:
        """The block of ``A^H y``.

        Raises
        ------
        NotImplementedError
            the operator does not have it.
        """
        name = "rmatvec" if block.ndim == 1 else "rmatmat"
        function = getattr(self._operator, name, None)
        if function is None:
            raise NotImplementedError(f"{type(self._operator).__name__} has no {name}")
        return self._applied(function, block, self._results, self._domain)

    def _applied(self, function: Function, block: Host, source: Space, target: Space) -> Host:
        result = as_dist(function(source.array(block)), source.mesh)
        if result.shape != (target.length, *block.shape[1:]):
            raise ValueError(f"the operator made an array of shape {result.shape} of one of shape {(source.length, *block.shape[1:])}")
        return target.block(result, self._kind)


def mesh_for(operator: Any, *others: Any) -> Mesh:
    """The ranks that an operator, and arrays, lie on."""
    matrix = getattr(operator, "matrix", None)
    arrays = [x for x in (matrix, *others) if isinstance(x, DistArray)]
    if not arrays and isinstance(operator, SparseRows):
        operator.mesh.check()
        return operator.mesh
    return mesh_of(*arrays)


def rows_of(operator: Any) -> tuple[int, ...] | None:
    """How the rows of a matrix are divided, if they are."""
    holder = operator if isinstance(operator, SparseRows) else getattr(operator, "matrix", None)
    layout = getattr(holder, "layout", None)
    if holder is None or not isinstance(layout, Block) or layout.axis != 0:
        return None
    return layout.parts(holder.shape, holder.mesh.size)


def spaces_of(operator: Any, mesh: Mesh) -> tuple[Space, Space]:
    """The vectors that an operator is applied to, and those it makes."""
    return spaces(mesh, operator.shape, rows_of(operator))


def type_of(operator: Any, domain: Space) -> np.dtype[Any]:
    """The type of an operator: float64 for integers; if it does not say, that of its product with zeros."""
    given = getattr(operator, "dtype", None)
    if given is None:
        made = as_dist(operator.matvec(domain.array(np.zeros(domain.local))), domain.mesh)
        given = operator.dtype = np.dtype(made.dtype)
    kind = np.dtype(given)
    return kind if kind.char in "fdFD" else np.dtype(np.float64)


# -- preconditioners -------------------------------------------------------------------------------------------------------------------


def jacobi(a: Any, /) -> LinearOperator:
    """Division by the diagonal of a matrix: the simplest preconditioner. Its application sends no message.

    Raises
    ------
    LinAlgError
        there is a zero on the diagonal; on all ranks.
    """
    operator = aslinearoperator(a)
    if not isinstance(operator, SparseRows | MatrixOperator) or operator.shape[0] != operator.shape[1]:
        raise ValueError("a square matrix is needed, of which the diagonal can be had")
    values = operator.diagonal() if isinstance(operator, SparseRows) else diagonal(operator.matrix)
    space, _ = spaces_of(operator, values.mesh)
    kind = type_of(operator, space)
    block = space.block(values, kind)
    if space.mesh.gather_ints(int((block == 0).any())).any():
        raise LinAlgError("there is a zero on the diagonal")
    inverse = 1 / block

    def scaled(factors: Host) -> Function:
        def function(x: Any) -> DistArray:
            values = space.block(x, np.result_type(kind, np.dtype(x.dtype)))
            return space.array(values * (factors if values.ndim == 1 else factors[:, np.newaxis]))

        return function

    forwards, back = scaled(inverse), scaled(inverse.conj())
    return LinearOperator(operator.shape, forwards, back, forwards, kind, back)


def block_jacobi(a: Any, /) -> LinearOperator:
    """Solving with the square block on the diagonal that each rank has: block Jacobi, with one block for each rank.

    Of the rows of `SparseRows` by a sparse LU factorisation (SuperLU), of an array by LAPACK's. Its application sends no message. The more
    ranks, the weaker it is. Making it: one Allreduce of a byte, and of an array that is not in blocks of rows, bringing it there.

    Raises
    ------
    LinAlgError
        a rank's block is singular; on all ranks.
    """
    operator = aslinearoperator(a)
    if not isinstance(operator, SparseRows | MatrixOperator) or operator.shape[0] != operator.shape[1]:
        raise ValueError("a square matrix is needed, of which blocks can be had")
    mesh = mesh_for(operator)
    space, _ = spaces_of(operator, mesh)
    kind = type_of(operator, space)
    matrix = operator.diagonal_block if isinstance(operator, SparseRows) else _own_block(operator.matrix, space)
    with mesh.together():
        solve = _solver(matrix.astype(kind))

    def applied(trans: str) -> Function:
        def function(x: Any) -> DistArray:
            values = space.block(x, np.result_type(kind, np.dtype(x.dtype)))
            return space.array(_solved(solve, values, trans, kind))

        return function

    forwards, back = applied("N"), applied("H")
    return LinearOperator(operator.shape, forwards, back, forwards, kind, back)


def _own_block(matrix: DistArray, space: Space) -> Host:
    """The square block on the diagonal."""
    rows = blocks.host(matrix.redistribute(Block(0, space.sizes)).local)
    first = sum(space.sizes[: space.mesh.rank])
    return rows[:, first : first + len(rows)]


def _solver(matrix: Any) -> Callable[[Host, str], Host]:
    """Solves with a matrix of this rank, or its adjoint (``H``)."""
    if not matrix.shape[0]:
        return lambda b, _: b
    if sparse.issparse(matrix):
        try:
            factors = sparse_linalg.splu(matrix.tocsc())
        except RuntimeError as e:
            raise LinAlgError(f"the block of a rank is singular: {e}") from None
        return lambda b, trans: factors.solve(b, trans)
    lu, pivots = scipy_linalg.lapack.get_lapack_funcs("getrf", (matrix,))(matrix)[:2]
    if not np.diagonal(lu).all():
        raise LinAlgError("the block of a rank is singular")
    return lambda b, trans: scipy_linalg.lu_solve((lu, pivots), b, trans=2 if trans == "H" else 0, check_finite=False)


def _solved(solve: Callable[[Host, str], Host], values: Host, trans: str, kind: np.dtype[Any]) -> Host:
    """Of complex vectors and a real matrix, each part alone."""
    if values.dtype.kind == "c" and kind.kind != "c":
        return _solved(solve, values.real, trans, kind) + 1j * _solved(solve, values.imag, trans, kind)
    return np.ascontiguousarray(solve(np.ascontiguousarray(values, kind), trans))
