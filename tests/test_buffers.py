"""Memory that is used again, and never by two at a time."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mpicluster import buffers

MIB = 1 << 20


@pytest.fixture(autouse=True)
def none_kept(monkeypatch):
    monkeypatch.setattr(buffers, "_blocks", [])


def address(array):
    return array.__array_interface__["data"][0]


def test_what_nobody_refers_to_is_used_again():
    where = address(buffers.allocate(8 * MIB))
    again = buffers.allocate(7 * MIB)
    assert (address(again), again.nbytes) == (where, 7 * MIB)


@pytest.mark.parametrize("keep", [lambda a: a, lambda a: a[5:9], lambda a: memoryview(a)[3:], lambda a: a.view("f8").reshape(2, -1).T])
def test_what_somebody_refers_to_is_not(keep):
    """Be it by a view of a view."""
    first = buffers.allocate(8 * MIB)
    held = keep(first)
    where = address(first)
    del first
    assert address(buffers.allocate(8 * MIB)) != where
    del held
    assert where in {address(a) for a in [buffers.allocate(8 * MIB), buffers.allocate(8 * MIB)]}


def test_a_block_that_is_much_too_large_is_left():
    where = address(buffers.allocate(100 * MIB))
    assert address(buffers.allocate(8 * MIB)) != where


def test_no_more_is_kept_than_a_bound():
    held = [buffers.allocate(60 * MIB) for _ in range(6)]
    assert sum(b.nbytes for b in buffers._blocks) <= buffers._KEPT
    assert len({address(a) for a in held}) == 6
    assert buffers.allocate(300 * MIB).nbytes == 300 * MIB
    assert sum(b.nbytes for b in buffers._blocks) <= buffers._KEPT


@pytest.mark.parametrize("nbytes", [0, 1, 5 * MIB])
def test_a_copy_is_a_copy(nbytes):
    original = np.arange(nbytes, dtype=np.uint8)
    copied = buffers.copy(original.data)
    if nbytes:
        original[0] += 1
    assert bytes(copied) == bytes(np.arange(nbytes, dtype=np.uint8))


def test_threads_do_not_get_the_same():
    def use(number):
        for _ in range(200):
            block = buffers.allocate(4 * MIB)
            block[:8] = number
            assert (block[:8] == number).all()

    threads = [threading.Thread(target=use, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
