"""How facts are written for a person."""

from __future__ import annotations

import pytest

from mpicluster.cluster import words
from mpicluster.config import HistoryLimits


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.9, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (18720, "5 h 12 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations(seconds, text):
    """Two units at most."""
    assert words.duration(seconds) == text


@pytest.mark.parametrize(("n", "text"), [(0, "0 B"), (512, "512 B"), (4500, "4.5 kB"), (45_200_000, "45 MB"), (1.23e9, "1.2 GB")])
def test_sizes(n, text):
    """Two or three digits are enough."""
    assert words.nbytes(n) == text


def test_tables_are_as_wide_as_they_need_to_be():
    """Left-aligned, nothing trailing."""
    assert words.table(["A", "LONG"], [[1, 2], ["abc", ""]]) == "A    LONG\n1    2\nabc"


FACTS = {
    "cluster": "3f2a",
    "profile": "default",
    "uptime": 75.0,
    "hub": {"pid": 11, "host": "node", "rss": 45_000_000},
    "mpi": "Open MPI 5.0.11",
    "survives": True,
    "epoch": 0,
    "engines": [
        {"id": 0, "rank": 0, "host": "node", "pid": 12, "state": "busy", "queued": 3, "tasks_done": 10, "threads": 1},
        {"id": 1, "rank": 1, "host": "node", "pid": 13, "state": "idle", "queued": 0, "tasks_done": 9, "threads": 1},
    ],
    "clients": 1,
    "tasks": {"waiting": 5, "assigned": 4, "done": 19},
    "dropped": {"malformed": 0, "oversized": 0, "unauthenticated": 0, "unfinished": 0},
}


HISTORY = {"on": True, "stopped": "", "tasks": 19, "nbytes": 4500, "without_values": 0}


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, "history  19 tasks in 4.5 kB\n"),
        ({"without_values": 3}, "19 tasks in 4.5 kB; 3 without their values, since the disk is too slow"),
        ({"on": False}, "history  off\n"),
        ({"on": False, "stopped": "disk full"}, "history  STOPPED: disk full\n"),
    ],
)
def test_the_history_in_words(facts, text):
    """Loud when it has stopped."""
    assert text in words.status({**FACTS, "history": {**HISTORY, **facts}})


def test_limits_of_the_history_as_options():
    """Nothing is said of the default."""
    assert words.history_options(HistoryLimits()) == []
    assert words.history_options(None) == ["--no-history"]
    options = words.history_options(HistoryLimits(5, 6, 7.5))
    assert options == ["--history-tasks", "5", "--history-nbytes", "6", "--history-age", "7.5"]


def test_a_healthy_cluster_in_words():
    """Engines, hub, tasks; nothing about what is zero."""
    text = words.status(FACTS)
    assert "Cluster 3f2a (profile default): 2 engines, up for 1 min 15 s" in text
    assert "pid 11 on node, 45 MB" in text
    assert "5 waiting, 4 with engines, 19 done" in text
    assert "dropped" not in text
    assert "epoch" not in text
    assert text.splitlines()[-1].split() == ["1", "1", "node", "13", "idle", "0", "9", "1"]


def test_a_wounded_cluster_in_words():
    """Lost engines, a later epoch, dropped messages."""
    lost = dict(FACTS["engines"][1], state="lost")
    text = words.status({**FACTS, "engines": [FACTS["engines"][0], lost], "epoch": 1, "dropped": {"malformed": 2, "oversized": 0}})
    assert "1 engine and 1 lost" in text
    assert "epoch 1" in text
    assert "2 messages: 2 malformed" in text
