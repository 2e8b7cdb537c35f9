"""Queries: each operator as MongoDB has it, several conditions all at once, and nonsense refused."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpicluster.hub.query import OPERATORS, Query

FIELDS = frozenset("abc")
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def matches(query, record):
    return Query(query, FIELDS).matches(record.get)


@pytest.mark.parametrize(
    ("operator", "operand", "yes", "no"),
    [
        ("$lt", 3, [2, 2.5], [3, 4, None, "2", MOMENT]),
        ("$gt", 3, [4, math.inf], [3, 2, None, "9", [5]]),
        ("$lte", 3, [3, 2], [4, None]),
        ("$gte", 3, [3, 4], [2, None]),
        ("$gt", MOMENT, [datetime(2026, 1, 2, tzinfo=UTC)], [MOMENT, None, 5, "2027"]),
        ("$eq", "x", ["x"], ["y", None, 1]),
        ("$ne", "x", ["y", None, 1], ["x"]),
        ("$in", [1, None], [1, None], [2, "1"]),
        ("$nin", [1, None], [2, "1"], [1, None]),
        ("$all", ["x", "y"], [["y", "x", "z"]], [["x"], "x", None]),
        ("$all", ["x"], ["x", ["x"]], ["y", []]),
        ("$mod", [4, 1], [1, 5, -3], [2, None, "1", True]),
        ("$exists", True, [0, "", []], [None]),
        ("$exists", False, [None], [0, ""]),
        ("$glob", "fit*", ["fit", "fit-3"], ["Fit", "a fit", None, 3]),
    ],
)
def test_each_operator(operator, operand, yes, no):
    for value in yes:
        assert matches({"a": {operator: operand}}, {"a": value}), value
    for value in no:
        assert not matches({"a": {operator: operand}}, {"a": value}), value


def test_all_conditions_must_hold():
    """With two fields, and with two operators for one."""
    query = {"a": "A", "b": {"$gt": 1, "$lt": 5}}
    assert matches(query, {"a": "A", "b": 3})
    assert not matches(query, {"a": "B", "b": 3})
    assert not matches(query, {"a": "A", "b": 1})
    assert not matches(query, {"a": "A", "b": 5})
    assert matches({}, {})


_VALUES = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from(["", "a", "ab", "b"]), st.lists(st.integers(0, 2), max_size=2))
_CONDITIONS = st.one_of(
    _VALUES,
    st.dictionaries(st.sampled_from(["$lt", "$gt", "$lte", "$gte", "$eq", "$ne"]), _VALUES, min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(["$in", "$nin", "$all"]), st.lists(_VALUES, max_size=3), min_size=1),
    st.builds(lambda d, r: {"$mod": [d, r]}, st.integers(1, 3), st.integers(0, 2)),
    st.builds(lambda pattern: {"$glob": pattern}, st.sampled_from(["*", "a*", "?", "[ab]"])),
    st.builds(lambda there: {"$exists": there}, st.booleans()),
)


def naive(query, record):
    """The same, one case after the other."""
    for field, condition in query.items():
        value = record.get(field)
        for operator, operand in (condition if isinstance(condition, dict) else {"$eq": condition}).items():
            comparable = type(value) is type(operand) and value is not None
            if operator == "$lt":
                ok = comparable and value < operand
            elif operator == "$gt":
                ok = comparable and value > operand
            elif operator == "$lte":
                ok = comparable and value <= operand
            elif operator == "$gte":
                ok = comparable and value >= operand
            elif operator == "$eq":
                ok = value == operand
            elif operator == "$ne":
                ok = value != operand
            elif operator == "$in":
                ok = any(value == x for x in operand)
            elif operator == "$nin":
                ok = all(value != x for x in operand)
            elif operator == "$all":
                ok = all(any(x == y for y in value) if isinstance(value, list) else value == x for x in operand)
            elif operator == "$mod":
                ok = isinstance(value, int) and value % operand[0] == operand[1]
            elif operator == "$glob":
                ok = isinstance(value, str) and fnmatchcase(value, operand)
            else:
                ok = (value is not None) == operand
            if not ok:
                return False
    return True


@given(st.dictionaries(st.sampled_from("abc"), _CONDITIONS, max_size=3), st.dictionaries(st.sampled_from("abc"), _VALUES))
def test_it_agrees_with_a_naive_one(query, record):
    assert matches(query, record) == naive(query, record)
    if naive(query, record):  # what an index may use holds for all that match
        for field in "abc":
            among = Query(query, FIELDS).among(field)
            assert among is None or record.get(field) in among


def test_bounds_are_true():
    later = datetime(2026, 1, 2, tzinfo=UTC)
    query = Query({"a": {"$gt": MOMENT, "$gte": later, "$lt": later}, "b": 3}, FIELDS)
    assert query.at_least("a") == later.timestamp()
    assert query.at_most("a") == later.timestamp()
    assert query.at_least("b") is None
    assert query.fields == {"a", "b"}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ([], "dict of fields"),
        ({"d": 1}, "no field 'd'; they have a, b, c"),
        ({"a": {"$near": 1}}, "no operator '$near'"),
        ({"a": {"$lt": 1, "x": 2}}, "no operator 'x'"),
        ({"a": {"$in": 1}}, "takes a list"),
        ({"a": {"$glob": 1}}, "pattern"),
        ({"a": {"$mod": [0, 1]}}, "divisor"),
        ({"a": {"$mod": 2}}, "divisor"),
    ],
)
def test_nonsense_is_refused(query, said):
    with pytest.raises(ValueError, match=said.replace("$", r"\$")):
        Query(query, FIELDS)


def test_the_operators_are_those_of_the_contract():
    assert " ".join(OPERATORS).split() == ["$lt", "$gt", "$lte", "$gte", "$eq", "$ne", "$in", "$nin", "$all", "$mod", "$exists", "$glob"]
