"""What tasks write: live, in order, complete, and bounded."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from mpicluster.config import MAX_OUTPUT, OUTPUT_KEPT

TIMEOUT = 60


def until(condition, what):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def test_output_comes_while_the_task_runs(rc4, tmp_path):
    """Each line before the task may go on to the next."""

    def talks(path):
        for i in range(5):
            print("line", i)
            print("error", i, file=sys.stderr)
            deadline = time.monotonic() + 60
            while not __import__("os").path.exists(f"{path}{i}"):
                assert time.monotonic() < deadline
                time.sleep(0.001)

    result = rc4[:].apply_async(talks, str(tmp_path / "go"))
    for i in range(5):
        until(lambda i=i: all(s.endswith(f"line {i}\n") for s in result.stdout), "the line is here")
        until(lambda i=i: all(s.endswith(f"error {i}\n") for s in result.stderr), "the error is here")
        assert not result.done()
        (tmp_path / f"go{i}").touch()
    result.get(timeout=TIMEOUT)


def test_output_is_complete_when_the_result_is_there(rc):
    def says(n):
        for i in range(n):
            print(i)
            if i % 50 == 0:
                time.sleep(0.001)

    for n in (0, 1, 10, 1000, 3000):
        result = rc[:].apply_async(says, n)
        result.get(timeout=TIMEOUT)
        assert result.stdout == ["".join(f"{i}\n" for i in range(n))] * len(rc)


def test_nothing_is_lost_of_many_lines(rc4):
    n = 100_000
    result = rc4[:].apply_async(lambda n: [print("line", i) for i in range(n)] and None, n)
    result.get(timeout=TIMEOUT)
    assert result.stdout == ["".join(f"line {i}\n" for i in range(n))] * 4


def test_order_of_both_streams_is_kept(rc4):
    def alternates():
        for i in range(300):
            sys.stdout.write(f"o{i} ")
            sys.stderr.write(f"e{i} ")
            if i % 100 == 50:
                time.sleep(0.05)

    result = rc4[0].apply_async(alternates)
    result.log = log = __import__("collections").deque()
    result.get(timeout=TIMEOUT)
    together = "".join(text.decode() for _, (_, text) in log)
    assert together == "".join(f"o{i} e{i} " for i in range(300))


def test_output_of_threads(rc4):
    def threads():
        def say(name):
            for i in range(100):
                print(f"{name}-{i}\n", end="")

        workers = [threading.Thread(target=say, args=(n,)) for n in range(4)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()

    result = rc4[:].apply_async(threads)
    result.get(timeout=TIMEOUT)
    for text in result.stdout:
        lines = text.split()
        assert sorted(lines) == sorted(f"{n}-{i}" for n in range(4) for i in range(100))
        for n in range(4):
            assert [x for x in lines if x.startswith(f"{n}-")] == [f"{n}-{i}" for i in range(100)]


@pytest.mark.parametrize("pieces", [1, 10_000])
def test_ten_megabytes(rc, pieces):
    total = 10_000_000
    result = rc[:].apply_async(lambda n, s: [sys.stdout.write("x" * s) for _ in range(n)] and None, pieces, total // pieces)
    result.get(timeout=TIMEOUT)
    assert [len(s) for s in result.stdout] == [total] * len(rc)


def test_output_is_bounded(rc4):
    """What a client keeps of one task; and what a task may write, which is said."""
    result = rc4[0].apply_async(lambda n: [sys.stdout.write("x" * 2**20) for _ in range(n)] and None, MAX_OUTPUT // 2**20 + 10)
    result.get(timeout=TIMEOUT)
    assert "bytes of output were dropped" in result.stdout
    assert "of this task was dropped" in result.stderr
    assert len(result.stdout) < OUTPUT_KEPT + 200


def test_output_of_a_task_that_failed(rc4):
    def fails():
        print("before")
        raise ValueError

    result = rc4[:].apply_async(fails)
    assert result.exception(timeout=TIMEOUT) is not None
    assert result.stdout == ["before\n"] * 4


def test_output_of_a_map(rc4):
    result = rc4.load_balanced_view().map_async(print, range(50))
    result.get(timeout=TIMEOUT)
    assert result.stdout == [f"{i}\n" for i in range(50)]


def test_text_that_has_no_bytes(rc4):
    result = rc4[0].apply_async(print, "\ud800 \u00e4 \U0001f600")
    result.get(timeout=TIMEOUT)
    assert result.stdout == "\\ud800 \u00e4 \U0001f600\n"


def test_ids_of_tasks_are_unique(rc4):
    direct, balanced = rc4[:].apply_async(abs, 1), rc4.load_balanced_view().map_async(abs, range(5))
    ids = [*direct.msg_ids, *balanced.msg_ids]
    assert len(set(ids)) == 9
    assert [record["msg_id"] for record in direct.metadata] == direct.msg_ids
    direct.get(timeout=TIMEOUT), balanced.get(timeout=TIMEOUT)
