"""The command line without a cluster: words, mistakes, and what it imports."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import types

import pytest
from click.testing import CliRunner

from mpicluster.cli import main
from mpicluster.config import HISTORY_LIMITS, HistoryLimits
from mpicluster.wire import contact as contact_file
from mpicluster.wire.contact import Contact


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def run():
    return lambda *args: CliRunner().invoke(main, list(args), catch_exceptions=False)


def write(**changes) -> Contact:
    facts = {
        "cluster": "one",
        "profile": "default",
        "host": socket.gethostname(),
        "hub_pid": os.getpid(),
        "hub_started": contact_file.process_start(os.getpid()),
        "ipc": "ipc:///nowhere/mpicluster-x/client",
        "tcp": [],
        "server_key": "s",
        "client_public": "p",
        "client_secret": "c",
        "engines": 4,
        "mpi": "Open MPI 5.0.11",
        "survives": True,
        "started": 1.0,
        "log_dir": "/nowhere/logs",
    }
    contact = Contact(**(facts | changes))
    contact_file.write(contact)
    return contact


def test_importing_the_command_line_is_light():
    """Engines pay for it at every start."""
    heavy = ["numpy", "mpi4py", "zmq", "IPython", "msgspec", "cloudpickle", "mpicluster.client", "mpicluster.cluster"]
    code = f"import sys, mpicluster.cli; print([m for m in {heavy} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.strip() == "[]"


def test_help_names_every_command(run):
    """And the first steps."""
    text = run("--help").output
    for command in ("engine", "start", "stop", "list", "status", "logs", "doctor"):
        assert f"\n  {command} " in text
        assert run(command, "--help").exit_code == 0
    assert "mpiexec -n 4 mpicluster engine" in text


def test_version(run):
    """One line."""
    assert run("--version").output.startswith("mpicluster ")


@pytest.mark.parametrize(
    ("given", "owner"),
    [(["--owner", "7"], 7), (["--owner", f"7@{socket.gethostname()}"], 7), (["--owner", "7@elsewhere.example"], None), ([], None)],
)
def test_an_owner_on_another_host_is_not_watched(monkeypatch, run, given, owner):
    """Its number may be anybody's here."""
    seen = []
    worker = types.ModuleType("mpicluster.cluster.worker")
    worker.run_engine = lambda **options: seen.append(options) or 0
    monkeypatch.setitem(sys.modules, worker.__name__, worker)
    assert run("engine", *given).exit_code == 0
    assert [(options["owner"], options["launcher"], options["history"]) for options in seen] == [(owner, None, HISTORY_LIMITS)]


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        (["--no-history"], None),
        (["--history-tasks", "5", "--history-nbytes", "6", "--history-age", "7.5"], HistoryLimits(5, 6, 7.5)),
    ],
)
def test_what_is_remembered_can_be_said(monkeypatch, run, given, limits):
    """To engines under one's own mpiexec."""
    seen = []
    worker = types.ModuleType("mpicluster.cluster.worker")
    worker.run_engine = lambda **options: seen.append(options["history"]) or 0
    monkeypatch.setitem(sys.modules, worker.__name__, worker)
    assert run("engine", *given).exit_code == 0
    assert seen == [limits]


@pytest.mark.parametrize(
    "args",
    [
        ("engine", "--owner", "me"),
        ("start", "--history-tasks", "0"),
        ("start", "--history-age", "-1"),
        ("start", "-n", "0"),
        ("start", "-n", "many"),
        ("start", "--profile", "a/b"),
        ("start", "--profile", ".."),
        ("start", "--cluster", "a/b"),
        ("start", "--timeout", "0"),
        ("stop", "one", "--all"),
        ("list", "--profile", "../etc"),
        ("nonsense",),
    ],
)
def test_mistakes_are_usage_errors(run, args):
    """Code 2, as everywhere, and nothing started."""
    result = run(*args)
    assert result.exit_code == 2
    assert "Error" in result.output


def test_an_mpi_that_does_not_exist_is_an_error_without_traceback(run):
    """It says what --mpi takes."""
    result = run("start", "-n", "1", "--mpi", "/no/such/mpiexec")
    assert result.exit_code == 1
    assert "Error: --mpi takes openmpi, mpich or the path of an mpiexec" in result.output
    assert "Traceback" not in result.output


def test_without_clusters_each_command_says_so(run):
    """And what to do."""
    assert "mpicluster start" in run("list").output
    assert json.loads(run("list", "--json").output) == []
    for command in ("status", "stop"):
        result = run(command)
        assert result.exit_code == 1
        assert "is running under profile 'default'" in result.output
    assert "no logs" in run("logs").output
    assert run("stop", "--all").exit_code == 0
    assert "no cluster 'x'" in run("stop", "x").output


def test_a_stale_cluster_is_listed_and_removed(run, state):
    """Its hub's pid belongs to another now, who must not be touched."""
    write(hub_started="0")
    assert "stale" in run("list").output
    assert json.loads(run("list", "--json").output)[0]["state"] == "stale"
    result = run("stop")
    assert result.exit_code == 0
    assert "its hub was gone" in result.output
    assert list((state / "default").glob("*.json")) == []


def test_status_does_not_wait_for_a_stale_cluster(run):
    """It is known to be dead."""
    write(hub_started="0")
    assert "stale" in run("status").output


def test_several_clusters_want_a_name(run):
    """Nothing is stopped by guess."""
    write(cluster="a")
    write(cluster="b")
    result = run("stop")
    assert result.exit_code == 1
    assert "Name one, or say --all" in result.output


def test_logs_of_an_ended_cluster_are_shown(run, state):
    """The newest, or the one named."""
    for i, name in enumerate(("old", "new")):
        folder = state / "default" / "logs" / name
        folder.mkdir(parents=True)
        (folder / "hub.log").write_text(f"hub of {name}\nlast\n")
        os.utime(folder, (i, i))
    assert "hub of new" in run("logs").output
    assert "hub of old" in run("logs", "old").output
    assert "hub of" not in run("logs", "--lines", "1").output
    assert "last" in run("logs", "-f", "--lines", "1").output
    assert run("logs", "none").exit_code == 1
