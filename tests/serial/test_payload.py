"""What is encoded is decoded to the same."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpicluster.errors import SerializationError
from mpicluster.serial.arrayops import Answer, Op, Program, Ref, Told
from mpicluster.serial.payload import OUT_OF_BAND_FROM, decode, encode, encode_inline

ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(ATOMS, lambda x: st.lists(x) | st.tuples(x, x) | st.dictionaries(st.text(), x), max_leaves=20)


@given(VALUES, st.sampled_from([0, 50, 10**6]))
def test_plain_values_come_back(value, limit):
    payload = encode(value, limit)
    assert payload.nbytes == len(payload.data) + sum(payload.sizes)
    assert decode(payload.data, payload.buffers) == value


@pytest.mark.parametrize("nbytes", [0, 1, OUT_OF_BAND_FROM - 1, OUT_OF_BAND_FROM, OUT_OF_BAND_FROM + 1, 1 << 20])
@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_arrays_of_any_size_come_back(nbytes, limit):
    array = np.arange(nbytes).astype("u1")
    payload = encode([array, {"a": array[::2]}], limit)
    assert bool(payload.buffers) == (limit == 0)
    whole, other = decode(payload.data, payload.buffers)
    np.testing.assert_array_equal(whole, array)
    np.testing.assert_array_equal(other["a"], array[::2])


@pytest.mark.parametrize("kind", [list, dict])
def test_what_contains_itself_comes_back(kind):
    value = kind()
    value.append(value) if kind is list else value.update(own=value)
    back = decode(encode_inline(value))
    assert back[0 if kind is list else "own"] is back


class OfTheSession:
    """As a class that a person has typed: it travels by value."""

    def __eq__(self, other):
        return type(other).__name__ == "OfTheSession"

    __hash__ = None


OfTheSession.__module__ = "__main__"
PROGRAM = Program(
    "c", [Op(1, (1, (2, 0)), "sum", (Ref(3), slice(None, Ref(4), 2), ...), {"axis": (0, 1), "dtype": np.dtype("f4")}, True, "f.py:3")]
)


@pytest.mark.parametrize(
    "value",
    [
        PROGRAM,
        PROGRAM._replace(ops=PROGRAM.ops * 40),
        PROGRAM._replace(ops=[PROGRAM.ops[0]._replace(args=(OfTheSession(),))]),
        Answer({1: Told("value", np.float32(2.5)), 2: Told("array", (3, (4, 5), np.dtype("c16"))), 3: Told("error", b"...")}),
        Answer({1: Told("tuple", ("QR", ("Q", "R"), [Told("object", (3, "Generator")), Told("value", np.bool_(True))]))}),
        [np.complex128(1j), np.datetime64("2026-01-01"), np.dtype([("a", "i4"), ("b", "O")])],
        {"a": OfTheSession()},
    ],
)
def test_programs_for_arrays_and_their_answers_come_back(value):
    back = decode(encode_inline(value))
    assert back == value
    assert repr(back) == repr(value) or "OfTheSession" in repr(value)


def test_inline_arrays_are_writable():
    array = decode(encode_inline(np.zeros(OUT_OF_BAND_FROM)))
    array += 1
    assert array.all()


def test_what_does_not_pickle_is_named():
    with pytest.raises(SerializationError, match="cannot send the lock"):
        encode_inline(threading.Lock(), "the lock")


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00junk", b"\x01abc", b"\x02junk"])
def test_what_does_not_unpickle_is_named(data):
    with pytest.raises(SerializationError, match="cannot receive it"):
        decode(data, what="it")


def test_functions_with_and_without_closures_come_back():
    offset = 5
    assert decode(encode_inline(lambda x: x + offset))(1) == 6
    assert decode(encode_inline(lambda x: x + 1))(1) == 2
