"""Clusters started from Python: they come, they work, and nothing is left of them, however they end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

import mpicluster
from mpicluster.cluster import Cluster, ending
from mpicluster.errors import LaunchError, NoCluster
from mpicluster.launch import process
from mpicluster.wire.contact import contacts, load

SCRIPT = """
import sys, mpicluster
cluster = mpicluster.Cluster(n=2)
rc = cluster.start_and_connect_sync()
print("pids", *rc[:].apply_sync(__import__("os").getpid), flush=True)
{end}
"""


def test_a_with_block_gives_a_client_of_all_engines(home):
    """And takes everything away at its end."""
    with Cluster(n=2) as rc:
        assert rc.ids == [0, 1]
        pids = rc[:].apply_sync(os.getpid)
        assert len(set(pids)) == 2
        assert [c.engines for c in contacts("default")] == [2]
    assert not [p for p in pids if process.find(p)]
    assert home.leftovers() == []


def test_a_with_block_that_raises_stops_too(home):
    """The error passes through."""
    with pytest.raises(ZeroDivisionError), Cluster(n=1):
        _ = 1 / 0
    assert home.leftovers() == []


def test_it_starts_and_stops_by_ipython_parallels_names(home):
    """More than once, with another number of engines."""
    ours = Cluster(n=1, profile="mine")
    assert "not running" in repr(ours)
    rc = ours.start_and_connect_sync()
    assert len(rc) == 1
    assert "profile mine, 1 engine" in repr(ours)
    assert "running" in repr(ours)
    rc.close()
    ours.stop_cluster_sync()
    ours.stop_cluster_sync()
    assert home.leftovers() == []
    with ours.start_and_connect_sync(n=2) as rc:
        assert len(rc) == 2
    ours.stop()


def test_by_the_names_of_ipython_parallel_awaited(home):
    async def use():
        ours = Cluster(n=1, profile="mine", cluster_id="theirs", engine_timeout=60)
        with await ours.start_and_connect() as rc:
            assert (rc.contact.profile, rc.contact.cluster, len(rc)) == ("mine", "theirs", 1)
            with ours.connect_client_sync() as other, ours.connect_client() as another:
                assert other.ids == another.ids == [0]
        await ours.stop_cluster()
        assert home.leftovers() == []
        assert await ours.start_cluster() is ours
        await ours.stop_cluster()
        assert ours.start_cluster_sync() is ours
        ours.stop_cluster_sync()

    asyncio.run(use())
    assert home.leftovers() == []


def test_any_number_of_clients_connects(home):
    """By the object, by profile, by contact file."""
    ours = Cluster(n=1).start()
    try:
        with ours.connect_client() as a, mpicluster.Client() as b, mpicluster.Client(home.contacts()[0]) as c:
            assert a.ids == b.ids == c.ids == [0]
        with pytest.raises(LaunchError, match="runs already"):
            ours.start()
        with pytest.raises(LaunchError, match="take another id"):
            Cluster(n=1, cluster=ours.cluster_id).start()
    finally:
        ours.stop()


def test_async_with(home):
    """The event loop goes on meanwhile."""

    async def use():
        async with Cluster(n=1) as rc:
            return await rc[0].apply_async(os.getppid)

    assert asyncio.run(use()) > 1


def test_a_cluster_that_does_not_run_says_so(home):
    """Before its start, and after it ended by itself."""
    ours = Cluster(n=1)
    with pytest.raises(NoCluster, match="start"):
        ours.connect_client()
    with ours.start_and_connect_sync() as rc:
        rc.shutdown()
    assert ours.wait(20)
    assert "ended by itself" in repr(ours)
    with pytest.raises(NoCluster, match="has ended"):
        ours.connect_client()
    ours.stop()


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": -1}, {"profile": "a/b"}, {"cluster": "../x"}, {"cluster": ""}])
def test_wrong_arguments_are_refused_at_once(wrong):
    """Before anything is started."""
    with pytest.raises(ValueError, match=r"plain word|at least one"):
        Cluster(**wrong)


def test_an_mpiexec_that_fails_is_reported_with_its_own_words(home, fake_mpiexec):
    """The last lines of its log, and a hint."""
    broken = fake_mpiexec("echo 'There are not enough slots available in the system'; exit 1")
    with pytest.raises(LaunchError) as caught:
        Cluster(n=2, mpi=broken).start()
    text = str(caught.value)
    assert "0 of 2 came" in text
    assert "    There are not enough slots" in text
    assert "take fewer engines" in text


def test_an_mpiexec_that_says_it_succeeded_is_not_believed(home, fake_mpiexec):
    """Its exit code means nothing."""
    with pytest.raises(LaunchError, match="mpiexec ended before the engines were there"):
        Cluster(n=2, mpi=fake_mpiexec("exit 0")).start()


def test_engines_that_do_not_come_are_waited_for_so_long_and_no_longer(home, fake_mpiexec):
    """And then what was started is ended."""
    with pytest.raises(LaunchError, match=r"0 of 2 engines were there after 0\.5 s"):
        Cluster(n=2, mpi=fake_mpiexec("sleep 60 & sleep 60"), timeout=0.5).start()


def test_a_missing_module_is_named(home, monkeypatch, tmp_path):
    """The engines' own error reaches the person."""
    (tmp_path / "msgspec.py").write_text("raise ImportError(\"No module named 'msgspec'\")\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(LaunchError, match="install what is missing there"):
        Cluster(n=2).start()


def test_progress_is_shown_where_a_person_looks_on(home, capsys, monkeypatch):
    """And nowhere else."""
    Cluster(n=1).start(progress=True).stop()
    assert " 1 of 1 in " in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    Cluster(n=1).start().stop()
    assert capsys.readouterr().err == ""


# --- ends that nobody planned


def test_a_cluster_whose_mpiexec_is_killed_leaves_nothing(home):
    """Not even when nobody stops it."""
    ours = Cluster(n=2).start()
    os.kill(ours._job.pid, signal.SIGKILL)
    assert ours.wait(20)
    home.check_nothing_is_left()
    ours.stop()


def test_a_cluster_whose_hub_hangs_can_be_stopped(home):
    """By pid, when asking does not help."""
    ours = Cluster(n=2).start()
    os.kill(ours.contact.hub_pid, signal.SIGSTOP)
    ours.stop()
    assert home.leftovers() == []


def test_a_cluster_whose_hub_is_killed_can_be_stopped(home):
    """Its contact file and its sockets are removed by who started it."""
    ours = Cluster(n=2).start()
    os.kill(ours.contact.hub_pid, signal.SIGKILL)
    ours.stop()
    assert home.leftovers() == []


@pytest.mark.parametrize(
    "end",
    ["cluster.stop()", "", "sys.exit(3)", "raise ValueError", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
    ids=["stop", "forgotten", "exit", "error", "sigkill"],
)
def test_a_script_leaves_nothing_however_it_ends(home, end):
    """Stopped, forgotten, failed, killed."""
    child = home.spawn(sys.executable, "-c", SCRIPT.format(end=end))
    child.wait(60)
    assert "pids" in home.said()
    home.check_nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_script_that_is_killed_leaves_nothing(home, number):
    """While it waits."""
    child = home.spawn(sys.executable, "-c", SCRIPT.format(end="import time; time.sleep(60)"))
    home.wait_for("pids", child)
    child.send_signal(number)
    child.wait(30)
    home.check_nothing_is_left()


def test_an_interrupted_stop_is_repeated(home, monkeypatch):
    """Nothing is forgotten."""
    ours = Cluster(n=1).start()

    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ending, "end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ours.stop()
    ours.stop()
    assert home.leftovers() == []


def test_a_script_killed_while_its_engines_start_leaves_nothing(home):
    """The hub looks for its owner as soon as it is there."""
    child = home.spawn(sys.executable, "-c", SCRIPT.format(end=""))
    home.eventually(lambda: list(home.state.glob("*/logs/*/mpiexec.log")), "the start of mpiexec")
    child.kill()
    child.wait(30)
    home.check_nothing_is_left(30)


def test_a_fork_does_not_stop_its_parents_cluster(home):
    """A child process that exits, or stops, touches nothing."""
    ours = Cluster(n=1).start()
    try:
        ours_pid, ours._pid = ours._pid, 1  # as it looks from a fork
        ours.stop()
        ours._pid = ours_pid
        assert ours.is_running()
    finally:
        ours.stop()


def test_a_detached_cluster_outlives_its_script(home):
    """Until it is stopped."""
    code = "import mpicluster; c = mpicluster.Cluster(n=1, cluster='kept'); c.start(detach=True); print('started')"
    child = home.spawn(sys.executable, "-c", code)
    assert child.wait(60) == 0
    with mpicluster.Client(cluster="kept") as rc:
        assert rc.ids == [0]
    assert load(home.contacts()[0]).launcher_pid in [p.pid for p in home.processes()]
    assert home.run("stop", "kept").returncode == 0
    assert home.leftovers() == []
