"""Arrays that clients hold: the engine's side. All engines of a program do the same operations, as one gang.

An operation that fails does so on all engines alike (see `mpicluster.array`): what it was to give is then its error, and what needs that
fails with the same. An error of MPI ends the program, and tells that an engine died.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import mpicluster.array as xp
from mpicluster.array.darray import DistArray, describe
from mpicluster.array.layout import Block, default_layout
from mpicluster.array.mesh import current
from mpicluster.engine.namespace import Namespace
from mpicluster.engine.world import MPI, WorldBroken
from mpicluster.errors import ArrayLost
from mpicluster.serial.arrayops import NO_SCALAR, SCATTERED, Answer, Key, Op, Program, Ref, Told

__all__ = ["Arrays"]

#: Of a long axis, so many elements are shown at either end.
_EDGE = 3
#: Plain values that are told as they are.
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, np.dtype)


class Failed:
    """Stands for a result that there is not, since what was to give it failed. Keeps no exception: its frames would keep arrays."""

    def __init__(self, told: bytes) -> None:
        self.told = told


class Arrays:
    """What clients hold on this engine. Main thread only."""

    def __init__(self, namespace: Namespace, capture: Callable[[Exception], bytes]) -> None:
        self._namespace = namespace
        #: an error as bytes, for the client
        self._capture = capture
        self._held: dict[str, dict[Key, Any]] = {}

    def leave(self, client: str) -> None:
        """A client is gone: nobody refers to what it holds."""
        self._held.pop(client, None)

    def run(self, program: Program) -> Answer | None:
        """Do the operations of a program; what they gave is told by the first engine.

        Raises
        ------
        WorldBroken
            an engine died.
        """
        held = self._held.setdefault(program.client, {})
        told: dict[int, Told] = {}
        first = current().rank == 0
        for op in program.ops:
            try:
                result = self._do(op, held)
            except MPI.Exception as e:
                raise WorldBroken(str(e)) from e
            except ArrayLost as e:
                if isinstance(e.__cause__, MPI.Exception):
                    raise WorldBroken(str(e)) from e.__cause__
                self._fail(op, e, held, told)
            except Exception as e:  # noqa: BLE001 - the user's operation
                self._fail(op, e, held, told)
            else:
                description = _keep(result, op.outs[0] if len(op.outs) == 1 else op.key, held)
                if op.tell and first:
                    told[op.key] = description
        return Answer(told) if first else None

    def _fail(self, op: Op, error: Exception, held: dict[Key, Any], told: dict[int, Told]) -> None:
        """What the operation was to give is its error."""
        failure = error.failure if isinstance(error, _Inherited) else Failed(self._capture(_located(error, op)))
        held.update(dict.fromkeys(op.outs, failure))
        if op.tell:
            told[op.key] = Told("error", failure.told)

    def _do(self, op: Op, held: dict[Key, Any]) -> Any:
        if op.name == "=free":
            for key in op.args:
                held.pop(key, None)
            return None
        args, kwargs = _resolved(op.args, held), _resolved(op.kwargs, held)
        if op.name.startswith("="):
            return getattr(self, f"_{op.name[1:]}")(*args, **kwargs)
        if op.name.startswith("."):
            target, *rest = args
            return getattr(target, op.name[1:])(*rest, **kwargs)
        return _function(op.name)(*args, **kwargs)

    # -- verbs ---------------------------------------------------------------------------------------------------------------------

    def _fetch(self, x: Any) -> Any:
        """All values, at the first engine."""
        return x.gather(0) if isinstance(x, DistArray) else x

    def _scalar(self, x: Any) -> Any:
        """The only value of an array without dimensions, at the first engine."""
        if x.shape:
            raise TypeError(NO_SCALAR)
        return self._fetch(x)

    def _attribute(self, x: Any, name: str) -> Any:
        return getattr(x, name)

    def _in_place(self, name: str, x: DistArray, other: Any) -> Any:
        changed: Any = xp.in_place(_function(name), x, other)
        return changed

    def _name(self, x: Any, name: str) -> None:
        self._namespace.set(name, x)

    def _from_engines(self, name: str, axis: int = 0) -> DistArray:
        """What each engine has under a name, put together along an axis; what is an array already, as it is."""
        with current().together():
            value = self._namespace.get(name)
        are = current().gather_ints(isinstance(value, DistArray))
        array: DistArray = value if are.all() else xp.from_local(np.asarray(value), axis=axis)
        return array

    def _to_engines(self, x: DistArray, name: str) -> None:
        """This engine's even part of axis 0, as scatter divides it."""
        part = x.redistribute(Block(0)) if x.ndim else x
        self._namespace.set(name, np.ascontiguousarray(part.local))

    def _scattered(self, key: int, shape: tuple[int, ...]) -> DistArray:
        """What the client scattered along the axis of the default layout."""
        mesh = current()
        block = self._namespace.values.pop(f"{SCATTERED}{key}")
        layout = default_layout(shape, mesh.size)
        assert isinstance(layout, Block)
        return DistArray(mesh, layout, shape, np.moveaxis(block, 0, layout.axis))

    def _show(self, x: Any) -> Any:
        """How it lies, and its values: of long axes only both ends, around one that stands for the rest."""
        if not isinstance(x, DistArray):
            return type(x).__name__, repr(x)
        for axis, n in enumerate(x.shape):
            if n > 2 * _EDGE + 1 and x.size > 256:
                head, tail = [slice(None)] * x.ndim, [slice(None)] * x.ndim
                head[axis], tail[axis] = slice(0, _EDGE + 1), slice(n - _EDGE, n)
                x = xp.concat([x[tuple(head)], x[tuple(tail)]], axis=axis)
        return describe(x.layout), x.gather(0)


class _Inherited(Exception):
    """An operand of the operation had failed already."""

    def __init__(self, failure: Failed) -> None:
        super().__init__()
        self.failure = failure


def _resolved(value: Any, held: dict[Key, Any]) -> Any:
    """With what is held in place of references."""
    kind = type(value)
    if kind is Ref:
        if value.key not in held:
            raise ArrayLost("an operand is not there any more: what was to make it was cancelled, or its engines died")
        found = held[value.key]
        if isinstance(found, Failed):
            raise _Inherited(found)
        return found
    if kind is tuple or kind is list:
        return kind(_resolved(v, held) for v in value)
    if kind is dict:
        return {k: _resolved(v, held) for k, v in value.items()}
    if kind is slice:
        return slice(*(_resolved(v, held) for v in (value.start, value.stop, value.step)))
    return value


@functools.cache
def _function(name: str) -> Callable[..., Any]:
    found: Any = xp
    for part in name.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = found
    return function


def _located(error: Exception, op: Op) -> Exception:
    if op.where:
        error.add_note(f"the operation was asked for at {op.where}")
    return error


def _keep(result: Any, key: Key, held: dict[Key, Any]) -> Told:
    """Keep arrays and other objects under their keys; what the client is told."""
    if isinstance(result, DistArray):
        held[key] = result
        return Told("array", (key, result.shape, result.dtype))
    if isinstance(result, _PLAIN) or (isinstance(result, np.ndarray) and not result.dtype.hasobject):
        return Told("value", result)
    if isinstance(result, tuple | list):
        fields = getattr(result, "_fields", None)
        parts = [_keep(part, below, held) for part, below in zip(result, _below(key), strict=False)]
        return Told("tuple", (type(result).__name__, fields, parts))
    held[key] = result
    return Told("object", (key, type(result).__name__))


def _below(key: Key) -> Iterator[tuple[int, ...]]:
    prefix = key if isinstance(key, tuple) else (key,)
    number = 0
    while True:
        yield (*prefix, number)
        number += 1
