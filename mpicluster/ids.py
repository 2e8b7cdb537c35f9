"""Engine ids and what a person may write to select engines. Pure; imports `errors` only."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from mpicluster.errors import NoEnginesRegistered, TargetError

__all__ = ["Targets", "parse_task_id", "resolve", "select", "task_id"]

#: ``"all"`` follows the cluster; an int, a slice or a sequence of ints selects by engine id or by position.
Targets: TypeAlias = "str | int | slice | Iterable[int] | None"


def _index(value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TargetError(f"targets must be 'all', an int, a slice or a sequence of ints, not {value!r}") from None


def select(targets: Targets, ids: Sequence[int]) -> list[int]:
    """Engine ids that an index expression on the client means, at this moment.

    ``rc[0]`` is engine 0; negative ints count from the end of the live engines; slices select by position.

    Raises
    ------
    NoEnginesRegistered
        there are no engines.
    TargetError
        an id does not exist, is named twice, or nothing is selected.
    """
    if not ids:
        raise NoEnginesRegistered("the cluster has no engines; see `mpicluster status`")
    if targets is None or (isinstance(targets, str) and targets == "all"):
        return list(ids)
    if isinstance(targets, slice):
        chosen = list(ids)[targets]
    elif isinstance(targets, str):
        raise TargetError(f"targets must be 'all', an int, a slice or a sequence of ints, not {targets!r}")
    elif isinstance(targets, Iterable):
        chosen = [_one(_index(t), ids) for t in targets]
    else:
        chosen = [_one(_index(targets), ids)]
    if not chosen:
        raise TargetError(f"no engine is selected by {targets!r}; engines: {list(ids)}")
    if len(set(chosen)) != len(chosen):
        raise TargetError(f"an engine is named twice in {targets!r}")
    return chosen


def _one(target: int, ids: Sequence[int]) -> int:
    if target >= 0:
        if target not in ids:
            raise TargetError(f"no engine {target}; engines: {list(ids)}")
        return target
    if -target > len(ids):
        raise TargetError(f"index {target} is out of range; engines: {list(ids)}")
    return ids[target]


def resolve(targets: str | int | Sequence[int], ids: Sequence[int]) -> list[int]:
    """Engine ids of a view's stored targets (``"all"``, one id, or a list of ids), checked against the live ones.

    Raises
    ------
    TargetError
        one of them is gone.
    """
    return select(targets, ids)


def task_id(client: str, task: int, engine: int = -1) -> str:
    """The id of a client's task, or of one engine's part of it: what IPython Parallel calls a msg_id."""
    return f"{client}_{task}" if engine < 0 else f"{client}_{task}_{engine}"


def parse_task_id(text: str) -> tuple[str, int, int]:
    """Client, task and engine (-1: all of it) of an id.

    Raises
    ------
    ValueError
        it is none.
    """
    client, *numbers = text.split("_") if isinstance(text, str) else [""]
    if not client or not 1 <= len(numbers) <= 2 or not all(n.isascii() and n.isdigit() for n in numbers):
        raise ValueError(f"{text!r} is not the id of a task")
    return client, int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else -1
