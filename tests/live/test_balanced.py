"""Tasks farmed out: by map, by imap, with targets, and taken back."""

from __future__ import annotations

import itertools
import operator

import numpy as np
import pytest

TIMEOUT = 30


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_over_a_generator(rc, chunksize, ordered):
    result = rc.load_balanced_view().map_async(abs, (-i for i in range(20)), chunksize=chunksize, ordered=ordered)
    values = list(result)
    assert (values if ordered else sorted(values)) == list(range(20))
    assert result.get(timeout=TIMEOUT) == list(range(20))


def test_an_empty_map_is_done_at_once(rc):
    result = rc.load_balanced_view().map_async(abs, iter(()))
    assert result.done()
    assert result.get(timeout=TIMEOUT) == list(result) == []


def test_bad_options_are_refused(rc):
    view = rc.load_balanced_view()
    with pytest.raises(ValueError, match="chunksize"):
        view.map_async(abs, [1], chunksize=0)
    with pytest.raises(ValueError, match="max_outstanding"):
        view.imap(abs, [1], max_outstanding=-1)
    with pytest.raises(TypeError, match="at least one sequence"):
        view.map_async(abs)
    with pytest.raises(ValueError, match="retries"):
        rc.load_balanced_view(retries=-1).apply_async(abs, 1)


def test_targets_may_be_changed(rc4):
    """To anything that selects engines; what does not is refused."""
    view = rc4.load_balanced_view()
    for targets, expected in ((1, {1}), ([2, 3], {2, 3}), ("all", {0, 1, 2, 3}), (None, {0, 1, 2, 3})):
        view.targets = targets
        assert set(view.map_async(abs, range(40)).get(timeout=TIMEOUT)) == set(range(40))
        result = view.map_async(abs, range(40))
        assert result.wait(timeout=TIMEOUT)
        assert set(result.engine_id) <= expected
    view.targets = [7]
    with pytest.raises(IndexError, match="no engine 7"):
        view.apply_async(abs, 1)


@pytest.mark.parametrize("ordered", [True, False])
def test_an_endless_imap_may_be_left(rc, ordered):
    values = rc.load_balanced_view().imap(abs, itertools.count(), ordered=ordered, max_outstanding=4)
    assert len(set(itertools.islice(values, 12))) == 12
    values.close()
    assert rc[:].apply_async(abs, -1).get(timeout=TIMEOUT) == [1] * len(rc)


@pytest.mark.parametrize("nbytes", [(1 << 18) - 1, 1 << 18, (1 << 20) + 1, 3 << 20])
def test_large_arguments_and_results(rc, nbytes):
    data = [np.full(nbytes, i, np.uint8) for i in range(5)]
    for i, back in enumerate(rc.load_balanced_view().map_async(np.copy, data).get(timeout=TIMEOUT)):
        np.testing.assert_array_equal(back, data[i])


@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_function_with_a_large_closure(rc, chunksize):
    table = np.arange(500_000)
    result = rc.load_balanced_view().map_async(lambda i: int(table[i]), range(6), chunksize=chunksize)
    assert result.get(timeout=TIMEOUT) == list(range(6))


def test_a_failed_item_leaves_the_others(rc):
    result = rc.load_balanced_view().map_async(operator.truediv, [1, 1, 1], [1, 0, 2])
    with pytest.raises(ZeroDivisionError):
        result.get(timeout=TIMEOUT)
    assert [x["status"] for x in result.metadata] == ["ok", "error", "ok"]
