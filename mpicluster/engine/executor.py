"""What an engine does with each kind of assignment. Knows no sockets: meeting the other targets is the `Door`'s part."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mpicluster.buffers import copy
from mpicluster.config import INLINE_UP_TO
from mpicluster.engine.exchange import Door, broadcast, gather, reduce, scatter, spread
from mpicluster.engine.namespace import Namespace
from mpicluster.engine.warden import Warden
from mpicluster.serial import functions
from mpicluster.serial.payload import Executed, Payload, decode, encode
from mpicluster.wire.messages import Assign

__all__ = ["Executor", "Outcome"]

#: Verbs whose value is made for the answer.
_FRESH = frozenset({"gather", "reduce", "arrays"})


#: Verbs that are not interrupted half-way, or see to it themselves.
_ALL_OR_NONE = frozenset({"scatter", "gather", "reduce", "spmd", "arrays"})


def _takes_comm(function: Callable[..., Any], given: int) -> bool:
    """Whether a function has a parameter named ``comm`` that so many positional arguments leave free."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    for position, parameter in enumerate(parameters):
        if parameter.name == "comm" and parameter.kind is not parameter.POSITIONAL_ONLY:
            return parameter.kind is parameter.KEYWORD_ONLY or position >= given
    return False


def _references() -> int:
    value = object()
    return sys.getrefcount(value)


#: How many references there are, as Python counts them, to a value that only one variable holds.
_ALONE = _references()


class Outcome(NamedTuple):
    """The value of an assignment, encoded, and when the user's code began."""

    payload: Payload
    started: float


class Executor:
    """Runs assignments in a namespace. One per engine; main thread only."""

    def __init__(self, namespace: Namespace, warden: Warden, capture: Callable[[Exception], bytes]) -> None:
        """``capture``: makes bytes of an error, for clients."""
        self._namespace = namespace
        self._warden = warden
        self._capture = capture
        #: what clients hold; made when the first of them does
        self._arrays: Any = None
        #: functions of maps under way, by the hub's key: as they came, and unpickled at their first use
        self._learnt: dict[int, bytes] = {}
        self._functions: dict[int, tuple[Callable[..., Any], dict[str, Any]]] = {}
        self._verbs: dict[str, Callable[[Assign, Any, Door], Any]] = {
            "apply": self._apply,
            "map": self._map,
            "execute": self._execute,
            "push": self._push,
            "pull": self._pull,
            "clear": self._clear,
            "scatter": self._scatter,
            "gather": self._gather,
            "reduce": self._reduce,
            "spmd": self._spmd,
            "arrays": self._run_program,
        }

    def learn(self, fn_id: int, fn: bytes) -> None:
        """Keep a function that comes once for all tasks of a map, be it with a task that is withdrawn."""
        self._learnt[fn_id] = fn

    def forget(self, fn_ids: Sequence[int], client: str = "") -> None:
        """These functions are not needed any more; nor is what a client holds that has left."""
        if client and self._arrays is not None:
            self._arrays.leave(client)
        for fn_id in fn_ids:
            self._learnt.pop(fn_id, None)
            self._functions.pop(fn_id, None)

    def run(self, task: Assign, door: Door) -> Outcome:
        """Do an assignment. Raises whatever the user's code raises.

        Raises
        ------
        LookupError
            there is no such kind of assignment.
        """
        verb = self._verbs.get(task.kind)
        if verb is None:
            raise LookupError(f"this engine knows no task of kind {task.kind!r}; is the client of another version?")
        what = f"the arguments of {task.kind}"
        if task.collective == "bcast":
            argument = decode(b"", broadcast(door, task), what)
        elif task.collective == "coalesce":
            if task.sizes:
                argument = decode(b"", spread(door, task), what)
            else:
                argument = decode(task.data, what=what)  # which may fail, and then they do not meet
                door.meet(b"")
        elif task.sizes and task.collective in ("", "spmd"):
            argument = decode(b"", door.bulk(), what)
        else:
            argument = decode(task.data, what=what)
        started = time.time()
        if task.kind in _ALL_OR_NONE:
            value = verb(task, argument, door)
        else:
            self._warden.open()
            try:
                value = verb(task, argument, door)
            finally:
                self._warden.close()
        alone = sys.getrefcount(value) <= _ALONE and (task.kind in _FRESH or (type(value) is np.ndarray and value.base is None))
        payload = encode(value, INLINE_UP_TO, f"the result of {task.kind}")
        if payload.buffers and not alone:  # it is sent while the next tasks run, which may change it
            payload = Payload(payload.data, [copy(b) for b in payload.buffers])
        return Outcome(payload, started)

    def _function(self, task: Assign) -> Callable[..., Any]:
        if not task.fn_id:
            function: Callable[..., Any] = decode(task.fn, what="the function")
            return function
        known = self._functions.get(task.fn_id)
        if known is None:
            functions.take_companions()  # those of others
            function = decode(self._learnt[task.fn_id], what="the function")
            self._functions[task.fn_id] = function, functions.take_companions()
            return function
        function, companions = known
        if companions:
            functions.install(companions)  # another version, or another client's, may have come in between
        return function

    def _apply(self, task: Assign, argument: Any, door: Door) -> Any:
        args, kwargs, *own = argument  # a function that carries much data comes with its arguments
        return (own[0] if own else self._function(task))(*args, **kwargs)

    def _spmd(self, task: Assign, argument: Any, door: Door) -> Any:
        args, kwargs, *own = argument
        function = own[0] if own else self._function(task)

        def run(comm: Any) -> Any:
            given = {**kwargs, "comm": comm} if "comm" not in kwargs and _takes_comm(function, len(args)) else kwargs
            return function(*args, **given)

        return self._as_gang(door, run)

    def _run_program(self, task: Assign, program: Any, door: Door) -> Any:
        return self._as_gang(door, lambda _comm: self._held().run(program))

    def _held(self) -> Any:
        if self._arrays is None:
            with self._warden.held():  # half an import would fail for good
                from mpicluster.engine.arrays import Arrays

                self._arrays = Arrays(self._namespace, self._capture)
        return self._arrays

    def _as_gang(self, door: Door, run: Callable[[Any], Any]) -> Any:
        """``run(comm)`` with the other targets; if it fails here, they are freed who wait for this engine."""
        comm = door.enter_gang()
        well = False
        try:
            self._warden.open()
            value = run(comm)
            well = True
        finally:
            self._warden.close()
            door.leave_gang(well=well)
        return value

    def _map(self, task: Assign, argument: Any, door: Door) -> list[Any]:
        sequences, *own = argument
        return list(map(own[0] if own else self._function(task), *sequences))

    def _execute(self, task: Assign, argument: Any, door: Door) -> Executed:
        code, silent = argument
        return Executed(self._namespace.execute(code, silent=silent))

    def _push(self, task: Assign, argument: dict[str, Any], door: Door) -> None:
        for name, value in argument.items():
            self._namespace.set(name, value)

    def _pull(self, task: Assign, names: str | list[str], door: Door) -> Any:
        if isinstance(names, str):
            return self._namespace.get(names)
        return [self._namespace.get(name) for name in names]

    def _clear(self, task: Assign, argument: Any, door: Door) -> None:
        self._namespace.clear()

    def _scatter(self, task: Assign, plan: Any, door: Door) -> None:
        self._namespace.set(plan.key, scatter(door, task, plan))

    def _gather(self, task: Assign, name: str, door: Door) -> Any:
        return gather(door, self._namespace.get(name), name)

    def _reduce(self, task: Assign, argument: tuple[str, Any], door: Door) -> Any:
        name, op = argument
        return reduce(door, self._namespace.get(name), name, op)
