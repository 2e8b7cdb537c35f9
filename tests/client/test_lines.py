"""Text as lines, as a terminal would make them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpicluster.client.lines import Lines


def lines(*pieces: str) -> tuple[list[str], list[str]]:
    """Complete lines, and what is open, after these pieces."""
    stream = Lines()
    complete = [line for piece in pieces for line in stream.feed(piece.encode())]
    return complete, stream.open


@pytest.mark.parametrize(
    ("pieces", "complete", "open_lines"),
    [
        (["a\nb\n"], ["a", "b"], []),
        (["a", "b\nc"], ["ab"], ["c"]),
        (["\n\n"], ["", ""], []),
        (["a\r\nb\r\n"], ["a", "b"], []),
        (["\r10%", "\r50%", "\r100%\n"], ["100%"], []),
        (["100%\r5%"], [], ["5%0%"]),
        (["100%\r\x1b[K5%"], [], ["5%"]),
        (["long line\rab\n"], ["abng line"], []),
        (["abc\x08\x08X\n"], ["aXc"], []),
        (["\r\x1b[32m10%\x1b[0m", "\r\x1b[32m9%\x1b[0m"], [], ["\x1b[32m9%\x1b[0m"]),
        (["\x1b[31mred\x1b[0m\n"], ["\x1b[31mred\x1b[0m"], []),
        (["\router 0%", "\n\rinner 0%\x1b[A", "\n\rinner 50%\x1b[A", "\router 50%"], [], ["outer 50%", "inner 50%"]),
        (["\router 0%", "\n\rinner\x1b[A", "\n", "\rinner\x1b[A", "\n\r     \r\x1b[A", "\router 1%"], [], ["outer 1%"]),
        (["\ra", "\n\rb\x1b[A", "\n", "c\n", "d\n"], ["a", "c"], ["d"]),
        (["\rbar", "\r   \r", "after\n"], ["after"], []),
        (["x\r\x1b[2Ky\n"], ["y"], []),
        (["one\ntwo\x1b[Jx\n"], ["one", "twox"], []),
    ],
)
def test_a_stream_as_lines(pieces, complete, open_lines):
    assert lines(*pieces) == (complete, open_lines)


def test_a_character_may_come_in_two_pieces():
    stream = Lines()
    first, second = "ü\n".encode()[:1], "ü\n".encode()[1:]
    assert stream.feed(first) == []
    assert stream.feed(second) == ["ü"]


def test_the_end_completes_what_is_open():
    stream = Lines()
    stream.feed(b"\r 50%")
    assert stream.rewritten
    assert stream.end() == [" 50%"]
    assert stream.open == stream.end() == []


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\x08\x1b"), max_size=8), max_size=8))
def test_nothing_is_lost_or_made_up(pieces):
    """However the text is cut into pieces."""
    complete, open_lines = lines(*pieces)
    text = "".join(pieces)
    expected = text.split("\n")
    assert complete == expected[:-1]
    assert open_lines == ([expected[-1]] if expected[-1].strip() else [])
