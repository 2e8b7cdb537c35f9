"""A view that addresses engines directly."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpicluster.client.imports import sync_imports
from mpicluster.client.result import AsyncMapResult, AsyncResult
from mpicluster.client.view import View, name_of, snapshot
from mpicluster.config import BROADCAST_FROM, INLINE_UP_TO, MAX_FRAME
from mpicluster.ids import Targets, resolve, select
from mpicluster.serial.partition import join, scattering, split
from mpicluster.serial.payload import Payload, decode, encode, encode_inline

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mpicluster.client.client import Client

__all__ = ["DirectView", "joined"]

_OPS = ("sum", "prod", "min", "max", "land", "lor", "lxor", "band", "bor", "bxor")


class DirectView(View):
    """Runs what it is given on each of its engines, and moves data to and from them.

    ``targets``
        ``"all"`` (those alive at each call), one engine id (results are then single values), or a list of ids.

    The client sends one copy of the data, whatever the number of engines; between engines it travels by MPI.
    """

    def __init__(self, client: Client, targets: str | int | list[int], *, block: bool | None = None) -> None:
        super().__init__(client, block=block)
        self.targets = targets

    def __repr__(self) -> str:
        return f"<DirectView {self.targets}>"

    def __len__(self) -> int:
        return len(self._ids(None)[0])

    def _ids(self, targets: Targets) -> tuple[list[int], bool]:
        """Engine ids of a call, and whether it is for a single one."""
        ids = self.client._live()
        if targets is None:
            return resolve(self.targets, ids), isinstance(self.targets, int)
        return select(targets, ids), isinstance(targets, int)

    def _blocks(self, block: bool | None) -> bool:
        return bool(self.block if block is None else block)

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
    ) -> AsyncResult:
        """Submit one task for all targets. ``payload(limit)`` gives function and argument, the latter inline up to ``limit``."""
        ids, single = self._ids(targets)
        limit = INLINE_UP_TO if len(ids) == 1 else min(INLINE_UP_TO, BROADCAST_FROM // len(ids))
        fn, argument = payload(limit)
        result = AsyncResult(self.client, name, len(ids), single=single, assemble=assemble)
        if argument.buffers and len(ids) > 1:
            collective = "bcast"
        self.client._submit(
            result,
            0,
            kind,
            targets=ids,
            data=[argument.data],
            fn=fn,
            buffers=snapshot(argument.buffers, block=block),
            collective=collective,
            history=self.history,
        )
        return result

    def _apply(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, block: bool) -> AsyncResult:
        return self._call("apply", name_of(f), lambda limit: self._pack_call(f, args, kwargs, limit), block=block)

    def _send(self, kind: str, argument: Any, *, targets: Targets, block: bool, what: str = "") -> AsyncResult:
        what = what or f"the argument of {kind}"
        return self._call(kind, kind, lambda limit: (b"", encode(argument, limit, what)), targets=targets, block=block)

    # -- code --------------------------------------------------------------------------------------------------------

    def execute(self, code: str, *, targets: Targets = None, block: bool | None = None) -> AsyncResult:
        """Run code in the engines' namespaces, as a cell of their IPython shells. Returns the `AsyncResult` in any case."""
        block = self._blocks(block)
        result = self._send("execute", code, targets=targets, block=block)
        if block:
            result.get()
        return result

    def run(self, filename: str, *, targets: Targets = None, block: bool | None = None) -> AsyncResult:
        """Run a script of this machine on the engines: its text is sent."""
        return self.execute(Path(filename).expanduser().read_text(encoding="utf-8"), targets=targets, block=block)

    def sync_imports(self, *, local: bool = True, quiet: bool = False) -> AbstractContextManager[None]:
        """Imports in this ``with`` block happen on the engines too (and here, unless ``local=False``), aliases included."""
        return sync_imports(self, local=local, quiet=quiet)

    # -- names -------------------------------------------------------------------------------------------------------

    def push(self, ns: dict[str, Any], *, targets: Targets = None, block: bool | None = None) -> AsyncResult | None:
        """Set names in the engines' namespaces; ``"a.b"`` sets an attribute. Large values go by one MPI Bcast."""
        if not isinstance(ns, dict) or not all(isinstance(k, str) for k in ns):
            raise TypeError("push takes a dict of names and values")
        block = self._blocks(block)
        result = self._send("push", ns, targets=targets, block=block, what=", ".join(map(repr, ns)))
        return _maybe_waited(result, block=block)

    def update(self, ns: dict[str, Any]) -> AsyncResult | None:
        """`push`, as dict has it."""
        return self.push(ns)

    def pull(self, names: str | Sequence[str], *, targets: Targets = None, block: bool | None = None) -> Any:
        """Values of a name, or of several, from each engine."""
        argument = names if isinstance(names, str) else list(names)
        result = self._send("pull", argument, targets=targets, block=self._blocks(block))
        return result.get() if self._blocks(block) else result

    def get(self, key: str) -> Any:
        """The values of a name; waits."""
        return self.pull(key, block=True)

    def __getitem__(self, key: str) -> Any:
        if not isinstance(key, str):
            raise TypeError(f"a view is indexed by a name on the engines; to choose engines, index the client: rc[{key!r}]")
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.push({key: value}, block=True)

    def clear(self, *, targets: Targets = None, block: bool | None = None) -> AsyncResult | None:
        """Empty the engines' namespaces (``comm``, ``rank`` and ``size`` stay)."""
        block = self._blocks(block)
        result = self._send("clear", None, targets=targets, block=block)
        return _maybe_waited(result, block=block)

    # -- parts -------------------------------------------------------------------------------------------------------

    def scatter(
        self,
        key: str,
        seq: Any,
        *,
        dist: str = "b",
        flatten: bool = False,
        targets: Targets = None,
        block: bool | None = None,
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
        result = AsyncResult(self.client, "scatter", len(ids), single=single)
        self.client._submit(
            result,
            0,
            "scatter",
            targets=ids,
            data=[encode_inline(plan)],
            bulk=raw.tobytes() if small else b"",
            buffers=() if small else snapshot([raw.data], block=block),
            collective="scatter",
            history=self.history,
        )
        return _maybe_waited(result, block=block)

    def gather(self, key: str, *, dist: str = "b", targets: Targets = None, block: bool | None = None) -> Any:
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
        return result.get() if self._blocks(block) else result

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
        return result.get() if self._blocks(block) else result

    # -- map ---------------------------------------------------------------------------------------------------------

    def map(self, f: Callable[..., Any], /, *sequences: Iterable[Any], block: bool | None = None) -> Any:
        """``map(f, *sequences)``, in contiguous parts, one to each engine."""
        if not sequences:
            raise TypeError("map needs at least one sequence")
        block = self._blocks(block)
        ids, _ = self._ids(None)
        parts = list(zip(*(split(s, len(ids)) for s in _of_one_length(sequences)), strict=True))
        sizes = [len(p[0]) for p in parts]
        result = AsyncMapResult(self.client, name_of(f), sizes, ordered=True, chunked=True)
        packed = [self._pack_map(f, part) for part in parts]
        fn = packed[0][0]
        if any(argument.buffers for _, argument in packed) or sum(len(argument.data) for _, argument in packed) > MAX_FRAME // 2:
            for i, (own_fn, argument) in enumerate(packed):
                buffers = snapshot(argument.buffers, block=block)
                self.client._submit(
                    result, i, "map", targets=[ids[i]], data=[argument.data], fn=own_fn, buffers=buffers, history=self.history
                )
        else:
            self.client._submit(result, 0, "map", targets=ids, data=[argument.data for _, argument in packed], fn=fn, history=self.history)
        return result.get() if block else result

    @staticmethod
    def _pack_map(f: Callable[..., Any], part: tuple[Any, ...]) -> tuple[bytes, Payload]:
        function = encode(f, INLINE_UP_TO, f"function {name_of(f)}")
        if function.buffers:
            return b"", encode((part, f), INLINE_UP_TO, f"function {name_of(f)} and its arguments")
        return function.data, encode((part,), INLINE_UP_TO, f"the arguments of {name_of(f)}")

    def imap(self, f: Callable[..., Any], /, *sequences: Iterable[Any]) -> Iterator[Any]:
        """`map`, as an iterator over the results as they come."""
        return iter(self.map_async(f, *sequences))


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
    result.get()
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
