"""What a client holds of what lives on engines: handles. When the last reference to one dies, the engines free what it stands for."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mpicluster.array.operators import Operators
from mpicluster.client.arrays.infer import Meta
from mpicluster.errors import ClusterError
from mpicluster.serial.arrayops import NO_SCALAR, Key, Ref

if TYPE_CHECKING:
    from mpicluster.client.arrays.namespace import RemoteNamespace
    from mpicluster.client.arrays.sending import Batch

__all__ = ["RemoteArray", "RemoteObject"]

#: How long a repr waits for the values.
_SHOWN_WITHIN = 5.0


class RemoteObject:
    """An object on the engines: a random generator, a factorization, a sparse matrix. Its methods run there."""

    def __init__(self, namespace: RemoteNamespace, key: Key, batch: Batch, kind: str = "") -> None:
        self._namespace = namespace
        self._key = key
        #: what makes it
        self._batch = batch
        self._kind = kind
        self._finalizer = weakref.finalize(self, namespace._sender.free, key)
        self._finalizer.atexit = False

    @property
    def _ref(self) -> Ref:
        return Ref(self._key)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return self._namespace._method(self, name)

    def __repr__(self) -> str:
        return f"<{self._kind or 'object'} on {self._namespace._where()}>"


class RemoteArray(Operators, RemoteObject):
    """An array that lives on the engines.

    What is done with it is done there, in the order in which it was asked for, without waiting. An error comes where a value is used.
    ``np.asarray(x)``, ``float(x)`` and the like bring values here.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, namespace: RemoteNamespace, key: Key, batch: Batch, meta: Meta | None) -> None:
        RemoteObject.__init__(self, namespace, key, batch, "array")
        self._meta = meta
        self._named: str | None = None

    @property
    def _functions(self) -> Any:
        return self._namespace

    def __getattr__(self, name: str) -> Any:
        if name in _METHODS:
            return self._namespace._method(self, name)
        raise AttributeError(f"an array has no attribute {name!r}; functions of arrays are in its namespace: rc.xp")

    # -- what it is ----------------------------------------------------------------------------------------------------------------

    def _known(self) -> Meta:
        """Shape and type: asked for, if they do not follow from the operands'."""
        if self._meta is None:
            top = self._key if isinstance(self._key, int) else self._key[0]
            told = self._namespace._sender.value(self._batch, top)
            self._meta = _meta_in(told, self._key)
        return self._meta

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array. Waits only if it depends on values."""
        return self._known().shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the elements. Waits only if it depends on values."""
        return self._known().dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements of the whole array."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return self.size * self.itemsize

    @property
    def device(self) -> str:
        """Where its blocks lie on the engines."""
        return "cpu"

    @property
    def layout(self) -> Any:
        """How it is divided. Waits."""
        return self._namespace._ask("=attribute", self, "layout")

    @property
    def engines(self) -> list[int]:
        """The engines on which it lies."""
        return list(self._namespace._sender.engines)

    @property
    def name(self) -> str | None:
        """Its name in the engines' namespaces; set one, and ``%%px`` sees it."""
        return self._named

    @name.setter
    def name(self, name: str) -> None:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{name!r} is not a name")
        self._namespace._order("=name", self, name)
        self._named = name

    def redistribute(self, layout: Any) -> RemoteArray:
        """The same values in another layout."""
        array: RemoteArray = self._namespace._array(".redistribute", (self, layout), {}, self._meta)
        return array

    def replicate(self) -> RemoteArray:
        """The same values, all on every engine."""
        array: RemoteArray = self._namespace._array(".replicate", (self,), {}, self._meta)
        return array

    def copy(self) -> RemoteArray:
        """A copy, in the same layout."""
        array: RemoteArray = self._namespace._array(".copy", (self,), {}, self._meta)
        return array

    def to_device(self, device: Any, /, *, stream: Any = None) -> RemoteArray:
        """This array: its blocks lie on the device "cpu"."""
        if device != "cpu":
            raise ValueError(f"blocks are on the device 'cpu', not {device!r}")
        return self

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is made; whether it is within ``timeout`` seconds. Does not raise what its making raised."""
        self._namespace._sender.flush()
        batch = self._batch
        return batch.error is not None or batch.result is None or bool(batch.result.wait(timeout))

    # -- its values here -----------------------------------------------------------------------------------------------------------

    def _fetch(self) -> Any:
        return self._namespace._ask("=fetch", self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """All values, here: one Gatherv to the first engine, and one copy from there."""
        if copy is False:
            raise ValueError("an array that lives on engines cannot be had here without a copy")
        values: np.ndarray[Any, Any] = self._fetch()
        if not values.flags.writeable:
            values = values.copy()
        return values if dtype is None else values.astype(dtype, copy=False)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """The namespace of functions for this array: ``rc.xp``."""
        import mpicluster.array as names

        if api_version is not None and api_version not in names.VERSIONS:
            raise ValueError(f"this is version {names.VERSIONS[-1]} of the array API, not {api_version!r}")
        return self._namespace

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None) -> Any:
        """Of the values, which come here."""
        if copy is False:
            raise BufferError("an array that lives on engines cannot be had here without a copy")
        return np.asarray(self).__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device)

    def __dlpack_device__(self) -> Any:
        """Of the values, once they are here: the CPU."""
        return np.empty(0).__dlpack_device__()

    def _scalar(self) -> Any:
        if self._meta is None:
            return self._namespace._ask("=scalar", self)
        if self.shape:
            raise TypeError(NO_SCALAR)
        return self._fetch()

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous. Use any() or all() of its namespace")
        return bool(self._fetch())

    def __int__(self) -> int:
        return int(self._scalar())

    def __float__(self) -> float:
        return float(self._scalar())

    def __complex__(self) -> complex:
        return complex(self._scalar())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError("only integer 0-dimensional arrays can be converted to an index")
        return int(self._scalar())

    def item(self) -> Any:
        """The only element, as a Python scalar."""
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self._fetch().item()

    def tolist(self) -> Any:
        """All values as nested lists."""
        return self._fetch().tolist()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    def __repr__(self) -> str:
        where = self._namespace._where()
        try:
            if not self.wait(_SHOWN_WITHIN):
                known = "" if self._meta is None else f"shape={self._meta.shape}, dtype={self._meta.dtype}, "
                return f"RemoteArray({known}being made on {where})"
            layout, values = self._namespace._ask("=show", self)
            head = f"RemoteArray(shape={self.shape}, dtype={self.dtype}, {layout} on {where})"
        except (ClusterError, TimeoutError) as e:
            return f"RemoteArray(failed on {where}: {type(e).__name__}: {str(e).partition(chr(10))[0]})"
        shortened = values.shape != self.shape
        with np.printoptions(threshold=0 if shortened else 1000, edgeitems=3, linewidth=110):
            return f"{head}\n{np.array2string(values, separator=', ')}"

    def __reduce__(self) -> Any:
        raise TypeError("an array that lives on engines does not pickle: save it, or bring its values here with np.asarray(x)")


#: methods that run on the engines
_METHODS = frozenset({"gather"})


def _meta_in(told: Any, key: Key) -> Meta:
    """Shape and type of what has this key."""
    if told.kind == "array" and told.value[0] == key:
        return Meta(tuple(told.value[1]), told.value[2])
    for part in told.value[2] if told.kind == "tuple" else ():
        try:
            return _meta_in(part, key)
        except KeyError:
            continue
    raise KeyError(key)
