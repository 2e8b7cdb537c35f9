"""Memory that two processes share: what was put is what is read, and no slot is used for two."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from mpicluster.config import CHUNK, RING_SLOTS
from mpicluster.serial.ring import Reader, Ring


def put(ring, text, owner="me"):
    return ring.put(memoryview(text), owner)


def test_what_was_put_is_read_by_another_process():
    ring = Ring()
    slot, use = put(ring, b"hello")
    code = (
        "import sys; from mpicluster.serial.ring import Reader\n"
        f"r = Reader({os.getpid()}, {ring.place[1]}, bytes.fromhex(sys.argv[1]))\n"
        f"print(bytes(r.view({slot}, 5)).decode()); r.release({slot}, {use})"
    )
    done = subprocess.run([sys.executable, "-c", code, ring.token.hex()], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "hello\n"
    taken = [put(ring, b"x") for _ in range(RING_SLOTS)]
    assert None not in taken
    assert put(ring, b"x") is None


def test_only_the_right_ring_is_opened():
    ring, other = Ring(), Ring()
    pid, fd, token = ring.place
    with pytest.raises(OSError, match="another ring"):
        Reader(pid, fd, other.token)
    with open(os.devnull) as f, pytest.raises(OSError, match="no ring"):
        Reader(pid, f.fileno(), token)
    with pytest.raises(OSError):
        Reader(pid, 10**6, token)
    with pytest.raises(OSError):
        Reader(2**22 + 5, fd, token)


def test_places_outside_are_refused():
    ring = Ring()
    reader = Reader(*ring.place)
    for slot, nbytes in ((-1, 5), (RING_SLOTS, 5), (0, CHUNK + 1), (0, -1)):
        with pytest.raises(ValueError, match="slot"):
            reader.view(slot, nbytes)


def test_who_comes_too_late_frees_nothing():
    """A slot that was taken back and given to another stays the other's."""
    ring = Ring()
    reader = Reader(*ring.place)
    late = put(ring, b"late", "gone")
    for _ in range(RING_SLOTS - 1):
        put(ring, b"x", "here")
    ring.reclaim(lambda owner: owner == "gone")
    again = put(ring, b"next", "here")
    assert again[0] == late[0]
    assert again[1] != late[1]
    reader.release(*late)
    assert put(ring, b"x") is None
    reader.release(*again)
    assert put(ring, b"y")[0] == late[0]


@pytest.mark.parametrize("seed", range(5))
def test_no_slot_holds_two_chunks(seed):
    """Whatever is put, read, given up and released late."""
    rng = random.Random(seed)
    ring = Ring()
    reader = Reader(*ring.place)
    live, stale = {}, []
    for number in range(5000):
        action = rng.random()
        if action < 0.5:
            text = b"%08d" % number
            place = put(ring, text, number)
            if place is None:
                assert len(live) == RING_SLOTS
            else:
                assert place[0] not in {p[0] for p in live}
                live[place] = (text, number)
        elif action < 0.85 and live:
            place = rng.choice(list(live))
            assert bytes(reader.view(place[0], 8)) == live.pop(place)[0]
            reader.release(*place)
        elif action < 0.93 and live:
            place = rng.choice(list(live))
            _, owner = live.pop(place)
            ring.reclaim(lambda o, owner=owner: o == owner)
            stale.append(place)
        elif stale:
            place = stale.pop()
            if place[0] in {p[0] for p in live}:  # else its sender would see a use that it knows
                reader.release(*place)
                live_there = next(p for p in live if p[0] == place[0])
                assert live_there[1] != place[1]
    for place, (text, _) in live.items():
        assert bytes(reader.view(place[0], 8)) == text


def test_a_ring_leaves_no_descriptor():
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    ring = Ring()
    Reader(*ring.place)
    del ring
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
