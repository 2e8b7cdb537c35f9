"""Questions about records, as MongoDB writes them: ``{"label": "fit", "completed": {"$gt": yesterday}}``. Pure.

All conditions must hold. A condition is a value (equality) or a dict of operators, which must all hold. What cannot be compared
(None with a number, text with a date) matches no ordering and equals nothing, and is never an error.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

__all__ = ["OPERATORS", "Query"]


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def holds(value: Any, bound: Any) -> bool:
        if value is None or bound is None:
            return False
        try:
            return bool(compare(value, bound))
        except TypeError:
            return False

    return holds


def _in(value: Any, options: Any) -> bool:
    return value in options


def _all(value: Any, wanted: Any) -> bool:
    """A list has all of them; any other value is each of them."""
    if isinstance(value, list | tuple):
        return all(x in value for x in wanted)
    return all(value == x for x in wanted)


def _mod(value: Any, by: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value % by[0] == by[1]


def _exists(value: Any, wanted: Any) -> bool:
    return (value is not None) == bool(wanted)


def _glob(value: Any, pattern: Any) -> bool:
    return isinstance(value, str) and fnmatchcase(value, pattern)


#: value and operand -> whether it holds
OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$lt": _ordered(operator.lt),
    "$gt": _ordered(operator.gt),
    "$lte": _ordered(operator.le),
    "$gte": _ordered(operator.ge),
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$in": _in,
    "$nin": lambda value, options: not _in(value, options),
    "$all": _all,
    "$mod": _mod,
    "$exists": _exists,
    "$glob": _glob,
}


class _Condition(NamedTuple):
    field: str
    operator: str
    operand: Any


class Query:
    """A query that makes sense.

    Raises
    ------
    ValueError
        it does not: a field or an operator that does not exist, or an operand that the operator cannot take.
    """

    def __init__(self, query: Any, fields: frozenset[str]) -> None:
        if not isinstance(query, Mapping):
            raise ValueError(f"a query is a dict of fields and conditions, not {query!r}")  # noqa: TRY004 - as for all that makes no sense
        self._conditions: list[_Condition] = []
        for field, condition in query.items():
            if field not in fields:
                raise ValueError(f"records have no field {field!r}; they have {', '.join(sorted(fields))}")
            operators = isinstance(condition, Mapping) and any(str(key).startswith("$") for key in condition)
            for name, operand in condition.items() if operators else [("$eq", condition)]:
                _check(field, name, operand)
                self._conditions.append(_Condition(field, name, operand))

    @property
    def fields(self) -> set[str]:
        """Fields that it asks about."""
        return {c.field for c in self._conditions}

    def matches(self, value_of: Callable[[str], Any]) -> bool:
        """Whether all conditions hold for the record whose fields ``value_of`` gives."""
        return all(OPERATORS[c.operator](value_of(c.field), c.operand) for c in self._conditions)

    # -- what an index can use: each of these holds for all records that match -----------------------------------------

    def among(self, field: str) -> list[Any] | None:
        """The only values that a field may have; None when they are not listed."""
        for c in self._conditions:
            if c.field == field and c.operator == "$eq":
                return [c.operand]
            if c.field == field and c.operator == "$in":
                return list(c.operand)
        return None

    def at_least(self, field: str) -> float | None:
        """A moment before which a field's value is not, in seconds since 1970."""
        return max(self._moments(field, ("$gt", "$gte", "$eq")), default=None)

    def at_most(self, field: str) -> float | None:
        """A moment after which a field's value is not."""
        return min(self._moments(field, ("$lt", "$lte", "$eq")), default=None)

    def _moments(self, field: str, operators: tuple[str, ...]) -> list[float]:
        return [
            c.operand.timestamp()
            for c in self._conditions
            if c.field == field and c.operator in operators and isinstance(c.operand, datetime)
        ]


def _check(field: str, name: Any, operand: Any) -> None:
    if name not in OPERATORS:
        raise ValueError(f"there is no operator {name!r} (asked of {field!r}); there are {', '.join(OPERATORS)}")
    if name in ("$in", "$nin", "$all") and not isinstance(operand, list | tuple):
        raise ValueError(f"{name} (asked of {field!r}) takes a list, not {operand!r}")
    if name == "$glob" and not isinstance(operand, str):
        raise ValueError(f"$glob (asked of {field!r}) takes a pattern as text, not {operand!r}")
    if name == "$mod":
        pair = isinstance(operand, list | tuple) and len(operand) == 2 and all(isinstance(x, int | float) for x in operand)
        if not pair or operand[0] == 0:
            raise ValueError(f"$mod (asked of {field!r}) takes [divisor, remainder], not {operand!r}")
