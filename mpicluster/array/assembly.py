"""Putting an axis together from ranges of others: who sends what to whom. Pure integers.

Concatenating, slicing, flipping, rolling and tiling are all this: along one axis, the result is some ranges of indices of the operands, one
after another. Both ends of a message find out alone what is in it, by the intersection of ranges with blocks.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

__all__ = ["Move", "Piece", "moves", "span"]


class Piece(NamedTuple):
    """``length`` indices of an operand: start, start + step, ..., none negative; step is not zero."""

    operand: int
    start: int
    step: int
    length: int


class Move(NamedTuple):
    """``length`` indices of the sender's block of an operand, start, start + step, ..., go to ``at`` and after in the receiver's block."""

    operand: int
    start: int
    step: int
    length: int
    at: int


def span(start: int, step: int, count: int) -> slice:
    """The slice of so many indices."""
    stop = start + step * count
    return slice(start, stop if stop >= 0 else None, step)


def _within(piece: Piece, first: int, last: int, lo: int, hi: int) -> tuple[int, int]:
    """Which of the positions ``first`` to ``last`` of a piece have an index from ``lo`` to below ``hi``: they are consecutive."""
    _, start, step, _ = piece
    if step > 0:
        low, high = -((start - lo) // step), -((start - hi) // step)
    else:
        low, high = -((hi - 1 - start) // -step), (start - lo) // -step + 1
    return max(first, low), min(last, high)


@functools.lru_cache(maxsize=2048)
def moves(
    pieces: tuple[Piece, ...], bounds: tuple[tuple[int, ...], ...], out: tuple[int, ...], sender: int, receiver: int
) -> tuple[Move, ...]:
    """What goes from one rank to another, or stays, for an axis made of ``pieces``.

    ``bounds[i]`` says where the blocks of operand i begin and end (size + 1 indices), ``out`` where those of the result do.
    """
    lo, hi = out[receiver], out[receiver + 1]
    result = []
    ends = itertools.accumulate(piece.length for piece in pieces)
    for piece, end in zip(pieces, ends, strict=True):
        begin = end - piece.length
        block = bounds[piece.operand][sender], bounds[piece.operand][sender + 1]
        first, last = _within(piece, max(lo - begin, 0), min(hi - begin, piece.length), *block)
        if last > first:
            start = piece.start + piece.step * first - block[0]
            result.append(Move(piece.operand, start, piece.step, last - first, begin + first - lo))
    return tuple(result)
