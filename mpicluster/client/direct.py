"""A view that addresses engines directly."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpicluster.client.flags import DIRECT, Flags, labelled
from mpicluster.client.html import view_html
from mpicluster.client.imports import sync_imports
from mpicluster.client.mapped import AsyncMapResult, LazyMapIterator
from mpicluster.client.result import AsyncResult
from mpicluster.client.view import View, check_callable, name_of, snapshot, waited
from mpicluster.config import BROADCAST_FROM, INLINE_UP_TO, MAX_FRAME
from mpicluster.ids import Targets, resolve, select
from mpicluster.serial.failure import Guarded
from mpicluster.serial.partition import join, scattering, split
from mpicluster.serial.payload import Payload, decode, encode, encode_inline
from mpicluster.wire import messages as m

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mpicluster.client.arrays.namespace import RemoteNamespace
    from mpicluster.client.client import Client

__all__ = ["DirectView", "joined"]

_OPS = ("sum", "prod", "min", "max", "land", "lor", "lxor", "band", "bor", "bxor")


class DirectView(View):
    """Runs what it is given on each of its engines, and moves data to and from them.

    ``targets``
        ``"all"`` (those alive at each call), one engine id (results are then single values), or a list of ids.

    The client sends one copy of the data, whatever the number of engines; between engines it travels by MPI.
    """

    flags_known = DIRECT
    #: bytes, in all, from which what goes to several engines is broadcast over MPI; and how the answers come back
    _broadcast_from = BROADCAST_FROM
    _answers = ""

    def __init__(self, client: Client, targets: Targets = "all", **flags: Any) -> None:
        super().__init__(client, targets, flags)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.targets}>"

    def _repr_html_(self) -> str:
        return view_html(self, self.targets)

    def __len__(self) -> int:
        return len(self._ids(None)[0])

    def _ids(self, targets: Targets) -> tuple[list[int], bool]:
        """Engine ids of a call, and whether it is for a single one."""
        ids = self.client._live()
        if targets is None:
            own: Any = self._flags_now().targets
            return resolve(own, ids), isinstance(own, int)
        return select(targets, ids), isinstance(targets, int)

    @property
    def xp(self) -> RemoteNamespace:
        """Functions of arrays that live on the engines of this view: the array API standard's, see `RemoteNamespace`."""
        return self.client._namespace(self._ids(None)[0])

    def _blocks(self, block: bool | None) -> bool:
        return bool(self._flags_now().block if block is None else block)

    # -- one message to all targets ----------------------------------------------------------------------------------

    def _call(
        self,
        kind: str,
        name: str,
        payload: Callable[[int], tuple[bytes, Payload]],
        *,
        targets: Targets = None,
        block: bool,
        assemble: Callable[[list[Any]], Any] | None = None,
        collective: str = "",
        flags: Flags | None = None,
    ) -> AsyncResult:
        """Submit one task for all targets. ``payload(limit)`` gives function and argument, the latter inline up to ``limit``."""
        flags = self._flags_now() if flags is None else flags
        ids, single = self._ids(flags.targets if targets is None else targets)
        fn, argument = payload(INLINE_UP_TO if len(ids) == 1 else min(INLINE_UP_TO, self._broadcast_from // len(ids)))
        one = kind in m.ONE_ANSWER
        result = AsyncResult(self.client, name, 1 if one else len(ids), single=single or one, assemble=assemble)
        result._made_by(self, flags)
        if not collective and len(ids) > 1 and kind in ("apply", "execute"):
            collective = self._answers
        if argument.buffers and len(ids) > 1 and collective != "coalesce":
            collective = "bcast"
        buffers = snapshot(argument.buffers, block=block)
        runs = self.client._runs(ids) if collective in ("bcast", "coalesce") else [ids]
        first = 0
        for run in runs:
            meeting = collective if len(run) > 1 or len(runs) == 1 else ""
            self.client._submit(
                result,
                first,
                kind,
                targets=run,
                data=[argument.data],
                fn=fn,
                buffers=buffers,
                collective=meeting,
                terms=flags.terms,
            )
            first += len(run)
        return result

    def _apply(
        self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], flags: Flags | None = None, *, block: bool
    ) -> AsyncResult:
        return self._call("apply", name_of(f), lambda limit: self._pack_call(f, args, kwargs, limit), block=block, flags=flags)

    # -- as one gang -------------------------------------------------------------------------------------------------

    def spmd(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``f(*args, **kwargs)`` on all engines at once, as one gang; results in the order of the targets.

        The function gets a communicator of exactly these engines: by a parameter named ``comm``, as ``mpicluster.comm``, and by the names
        ``comm``, ``rank`` and ``size`` of the engines' namespace. When one of them raises, the others are freed from whatever call
        on that communicator they wait in (if this MPI can revoke communicators), and the error is that of the one that raised.
        Gangs on different engines run at the same time.

        As a decorator, ``@view.spmd`` runs the function at once; one that needs arguments becomes a function that runs so when called.
        """
        if not args and not kwargs and _needs_arguments(f):
            return functools.wraps(f)(functools.partial(self.spmd, f))
        flags = self._flags_now()
        result = self._gang(f, args, kwargs, flags, block=flags.block)
        return waited(result) if flags.block else result

    def spmd_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """`spmd` without waiting."""
        return self._gang(f, args, kwargs, self._flags_now(), block=False)

    def spmd_sync(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """`spmd`, and wait for the results."""
        return waited(self._gang(f, args, kwargs, self._flags_now(), block=True))

    def _gang(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], flags: Flags, *, block: bool) -> AsyncResult:
        return self._call(
            "spmd", name_of(f), lambda limit: self._pack_call(f, args, kwargs, limit), block=block, collective="spmd", flags=flags
        )

    def _send(self, kind: str, argument: Any, *, targets: Targets, block: bool, what: str = "", label: str | None = None) -> AsyncResult:
        what = what or f"the argument of {kind}"
        flags = labelled(self._flags_now(), label)
        return self._call(kind, kind, lambda limit: (b"", encode(argument, limit, what)), targets=targets, block=block, flags=flags)

    # -- code --------------------------------------------------------------------------------------------------------

    def execute(
        self,
        code: str,
        silent: bool = True,
        targets: Targets = None,
        block: bool | None = None,
        label: str | None = None,
    ) -> AsyncResult:
        """Run code in the engines' namespaces, as a cell of their IPython shells. Returns the `AsyncResult` in any case.

        Its values are `ExecuteReply`. With ``silent`` the cell is not counted nor kept in ``In`` and ``Out``, and the value of its last
        expression is not shown; what it prints and displays is kept in either case.
        """
        block = self._blocks(block)
        result = self._send("execute", (code, silent), targets=targets, block=block, label=label)
        if not silent:
            result.code = code
        if block:
            waited(result)
        return result

    def run(self, filename: str, targets: Targets = None, block: bool | None = None, label: str | None = None) -> AsyncResult:
        """Run a script of this machine on the engines: its text is sent."""
        return self.execute(Path(filename).expanduser().read_text(encoding="utf-8"), targets=targets, block=block, label=label)

    def activate(self, suffix: str = "") -> None:
        """Have the magics ``%px``, ``%%px``, ``%autopx``, ``%pxresult`` and ``%pxconfig`` of this IPython, with ``suffix``, use this view.

        Raises
        ------
        RuntimeError
            this is not IPython.
        """
        from mpicluster.client.magics import activate

        activate(self, suffix)

    def sync_imports(self, local: bool = True, quiet: bool = False) -> AbstractContextManager[None]:
        """Imports in this ``with`` block happen on the engines too (and here, unless ``local=False``), aliases included."""
        return sync_imports(self, local=local, quiet=quiet)

    @property
    def importer(self) -> AbstractContextManager[None]:
        """`sync_imports` with its defaults: ``with view.importer: import numpy``."""
        return self.sync_imports()

    def use_cloudpickle(self) -> AsyncResult:
        """What is so already: functions, closures and classes travel by value as cloudpickle has it. A result that says so (True)."""
        return self._apply(bool, (True,), {}, block=False)

    #: IPython Parallel's other ways: what they can send, cloudpickle can
    use_dill = use_pickle = use_cloudpickle

    # -- names -------------------------------------------------------------------------------------------------------

    def push(self, ns: dict[str, Any], targets: Targets = None, block: bool | None = None, track: bool | None = None) -> AsyncResult | None:
        """Set names in the engines' namespaces; ``"a.b"`` sets an attribute. Large values go by one MPI Bcast."""
        if not isinstance(ns, dict) or not all(isinstance(k, str) for k in ns):
            raise TypeError("push takes a dict of names and values")
        block = self._blocks(block)
        result = self._send("push", ns, targets=targets, block=block, what=", ".join(map(repr, ns)))
        return _maybe_waited(result, block=block)

    def update(self, ns: dict[str, Any]) -> AsyncResult | None:
        """`push`, as dict has it."""
        return self.push(ns)

    def pull(self, names: str | Sequence[str], targets: Targets = None, block: bool | None = None) -> Any:
        """Values of a name, or of several, from each engine."""
        argument = names if isinstance(names, str) else list(names)
        result = self._send("pull", argument, targets=targets, block=self._blocks(block))
        return waited(result) if self._blocks(block) else result

    def get(self, key: str) -> Any:
        """The values of a name; waits."""
        return self.pull(key, block=True)

    def __getitem__(self, key: str) -> Any:
        if not isinstance(key, str):
            raise TypeError(f"a view is indexed by a name on the engines; to choose engines, index the client: rc[{key!r}]")
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.push({key: value}, block=True)

    def clear(self, targets: Targets = None, block: bool | None = None) -> AsyncResult | None:
        """Empty the engines' namespaces (``comm``, ``rank`` and ``size`` stay)."""
        block = self._blocks(block)
        result = self._send("clear", None, targets=targets, block=block)
        return _maybe_waited(result, block=block)

    # -- parts -------------------------------------------------------------------------------------------------------

    def scatter(
        self,
        key: str,
        seq: Any,
        dist: str = "b",
        flatten: bool = False,
        targets: Targets = None,
        block: bool | None = None,
        track: bool | None = None,
    ) -> AsyncResult | None:
        """Divide a sequence among the engines, under the name ``key``: one MPI Scatterv from the first of them.

        Parameters
        ----------
        seq
            an array (divided along axis 0, dtype kept exactly), or any sequence.
        dist
            ``"b"``: contiguous blocks, the first ``len % n`` of them one longer; ``"r"``: part i is ``seq[i::n]``.
        flatten
            a part of length 1 becomes its item.
        """
        block = self._blocks(block)
        ids, single = self._ids(targets)
        plan, raw = scattering(key, seq, len(ids), dist, flatten=flatten)
        small = raw.nbytes <= INLINE_UP_TO
        flags = self._flags_now()
        result = AsyncResult(self.client, "scatter", len(ids), single=single)
        result._made_by(self, flags)
        self.client._submit(
            result,
            0,
            "scatter",
            targets=ids,
            data=[encode_inline(plan)],
            bulk=raw.tobytes() if small else b"",
            buffers=() if small else snapshot([raw.data], block=block),
            collective="scatter",
            terms=flags.terms,
        )
        return _maybe_waited(result, block=block)

    def gather(self, key: str, dist: str = "b", targets: Targets = None, block: bool | None = None) -> Any:
        """The parts of ``key`` put together: one MPI Gatherv to the first engine, and one copy from there.

        Arrays are concatenated along axis 0, strings joined, sequences chained; other values come as a list.
        """
        join([[]], dist)  # an unknown dist fails here, not later
        result = self._call(
            "gather",
            "gather",
            lambda limit: (b"", encode(key, limit)),
            targets=targets,
            block=True,
            assemble=lambda values: joined(values[0], dist),
            collective="gather",
        )
        return waited(result) if self._blocks(block) else result

    def reduce(self, name: str, op: str | Callable[[Any, Any], Any] = "sum", *, targets: Targets = None, block: bool | None = None) -> Any:
        """The engines' values of a name combined: MPI Reduce to the first engine, and one copy from there.

        Parameters
        ----------
        op
            ``"sum"``, ``"prod"``, ``"min"``, ``"max"``, logical ``"land"``, ``"lor"``, ``"lxor"``, bitwise ``"band"``, ``"bor"``,
            ``"bxor"``, or a function of two values, which is applied in the order of the engines.

        Arrays are combined element by element and keep their dtype (integers wrap, as in MPI; bool counts as int64 in a sum).
        Values that MPI does not know (objects, dates, arrays of different shapes) are combined on the first engine with
        Python's and NumPy's operators.
        """
        if isinstance(op, str) and op not in _OPS:
            raise ValueError(f"op must be a function or one of {', '.join(_OPS)}, not {op!r}")
        result = self._call(
            "reduce",
            "reduce",
            lambda _limit: (b"", Payload(encode_inline((name, op), f"the operation {name_of(op)}"), [])),
            targets=targets,
            block=True,
            assemble=lambda values: values[0][1],
            collective="reduce",
        )
        return waited(result) if self._blocks(block) else result

    # -- map ---------------------------------------------------------------------------------------------------------

    def map(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Iterable[Any],
        block: bool | None = None,
        track: bool = False,
        return_exceptions: bool = False,
        label: str | None = None,
    ) -> Any:
        """``map(f, *sequences)``, in contiguous parts, one to each engine.

        ``return_exceptions``
            whether an item that fails gives its exception for a value, and the others go on.
        """
        flags = labelled(self._flags_now(), label)
        block = flags.block if block is None else bool(block)
        return self._map(f, sequences, "b", flags, block=block, return_exceptions=return_exceptions)

    def _map(
        self,
        f: Callable[..., Any],
        sequences: tuple[Iterable[Any], ...],
        dist: str,
        flags: Flags,
        *,
        block: bool,
        ordered: bool = True,
        return_exceptions: bool = False,
        chunksize: int | None = None,
    ) -> Any:
        """`map`, by any distribution."""
        _refuse(chunksize)
        if not sequences:
            raise TypeError("map needs at least one sequence")
        check_callable(f)
        ids, _ = self._ids(flags.targets)
        parts = list(zip(*(split(s, len(ids), dist) for s in _of_one_length(sequences)), strict=True))
        result = AsyncMapResult(self.client, name_of(f), [len(p[0]) for p in parts], ordered=ordered, chunked=True, dist=dist)
        result._return_exceptions = return_exceptions
        self._spread(result, Guarded(f) if return_exceptions else f, ids, "map", [(part,) for part in parts], flags, block=block)
        return waited(result, bar=True) if block else result

    def _call_parts(
        self,
        f: Callable[..., Any],
        sequences: Sequence[Any],
        dist: str,
        flags: Flags,
        *,
        block: bool,
        ordered: bool,
        return_exceptions: bool,
        chunksize: int | None,
    ) -> Any:
        """Call ``f`` with parts of sequences of one length, one on each engine, and put what they give together."""
        _refuse(chunksize)
        ids, _ = self._ids(flags.targets)
        whole = list(zip(*(split(s, len(ids), dist) for s in sequences), strict=True))
        parts = [part for part in whole if len(part[0])] or whole[:1]
        sizes = [len(part[0]) for part in parts]
        result = AsyncMapResult(
            self.client, name_of(f), sizes, ordered=ordered, chunked=True, dist=dist, assemble=lambda values: join(values, dist)
        )
        result._return_exceptions = return_exceptions
        self._spread(result, f, ids[: len(parts)], "apply", [(part, {}) for part in parts], flags, block=block)
        return waited(result, bar=True) if block else result

    def _spread(
        self, result: AsyncResult, f: Any, ids: list[int], kind: str, arguments: list[tuple[Any, ...]], flags: Flags, *, block: bool
    ) -> None:
        """Submit one call for each engine, with an argument of its own."""
        result._made_by(self, flags)
        name = name_of(f)
        function = encode(f, INLINE_UP_TO, f"function {name}")
        heavy = (f,) if function.buffers else ()
        packed = [encode((*argument, *heavy), INLINE_UP_TO, f"the arguments of {name}") for argument in arguments]
        terms = flags.terms
        if any(argument.buffers for argument in packed) or sum(len(argument.data) for argument in packed) > MAX_FRAME // 2:
            for i, argument in enumerate(packed):
                buffers = snapshot(argument.buffers, block=block)
                self.client._submit(result, i, kind, targets=[ids[i]], data=[argument.data], fn=function.data, buffers=buffers, terms=terms)
        else:
            self.client._submit(result, 0, kind, targets=ids, data=[p.data for p in packed], fn=function.data, terms=terms)

    def imap(
        self, f: Callable[..., Any], /, *sequences: Iterable[Any], return_exceptions: bool = False, label: str | None = None
    ) -> LazyMapIterator:
        """`map`, as an iterator over the results as they come."""
        result = self.map_async(f, *sequences, return_exceptions=return_exceptions, label=label)
        return LazyMapIterator(iter(result), lambda: None)


def _refuse(chunksize: int | None) -> None:
    if chunksize is not None:
        raise ValueError("chunksize is for load-balanced views: a direct view gives each engine one part")


def _needs_arguments(f: Callable[..., Any]) -> bool:
    """Whether a function cannot be called with a communicator alone."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return any(p.default is p.empty and p.kind not in kinds and p.name != "comm" for p in parameters)


def _of_one_length(sequences: Sequence[Any]) -> list[Any]:
    """Sequences cut to the shortest of them, as `map` does. Some may be infinite."""
    sequences = [list(s) if isinstance(s, Mapping) or hasattr(s, "columns") else s for s in sequences]  # what `map` goes through
    lengths = [len(s) for s in sequences if hasattr(s, "__len__")]
    if not lengths:
        return list(map(list, zip(*zip(*sequences, strict=False), strict=True))) or [[] for _ in sequences]
    length = min(lengths)
    cut = [s if hasattr(s, "__len__") and len(s) == length else _head(s, length) for s in sequences]
    shortest = min(map(len, cut))
    return cut if shortest == length else [_head(s, shortest) for s in cut]


def _head(sequence: Any, length: int) -> Any:
    """The first items: a slice, if there are slices of it."""
    try:
        return sequence[:length]
    except (TypeError, KeyError):
        return list(itertools.islice(sequence, length))


def _maybe_waited(result: AsyncResult, *, block: bool) -> AsyncResult | None:
    """For calls whose values are of no interest: the result, or nothing once it is there."""
    if not block:
        return result
    waited(result)
    return None


def joined(gathered: Any, dist: str) -> Any:
    """The value of a gather, from what the root collected."""
    kind, content, *sizes = gathered
    if kind == "objects":
        return join([decode(piece, what="a part") for piece in content], dist)
    if dist == "b":
        return content
    parts, start = [], 0
    for size in sizes[0]:
        parts.append(content[start : start + size])
        start += size
    return join(parts, dist)
