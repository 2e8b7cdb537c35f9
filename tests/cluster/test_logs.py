"""Log folders: how many are kept, how they are followed, what they say of the end."""

from __future__ import annotations

import os

import pytest

from mpicluster.cluster import logs
from mpicluster.cluster.follow import Follower


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(tmp_path / "state"))


def test_the_newest_folders_are_kept():
    """By time, not by name."""
    for i in range(13):
        folder = logs.log_dir("default", f"c{(i * 7) % 13}", create=True)
        (folder / "hub.log").write_text("x")
        os.utime(folder, (i, i))
    names = [p.name for p in logs.folders("default")]
    logs.prune("default", keep=10)
    assert [p.name for p in logs.folders("default")] == names[:10]


def test_log_folders_are_private():
    """They tell what was run."""
    assert logs.log_dir("default", "one", create=True).stat().st_mode & 0o077 == 0


def test_nothing_to_prune_is_fine():
    """No folder yet."""
    logs.prune("default")
    assert logs.folders("default") == []


def test_the_reason_of_the_end_is_read_from_the_hubs_log(tmp_path):
    """The last one, if there is one."""
    assert logs.end_reason(tmp_path) == ""
    (tmp_path / "hub.log").write_text("2026 INFO serving\n2026 INFO ended: a client asked for it\n")
    assert logs.end_reason(tmp_path) == "a client asked for it"


def test_a_follower_shows_the_last_lines_and_then_what_comes(tmp_path):
    """A heading where the file changes; a line that is being written waits until it is whole."""
    hub, mpiexec = tmp_path / "hub.log", tmp_path / "mpiexec.log"
    hub.write_text("1\n2\n3\n")
    mpiexec.write_text("a\n")
    follower = Follower(tmp_path, 2)
    assert follower.read() == ["==> hub.log <==", "2", "3", "", "==> mpiexec.log <==", "a"]
    assert follower.read() == []
    with mpiexec.open("a") as f:
        f.write("b\nc")
    assert follower.read() == ["b"]
    with hub.open("a") as f:
        f.write("4\n")
    with mpiexec.open("a") as f:
        f.write("d\n")
    assert follower.read() == ["", "==> hub.log <==", "4", "", "==> mpiexec.log <==", "cd"]
