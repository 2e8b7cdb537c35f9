"""What a task writes, kept in order."""

from __future__ import annotations

import os
import sys

import pytest

from mpicluster.config import CHUNK
from mpicluster.engine.output import Recorder
from mpicluster.wire.messages import DATA, DISPLAY, STDERR, STDOUT


@pytest.fixture
def recorder(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    recorder = Recorder()
    yield recorder
    sys.stdin.close()


def test_pieces_keep_their_order(recorder):
    recorder.begin(1)
    print("a", file=recorder.out)
    print("b", file=recorder.out)
    recorder.write(DISPLAY, b"{}")
    print("c", file=recorder.err)
    print("d", file=recorder.out)
    assert recorder.end() == ([], [(STDOUT, b"a\nb\n"), (DISPLAY, b"{}"), (STDERR, b"c\n"), (STDOUT, b"d\n")], 0)


def test_of_what_is_published_the_newest_is_sent(recorder):
    woken = []
    recorder.on_write = lambda: woken.append(1)
    recorder.begin(1)
    assert recorder.publish("x", b"1")
    assert recorder.publish("x", b"2")
    assert recorder.publish("y", b"3")
    assert woken == [1]
    assert recorder.take().output == [(DATA, b"x\x002"), (DATA, b"y\x003")]
    assert recorder.take() is None
    recorder.publish("x", b"4")
    assert recorder.end() == ([], [(DATA, b"x\x004")], 1)
    assert not recorder.publish("x", b"5")
    recorder.begin(2)
    assert recorder.end() == ([], [], 0)


def test_the_beginning_of_a_line_waits_once_for_its_end(recorder):
    recorder.begin(1)
    recorder.out.write("one\ntwo\nth")
    assert recorder.take().output == [(STDOUT, b"one\ntwo\n")]
    assert not recorder.more
    recorder.out.write("ree\nf")
    assert recorder.more
    assert recorder.take().output == [(STDOUT, b"three\n")]
    assert recorder.take().output == [(STDOUT, b"f")]
    recorder.out.write("our\nfünf")
    assert recorder.take().output == [(STDOUT, b"our\n")]
    assert recorder.end() == ([], [(STDOUT, "fünf".encode())], 4)
    assert not recorder.more


def test_a_bar_is_not_kept_back(recorder):
    recorder.begin(1)
    recorder.out.write("\r 10%")
    assert recorder.take().output == [(STDOUT, b"\r 10%")]
    recorder.out.write("\r 20%")
    assert recorder.take().output == [(STDOUT, b"\r 20%")]
    assert recorder.take() is None


def test_chunks_end_with_lines(recorder):
    recorder.begin(1)
    line = "x" * 999 + "\n"
    for _ in range(3 * CHUNK // 1000):
        recorder.out.write(line[:500])
        recorder.out.write(line[500:])
    taken = 0
    while recorder.more:
        ((_, content),) = recorder.take().output
        assert content.endswith(b"\n")
        taken += len(content)
    assert taken == 3 * CHUNK // 1000 * 1000


def test_a_child_process_does_not_record(recorder, tmp_path):
    """Nobody would send it; it goes where the engine's log is."""
    recorder.begin(1)
    pid = os.fork()
    if pid == 0:
        (tmp_path / "recording").write_text(str(recorder.recording))
        os._exit(0)
    os.waitpid(pid, 0)
    assert (tmp_path / "recording").read_text() == "False"
    assert recorder.recording
