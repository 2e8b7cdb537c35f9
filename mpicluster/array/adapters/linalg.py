"""Products, factorizations and transforms, as NumPy calls them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import mpicluster.array as xp
from mpicluster.array.adapters.shapes import flat
from mpicluster.array.darray import DistArray
from mpicluster.array.operands import as_dist, mesh_of

__all__ = ["ADAPTERS"]


def _pair(a: Any, b: Any) -> tuple[DistArray, DistArray]:
    mesh = mesh_of(a, b)
    return as_dist(a, mesh), as_dist(b, mesh)


def _dot(a: Any, b: Any) -> Any:
    a, b = _pair(a, b)
    if not a.ndim or not b.ndim:
        return xp.multiply(a, b)
    return xp.matmul(a, b) if b.ndim <= 2 else xp.tensordot(a, b, axes=((a.ndim - 1,), (b.ndim - 2,)))


def _inner(a: Any, b: Any) -> Any:
    a, b = _pair(a, b)
    return xp.tensordot(a, b, axes=((a.ndim - 1,), (b.ndim - 1,))) if a.ndim and b.ndim else xp.multiply(a, b)


def _vdot(a: Any, b: Any) -> Any:
    return xp.vecdot(*map(flat, _pair(a, b)))


def _outer(a: Any, b: Any) -> Any:
    return xp.linalg.outer(*map(flat, _pair(a, b)))


def _stacked(a: Any, axis1: int, axis2: int) -> Any:
    """The array with two axes moved to the end."""
    return xp.moveaxis(a, (axis1, axis2), (-2, -1))


def _diag(v: Any, k: int = 0) -> Any:
    if v.ndim == 2:
        return xp.linalg.diagonal(v, offset=k)
    if v.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    n = v.size + abs(k)
    padding = xp.zeros(abs(k), dtype=v.dtype, comm=v.mesh)
    values = xp.concat([v, padding] if k >= 0 else [padding, v])
    return xp.where(xp.eye(n, k=k, dtype=xp.bool, comm=v.mesh), xp.expand_dims(values, axis=1), xp.zeros((), dtype=v.dtype, comm=v.mesh))


def _qr(a: Any, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "complete", "r"):
        raise TypeError(f"np.linalg.qr of distributed arrays has the modes 'reduced', 'complete' and 'r', not {mode!r}")
    return xp.linalg.qr(a, mode=mode)


def _svd(a: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    return xp.linalg.svd(a, full_matrices=full_matrices) if compute_uv else xp.linalg.svdvals(a)


def _lower(a: Any, triangle: str) -> Any:
    """A Hermitian matrix, of which one triangle is given, in its lower one."""
    if triangle.upper() not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return a if triangle.upper() == "L" else xp.conj(xp.matrix_transpose(a))


def _transform(name: str) -> Callable[..., Any]:
    return lambda a, n=None, axis=-1, norm=None: getattr(xp.fft, name)(a, n=n, axis=axis, norm=norm or "backward")


def _transforms(name: str, axes: Sequence[int] | None) -> Callable[..., Any]:
    usual = axes
    return lambda a, s=None, axes=usual, norm=None: getattr(xp.fft, name)(a, s=s, axes=axes, norm=norm or "backward")


_PRODUCTS: dict[str, Callable[..., Any]] = {
    "cross": lambda a, b, *, axis=-1: xp.linalg.cross(a, b, axis=axis),
    "diag": _diag,
    "diagonal": lambda a, offset=0, axis1=0, axis2=1: xp.linalg.diagonal(_stacked(a, axis1, axis2), offset=offset),
    "dot": _dot,
    "inner": _inner,
    "outer": _outer,
    "tensordot": lambda a, b, axes=2: xp.tensordot(a, b, axes=axes),
    "trace": lambda a, offset=0, axis1=0, axis2=1, dtype=None: xp.linalg.trace(_stacked(a, axis1, axis2), offset=offset, dtype=dtype),
    "vdot": _vdot,
}
_LINALG: dict[str, Callable[..., Any]] = {
    "cholesky": lambda a, /, *, upper=False: xp.linalg.cholesky(a, upper=upper),
    "cond": lambda x, p=None: xp.linalg.cond(x, p),
    "cross": lambda x1, x2, /, *, axis=-1: xp.linalg.cross(x1, x2, axis=axis),
    "det": lambda a: xp.linalg.det(a),
    "diagonal": lambda x, /, *, offset=0: xp.linalg.diagonal(x, offset=offset),
    "eig": lambda a: xp.linalg.eig(a),
    "eigh": lambda a, UPLO="L": xp.linalg.eigh(_lower(a, UPLO)),  # noqa: N803 - NumPy's name
    "eigvals": lambda a: xp.linalg.eigvals(a),
    "eigvalsh": lambda a, UPLO="L": xp.linalg.eigvalsh(_lower(a, UPLO)),  # noqa: N803 - NumPy's name
    "inv": lambda a: xp.linalg.inv(a),
    "lstsq": lambda a, b, rcond=None: xp.linalg.lstsq(a, b, rcond=rcond),
    "matmul": lambda x1, x2, /: xp.matmul(x1, x2),
    "matrix_norm": lambda x, /, *, keepdims=False, ord="fro": xp.linalg.matrix_norm(x, keepdims=keepdims, ord=ord),  # noqa: A006
    "matrix_power": lambda a, n: xp.linalg.matrix_power(a, n),
    "matrix_rank": lambda A, *, rtol=None: xp.linalg.matrix_rank(A, rtol=rtol),  # noqa: N803 - NumPy's name
    "matrix_transpose": lambda x, /: xp.matrix_transpose(x),
    "multi_dot": lambda arrays: functools.reduce(xp.matmul, arrays),
    "norm": lambda x, ord=None, axis=None, keepdims=False: xp.linalg.norm(x, ord=ord, axis=axis, keepdims=keepdims),  # noqa: A006
    "outer": lambda x1, x2, /: xp.linalg.outer(x1, x2),
    "pinv": lambda a, rcond=None, *, rtol=None: xp.linalg.pinv(a, rtol=rcond if rtol is None else rtol),
    "qr": _qr,
    "slogdet": lambda a: xp.linalg.slogdet(a),
    "solve": lambda a, b: xp.linalg.solve(a, b),
    "svd": _svd,
    "svdvals": lambda x, /: xp.linalg.svdvals(x),
    "tensordot": lambda x1, x2, /, *, axes=2: xp.tensordot(x1, x2, axes=axes),
    "trace": lambda x, /, *, offset=0, dtype=None: xp.linalg.trace(x, offset=offset, dtype=dtype),
    "vecdot": lambda x1, x2, /, *, axis=-1: xp.vecdot(x1, x2, axis=axis),
    "vector_norm": lambda x, /, *, axis=None, keepdims=False, ord=2: xp.linalg.vector_norm(  # noqa: A006
        x, axis=axis, keepdims=keepdims, ord=ord
    ),
}
_FFT: dict[str, Callable[..., Any]] = {
    **{name: _transform(name) for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")},
    **{name: _transforms(name, None) for name in ("fftn", "ifftn", "rfftn", "irfftn")},
    **{name.replace("n", "2"): _transforms(name, (-2, -1)) for name in ("fftn", "ifftn", "rfftn", "irfftn")},
    "fftshift": lambda x, axes=None: xp.fft.fftshift(x, axes=axes),
    "ifftshift": lambda x, axes=None: xp.fft.ifftshift(x, axes=axes),
}
ADAPTERS: dict[str, Callable[..., Any]] = {
    **_PRODUCTS,
    **{f"linalg.{name}": adapter for name, adapter in _LINALG.items()},
    **{f"fft.{name}": adapter for name, adapter in _FFT.items()},
}
