"""The shortest way through all layers."""

from __future__ import annotations

import operator


def test_a_call_on_every_engine(rc):
    """One value for each engine, in their order."""
    assert rc[:].apply_sync(operator.mul, 5, 6) == [30] * len(rc)


def test_ids_are_ranks(rc):
    assert rc.ids == list(range(len(rc)))
