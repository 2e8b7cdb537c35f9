"""What is written about messages is what the ranks count."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.growth import COUNTS, counted

#: large enough that operands are not copied whole
N = 760


def traffic(name):
    """On an engine: what this rank sends in an operation."""
    import mpicluster.array as xp

    x = xp.random.default_rng(1).standard_normal((N, N))
    operation = {
        "transpose": lambda: x.T.redistribute(xp.Block(0)),
        "matmul": lambda: x @ y,
        "cholesky": lambda: xp.linalg.cholesky(y),
        "lu": lambda: xp.linalg.lu_factor(x),
    }[name]
    y = x @ x.T + N * xp.eye(N)
    x.mesh.traffic.clear()
    operation()
    return x.mesh.traffic.messages, x.mesh.traffic.nbytes


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("name", list(COUNTS))
def test_messages_are_as_many_as_counted(engines, name, size):
    counts = counted(name, N, size)
    told = engines(size)[:].apply_sync(traffic, name)
    assert sum(messages.get("send", 0) for messages, _ in told) == counts.sends
    assert sum(nbytes.get("send", 0) for _, nbytes in told) == counts.sent
    assert {messages.get("bcast", 0) for messages, _ in told} == {counts.broadcasts}
    assert sum(nbytes.get("bcast", 0) for _, nbytes in told) == counts.broadcast
