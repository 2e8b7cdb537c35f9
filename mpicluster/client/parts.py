"""Results that share slots: the parts of one, and one of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpicluster.client.result import AsyncResult

__all__ = ["join", "split"]


def split(result: AsyncResult, kind: type[AsyncResult]) -> tuple[AsyncResult, ...]:
    """A result of ``kind`` for each slot; always the same ones."""
    if result._single:
        return (result,)
    if result._assemble is not None:
        raise ValueError(f"the result of {result._name} belongs to all engines together, and has no parts")
    with result._arrival:
        if not result._parts:
            result._parts = tuple(kind(result._client, result._name, 1, single=True) for _ in result._replies)
            for slot, part in enumerate(result._parts):
                _share(result, slot, part, 0)
    return result._parts


def join(results: Sequence[AsyncResult], kind: type[AsyncResult]) -> AsyncResult:
    """One result of ``kind`` with the parts of all."""
    if not results:
        raise ValueError("join takes at least one result")
    if len({id(r._client) for r in results}) > 1:
        raise ValueError("these results are of different clients; wait for each")
    parts = [part for result in results for part in result.split()]
    first = results[0]
    name = first._name if len({r._name for r in results}) == 1 else f"{len(results)} calls"
    whole = kind(first._client, name, len(parts), single=False)
    for slot, part in enumerate(parts):
        _share(part, 0, whole, slot)
    whole._return_exceptions = first._return_exceptions
    return whole


def _share(result: AsyncResult, slot: int, other: AsyncResult, own: int) -> None:
    """What comes for a slot goes to another result too, and so does what has come."""
    with result._arrival:
        result.watched = True  # the listening thread delivers, since more than one waits
        result._sharing.setdefault(slot, []).append((other, own))
        other._submitted, other._label, other._view = result._submitted, result._label, result._view
        other._after, other._follow_ids, other._return_exceptions = result._after, result._follow_ids, result._return_exceptions
        run = result._run_of(slot)
        if run is not None:
            start, task, engines = run
            if engines is None:
                other._number(own, task + slot - start)
            else:
                other._number(own, task, [engines[slot - start]])
        if slot in result._written:
            other._written[own] = result._written[slot].copy()
        reply, ended = result._replies[slot], result._ended
        if reply is not None:
            other._replies[own] = reply  # with its output already
            other._missing -= 1
    if reply is not None:
        other._deliver(own, reply)
    elif ended is not None:
        other._fail(ended)
