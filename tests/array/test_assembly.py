"""An axis that is put together from ranges has every index at its place, whoever holds it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mpicluster.array.assembly import Piece, moves, span
from mpicluster.array.layout import block_sizes, starts


@st.composite
def cases(draw):
    """Lengths of operands, their bounds on some ranks, and pieces of them."""
    size = draw(st.integers(1, 5))
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=3))
    bounds = []
    for n in lengths:
        cuts = sorted(draw(st.lists(st.integers(0, n), min_size=size - 1, max_size=size - 1)))
        bounds.append((0, *cuts, n))
    pieces = []
    for _ in range(draw(st.integers(0, 4))):
        operand = draw(st.integers(0, len(lengths) - 1))
        n = lengths[operand]
        if not n:
            continue
        indices = range(n)[draw(st.slices(n))]
        if len(indices):
            pieces.append(Piece(operand, indices.start, indices.step, len(indices)))
    return size, tuple(bounds), tuple(pieces)


@given(cases())
def test_every_index_comes_to_its_place_once(case):
    size, bounds, pieces = case
    wanted = [(p.operand, p.start + p.step * i) for p in pieces for i in range(p.length)]
    out = starts(block_sizes(len(wanted), size))
    for receiver in range(size):
        got = [None] * (out[receiver + 1] - out[receiver])
        for sender in range(size):
            for move in moves(pieces, bounds, out, sender, receiver):
                begin, end = bounds[move.operand][sender], bounds[move.operand][sender + 1]
                held = list(range(begin, end))
                sent = held[span(move.start, move.step, move.length)]
                assert len(sent) == move.length
                for at, index in zip(itertools.count(move.at), sent):
                    assert got[at] is None
                    got[at] = (move.operand, index)
        assert got == wanted[out[receiver] : out[receiver + 1]]


def test_long_axes_are_only_numbers():
    pieces = (Piece(0, 10**12 - 1, -1, 10**12),)
    bounds = starts(block_sizes(10**12, 4))
    (move,) = moves(pieces, (bounds,), bounds, 0, 3)
    assert move.length == 10**12 // 4
