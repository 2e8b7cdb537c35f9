"""Shape and type of what an operation gives, without asking anybody, where they follow from those of the operands.

Types come from NumPy, by trying the function on arrays of one element. Shapes of views come from NumPy, too, by views of an array that
has the right shape and one element in memory. So what NumPy refuses is refused here, at once, in its words.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

import mpicluster.array as names
from mpicluster.array.steps import length_of_range, type_of_range

__all__ = ["INFERRED", "UNKNOWN", "Meta", "infer"]

Shape = tuple[int, ...]


class Meta(NamedTuple):
    """Shape and type of an array."""

    shape: Shape
    dtype: np.dtype[Any]


#: Stands for the shape and type of an array of which nothing is known yet.
UNKNOWN = object()


def infer(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Meta | None:
    """Shape and type of the array that a function gives; None if they are not known here.

    Arrays among the arguments are `Meta`, or `UNKNOWN`.

    Raises
    ------
    ValueError, TypeError, IndexError
        NumPy would raise it for such operands.
    """
    rule = _RULES.get(name)
    if rule is None or not _all_known((args, tuple(kwargs.values()))):
        return None
    try:
        return rule(*args, **kwargs)
    except (_Unknown, AttributeError):  # what is no array has no shape: the engines say what they make of it
        return None


def _all_known(value: Any) -> bool:
    return all(map(_all_known, value)) if type(value) in (tuple, list) else value is not UNKNOWN


class _Unknown(Exception):
    """It cannot be known here."""


def _meta(value: Any) -> Meta:
    if isinstance(value, Meta):
        return value
    if isinstance(value, bool | int | float | complex):
        return Meta((), np.asarray(value).dtype)
    if isinstance(value, np.ndarray | np.generic):
        return Meta(value.shape, value.dtype)
    raise _Unknown


def _dummy(meta: Meta) -> np.ndarray[Any, Any]:
    """An array of this shape and type with one element in memory."""
    return np.broadcast_to(np.ones((), meta.dtype), meta.shape)


# -- elementwise -----------------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def _type_of(name: str, *kinds: Hashable) -> np.dtype[Any]:
    """The type that a function gives for operands of these types: NumPy's, or Python's own for scalars."""
    ones = [kind(1) if isinstance(kind, type) else np.ones(1, kind) for kind in kinds]
    with np.errstate(all="ignore"):
        return np.asarray(getattr(np, name)(*ones)).dtype


def _elementwise(name: str) -> Callable[..., Meta]:
    def rule(*operands: Any) -> Meta:
        kinds: list[Any] = [x.dtype if isinstance(x, Meta | np.ndarray | np.generic) else type(x) for x in operands]
        if any(isinstance(kind, type) and kind not in (bool, int, float, complex) for kind in kinds):
            raise _Unknown
        shape = np.broadcast_shapes(*(_meta(x).shape for x in operands))
        return Meta(shape, _type_of(name, *kinds))

    return rule


def _clip(x: Meta, /, min: Any = None, max: Any = None) -> Meta:  # noqa: A002 - names of the standard
    bounds = [_meta(b).shape for b in (min, max) if b is not None]
    return Meta(np.broadcast_shapes(x.shape, *bounds), x.dtype)


# -- reductions ------------------------------------------------------------------------------------------------------------------------


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    chosen = (axis,) if isinstance(axis, int) else tuple(axis)
    for a in chosen:
        if not -ndim <= a < ndim:
            raise np.exceptions.AxisError(a, ndim)
    return tuple(a % ndim for a in chosen)


def _reduction(name: str) -> Callable[..., Meta]:
    def rule(x: Meta, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False, **_: Any) -> Meta:
        axes = _axes(axis, len(x.shape))
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes)
        return Meta(shape, np.dtype(dtype) if dtype is not None else _type_of(name, x.dtype))

    return rule


def _cumulative(name: str) -> Callable[..., Meta]:
    def rule(x: Meta, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Meta:
        if axis is None and len(x.shape) != 1:
            raise _Unknown
        (along,) = _axes(0 if axis is None else axis, len(x.shape))
        shape = tuple(n + (include_initial and i == along) for i, n in enumerate(x.shape))
        return Meta(shape, np.dtype(dtype) if dtype is not None else _type_of(name, x.dtype))

    return rule


# -- creation --------------------------------------------------------------------------------------------------------------------------


def _shape(shape: Any) -> Shape:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def _new(shape: Any, *, dtype: Any = None, **_: Any) -> Meta:
    return Meta(_shape(shape), np.dtype(np.float64 if dtype is None else dtype))


def _full(shape: Any, fill_value: Any, *, dtype: Any = None, **_: Any) -> Meta:
    return Meta(_shape(shape), np.dtype(dtype) if dtype is not None else _meta(fill_value).dtype)


def _same(x: Meta, /, *_values: Any, dtype: Any = None, **_: Any) -> Meta:
    return Meta(x.shape, x.dtype if dtype is None else np.dtype(dtype))


def _arange(start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, **_: Any) -> Meta:
    if stop is None:
        start, stop = 0, start
    if not all(isinstance(v, int | float | np.generic) for v in (start, stop, step)):
        raise _Unknown
    return Meta((length_of_range(start, stop, step),), type_of_range(start, stop, step) if dtype is None else np.dtype(dtype))


def _linspace(start: Any, stop: Any, /, num: int, *, dtype: Any = None, **_: Any) -> Meta:
    if dtype is None:
        if not all(isinstance(v, bool | int | float | complex | np.generic) for v in (start, stop)):
            raise _Unknown
        dtype = np.result_type(0.0, *(float(v) if isinstance(v, int) else v for v in (start, stop)))
    return Meta((num,), np.dtype(dtype))


def _eye(n_rows: int, n_cols: int | None = None, /, *, dtype: Any = None, **_: Any) -> Meta:
    return Meta((n_rows, n_rows if n_cols is None else n_cols), np.dtype(np.float64 if dtype is None else dtype))


# -- manipulation ----------------------------------------------------------------------------------------------------------------------


def _view(name: str) -> Callable[..., Meta]:
    def rule(x: Meta, /, *args: Any, **kwargs: Any) -> Meta:
        view = getattr(np, name)(_dummy(x), *args, **kwargs)
        return Meta(view.shape, x.dtype)

    return rule


def _get_item(x: Meta, key: Any) -> Meta:
    plain = (int, slice, type(None), type(Ellipsis))
    parts = key if type(key) is tuple else (key,)
    _check_masks(x, parts)
    if not all(isinstance(k, plain) and not isinstance(k, bool) for k in parts):
        raise _Unknown
    if any(isinstance(k, slice) and not all(isinstance(v, int | None) for v in (k.start, k.stop, k.step)) for k in parts):
        raise _Unknown
    return Meta(_dummy(x)[key].shape, x.dtype)


def _check_masks(x: Meta, parts: Sequence[Any]) -> None:
    """Refuse masks that do not fit; what others choose depends on their values."""
    widths = [len(p.shape) if _is_mask(p) else int(not (p is None or p is Ellipsis or isinstance(p, bool | np.bool_))) for p in parts]
    if sum(widths) > len(x.shape):
        raise IndexError(f"too many indices for array: array is {len(x.shape)}-dimensional, but {sum(widths)} were indexed")
    axis = 0
    for part, width in zip(parts, widths, strict=True):
        if _is_mask(part) and any(m not in (n, 0) for m, n in zip(part.shape, x.shape[axis : axis + width], strict=True)):
            raise IndexError(f"boolean index did not match indexed array: shapes {part.shape} and {x.shape[axis : axis + width]}")
        axis += len(x.shape) - sum(widths) if part is Ellipsis else width


def _is_mask(part: Any) -> bool:
    return isinstance(part, Meta | np.ndarray) and part.dtype.kind == "b"


def _reshape(x: Meta, /, shape: Any, **_: Any) -> Meta:
    size, wanted = math.prod(x.shape), list(_shape(shape))
    known = math.prod(n for n in wanted if n >= 0)
    if wanted.count(-1) == 1 and known and size % known == 0:
        wanted[wanted.index(-1)] = size // known
    if min(wanted, default=0) < 0 or math.prod(wanted) != size:
        raise ValueError(f"cannot reshape array of size {size} into shape {_shape(shape)}")
    return Meta(tuple(wanted), x.dtype)


def _concat(arrays: Sequence[Meta], /, *, axis: int | None = 0) -> Meta:
    metas = [_meta(a) for a in arrays]
    kind = np.result_type(*(m.dtype for m in metas))
    if axis is None:
        return Meta((sum(math.prod(m.shape) for m in metas),), kind)
    (along,) = _axes(axis, len(metas[0].shape))
    if len({m.shape[:along] + m.shape[along + 1 :] for m in metas}) != 1:
        raise ValueError("all the input array dimensions except for the concatenation axis must match exactly")
    return Meta(tuple(sum(m.shape[along] for m in metas) if i == along else n for i, n in enumerate(metas[0].shape)), kind)


def _stack(arrays: Sequence[Meta], /, *, axis: int = 0) -> Meta:
    metas = [_meta(a) for a in arrays]
    if len({m.shape for m in metas}) != 1:
        raise ValueError("all input arrays must have the same shape")
    shape = list(metas[0].shape)
    (along,) = _axes(axis, len(shape) + 1)
    shape.insert(along, len(metas))
    return Meta(tuple(shape), np.result_type(*(m.dtype for m in metas)))


# -- products and solutions ------------------------------------------------------------------------------------------------------------


def _matmul(a: Any, b: Any, /) -> Meta:
    a, b = _meta(a), _meta(b)
    if not a.shape or not b.shape:
        raise ValueError("matmul: an operand has no dimensions: use * for scalars")
    left = a.shape if len(a.shape) > 1 else (1, *a.shape)
    right = b.shape if len(b.shape) > 1 else (*b.shape, 1)
    if left[-1] != right[-2]:
        raise ValueError(f"matmul: the inner dimensions differ: shapes {a.shape} and {b.shape}")
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    shape = (*batch, *(left[-2:-1] if len(a.shape) > 1 else ()), *(right[-1:] if len(b.shape) > 1 else ()))
    return Meta(shape, _type_of("multiply", a.dtype, b.dtype) if a.dtype.kind != "b" or b.dtype.kind != "b" else np.dtype(bool))


def _along(a: Any, b: Any, axis: int) -> tuple[int, int, Shape]:
    """Of operands that are combined along an axis: its lengths, and the shape to which the others broadcast."""
    if not a.shape or not b.shape:
        raise ValueError("an operand has no dimensions: use * for scalars")
    (i,), (j,) = _axes(axis, len(a.shape)), _axes(axis, len(b.shape))
    return a.shape[i], b.shape[j], np.broadcast_shapes(a.shape[:i] + a.shape[i + 1 :], b.shape[:j] + b.shape[j + 1 :])


def _vecdot(a: Any, b: Any, /, *, axis: int = -1) -> Meta:
    a, b = _meta(a), _meta(b)
    n, m, shape = _along(a, b, axis)
    if n != m:
        raise ValueError(f"vecdot: the axis is of length {n} and {m}: shapes {a.shape} and {b.shape}")
    return Meta(shape, _type_of("vecdot", a.dtype, b.dtype))


def _cross(a: Any, b: Any, /, *, axis: int = -1) -> Meta:
    a, b = _meta(a), _meta(b)
    n, m, shape = _along(a, b, axis)
    if (n, m) != (3, 3):
        raise ValueError(f"cross: the axis must be of length 3 in both: shapes {a.shape} and {b.shape}")
    (place,) = _axes(axis, len(shape) + 1)
    return Meta((*shape[:place], 3, *shape[place:]), _type_of("subtract", *[_type_of("multiply", a.dtype, b.dtype)] * 2))


def _square(x: Meta, /, **_: Any) -> Meta:
    if len(x.shape) < 2 or x.shape[-1] != x.shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
    return Meta(x.shape, _inexact(x.dtype))


def _solve(a: Meta, b: Any, /, **_: Any) -> Meta:
    _square(a)
    b = _meta(b)
    if len(a.shape) != 2 or len(b.shape) > 2:
        raise _Unknown
    if b.shape[:1] != a.shape[:1]:
        raise ValueError(f"solve: {a.shape[0]} equations, but the right side has shape {b.shape}")
    return Meta(b.shape, _inexact(np.result_type(a.dtype, b.dtype)))


def _inexact(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.kind in "fc" else np.dtype(np.float64)


def _fft(x: Meta, /, *, n: int | None = None, axis: int = -1, **_: Any) -> Meta:
    (along,) = _axes(axis, len(x.shape))
    shape = tuple(n if n is not None and i == along else length for i, length in enumerate(x.shape))
    return Meta(shape, np.result_type(x.dtype, np.complex64))


_ELEMENTWISE = set(names._NAMES["elementwise"].split()) - {"clip", "in_place"}
_RULES: dict[str, Callable[..., Meta]] = {name: _elementwise(name) for name in _ELEMENTWISE}
_RULES |= {name: _reduction(name) for name in "all any max mean min prod std sum var count_nonzero".split()}
_RULES |= {name: _reduction(name) for name in "argmax argmin".split()}
_RULES |= {name: _cumulative(name) for name in "cumulative_prod cumulative_sum".split()}
_RULES |= dict.fromkeys("empty ones zeros".split(), _new)
_RULES |= dict.fromkeys("empty_like full_like ones_like zeros_like tril triu sort".split(), _same)
_RULES |= {name: _view(name) for name in "broadcast_to expand_dims flip matrix_transpose moveaxis permute_dims squeeze".split()}
_RULES |= {
    "astype": lambda x, dtype, /, **_: Meta(x.shape, np.dtype(dtype)),
    "argsort": lambda x, /, **_: Meta(x.shape, np.dtype(np.int64)),
    "roll": lambda x, /, *_shift, **_: x,
    "arange": _arange,
    "clip": _clip,
    "full": _full,
    "linspace": _linspace,
    "eye": _eye,
    "get_item": _get_item,
    "reshape": _reshape,
    "concat": _concat,
    "stack": _stack,
    "matmul": _matmul,
    "linalg.matmul": _matmul,
    "vecdot": _vecdot,
    "linalg.vecdot": _vecdot,
    "linalg.cross": _cross,
    "linalg.matrix_transpose": _view("matrix_transpose"),
    "linalg.cholesky": _square,
    "linalg.inv": _square,
    "linalg.solve": _solve,
    "fft.fft": _fft,
    "fft.ifft": _fft,
}

#: Functions of which this may know what they give: one array.
INFERRED = frozenset(_RULES)
