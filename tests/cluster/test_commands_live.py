"""The commands on real clusters: start, status, list, logs, stop, and engines under a person's own mpiexec."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

import mpicluster
from mpicluster.launch import installed, process
from mpicluster.wire.contact import contacts, load


def start(home, *args):
    child = home.spawn(sys.executable, "-m", "mpicluster", "start", *args)
    home.wait_for("stops it.", child)
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_start_stays_until_it_is_told_to_stop(home, number):
    """By Ctrl-C, by a batch system, by a terminal that closes."""
    child = start(home, "-n", "2")
    assert "Starting 2 engines with" in home.said()
    assert "2 of 2 in" in home.said()
    assert "rc = mpicluster.Client()" in home.said()
    with mpicluster.Client() as rc:
        assert rc.ids == [0, 1]
    child.send_signal(number)
    assert child.wait(30) == (0 if number == signal.SIGINT else 128 + number)
    assert "Stopped." in home.said()
    assert home.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_start_can_be_ended_before_the_engines_are_there(home, number):
    """Nothing comes later that nobody wants any more."""
    child = home.spawn(sys.executable, "-m", "mpicluster", "start", "-n", "2")
    home.eventually(lambda: list(home.state.glob("*/logs/*/mpiexec.log")), "the start of mpiexec")
    child.send_signal(number)
    assert child.wait(30) in (0, -signal.SIGKILL)
    home.check_nothing_is_left(30)


def test_start_that_is_killed_leaves_nothing(home):
    """The hub sees that its owner is gone."""
    child = start(home, "-n", "2")
    child.kill()
    child.wait(10)
    home.check_nothing_is_left()


def test_start_says_when_and_why_the_cluster_ended(home):
    """Asked by a client: all is well. Mpiexec killed: it is not."""
    child = start(home, "-n", "2")
    with mpicluster.Client() as rc:
        rc.shutdown()
    assert child.wait(30) == 0
    assert "The cluster has ended:" in home.said()
    child = start(home, "-n", "2", "--cluster", "second")
    home.eventually(lambda: "second" in home.said(), "the second cluster")
    os.kill(load(home.contacts()[0]).launcher_pid, signal.SIGKILL)
    assert child.wait(30) == 1
    assert "Its logs:" in home.said()


def test_hosts_of_a_file(home, tmp_path):
    """As this MPI's mpiexec reads it."""
    name = "localhost slots=2" if installed.library().kind == "openmpi" else "localhost:2"
    (tmp_path / "hosts").write_text(name + "\n")
    child = start(home, "-n", "2", "--host", str(tmp_path / "hosts"))
    with mpicluster.Client() as rc:
        assert rc[:].spmd_sync(lambda comm: comm.allreduce(1)) == [2, 2]
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 0


def test_one_interface_alone_is_published(home, monkeypatch):
    """By an option, or, for all of a site, by a variable; one that is not there is said with those that are."""
    child = start(home, "-n", "1", "--interface", "lo", "--cluster", "option")
    monkeypatch.setenv("MPICLUSTER_INTERFACE", "lo")
    other = home.spawn(sys.executable, "-m", "mpicluster", "start", "-n", "1", "--cluster", "variable")
    home.eventually(lambda: len(home.contacts()) == 2, "both")
    for contact in map(load, home.contacts()):
        (address,) = contact.tcp
        assert address.startswith("tcp://127.0.0.1:")
    monkeypatch.setenv("MPICLUSTER_INTERFACE", "ib7")
    failed = home.run("start", "-n", "1")
    assert failed.returncode == 1
    assert "there is no interface 'ib7' with an address" in failed.stderr
    assert "Traceback" not in failed.stderr
    for one in (child, other):
        one.terminate()
        assert one.wait(30) == 128 + signal.SIGTERM


def test_a_daemon_is_listed_described_and_stopped(home):
    """A day in the life."""
    done = home.run("start", "-n", "2", "--daemonize", "--profile", "lab")
    assert done.returncode == 0, done.stderr
    assert "rc = mpicluster.Client(profile='lab')" in done.stdout
    assert "mpicluster stop --profile lab" in done.stdout
    (contact,) = contacts("lab")

    listed = home.run("list").stdout
    assert contact.cluster in listed
    assert "running" in listed
    assert json.loads(home.run("list", "--json").stdout)[0]["cluster"] == contact.cluster

    with mpicluster.Client(profile="lab") as rc:
        rc[:].apply_sync(print, "heard")
    shown = home.run("status", "--profile", "lab")
    assert shown.returncode == 0, shown.stderr
    assert f"Cluster {contact.cluster} (profile lab): 2 engines" in shown.stdout
    assert "  history  " in shown.stdout
    facts = json.loads(home.run("status", "--profile", "lab", "--json").stdout)
    assert [e["id"] for e in facts["engines"]] == [0, 1]
    assert facts["tasks"]["done"] == 2

    assert "hub.log" in home.run("logs", "--profile", "lab").stdout
    stopped = home.run("stop", "--profile", "lab")
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout == f"Stopped cluster {contact.cluster} (profile lab).\n"
    assert home.leftovers() == []
    assert "ended:" in home.run("logs", contact.cluster, "--profile", "lab").stdout


def test_all_clusters_are_stopped_at_once(home):
    """Those of every profile, and a name picks one."""
    for profile, name in (("default", "a"), ("default", "b"), ("lab", "c")):
        assert home.run("start", "-n", "1", "--daemonize", "--profile", profile, "--cluster", name).returncode == 0
    assert "Name one" in home.run("stop").stderr
    assert home.run("stop", "a").returncode == 0
    assert {c.cluster for c in contacts()} == {"b", "c"}
    assert home.run("stop", "--all").returncode == 0
    assert home.leftovers() == []


def test_logs_are_followed_until_the_cluster_ends(home):
    """The last line is the reason."""
    assert home.run("start", "-n", "1", "--daemonize").returncode == 0
    child = home.spawn(sys.executable, "-m", "mpicluster", "logs", "-f")
    home.wait_for("hub.log", child)
    assert home.run("stop").returncode == 0
    assert child.wait(20) == 0
    assert "ended:" in home.said()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_cluster_whose_hub_is_gone_or_hangs_is_stopped_by_pid(home, number):
    """And what it left is removed."""
    assert home.run("start", "-n", "2", "--daemonize").returncode == 0
    os.kill(contacts()[0].hub_pid, number)
    stopped = home.run("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert home.leftovers() == []


# --- engines under a person's own mpiexec


def by_hand(home, mpiexec):
    child = home.spawn(*mpiexec)
    with mpicluster.Client(home.eventually(lambda: contacts(), "a contact file")[0]) as rc:
        rc.wait_for_engines(2, timeout=60)
        assert sorted(rc[:].apply_sync(lambda: __import__("mpicluster").comm.size)) == [2, 2]
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_mpiexec_takes_its_engines_and_hub_along(home, mpiexec, number):
    """Ctrl-C, SIGTERM, SIGKILL."""
    child = by_hand(home, mpiexec)
    child.send_signal(number)
    child.wait(30)
    home.check_nothing_is_left()


def test_engines_by_hand_are_stopped_from_elsewhere(home, mpiexec):
    """And mpiexec with them."""
    child = by_hand(home, mpiexec)
    assert home.run("stop").returncode == 0
    assert home.leftovers() == []
    child.wait(10)


def test_engines_by_hand_are_stopped_when_their_hub_hangs(home, mpiexec):
    """Mpiexec is found from the hub's own parents; the shell above it is left alone."""
    child = by_hand(home, mpiexec)
    os.kill(contacts()[0].hub_pid, signal.SIGSTOP)
    assert home.run("stop").returncode == 0
    child.wait(10)
    assert home.leftovers() == []


def test_an_engine_alone_is_a_cluster_of_one(home):
    """Without any launcher: MPI calls that a singleton."""
    child = home.spawn(sys.executable, "-m", "mpicluster", "engine", "--profile", "solo", "--owner", str(os.getpid()))
    with mpicluster.Client(home.eventually(lambda: contacts("solo"), "a contact file")[0]) as rc:
        assert rc[0].apply_sync(os.getpid) == child.pid
        rc.shutdown()
    assert child.wait(30) == 0


def test_the_wrong_launcher_is_refused_with_an_explanation(home, monkeypatch):
    """At once, with code 2, before any hub is there."""
    mine = installed.library().kind
    told = {"PMI_SIZE": "2", "PMI_RANK": "0"} if mine == "openmpi" else {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    refused = home.run("engine")
    assert refused.returncode == 2
    assert "started by the wrong launcher" in refused.stderr
    assert installed.installation().launcher.path in refused.stderr
    assert home.contacts() == []


def test_srun_without_mpi_is_refused_with_an_explanation(home, monkeypatch):
    """Four tasks, four worlds of one."""
    for name, value in {"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    refused = home.run("engine")
    assert refused.returncode == 2
    assert "srun says that there are 4 ranks" in refused.stderr
    assert home.leftovers() == []


def test_nothing_of_this_test_run_is_seen_as_a_cluster():
    """The helper that looks for leftovers sees processes of one test only."""
    assert process.marked("MPICLUSTER_STATE_DIR", "/no/such/folder") == []
