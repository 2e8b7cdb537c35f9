"""Random values follow from the seed alone: a formula of one process gives them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import special

import mpicluster.array as xp

pytestmark = pytest.mark.spmd

STREAM = 1 << 16


def stream(seed, call, number, key=()):
    """The generator of one stream, as the documentation says."""
    words = np.random.SeedSequence(seed, spawn_key=key).generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=words, counter=[0, 0, number, call]))


def expected(seed, call, shape, draw, key=()):
    """What any number of ranks must give: ``draw(generator, n)`` for each stream of 65,536 values."""
    n = int(np.prod(shape))
    parts = []
    for number, at in enumerate(range(0, n, STREAM)):
        parts.append(draw(stream(seed, call, number, key), min(STREAM, n - at)))
    return np.concatenate(parts).reshape(shape) if parts else draw(np.random.default_rng(0), 0).reshape(shape)


def layouts(shape):
    if not shape:
        return [None, xp.Replicated()]
    return [None, xp.Replicated(), *(xp.Block(i) for i in range(len(shape))), xp.BlockCyclic(len(shape) - 1, 7 + shape[-1] // 50)]


DRAWS = [
    (lambda g, s, o: g.random(s, **o), lambda g, n: g.random(n)),
    (lambda g, s, o: g.random(s, "float32", **o), lambda g, n: g.random(n, "float32")),
    (lambda g, s, o: g.standard_normal(s, **o), lambda g, n: g.standard_normal(n)),
    (lambda g, s, o: g.standard_normal(s, xp.float32, **o), lambda g, n: g.standard_normal(n, "float32")),
    (lambda g, s, o: g.normal(2, 3, s, **o), lambda g, n: g.standard_normal(n) * 3 + 2),
    (lambda g, s, o: g.uniform(-1, 3, s, **o), lambda g, n: g.random(n) * 4 - 1),
    (lambda g, s, o: g.standard_exponential(s, "float32", **o), lambda g, n: g.standard_exponential(n, "float32")),
    (lambda g, s, o: g.exponential(3, s, **o), lambda g, n: g.standard_exponential(n) * 3),
    (lambda g, s, o: g.integers(-5, 9, s, "int16", **o), lambda g, n: g.integers(-5, 9, n, "int16")),
    (lambda g, s, o: g.integers(1 << 60, size=s, endpoint=True, **o), lambda g, n: g.integers(1 << 60, size=n, endpoint=True)),
    (lambda g, s, o: g.integers(2, size=s, dtype=xp.bool, **o), lambda g, n: g.integers(2, size=n, dtype=bool)),
    (lambda g, s, o: g.gamma(2.5, size=s, **o), lambda g, n: g.gamma(2.5, size=n)),
    (lambda g, s, o: g.poisson(3.5, size=s, **o), lambda g, n: g.poisson(3.5, n)),
    (lambda g, s, o: g.binomial(n=9, p=0.2, size=s, **o), lambda g, n: g.binomial(9, 0.2, n)),
    (
        lambda g, s, o: g.choice(5, s, p=[0, 0.5, 0.25, 0.25, 0], **o),
        lambda g, n: np.searchsorted([0, 0.5, 0.75, 1, 1], g.random(n), "right"),
    ),
]


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (7, 5), (70_000,), (3, 40_000), (200, 400)], ids=str)
def test_the_same_values_on_any_number_of_ranks_in_any_layout(comm, shape):
    """Shapes within one stream and over several, of short and of long stretches."""
    for i, layout in enumerate(layouts(shape)):
        rng = xp.random.default_rng(5)
        for call, (draw, plain) in enumerate(DRAWS if i == 0 and len(shape) < 2 else DRAWS[:2]):
            got = draw(rng, shape, {"layout": layout} if layout is not None else {})
            want = expected(5, call, shape or (1,), plain).reshape(shape)
            assert got.dtype == want.dtype
            assert got.shape == shape
            assert layout is None or got.layout == layout
            np.testing.assert_array_equal(np.asarray(got), want, err_msg=f"call {call}, {layout}")
    assert xp.random.default_rng(5).random().layout == xp.Replicated()


def test_each_rank_makes_its_own_without_a_message(comm):
    rng = xp.random.default_rng(0)
    x = rng.random(3)
    x.mesh.traffic.clear()
    rng.standard_normal((200, 1000))
    rng.integers(0, 9, (2, 200_000), layout=xp.Block(1))
    rng.uniform(size=(300, 2), layout=xp.Replicated())
    assert x.mesh.traffic.messages == {}


def test_calls_children_and_copies(comm):
    rng = xp.random.default_rng([1, 2])
    first, second = (np.asarray(rng.random(100)) for _ in range(2))
    assert not (first == second).any()
    copy = pickle.loads(pickle.dumps(rng))
    np.testing.assert_array_equal(np.asarray(copy.random(9)), np.asarray(rng.random(9)))
    np.testing.assert_array_equal(np.asarray(rng.random(9)), expected([1, 2], 3, (9,), lambda g, n: g.random(n)))
    children = [*rng.spawn(2), *rng.spawn(1)]
    for i, child in enumerate(children):
        np.testing.assert_array_equal(np.asarray(child.random(9)), expected([1, 2], 0, (9,), lambda g, n: g.random(n), key=(i,)))
    assert xp.random.default_rng(rng) is rng
    assert "after 4 calls" in repr(rng)
    sequence = np.random.SeedSequence(7)
    np.testing.assert_array_equal(np.asarray(xp.random.default_rng(sequence).random(4)), np.asarray(xp.random.default_rng(7).random(4)))


def test_without_a_seed_all_ranks_have_the_same_and_each_time_another(comm):
    one, other = xp.random.default_rng(), xp.random.default_rng()
    values = [one.random(8, layout=xp.Replicated()).local, other.random(8, layout=xp.Replicated()).local]
    assert not (values[0] == values[1]).any()
    for mine in comm.allgather(values):
        np.testing.assert_array_equal(mine, values)


def test_permutations(comm):
    """Of one part, and of several that ranks shuffle; of rows and columns; the same on any number of ranks."""
    for n in (0, 1, 6, 200_001):
        order = np.asarray(xp.random.default_rng(3).permutation(n))
        np.testing.assert_array_equal(np.sort(order), np.arange(n))
        one = np.asarray(xp.random.default_rng(3, comm=comm).permutation(n, layout=xp.Replicated()))
        np.testing.assert_array_equal(one, order)
    many = np.asarray(xp.random.default_rng(3).permutation(200_001))
    lots = expected(3, 0, (200_001,), lambda g, n: g.integers(0, 4, n, "uint16"))
    parts = [stream(3, 1, part).permutation(np.count_nonzero(lots == part)) for part in range(4)]
    begins = np.concatenate([[0], np.cumsum([len(p) for p in parts])])
    for part, order in enumerate(parts):
        np.testing.assert_array_equal(many[lots == part], order + begins[part])
    x = np.arange(35.0).reshape(7, 5)
    for layout in (xp.Block(0), xp.Block(1), xp.Replicated(), xp.BlockCyclic(0, 2)):
        for axis in (0, 1):
            y = xp.asarray(x, layout=layout)
            moved = np.asarray(xp.random.default_rng(4).permutation(y, axis))
            order = np.asarray(xp.random.default_rng(4).permutation(x.shape[axis]))
            np.testing.assert_array_equal(moved, np.take(x, order, axis=axis))
            xp.random.default_rng(4).shuffle(y, axis=axis)
            assert y.layout == layout
            np.testing.assert_array_equal(np.asarray(y), moved)


def test_choices(comm):
    rng = xp.random.default_rng(6)
    names = xp.asarray(np.array([10.0, 20.0, 30.0]))
    assert set(np.unique(np.asarray(rng.choice(names, (4, 5))))) <= {10.0, 20.0, 30.0}
    assert rng.choice(np.arange(9).reshape(3, 3), 2).shape == (2, 3)
    drawn = np.asarray(rng.choice(9, (2, 3), replace=False))
    assert len(np.unique(drawn)) == 6
    assert int(rng.choice(1)) == 0
    often = np.bincount(np.asarray(rng.choice(3, 100_000, p=[0.2, 0.3, 0.5])))
    np.testing.assert_allclose(often / 100_000, [0.2, 0.3, 0.5], atol=0.01)


def test_distributions_are_what_they_are_called(comm):
    """Kolmogorov and Smirnov's test at 1 %, with fixed seeds, over several streams; neighbouring streams are not correlated."""
    rng, n = xp.random.default_rng(12), 200_000
    for values, distribution in (
        (rng.random(n), lambda x: x),
        (rng.normal(1, 2, n), lambda x: special.ndtr((x - 1) / 2)),
        (rng.exponential(2, n), lambda x: -np.expm1(-x / 2)),
        (rng.gamma(3.0, size=n), lambda x: special.gammainc(3, x)),
    ):
        there = distribution(np.sort(np.asarray(values)))
        assert np.abs(there - (np.arange(n) + 0.5) / n).max() + 0.5 / n < 1.628 / np.sqrt(n)
    x = np.asarray(rng.standard_normal(4 * STREAM)).reshape(4, STREAM)
    assert np.abs(np.corrcoef(x) - np.eye(4)).max() < 5 / np.sqrt(STREAM)


def test_refusals_are_everywhere_and_count_no_call(comm):
    rng = xp.random.default_rng(0)
    for error, call in (
        (ValueError, lambda: rng.normal(0, -1, 5)),
        (ValueError, lambda: rng.exponential(-1, 5)),
        (ValueError, lambda: rng.integers(5, 5, 5)),
        (ValueError, lambda: rng.poisson(-1, size=5)),
        (ValueError, lambda: rng.random(-1)),
        (ValueError, lambda: rng.random(5, layout=xp.Block(1))),
        (TypeError, lambda: rng.random(5, "int32")),
        (TypeError, lambda: rng.gamma([1.0, 2.0], size=2)),
        (TypeError, lambda: rng.permutation(2.5)),
        (ValueError, lambda: rng.permutation(-1)),
        (IndexError, lambda: rng.permutation(xp.ones(3), axis=1)),
        (ValueError, lambda: rng.choice(3, 5, replace=False)),
        (ValueError, lambda: rng.choice(0, 5)),
        (ValueError, lambda: rng.choice(3, 5, p=[0.5, 0.6, 0.1])),
        (ValueError, lambda: rng.choice(3, 5, p=[0.5, 0.5])),
        (ValueError, lambda: rng.choice(3, 2, replace=False, p=[0.5, 0.5, 0])),
    ):
        with pytest.raises(error):
            call()
    np.testing.assert_array_equal(np.asarray(rng.random(5)), np.asarray(xp.random.default_rng(0).random(5)))
