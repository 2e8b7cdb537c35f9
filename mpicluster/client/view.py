"""What direct and load-balanced views share."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mpicluster.buffers import copy
from mpicluster.client.flags import Flags, with_flags
from mpicluster.client.history import ViewHistory
from mpicluster.client.progress import wait_with_bar
from mpicluster.client.result import AsyncResult
from mpicluster.config import INLINE_UP_TO
from mpicluster.errors import ClusterError
from mpicluster.ids import Targets
from mpicluster.serial.payload import Buffer, Payload, encode
from mpicluster.serial.reference import PrePickled, Reference

if TYPE_CHECKING:
    from mpicluster.client.client import Client
    from mpicluster.client.executor import ViewExecutor
    from mpicluster.client.remote import ParallelFunction, RemoteFunction

__all__ = ["View", "check_callable", "ended_by_ctrl_c", "name_of", "snapshot", "waited", "zip_items"]

#: What goes through as many items as it has.
_OF_KNOWN_LENGTH = frozenset({range, list, tuple, str, bytes})
#: How long a call that was interrupted waits for its tasks to end, so that the next one finds the engines free.
_ENDS_WITHIN = 3.0

#: flags of `View.temp_flags`, by view: each thread, and each task of an event loop, has its own
_temporary: ContextVar[Mapping[View, Flags] | None] = ContextVar("mpicluster_flags", default=None)


def name_of(function: Any) -> str:
    """How a function is called in reprs and errors."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, Reference):
        return function.name
    return str(getattr(function, "__name__", None) or type(function).__name__)


def check_callable(f: Any) -> None:
    """Complain about what cannot be called; what a reference or a pickle stands for, only the engine knows.

    Raises
    ------
    TypeError
        it is not callable.
    """
    if not callable(f) and not isinstance(f, Reference | PrePickled):
        raise TypeError(f"{f!r} is not callable")


def flag(name: str, meaning: str) -> Any:
    """A flag as an attribute of views."""
    return property(lambda view: getattr(view._flags_now(), name), lambda view, value: view.set_flags(**{name: value}), doc=meaning)


class View(ViewHistory):
    """Base of the views. Its flags say how calls are made; each can be set as an attribute, too.

    It may be used from any thread: a call takes the flags as they are when it is made, and leaves nothing in the view but its ids.
    """

    #: the flags that it has
    flags_known: frozenset[str] = frozenset()

    block: Any = flag("block", "Whether calls wait for their result.")
    track: Any = flag("track", "Accepted for IPython Parallel's sake: what was sent may always be changed, see `AsyncResult.sent`.")
    targets: Any = flag("targets", "The engines.")
    label: Any = flag("label", "A word of yours for the tasks, kept with them.")

    def __init__(self, client: Client, targets: Targets, flags: Mapping[str, Any]) -> None:
        super().__init__()
        self.client = client
        self._executor: ViewExecutor | None = None
        #: guards that the flags are changed by one at a time; they are read without it
        self._changing = threading.Lock()
        start = Flags(block=client.block)
        given = {name: value for name, value in flags.items() if not (name == "block" and value is None)}
        self._flags = with_flags(start, {"targets": targets, **given}, self.flags_known, client.id)

    # -- what each kind of view does ---------------------------------------------------------------------------------

    def _apply(
        self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], flags: Flags | None = None, *, block: bool
    ) -> AsyncResult:
        raise NotImplementedError

    if TYPE_CHECKING:
        map: Callable[..., Any]

    # -- flags -------------------------------------------------------------------------------------------------------

    def _flags_now(self) -> Flags:
        temporary = _temporary.get()
        return self._flags if temporary is None else temporary.get(self, self._flags)

    def set_flags(self, **flags: Any) -> Any:
        """Set flags, for all calls from now on; returns this view.

        Raises
        ------
        KeyError
            there is no flag of that name.
        ValueError, TypeError
            a flag cannot have that value.
        """
        temporary = _temporary.get()
        if temporary is not None and self in temporary:  # undone with the others, as in IPython Parallel
            _temporary.set({**temporary, self: with_flags(temporary[self], flags, self.flags_known, self.client.id)})
            return self
        with self._changing:
            self._flags = with_flags(self._flags, flags, self.flags_known, self.client.id)
        return self

    @contextmanager
    def temp_flags(self, **flags: Any) -> Iterator[Any]:
        """Have other flags within a ``with`` block, in this thread (or this task of an event loop) only.

        Raises
        ------
        KeyError
            there is no flag of that name.
        """
        before = _temporary.get()
        changed = with_flags(self._flags_now(), flags, self.flags_known, self.client.id)
        _temporary.set({**(before or {}), self: changed})
        try:
            yield self
        finally:
            _temporary.set(before)

    def _with(self, **flags: Any) -> Flags:
        """The flags now, with others for one call; those that are None are not given."""
        now = self._flags_now()
        given = {name: value for name, value in flags.items() if value is not None}
        return with_flags(now, given, self.flags_known, self.client.id) if given else now

    # -- apply -------------------------------------------------------------------------------------------------------

    def apply(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``f(*args, **kwargs)`` there: its result if this view blocks, else an `AsyncResult`."""
        flags = self._flags_now()
        result = self._apply(f, args, kwargs, flags, block=flags.block)
        return waited(result) if flags.block else result

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Run ``f(*args, **kwargs)`` there, without waiting."""
        return self._apply(f, args, kwargs, block=False)

    def apply_sync(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``f(*args, **kwargs)`` there, and wait for the result."""
        return waited(self._apply(f, args, kwargs, block=True))

    def map_sync(self, f: Callable[..., Any], /, *sequences: Iterable[Any], **options: Any) -> list[Any]:
        """``list(map(f, *sequences))``, there."""
        result: list[Any] = self.map(f, *sequences, **{**options, "block": True})
        return result

    def map_async(self, f: Callable[..., Any], /, *sequences: Iterable[Any], **options: Any) -> Any:
        """`map` without waiting."""
        return self.map(f, *sequences, **{**options, "block": False})

    # -- functions that run there ------------------------------------------------------------------------------------

    def remote(self, block: bool | None = None, **flags: Any) -> Callable[[Callable[..., Any]], RemoteFunction]:
        """A decorator: calling the function runs it there."""
        from mpicluster.client.remote import remote

        return remote(self, block=block, **flags)

    def parallel(
        self, dist: str = "b", block: bool | None = None, ordered: bool = True, **flags: Any
    ) -> Callable[[Callable[..., Any]], ParallelFunction]:
        """A decorator: calling the function with sequences runs it there, once for each part of them; ``.map``, once for each element."""
        from mpicluster.client.remote import parallel

        return parallel(self, dist=dist, block=block, ordered=ordered, **flags)

    @property
    def executor(self) -> ViewExecutor:
        """This view as a `concurrent.futures.Executor`; another one after it was shut down."""
        from mpicluster.client.executor import executor_of

        return executor_of(self)

    # -- what is under way -------------------------------------------------------------------------------------------

    def wait(self, jobs: Any = None, timeout: float | None = None) -> bool:
        """`Client.wait`; for this view's own by default."""
        return self.client.wait(self._under_way() if jobs is None else jobs, timeout)

    def abort(self, jobs: Any = None, targets: Targets = None, block: bool | None = None) -> bool:
        """`Client.abort`; this view's own by default."""
        return self.client.abort(self._under_way() if jobs is None else jobs, targets, self.block if block is None else block)

    def _under_way(self) -> list[AsyncResult]:
        return [result for result in self.client._results_under_way() if result._view is self]

    @property
    def outstanding(self) -> set[str]:
        """Ids of this view's tasks that are under way."""
        return self.client._outstanding(lambda result: result._view is self)

    def shutdown(self, targets: Targets = None, restart: bool = False, hub: bool = False, block: bool | None = None) -> None:
        """`Client.shutdown`; of this view's engines, which must be all, by default."""
        self.client.shutdown(self.targets if targets is None else targets, restart, hub, block)

    def spin(self) -> None:
        """Nothing: results come by themselves."""
        warnings.warn("spin() does nothing: results come by themselves", DeprecationWarning, stacklevel=2)

    # -- helpers -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _pack_call(f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], limit: int) -> tuple[bytes, Payload]:
        """Function and arguments, encoded; a function that carries much data goes with its arguments."""
        check_callable(f)
        function = encode(f, INLINE_UP_TO, f"function {name_of(f)}")
        if function.buffers:
            return b"", encode((args, kwargs, f), limit, f"function {name_of(f)} and its arguments")
        return function.data, encode((args, kwargs), limit, f"the arguments of {name_of(f)}")


def waited(result: AsyncResult, *, bar: bool = False) -> Any:
    """The value of a result whose caller waits, behind a ``bar`` if it takes long."""
    with ended_by_ctrl_c(result):
        if bar:
            wait_with_bar(result)
        return result.get()


@contextmanager
def ended_by_ctrl_c(result: AsyncResult) -> Iterator[None]:
    """Ctrl-C in this block ends the tasks of a result that nobody else knows of."""
    try:
        yield
    except KeyboardInterrupt:
        try:
            if result.interrupt():
                result.wait(_ENDS_WITHIN)
        except (ClusterError, TimeoutError):
            pass  # there is no cluster any more, or it does not answer: nothing can be ended
        raise


def snapshot(buffers: Sequence[Buffer], *, block: bool) -> Sequence[Buffer]:
    """Buffers to be sent: the caller's own while it waits, else copies, so that it may go on changing them."""
    return buffers if block else [copy(b) for b in buffers]


def zip_items(sequences: tuple[Iterable[Any], ...]) -> tuple[int, Iterator[tuple[Any, ...]]]:
    """How many argument tuples a map has, and these; nothing is copied of what has a length that can be relied on."""
    if not sequences:
        raise TypeError("map needs at least one sequence")
    if all(type(s) in _OF_KNOWN_LENGTH for s in sequences):
        return min(map(len, sequences)), zip(*sequences, strict=False)  # type: ignore[arg-type]
    items = list(zip(*sequences, strict=False))
    return len(items), iter(items)
