"""Data types: NumPy's, and how they promote. Local: no message. Arrays of another library's blocks have that library's types."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.extremes import FloatLimits, IntegerLimits
from mpicluster.array.operands import as_dist, mesh_of, namespace_of

__all__ = [
    "astype",
    "bool",
    "can_cast",
    "complex64",
    "complex128",
    "finfo",
    "float32",
    "float64",
    "iinfo",
    "int8",
    "int16",
    "int32",
    "int64",
    "isdtype",
    "result_type",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

_numpy: Any = blocks.numpy_namespace
int8, int16, int32, int64 = np.dtype("int8"), np.dtype("int16"), np.dtype("int32"), np.dtype("int64")
uint8, uint16, uint32, uint64 = np.dtype("uint8"), np.dtype("uint16"), np.dtype("uint32"), np.dtype("uint64")
float32, float64, complex64, complex128 = np.dtype("float32"), np.dtype("float64"), np.dtype("complex64"), np.dtype("complex128")
bool = np.dtype("bool")  # noqa: A001 - its name in the standard


def astype(x: Any, dtype: Any, /, *, copy: Any = True, device: Any = None) -> DistArray:
    """The values as another type. ``copy=False``: the array itself if it is of that type.

    Raises
    ------
    TypeError
        complex values are to become integers or real numbers.
    """
    array: DistArray = as_dist(x, mesh_of(x))
    if device not in (None, array.device):
        raise ValueError(f"the array lies on the device {array.device!r}, not {device!r}")
    if not copy and array.dtype == dtype:
        return array
    namespace = blocks.namespace(array.local)
    if namespace is blocks.numpy_namespace:
        dtype = np.dtype(dtype)
        blocks.check_kind(dtype)
        if array.dtype.kind == "c" and dtype.kind in "iuf":
            raise TypeError(f"the standard does not allow to cast {array.dtype} to {dtype}: use real(x), or abs(x)")
    return DistArray(array.mesh, array.layout, array.shape, namespace.astype(array.local, dtype, copy=copy))


def _type(x: Any) -> Any:
    return x.dtype if isinstance(x, DistArray) else x


def can_cast(from_: Any, to: Any, /) -> Any:
    """Whether values of a type, or of an array, can become another without a loss, by the rules of promotion."""
    return namespace_of(from_).can_cast(_type(from_), to)


def result_type(*arrays_and_dtypes: Any) -> Any:
    """The type to which arrays, types and Python scalars promote."""
    return namespace_of(*arrays_and_dtypes).result_type(*map(_type, arrays_and_dtypes))


def isdtype(dtype: Any, kind: Any) -> Any:
    """Whether a type is of a kind: ``"bool"``, ``"signed integer"``, ``"unsigned integer"``, ``"integral"``, ``"real floating"``,
    ``"complex floating"``, ``"numeric"``, a type, or a tuple of such."""  # fmt: skip
    return _numpy.isdtype(np.dtype(dtype), kind)


def _limits(name: str, x: Any) -> Any:
    namespace = namespace_of(x)
    return getattr(np if namespace is _numpy else namespace, name)(_type(x))


def finfo(type: Any, /) -> FloatLimits:  # noqa: A002 - its name in the standard
    """Limits of a floating-point type, or of an array's: ``bits``, ``eps``, ``max``, ``min``, ``smallest_normal``, ``dtype``."""
    return FloatLimits.of(_limits("finfo", type))


def iinfo(type: Any, /) -> IntegerLimits:  # noqa: A002 - its name in the standard
    """Limits of an integer type, or of an array's: ``bits``, ``max``, ``min``, ``dtype``."""
    return IntegerLimits.of(_limits("iinfo", type))
