"""What a task waits for, as a person says it, and as the hub is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mpicluster.client.result import AsyncResult
from mpicluster.ids import parse_task_id
from mpicluster.wire.messages import Needs

__all__ = ["Dependency", "as_dependency", "needs"]


class Dependency(frozenset[str]):
    """Ids of tasks, and what must become of them: a set that does not change.

    Parameters
    ----------
    dependencies
        ids of tasks (``result.msg_ids``), results, or both; or what `as_dict` gives.
    all
        whether it takes all of them, or any.
    success, failure
        whether a task counts that ended well, or one that did not.

    Raises
    ------
    ValueError
        a text is no id of a task, or neither success nor failure counts.
    TypeError
        something is neither an id nor a result.
    """

    all: bool
    success: bool
    failure: bool

    def __new__(cls, dependencies: Any = (), all: bool = True, success: bool = True, failure: bool = False) -> Dependency:  # noqa: A002, D102
        if isinstance(dependencies, Mapping):
            known = dict(dependencies)
            all, success, failure = (bool(known.get(k, v)) for k, v in (("all", all), ("success", success), ("failure", failure)))  # noqa: A001
            dependencies = known.get("dependencies", ())
        elif isinstance(dependencies, Dependency):
            dependencies = list(dependencies)
        if not (success or failure):
            raise ValueError("a dependency on tasks that ended neither well nor badly is met by none: say success=True or failure=True")
        self = super().__new__(cls, _ids(dependencies))
        self.all, self.success, self.failure = bool(all), bool(success), bool(failure)
        return self

    @property
    def mode(self) -> tuple[bool, bool, bool]:
        """``all``, ``success`` and ``failure``."""
        return self.all, self.success, self.failure

    def check(self, completed: Iterable[str], failed: Iterable[str] = ()) -> bool:
        """Whether it is met when these tasks have ended well, and these have not."""
        counting = set(completed if self.success else ()) | set((failed or ()) if self.failure else ())
        if not self:
            return True
        return self <= counting if self.all else not self.isdisjoint(counting)

    def unreachable(self, completed: Iterable[str], failed: Iterable[str] = ()) -> bool:
        """Whether it cannot be met any more."""
        against = set(() if self.success else completed) | set(() if self.failure else (failed or ()))
        if not self:
            return False
        return not self.isdisjoint(against) if self.all else self <= against

    def as_dict(self) -> dict[str, Any]:
        """As a dict, of which `Dependency` makes the same again."""
        return {"dependencies": sorted(self), "all": self.all, "success": self.success, "failure": self.failure}

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Dependency):
            return self.mode == other.mode and frozenset(self) == frozenset(other)
        return NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other  # a frozenset has one of its own

    def __hash__(self) -> int:
        return hash((frozenset(self), self.mode))

    def __repr__(self) -> str:
        return f"Dependency({sorted(self)}, all={self.all}, success={self.success}, failure={self.failure})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Dependency, (sorted(self), *self.mode)


def _ids(tasks: Any) -> Iterable[str]:
    """Ids of tasks that are given by id or by result."""
    if isinstance(tasks, str | AsyncResult):
        tasks = [tasks]
    elif not isinstance(tasks, Iterable):
        raise TypeError(f"a task is given by its id (result.msg_ids) or its result, not by {tasks!r}")
    for task in tasks:
        if isinstance(task, AsyncResult):
            yield from task.msg_ids
        elif isinstance(task, str):
            parse_task_id(task)
            yield task
        else:
            raise TypeError(f"a task is given by its id (result.msg_ids) or its result, not by {task!r}")


def as_dependency(value: Any) -> Dependency | None:
    """What a person gives for ``after`` or ``follow``: ids, results, dependencies, or a list of such. None for nothing.

    Raises
    ------
    ValueError
        a text is no id of a task, or dependencies of different kinds are given together.
    TypeError
        something is none of these.
    """
    if value is None or isinstance(value, Dependency):
        return value or None
    if isinstance(value, str | AsyncResult | Mapping):
        return Dependency(value) or None
    if not isinstance(value, Iterable):
        raise TypeError(f"a task depends on ids of tasks, on results, or on a Dependency, not on {value!r}")
    parts = list(value)
    dependencies = [d for d in parts if isinstance(d, Dependency)]
    if not dependencies:
        return Dependency(parts) or None
    plain = [p for p in parts if not isinstance(p, Dependency)]
    if plain:
        dependencies.append(Dependency(plain))
    first = dependencies[0]
    if len(dependencies) > 1 and not all(d.all and d.mode == first.mode for d in dependencies):
        raise ValueError(
            "dependencies are put together only if each waits for all of its tasks, and for the same end of them; "
            f"these are different: {', '.join(map(repr, dependencies))}"
        )
    return Dependency(sorted(frozenset().union(*dependencies)), *first.mode) or None


def needs(dependency: Dependency | None, client: str) -> Needs | None:
    """The same, for the hub; ``client`` is whose tasks need no name."""
    if not dependency:
        return None
    own: list[tuple[int, int]] = []
    others: list[tuple[str, int, int]] = []
    for text in sorted(dependency):
        owner, task, engine = parse_task_id(text)
        if owner == client:
            own.append((task, engine))
        else:
            others.append((owner, task, engine))
    return Needs(own, others, *dependency.mode)
