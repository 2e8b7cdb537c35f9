"""BLAS and LAPACK on parts of one rank's block, in place. No messages, no layouts; nothing here knows of other ranks.

The routines are those that SciPy exports for Cython, called by their pointers: they take leading dimensions, so that parts of a block are
worked on where they lie, and ``C += A B`` makes no temporary array. The interpreter's lock is released meanwhile.

Matrices are *column-major views*: arrays of two dimensions whose first stride is the size of an element. A block of rows in C order is, by
``.T``, such a view of the transposed matrix, and so is every rectangle of it. Matrices of a call have one type, which is float32, float64,
complex64 or complex128. Matrices without elements are fine everywhere.

Other modules call further routines by `routine`.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_blas, cython_lapack

__all__ = [
    "column_major",
    "cython_blas",
    "cython_lapack",
    "gemm",
    "getrf",
    "herk",
    "is_columns",
    "laswp",
    "leading_dimension",
    "potrf",
    "prefix",
    "routine",
    "trsm",
    "trtri",
]

Matrix = NDArray[Any]

#: the first letter of a routine's name, by the type of its matrices
_PREFIX = {np.dtype(kind): letter for kind, letter in ((np.float32, "s"), (np.float64, "d"), (np.complex64, "c"), (np.complex128, "z"))}
_REAL = {"s": "s", "d": "d", "c": "s", "z": "d"}
_TYPES = {letter: kind for kind, letter in _PREFIX.items()}
#: how an argument's type is written in the signature of a pointer
_WRITTEN = {
    "flag": r"char \*",
    "integer": r"int \*",
    "s": r"(float|__pyx_t_\w*_s) \*",
    "d": r"(double|__pyx_t_\w*_d) \*",
    "c": r"(__pyx_t_float_complex|__pyx_t_\w*_c) \*",
    "z": r"(__pyx_t_double_complex|__pyx_t_\w*_z) \*",
}
_INT_MAX = 2**31 - 1

_name_of = ctypes.pythonapi.PyCapsule_GetName
_name_of.restype, _name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


class _Flag:
    """A letter."""

    @classmethod
    def from_param(cls, value: str) -> Any:
        return ctypes.c_char_p(value.encode())


class _Integer:
    """A number, a c_int that is filled in, or an array of such."""

    @classmethod
    def from_param(cls, value: Any) -> Any:
        if isinstance(value, ctypes.c_int):
            return ctypes.byref(value)
        if isinstance(value, np.ndarray):
            if value.dtype != np.intc:
                raise TypeError(f"BLAS and LAPACK have integers of type {np.dtype(np.intc)}, not {value.dtype}")
            return ctypes.c_void_p(value.ctypes.data)
        if not -_INT_MAX <= value <= _INT_MAX:
            raise OverflowError(f"BLAS and LAPACK cannot count to {value}: the block of one rank is too large; use more ranks")
        return ctypes.byref(ctypes.c_int(value))


def _elements(kind: np.dtype[Any]) -> Any:
    """The argument type for arrays of one type, or single numbers."""

    class Elements:
        @classmethod
        def from_param(cls, value: Any) -> Any:
            if not isinstance(value, np.ndarray):
                number = np.array(value, kind)
                pointer = ctypes.c_void_p(number.ctypes.data)
                pointer.number = number  # type: ignore[attr-defined] # which must live as long
                return pointer
            if value.dtype != kind:
                raise TypeError(f"matrices of one call have one type; here it is {kind}, not {value.dtype}")
            return ctypes.c_void_p(value.ctypes.data)

    return Elements


_ARGUMENTS = {"flag": _Flag, "integer": _Integer, **{letter: _elements(kind) for letter, kind in _TYPES.items()}}


def prefix(kind: Any) -> str:
    """The first letter of the names of routines for this type.

    Raises
    ------
    TypeError
        there are none: it is not float32, float64, complex64 or complex128.
    """
    try:
        return _PREFIX[np.dtype(kind)]
    except KeyError:
        raise TypeError(f"array type {np.dtype(kind)} is unsupported in linalg") from None


def _single(module: ModuleType, name: str, letter: str, spec: str) -> Callable[..., None]:
    kinds = [{"c": "flag", "i": "integer", "x": letter, "r": _REAL[letter]}[s] for s in spec]
    capsule = module.__pyx_capi__[name]
    signature = _name_of(capsule)
    wanted = r"void \(" + ", ".join(_WRITTEN[kind] for kind in kinds) + r"\)"
    if not re.fullmatch(wanted, signature.decode()):
        raise ImportError(f"{name} of SciPy is '{signature.decode()}', which is not as expected: 32-bit integers, and arguments {spec!r}")
    function: Callable[..., None] = ctypes.CFUNCTYPE(None)(_pointer_of(capsule, signature))
    function.argtypes = [_ARGUMENTS[kind] for kind in kinds]  # type: ignore[attr-defined]
    return function


def routine(
    module: ModuleType, name: str, spec: str, complex_name: str | None = None, letters: str = "sdcz"
) -> dict[str, Callable[..., None]]:
    """The routine for each type, by the letter that `prefix` gives; its signature is checked.

    ``module``
        `cython_blas` or `cython_lapack`;
    ``name``, ``complex_name``
        without the first letter, for real matrices and for complex ones, where these differ (``syrk``, ``herk``);
    ``spec``
        a letter for each argument: ``c`` a flag (a str), ``i`` an integer (an int; a `ctypes.c_int` to be filled in; an array of intc),
        ``x`` of the matrices' type and ``r`` of the real type as precise (an array, or a number). Arrays are handed on as they are;
    ``letters``
        the types that there is such a routine for.

    Where real and complex routines differ in their arguments (``rwork``), a `spec` of two, for real and for complex ones: ``"ci/cir"``.

    What is returned raises ctypes.ArgumentError, whose text says why, for arrays of another type and numbers beyond 32 bits.

    Raises
    ------
    ImportError
        SciPy's routine has other arguments.
    """
    real, _, other = spec.partition("/")
    names = {letter: (complex_name or name) if letter in "cz" else name for letter in letters}
    return {letter: _single(module, letter + n, letter, (other or real) if letter in "cz" else real) for letter, n in names.items()}


def _step(a: Matrix) -> int:
    """How many elements there are from one column to the next; 0 if columns do not lie in one piece."""
    rows, columns = a.shape
    size: int = a.itemsize
    if rows > 1 and columns and a.strides[0] != size:
        return 0
    if columns <= 1 or not rows:
        return max(1, int(rows))
    step, odd = divmod(int(a.strides[1]), size)
    return 0 if odd or step < rows else step


def is_columns(a: Matrix) -> bool:
    """Whether an array of two dimensions is a column-major view."""
    return _step(a) > 0


def leading_dimension(a: Matrix) -> int:
    """How many elements there are from one column to the next.

    Raises
    ------
    ValueError
        it is not a column-major view.
    """
    step = _step(a)
    if not step:
        raise ValueError(f"a matrix of shape {a.shape} and strides {a.strides} does not have its columns in one piece")
    return step


def column_major(a: Any) -> Matrix:
    """A copy in Fortran's order."""
    return np.array(a, order="F", copy=True)


def _conformed(ok: bool, *shapes: tuple[int, ...]) -> None:
    if not ok:
        raise ValueError(f"matrices of shapes {' and '.join(map(str, shapes))} do not fit each other")


_gemm = routine(cython_blas, "gemm", "cciiixxixixxi")
_trsm = routine(cython_blas, "trsm", "cccciixxixi")
_herk = routine(cython_blas, "syrk", "cciixxixxi/cciirxirxi", "herk")
_potrf = routine(cython_lapack, "potrf", "cixii")
_getrf = routine(cython_lapack, "getrf", "iixiii")
_laswp = routine(cython_lapack, "laswp", "ixiiiii")
_trtri = routine(cython_lapack, "trtri", "ccixii")


def gemm(transa: str, transb: str, alpha: complex, a: Matrix, b: Matrix, beta: complex, c: Matrix) -> None:
    """``c = alpha op(a) op(b) + beta c``; op by ``N`` as it is, ``T`` transposed, ``C`` conjugate transposed. With beta 0, c may be NaN."""
    m, n = c.shape
    inner = a.shape[1] if transa == "N" else a.shape[0]
    _conformed(
        (a.shape if transa == "N" else a.shape[::-1]) == (m, inner) and (b.shape if transb == "N" else b.shape[::-1]) == (inner, n),
        a.shape,
        b.shape,
        c.shape,
    )
    if c.size:
        lda, ldb, ldc = leading_dimension(a), leading_dimension(b), leading_dimension(c)
        _gemm[prefix(c.dtype)](transa, transb, m, n, inner, alpha, a, lda, b, ldb, beta, c, ldc)


def trsm(side: str, uplo: str, trans: str, diag: str, alpha: complex, a: Matrix, b: Matrix) -> None:
    """``b = alpha op(a)^-1 b`` for side ``L``, ``b = alpha b op(a)^-1`` for ``R``.

    ``a`` is triangular, ``uplo`` ``L`` or ``U``, and with ``diag`` ``U`` has ones on its diagonal, which are not looked at.
    """
    m, n = b.shape
    _conformed(a.shape == ((m, m) if side == "L" else (n, n)), a.shape, b.shape)
    if b.size:
        _trsm[prefix(b.dtype)](side, uplo, trans, diag, m, n, alpha, a, leading_dimension(a), b, leading_dimension(b))


def herk(uplo: str, trans: str, alpha: float, a: Matrix, beta: float, c: Matrix) -> None:
    """One triangle of ``c = alpha a a^H + beta c`` for trans ``N``, ``c = alpha a^H a + beta c`` for ``C``; real matrices: ^T."""
    n, inner = a.shape if trans == "N" else a.shape[::-1]
    _conformed(c.shape == (n, n), a.shape, c.shape)
    if c.size:
        _herk[prefix(c.dtype)](uplo, trans, n, inner, alpha, a, leading_dimension(a), beta, c, leading_dimension(c))


def potrf(uplo: str, a: Matrix) -> int:
    """The Cholesky factor in place of one triangle; the other is not looked at.

    0, or the order of the first leading minor that is not positive.
    """
    n = a.shape[0]
    _conformed(a.shape == (n, n), a.shape)
    info = ctypes.c_int(0)
    if n:
        _potrf[prefix(a.dtype)](uplo, n, a, leading_dimension(a), info)
    return info.value


def getrf(a: Matrix) -> tuple[NDArray[np.intc], int]:
    """L and U in place of a matrix, with partial pivoting.

    Row i was swapped with row ``pivots[i] - 1``. Beside the pivots: 0, or the number (from 1) of the first pivot that is zero.
    """
    m, n = a.shape
    pivots, info = np.arange(1, min(m, n) + 1, dtype=np.intc), ctypes.c_int(0)
    if a.size:
        _getrf[prefix(a.dtype)](m, n, a, leading_dimension(a), pivots, info)
    return pivots, info.value


def laswp(a: Matrix, pivots: NDArray[np.intc], *, back: bool = False) -> None:
    """Swap rows as `getrf` did: row i with row ``pivots[i] - 1``, in this order; from the last to the first for ``back``."""
    if a.size and len(pivots):
        _laswp[prefix(a.dtype)](a.shape[1], a, leading_dimension(a), 1, len(pivots), pivots, -1 if back else 1)


def trtri(uplo: str, diag: str, a: Matrix) -> int:
    """The inverse of a triangular matrix, in place of it. 0, or the number (from 1) of the first zero on the diagonal."""
    n = a.shape[0]
    _conformed(a.shape == (n, n), a.shape)
    info = ctypes.c_int(0)
    if n:
        _trtri[prefix(a.dtype)](uplo, diag, n, a, leading_dimension(a), info)
    return info.value
