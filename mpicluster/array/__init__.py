"""Arrays divided over the ranks of an MPI communicator, in the namespace of the Python array API standard.

::

    import mpicluster.array as xp

    x = xp.linspace(0, 1, 10_000_000)     # each rank makes, and keeps, its own part
    y = xp.sum(xp.sin(x) ** 2)            # reduced over MPI
    A = xp.random.default_rng(1).standard_normal((8000, 8000))
    b = A @ xp.ones(8000)
    u = xp.linalg.solve(A, b)

It is SPMD: under ``mpiexec``, in ``%%px`` or in ``view.spmd(f)``, all ranks call the same functions in the same order. From a client,
``rc.xp`` is the same namespace.

Version 2025.12 of the standard, with the extensions ``linalg`` and ``fft``, and ``random``. Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

_NAMES = {
    "darray": "DistArray",
    "layout": "Block BlockCyclic BlockCyclic2D Layout Replicated",
    "part": "Part",
    "creation": (
        "arange asarray empty empty_like eye from_dlpack from_local full full_like linspace meshgrid ones ones_like replicate tril triu "
        "zeros zeros_like"
    ),
    "datatypes": (
        "astype bool can_cast complex128 complex64 finfo float32 float64 iinfo int16 int32 int64 int8 isdtype result_type uint16 uint32 "
        "uint64 uint8"
    ),
    "elementwise": (
        "abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift "
        "bitwise_xor ceil clip conj copysign cos cosh divide equal exp expm1 floor floor_divide greater greater_equal hypot imag in_place "
        "isfinite isinf isnan less less_equal log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor maximum "
        "minimum multiply negative nextafter not_equal positive pow real reciprocal remainder round sign signbit sin sinh sqrt square "
        "subtract tan tanh trunc where"
    ),
    "statistics": "all any count_nonzero cumulative_prod cumulative_sum diff max mean min prod std sum var",
    "indexing": "get_item set_item take take_along_axis",
    "manipulation": (
        "broadcast_arrays broadcast_shapes broadcast_to concat expand_dims flip matrix_transpose moveaxis permute_dims repeat reshape roll "
        "squeeze stack tile unstack"
    ),
    "searching": "argmax argmin isin nonzero searchsorted",
    "sorting": "argsort sort",
    "sets": "unique_all unique_counts unique_inverse unique_values",
    "interop": "call_function call_ufunc",
    "inspection": "__array_namespace_info__",
    "io": "load save",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
#: functions of linear algebra that the standard has in its main namespace too
_LINALG = ("matmul", "tensordot", "vecdot")
#: names of the extensions, which clients know without loading them
EXTENSIONS = {
    "fft": "fft fftfreq fftn fftshift hfft ifft ifftn ifftshift ihfft irfft irfftn rfft rfftfreq rfftn".split(),
    "random": ["default_rng"],
}

e, inf, nan, newaxis, pi = math.e, math.inf, math.nan, None, math.pi
#: versions of the standard
VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")
__array_api_version__ = VERSIONS[-1]

__all__ = [*_HOMES, *_LINALG, *EXTENSIONS, "e", "inf", "linalg", "nan", "newaxis", "pi"]


def __getattr__(name: str) -> Any:
    if name == "linalg":
        value: Any = importlib.import_module("mpicluster.linalg")
    elif name in EXTENSIONS:
        value = importlib.import_module(f"mpicluster.array.{name}")
    elif name in _LINALG:
        value = getattr(importlib.import_module("mpicluster.linalg"), name)
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"mpicluster.array.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'mpicluster.array' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
