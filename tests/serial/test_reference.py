"""Names that travel for objects, and pickles that are made once."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from mpicluster import PrePickled, Reference
from mpicluster.serial import functions
from mpicluster.serial.payload import decode, encode, encode_inline

SIZES = [1 << 30, 0]


@pytest.fixture
def namespace(monkeypatch):
    names = {"a": {"b": [1, [2]]}, "f": abs}
    monkeypatch.setattr(functions, "_namespace", names)
    return names


def there_and(value, limit=1 << 30):
    payload = encode(value, limit)
    return decode(payload.data, [bytearray(b) for b in payload.buffers])


def test_a_reference_is_looked_up_where_it_arrives(namespace):
    deep = {"x": [Reference("a"), (Reference("a['b'][1]"),)], "y": Reference("f")}
    assert there_and(deep) == {"x": [namespace["a"], ([2],)], "y": abs}
    assert there_and(Reference("a")) is namespace["a"]


def test_a_reference_stays_one_where_there_is_no_namespace():
    reference = Reference("a.b")
    assert there_and([reference]) == [reference]
    assert copy.deepcopy(reference) == pickle.loads(pickle.dumps(reference)) == reference
    assert repr(reference) == "Reference('a.b')"
    assert reference != Reference("c")
    assert len({reference, Reference("a.b")}) == 1


@pytest.mark.parametrize(("name", "kind"), [("nothing", NameError), ("a['c']", KeyError), ("1 / 0", ZeroDivisionError), ("(", SyntaxError)])
def test_what_cannot_be_looked_up_is_the_error_that_it_is(namespace, name, kind):
    for limit in SIZES:
        with pytest.raises(kind):
            there_and([Reference(name)], limit)


def test_a_reference_is_a_text():
    with pytest.raises(TypeError, match="as text"):
        Reference(abs)


@pytest.mark.parametrize("limit", SIZES)
@pytest.mark.parametrize("n", [3, 50_000])
def test_what_was_pickled_before_arrives_as_it_was(n, limit):
    array = np.arange(n)
    once = PrePickled({"array": array, "f": lambda x: x + 1})
    array[:] = 0
    for _ in range(2):
        back = there_and((once, 5), limit)[0]
        np.testing.assert_array_equal(back["array"], np.arange(n))
        assert back["f"](1) == 2
        back["array"][0] = 7  # one's own
    assert "PrePickled dict" in repr(once)
    assert once.nbytes >= array.nbytes


def test_pickling_happens_once():
    class Counting:
        times = 0

        def __reduce__(self):
            Counting.times += 1
            return int, ("5",)

    once = PrePickled(Counting())
    assert [there_and(once), there_and([once])] == [5, [5]]
    assert Counting.times == 1
    assert decode(encode_inline(PrePickled(once))) == 5
    assert pickle.loads(pickle.dumps(once, 4)) == 5


def test_a_reference_may_be_in_a_pickle(namespace):
    assert there_and(PrePickled([Reference("a['b'][0]")])) == [1]
