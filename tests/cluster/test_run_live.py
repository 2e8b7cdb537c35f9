"""``mpicluster run``: a script with engines of its own, here and under mpiexec; its status, and what it hears before the end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import textwrap
import time

import pytest

import mpicluster
from mpicluster.launch import mpi
from mpicluster.wire.contact import write

needs_survivors = pytest.mark.skipif(not mpi.installation().library.ulfm, reason="this MPI has no world that survives a dead rank")

SLOW = """
import mpicluster, time
rc = mpicluster.Client()
print(len(rc), "engines", flush=True)
try:
    time.sleep(600)
except KeyboardInterrupt:
    time.sleep(0.5)  # it takes its time, in which nothing more disturbs it
    print("saved", rc[:].apply_sync(abs, -1), flush=True)
"""


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text)
        return str(path)

    return write


def test_its_client_finds_the_engines_and_its_status_is_that_of_the_command(home, script):
    path = script("import mpicluster, sys\nrc = mpicluster.Client()\nprint(len(rc), sys.argv[1:])\nsys.exit(len(rc) + 1)")
    done = home.run("run", "-n", "2", path, "--depth", "3")
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines() == ["2 ['--depth', '3']"]
    assert home.leftovers() == []


@pytest.mark.parametrize(
    ("number", "all_of_them"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGUSR2, True)], ids=["alone", "all", "USR2"]
)
def test_what_comes_before_the_end_is_keyboardinterrupt(home, script, number, all_of_them):
    """Some batch systems send it to one process of a job, others to all."""
    child = home.spawn(sys.executable, "-m", "mpicluster", "run", "-n", "2", "--grace", "20", script(SLOW))
    home.wait_for("2 engines", child)
    if all_of_them:
        os.killpg(child.pid, number)
    else:
        child.send_signal(number)
    assert child.wait(30) == 0, home.said()
    assert "saved [1, 1]" in home.said()
    assert home.leftovers() == []


def test_who_does_not_heed_it_is_ended(home, script):
    """After its time of grace; also a script that has lost the command that would tell it."""
    text = SLOW.replace("except KeyboardInterrupt:", "except KeyboardInterrupt:\n    time.sleep(600)")
    child = home.spawn(sys.executable, "-m", "mpicluster", "run", "-n", "1", "--grace", "0.2", script(text))
    home.wait_for("1 engines", child)
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 128 + signal.SIGKILL
    assert home.leftovers() == []


def test_a_script_that_is_alone_is_ended_by_sigterm_as_any_other(home, script):
    text = SLOW.replace('"engines"', '"engines", __import__("os").getpid()')
    child = home.spawn(sys.executable, "-m", "mpicluster", "run", "-n", "1", script(text))
    home.wait_for("1 engines", child)
    pid = int(home.said().partition("1 engines ")[2].split()[0])
    os.kill(pid, signal.SIGTERM)  # it is the command that is to hear
    time.sleep(0.1)
    assert pid in [p.pid for p in home.processes()]
    child.kill()
    child.wait(10)

    def gone():
        """Told again: Python hears of a signal that came to another thread when the main one wakes."""
        if pid not in [p.pid for p in home.processes()]:
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        return False

    home.eventually(gone, "its end")
    home.check_nothing_is_left()


def test_by_ones_own_mpiexec(home, script, mpiexec):
    *command, _ = mpiexec
    child = home.spawn(*command, "run", script("import mpicluster, sys\nprint(len(mpicluster.Client()), 'engines')\nsys.exit(5)"))
    assert child.wait(60) == 5, home.said()
    assert "2 engines" in home.said()


def test_a_script_that_ends_before_the_engines_are_there(home, script, mpiexec):
    *command, _ = mpiexec
    child = home.spawn(*command, "run", script("raise SystemExit(7)"))
    assert child.wait(60) == 7, home.said()
    assert "mpicluster" not in home.said()  # none of its parts complains; mpiexec may say that there was a status
    assert "Traceback" not in home.said()
    assert home.leftovers() == []


def test_a_script_that_stops_its_cluster_goes_on(home, script, mpiexec):
    """Longer than engines may take to end."""
    *command, _ = mpiexec
    text = "import mpicluster, sys, time\nmpicluster.Client().shutdown()\ntime.sleep(6)\nprint('saved')\nsys.exit(5)"
    child = home.spawn(*command, "run", script(text))
    assert child.wait(60) == 5, home.said()
    assert home.said() == "saved\n"


def test_an_id_that_is_taken(home, script, mpiexec, some_contact):
    """By a cluster that runs here: refused. By what one has left elsewhere: not taken for this one."""
    *command, _ = mpiexec
    write(some_contact(cluster="mine"))
    text = "import mpicluster, sys\nprint(len(mpicluster.Client()))\nsys.exit(5)"
    child = home.spawn(*command, "run", "--cluster", "mine", script(text))
    assert child.wait(60) == 5, home.said()
    assert home.said() == "2\n"
    with mpicluster.Cluster(1, cluster="mine") as rc:
        child = home.spawn(*command, "run", "--cluster", "mine", script(text))
        assert child.wait(60) != 0
        assert "a cluster 'mine' runs already under profile 'default'" in home.said()
        assert rc[:].apply_sync(abs, -1) == [1]


@needs_survivors
def test_a_script_goes_on_without_rank_0(home, script, mpiexec):
    launcher, *command, _ = mpiexec
    text = """
        import mpicluster, os, time
        rc = mpicluster.Client()
        os.kill(rc[0].apply_sync(os.getpid), 9)
        while len(rc) > 1:
            time.sleep(0.01)
        print(rc[:].apply_sync(abs, -1))
        print(rc[:].spmd_sync(lambda comm: comm.allreduce(1)), flush=True)
    """
    child = home.spawn(launcher, "--with-ft", "ulfm", *command, "run", script(textwrap.dedent(text)))
    child.wait(60)
    home.eventually(lambda: not home.leftovers(), "the end of the script, and of the cluster")
    assert "[1]\n[1]\n" in home.said()


def test_what_cannot_be_run(home):
    done = home.run("run", "-n", "1", "no_such_script.py")
    assert done.returncode == 2
    assert "there is no script no_such_script.py" in done.stderr
