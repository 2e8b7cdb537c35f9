"""``rc.xp``: the functions of `mpicluster.array`, for arrays that live on the engines of a view."""

from __future__ import annotations

import importlib
import itertools
from collections import namedtuple
from collections.abc import Callable, Iterable
from inspect import Signature
from typing import TYPE_CHECKING, Any

import numpy as np

import mpicluster.array as names
from mpicluster.array.extremes import FloatLimits, IntegerLimits
from mpicluster.array.layout import Block, BlockCyclic, BlockCyclic2D, Layout, Replicated, default_layout
from mpicluster.client.arrays.handle import RemoteArray, RemoteObject
from mpicluster.client.arrays.infer import INFERRED, UNKNOWN, Meta, infer
from mpicluster.client.arrays.sending import Batch, Sender, called_at
from mpicluster.client.arrays.signatures import described
from mpicluster.serial.arrayops import SCATTERED, Key, Op, Ref, Told

if TYPE_CHECKING:
    from mpicluster.client.direct import DirectView

__all__ = ["RemoteNamespace"]

#: From so many bytes on, what becomes an array is scattered; and from so many on, not copied before, so that the call waits.
_SCATTERED_FROM = 64 * 1024
_NOT_COPIED_FROM = 64 * 1024 * 1024

#: Functions of types alone: NumPy's, here.
_LOCAL: dict[str, Callable[..., Any]] = {
    "broadcast_shapes": np.broadcast_shapes,
    "can_cast": np.can_cast,
    "finfo": lambda kind: FloatLimits.of(np.finfo(kind)),
    "iinfo": lambda kind: IntegerLimits.of(np.iinfo(kind)),
    "isdtype": np.isdtype,
    "result_type": np.result_type,
}
_TYPES = frozenset("bool complex128 complex64 float32 float64 int16 int32 int64 int8 uint16 uint32 uint64 uint8".split())
_VALUES = {t.__name__: t for t in (Block, BlockCyclic, BlockCyclic2D, Layout, Replicated)}
#: Functions that give one array, so that nobody need wait to know what they give.
_ONE = INFERRED.union(
    (
        "asarray from_dlpack from_engines replicate diff isin load repeat searchsorted take "
        "take_along_axis tile unique_values tensordot linalg.tensordot linalg.outer linalg.diagonal "
        "linalg.trace linalg.matrix_power linalg.det linalg.pinv linalg.matrix_rank linalg.svdvals linalg.eigvals linalg.eigvalsh "
        "linalg.matrix_norm linalg.vector_norm linalg.norm linalg.cond linalg.solve_triangular fft.rfft fft.irfft "
        "fft.hfft fft.ihfft fft.fftn fft.ifftn "
        "fft.rfftn fft.irfftn fft.fftshift fft.ifftshift fft.fftfreq fft.rfftfreq "
        ".random .standard_normal .normal .uniform .integers .exponential .standard_exponential .poisson .permutation"
    ).split()
)
#: Functions that give several arrays: what their results are called.
_SEVERAL = {
    "linalg.qr": ("QRResult", "Q R"),
    "linalg.svd": ("SVDResult", "U S Vh"),
    "linalg.eigh": ("EighResult", "eigenvalues eigenvectors"),
    "linalg.eig": ("EigResult", "eigenvalues eigenvectors"),
    "linalg.slogdet": ("SlogdetResult", "sign logabsdet"),
    "unique_all": ("UniqueAllResult", "values indices inverse_indices counts"),
    "unique_counts": ("UniqueCountsResult", "values counts"),
    "unique_inverse": ("UniqueInverseResult", "values inverse_indices"),
}
_results: dict[tuple[str, str], Callable[..., Any]] = {}


def _result_class(name: str, fields: str) -> Callable[..., Any]:
    if (name, fields) not in _results:
        _results[name, fields] = namedtuple(name, fields)
    return _results[name, fields]


class Functions:
    """A part of the namespace: ``prefix`` is ``"linalg."``, say."""

    def __init__(self, namespace: RemoteNamespace, module: str, prefix: str) -> None:
        self._home = namespace
        self._module = module
        self._prefix = prefix
        self.__name__ = f"rc.xp.{prefix[:-1]}"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._names():
            raise AttributeError(f"rc.xp.{self._prefix[:-1]} has no attribute {name!r}")
        value: Any = np.linalg.LinAlgError if name == "LinAlgError" else self._home._function(self._prefix + name)
        self.__dict__[name] = value
        return value

    def _names(self) -> set[str]:
        return (
            set(importlib.import_module(self._module).__all__)
            if self._module == "mpicluster.linalg"
            else set(names.EXTENSIONS[self._prefix[:-1]])
        )

    def __dir__(self) -> list[str]:
        return sorted(self._names())

    def __repr__(self) -> str:
        return f"<{self._prefix[:-1]} functions of arrays on {self._home._where()}>"


class RemoteNamespace:
    """The namespace of the array API standard on handles: ``rc.xp``, or ``view.xp`` for the engines of a view.

    Functions take and give handles (`RemoteArray`). They return at once; the work is done by the engines, in order. Errors that shapes
    and types alone show are raised at once; others where a value is used. Results whose number and kind depend on values are waited for.
    """

    def __init__(self, view: DirectView, engines: list[int]) -> None:
        self._view = view
        self._sender = Sender(view, engines)
        self.__name__ = "rc.xp"
        for name in ("e", "inf", "nan", "newaxis", "pi", "__array_api_version__"):
            setattr(self, name, getattr(names, name))
        self.linalg = Functions(self, "mpicluster.linalg", "linalg.")
        self.fft = Functions(self, "mpicluster.array.fft", "fft.")
        self.random = Functions(self, "mpicluster.array.random", "random.")

    def _where(self) -> str:
        n = len(self._sender.engines)
        return f"{n} engines" if n != 1 else "1 engine"

    def __repr__(self) -> str:
        return f"<functions of arrays on engines {', '.join(map(str, self._sender.engines))}>"

    def __dir__(self) -> list[str]:
        return sorted({*names.__all__, "from_engines", "to_engines"} - {"DistArray", "Part", "call_function", "call_ufunc", "from_local"})

    def __getattr__(self, name: str) -> Any:
        if name in _TYPES:
            value: Any = np.dtype(name)
        elif name in _LOCAL:
            value = _Function(name, _on_types(_LOCAL[name]), "here")
        elif name in _VALUES:
            value = _VALUES[name]
        elif name in names._HOMES or name in names._LINALG:
            value = self._function(name)
        else:
            raise AttributeError(f"rc.xp has no attribute {name!r}")
        self.__dict__[name] = value
        return value

    def __array_namespace_info__(self) -> Any:
        """Capabilities, devices and types of this namespace."""
        return names.__array_namespace_info__()

    # -- calls ---------------------------------------------------------------------------------------------------------------------

    def _function(self, name: str) -> Callable[..., Any]:
        return _Function(name, lambda *args, **kwargs: self._call(name, args, kwargs), "for arrays on engines")

    def _method(self, target: RemoteObject, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._call(f".{name}", (target, *args), kwargs)

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Ask for an operation, and give handles for its results."""
        if "comm" in kwargs:
            raise TypeError("arrays of rc.xp lie on the engines of their view: choose these, as in rc[:2].xp, instead of comm=")
        for x in itertools.chain(args, kwargs.values()):
            if isinstance(x, RemoteObject) and x._namespace is not self:
                raise ValueError(f"an operand lies on {x._namespace!r}, this is a function for {self!r}")
        if name in _ONE:
            return self._array(name, args, kwargs, infer(name, _with_metas(args), _with_metas(kwargs)))
        if name in _SEVERAL:
            return self._several(name, args, kwargs, *_SEVERAL[name])
        key = self._sender.new_key()
        batch = self._add(key, (key,), name, args, kwargs, tell=True, now=True)
        return self._made(self._sender.value(batch, key), batch)

    def _array(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], meta: Meta | None) -> RemoteArray:
        key = self._sender.new_key()
        batch = self._add(key, (key,), name, args, kwargs, tell=meta is None)
        return RemoteArray(self, key, batch, meta)

    def _several(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], kind: str, fields: str) -> Any:
        key = self._sender.new_key()
        outs = tuple((key, i) for i in range(len(fields.split())))
        batch = self._add(key, outs, name, args, kwargs, tell=True)
        return _result_class(kind, fields)(*(RemoteArray(self, out, batch, None) for out in outs))

    def _add(
        self, key: int, outs: tuple[Key, ...], name: str, args: Iterable[Any], kwargs: dict[str, Any], *, tell: bool, now: bool = False
    ) -> Batch:
        return self._sender.add(Op(key, outs, name, _referring(tuple(args)), _referring(kwargs), tell, called_at()), now=now)

    def _ask(self, name: str, *args: Any) -> Any:
        """The value that an operation gives; waits."""
        key = self._sender.new_key()
        batch = self._add(key, (key,), name, args, {}, tell=True, now=True)
        return self._made(self._sender.value(batch, key), batch)

    def _order(self, name: str, *args: Any, outs: tuple[Key, ...] = ()) -> None:
        """Ask for something that gives nothing."""
        self._add(self._sender.new_key(), outs, name, args, {}, tell=False)

    def _made(self, told: Told, batch: Batch) -> Any:
        """What an operation gave, with handles for what stays on the engines."""
        if told.kind == "array":
            key, shape, dtype = told.value
            return RemoteArray(self, key, batch, Meta(tuple(shape), dtype))
        if told.kind == "object":
            return RemoteObject(self, told.value[0], batch, told.value[1])
        if told.kind == "tuple":
            kind, fields, parts = told.value
            values = [self._made(part, batch) for part in parts]
            return _result_class(kind, " ".join(fields))(*values) if fields else list(values) if kind == "list" else tuple(values)
        return told.value

    # -- in place ------------------------------------------------------------------------------------------------------------------

    def in_place(self, function: Any, x: RemoteArray, other: Any) -> RemoteArray:
        """``x = function(x, other)`` in the memory of x."""
        name = function.mpicluster_name
        meta = infer(name, _with_metas((x, other)), {})
        if meta is not None and meta.shape != x.shape:
            raise ValueError(f"non-broadcastable output operand with shape {x.shape} doesn't match the broadcast shape {meta.shape}")
        if meta is not None and meta.dtype != x.dtype and not np.can_cast(meta.dtype, x.dtype, "same_kind"):
            raise TypeError(f"cannot cast the result from {meta.dtype} to {x.dtype}, the type of the array that is changed in place")
        self._order("=in_place", name, x, other, outs=(x._key,))
        return x

    def set_item(self, x: RemoteArray, key: Any, value: Any) -> None:
        """``x[key] = value``."""
        self._order("set_item", x, key, value, outs=(x._key,))

    # -- to and from engines -------------------------------------------------------------------------------------------------------

    def asarray(
        self, obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None, layout: Layout | None = None
    ) -> RemoteArray:
        """An array on the engines of what is here: one Scatterv from the first engine, for all but small ones.

        The call returns at once, having taken a copy; for more than 64 MiB it waits instead until the engines have them.
        """
        if isinstance(obj, RemoteArray):
            return self._array(
                "asarray",
                (obj,),
                {"dtype": dtype, "copy": copy, "layout": layout},
                infer("empty_like", _with_metas((obj,)), {"dtype": dtype}),
            )
        if device not in (None, "cpu"):
            raise ValueError(f"blocks are made on the device 'cpu', not {device!r}")
        if copy is False:
            raise ValueError("what is here cannot be had on the engines without a copy")
        values = np.asarray(_gathered(obj), dtype)
        if values.dtype.hasobject or values.dtype.kind not in "biufc":
            raise TypeError(f"arrays hold numbers and truth values, not {values.dtype}")
        meta = Meta(values.shape, values.dtype)
        plan = default_layout(values.shape, len(self._sender.engines))
        if values.nbytes < _SCATTERED_FROM or not isinstance(plan, Block):
            return self._array("asarray", (values,), {"layout": layout}, meta)
        key = self._sender.new_key()
        rows = np.ascontiguousarray(np.moveaxis(values, plan.axis, 0))
        wait = values.nbytes >= _NOT_COPIED_FROM
        self._view.scatter(f"{SCATTERED}{key}", rows, targets=self._sender.engines, block=wait)
        batch = self._add(key, (key,), "=scattered", (key, values.shape), {}, tell=False)
        array = RemoteArray(self, key, batch, meta)
        return array if layout is None else array.redistribute(layout)

    def from_engines(self, name: str, *, axis: int = 0) -> RemoteArray:
        """The array of what the engines have under a name, as `scatter` puts it there: parts lie one after another along ``axis``. No copy.

        What is an array there already (`mpicluster.array`), is that.
        """
        return self._array("=from_engines", (name, axis), {}, None)

    def to_engines(self, x: RemoteArray, name: str) -> None:
        """Each engine's part of axis 0 under a name there, as NumPy array: the inverse of `from_engines`."""
        self._order("=to_engines", x, name)

    def save(self, file: Any, x: RemoteArray, /, **options: Any) -> None:
        """Write an array to a file of the engines' machine, in parallel; waits. See `mpicluster.array.save`."""
        self._call("save", (str(file), x), options)


def _gathered(obj: Any) -> Any:
    """Nested sequences without handles in them."""
    if isinstance(obj, RemoteArray):
        return np.asarray(obj)
    return [_gathered(v) for v in obj] if isinstance(obj, list | tuple) else obj


class _Function:
    """A function under its name. Its signature and its description, those of `mpicluster.array`, are read when somebody asks for them."""

    def __init__(self, name: str, call: Callable[..., Any], where: str) -> None:
        self.mpicluster_name = name
        self.__name__ = self.__qualname__ = name.rpartition(".")[2]
        self._call = call
        self._where = where

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<function rc.xp.{self.mpicluster_name}>"

    @property
    def __signature__(self) -> Signature | None:
        known = described(self.mpicluster_name)
        return None if known is None else known.signature

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        known = described(self.mpicluster_name)
        said = f"`mpicluster.array.{self.mpicluster_name}`, {self._where}."
        return said if known is None else f"{said}\n\n{known.doc}"


def _on_types(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of types that takes arrays for their types."""
    return lambda *args, **kwargs: function(*(a.dtype if isinstance(a, RemoteArray) else a for a in args), **kwargs)


def _with_metas(value: Any) -> Any:
    """With what is known of arrays in their place."""
    if isinstance(value, RemoteArray):
        return UNKNOWN if value._meta is None else value._meta
    if isinstance(value, tuple | list):
        return type(value)(_with_metas(v) for v in value) if type(value) in (tuple, list) else value
    if isinstance(value, dict):
        return {k: _with_metas(v) for k, v in value.items()}
    return value


def _referring(value: Any) -> Any:
    """With references in place of handles."""
    if isinstance(value, RemoteObject):
        return Ref(value._key)
    kind = type(value)
    if kind is tuple or kind is list:
        return kind(_referring(v) for v in value)
    if kind is dict:
        return {k: _referring(v) for k, v in value.items()}
    if kind is slice:
        return slice(*(_referring(v) for v in (value.start, value.stop, value.step)))
    return value
