"""The flags of views: what they are, what may be said, and what becomes of it for the hub. Immutable values only."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mpicluster.client.dependency import Dependency, as_dependency, needs
from mpicluster.errors import FlagError
from mpicluster.ids import Targets
from mpicluster.wire.messages import Terms

__all__ = ["BALANCED", "DIRECT", "Flags", "check_label", "labelled", "with_flags"]


class Flags(NamedTuple):
    """All flags of a view, at one moment."""

    block: bool = False
    track: bool = False
    targets: Targets = None
    label: str = ""
    follow: Dependency | None = None
    after: Dependency | None = None
    timeout: float | None = None
    time_limit: float | None = None
    retries: int = 0
    priority: int = 0
    #: the same for the hub; None when nothing is asked of it
    terms: Terms | None = None


#: Which flags each kind of view has.
DIRECT = frozenset({"block", "track", "targets", "label"})
BALANCED = DIRECT | {"follow", "after", "timeout", "time_limit", "retries", "priority"}


def check_label(value: Any) -> str:
    """A label, checked; None is none.

    Raises
    ------
    TypeError
        it is no text.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"label is a text, not {value!r}")
    return value


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool | str):
        raise TypeError(f"{name} is a number of seconds, not {value!r}")
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is a number of seconds, not {value!r}") from None
    if not seconds >= 0:
        raise ValueError(f"{name} must not be negative, is {value!r}; None is for no limit")
    return seconds if 0 < seconds < math.inf else None


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name} is a whole number, not {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is a whole number, not {value!r}") from None
    if abs(number) > 2**31:
        raise ValueError(f"{name} is out of range: {number}")
    return number


def _retries(name: str, value: Any) -> int:
    number = _integer(name, value if value is not None else 0)
    if number < 0:
        raise ValueError(f"{name} must not be negative, is {number}")
    return number


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "block": lambda _, value: bool(value),
    "track": lambda _, value: bool(value),
    "targets": lambda _, value: list(value) if isinstance(value, range | tuple) else value,
    "label": lambda _, value: check_label(value),
    "follow": lambda _, value: as_dependency(value),
    "after": lambda _, value: as_dependency(value),
    "timeout": _seconds,
    "time_limit": _seconds,
    "retries": _retries,
    "priority": lambda name, value: _integer(name, value if value is not None else 0),
}


def with_flags(flags: Flags, given: Mapping[str, Any], known: frozenset[str], client: str) -> Flags:
    """``flags`` with others, checked.

    Raises
    ------
    FlagError
        there is no flag of that name; a `KeyError`.
    ValueError, TypeError
        a flag cannot have that value.
    """
    unknown = sorted(set(given) - known)
    if unknown:
        raise FlagError(f"this view has no flag {', '.join(map(repr, unknown))}; it has {', '.join(sorted(known))}")
    flags = flags._replace(**{name: _CHECKS[name](name, value) for name, value in given.items()})
    return flags._replace(terms=_terms(flags, client))


def _terms(flags: Flags, client: str) -> Terms | None:
    terms = Terms(
        label=flags.label,
        after=needs(flags.after, client),
        follow=needs(flags.follow, client),
        timeout=flags.timeout or 0.0,
        time_limit=flags.time_limit or 0.0,
        priority=flags.priority,
    )
    return None if terms == Terms() else terms


def labelled(flags: Flags, label: str | None) -> Flags:
    """``flags`` with the label of one call, if it has one."""
    if label is None or label == flags.label:
        return flags
    label = check_label(label)
    old = flags.terms or Terms()
    terms = Terms(label, old.after, old.follow, old.timeout, old.time_limit, old.priority)
    return flags._replace(label=label, terms=None if terms == Terms() else terms)
