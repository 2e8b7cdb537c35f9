"""What stands for an object on its way: a name on the engine, and bytes that were pickled before."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from mpicluster.serial import functions
from mpicluster.serial.payload import Unresolved

__all__ = ["PrePickled", "Reference"]


class Reference:
    """A name, or any expression, that each engine evaluates in its own namespace when a call arrives there.

    ::

        view.apply(f, Reference("a.b[0]"))

    It may be a call's function or any of its arguments, or be anywhere inside them. Evaluating may raise what it wants: the call then
    fails with that.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a reference is the name of something on the engines, as text, not {name!r}")
        self.name = name

    def __repr__(self) -> str:
        return f"Reference({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and other.name == self.name

    def __hash__(self) -> int:
        return hash((Reference, self.name))

    def __reduce__(self) -> tuple[Any, ...]:
        return _look_up, (self.name,)

    def __copy__(self) -> Reference:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Reference:
        return self


def _look_up(name: str) -> Any:
    """The object on an engine; elsewhere there is no namespace to look in, and the reference stays one."""
    namespace = functions.engine_namespace()
    if namespace is None:
        return Reference(name)
    try:
        return namespace[name] if name in namespace else eval(name, namespace)
    except Exception as e:
        raise Unresolved from e


class PrePickled:
    """An object that is pickled now and may be sent many times: what arrives is the object.

    Later changes of the object are not seen.
    """

    def __init__(self, obj: Any) -> None:
        self._buffers: list[Any] = []

        def out_of_band(buffer: pickle.PickleBuffer) -> None:
            view = buffer.raw()
            self._buffers.append(bytes(view) if view.readonly else bytearray(view))

        self._stream = functions.dumps(obj, buffer_callback=out_of_band)
        self._kind = type(obj).__name__

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return len(self._stream) + sum(memoryview(b).nbytes for b in self._buffers)

    def __repr__(self) -> str:
        return f"<PrePickled {self._kind}, {self.nbytes} bytes>"

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        whole = pickle.PickleBuffer if protocol >= 5 else bytes
        return _unpickle, (whole(self._stream), [whole(b) for b in self._buffers])


def _unpickle(stream: Any, buffers: Sequence[Any]) -> Any:
    return pickle.loads(stream, buffers=buffers)
