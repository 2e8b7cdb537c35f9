"""Sorted runs are cut just where their merge is, whatever is in them. Arithmetic alone, without ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpicluster.array import merging
from mpicluster.array.layout import block_sizes


def shown(runs, rounds):
    def show(places):
        rounds.append(len(places))
        return [np.concatenate([run[at] for run, at in zip(runs, where, strict=True)]) for where in places]

    return show


def check(runs, targets):
    """Between two cuts lie the elements that a stable sort of all runs puts there."""
    rounds = []
    cuts = merging.cuts([len(r) for r in runs], targets, shown(runs, rounds))
    whole = np.concatenate(runs)
    order = np.argsort(whole, kind="stable")
    run = np.repeat(np.arange(len(runs)), [len(r) for r in runs])
    bounds = np.concatenate([[0], np.cumsum(targets)])
    for i, n in enumerate(bounds):
        np.testing.assert_array_equal(cuts[i], np.bincount(run[order[:n]], minlength=len(runs)))
    return len(rounds)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.5, np.inf, np.nan]), max_size=20), min_size=1, max_size=5), st.data())
def test_any_runs_are_cut_anywhere(lists, data):
    runs = [np.sort(np.array(values, float)) for values in lists]
    total = sum(map(len, runs))
    bounds = sorted(data.draw(st.lists(st.integers(0, total), max_size=4)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "_MOST", data.draw(st.sampled_from([1, 2, 5])))
        patch.setattr(merging, "_LEAST", 1)
        check(runs, np.diff([0, *bounds, total]).tolist())


@pytest.mark.parametrize("kind", ["random", "equal", "one run below the other", "few values", "steep"])
def test_long_runs_take_few_rounds(kind):
    rng, n = np.random.default_rng(1), 20_000
    runs = {
        "random": [rng.standard_normal(n) for _ in range(4)],
        "equal": [np.ones(n), np.ones(3 * n), np.ones(7)],
        "one run below the other": [np.arange(n) + n, np.arange(n)],
        "few values": [rng.integers(0, 3, n) for _ in range(3)],
        "steep": [np.exp(np.linspace(0, 700, n)), np.exp(np.linspace(0, 7, 5 * n))],
    }[kind]
    assert check([np.sort(r) for r in runs], block_sizes(sum(map(len, runs)), len(runs))) <= 6
