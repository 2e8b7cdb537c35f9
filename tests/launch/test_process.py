"""Start a command, watch it, end it with all that it started."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from mpicluster.launch import process
from mpicluster.launch.process import Job


def eventually(condition, timeout=10.0):
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)
    return value


@pytest.fixture
def start(tmp_path):
    jobs = []

    def start(script, **options):
        job = Job(["/bin/sh", "-c", script], env=dict(os.environ), log=tmp_path / f"{len(jobs)}.log", **options)
        jobs.append(job)
        return job

    yield start
    for job in jobs:
        job.end(grace=0.0)


def test_a_process_is_known_by_pid_and_start():
    """This one, and none of a pid that nobody has."""
    me = process.find(os.getpid())
    assert me is not None
    assert me.parent == os.getppid()
    assert me.is_alive()
    assert process.find(2**22 + 1) is None


def test_a_process_that_ended_and_was_not_collected_counts_as_gone():
    """A zombie is not alive."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    eventually(lambda: process.find(pid) is None)
    os.waitpid(pid, 0)


def test_the_output_is_in_the_log(start):
    """Both streams, in order."""
    job = start("echo one; echo two >&2")
    assert job.wait(10)
    assert process.tail(job.log) == ["one", "two"]
    assert process.tail(job.log, 1) == ["two"]
    assert job.code() == 0


def test_tail_of_nothing_is_nothing(tmp_path):
    """No file, and no lines asked for."""
    assert process.tail(tmp_path / "none") == []
    assert process.tail(__file__, 0) == []


def test_the_command_runs_in_a_session_of_its_own(start):
    """So that Ctrl-C in a terminal does not reach it."""
    job = start("sleep 60")
    found = eventually(lambda: process.find(job.pid))
    assert found.session == job.pid != os.getsid(0)


def test_ending_takes_children_along(start):
    """Also those that would have survived their parent."""
    job = start("sleep 60 & echo $!; sleep 60")
    child = process.find(int(eventually(lambda: process.tail(job.log))[0]))
    assert child.pid in [p.pid for p in job.members()]
    assert job.end(grace=2.0) == []
    assert not child.is_alive()
    assert not job.is_running()


def test_a_command_that_ignores_sigterm_is_killed(start):
    """After the grace, not before."""
    job = start("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: process.tail(job.log))
    began = time.monotonic()
    assert job.end(grace=0.3) == []
    assert time.monotonic() - began >= 0.3
    assert job.code() == -signal.SIGKILL


def test_descendants_that_left_the_session_are_found_by_their_mark(start):
    """MPICH's ranks have sessions of their own; when mpiexec was killed nothing else leads to them."""
    code = "import os, time; print(os.getpid(), flush=True); os.setsid(); time.sleep(60)"
    job = start(f'{sys.executable} -c "{code}" & wait', mark=("MPICLUSTER_TEST_MARK", str(os.getpid())))
    stray = process.find(int(eventually(lambda: process.tail(job.log))[0]))
    eventually(lambda: process.find(stray.pid).session == stray.pid)
    os.kill(job.pid, signal.SIGKILL)
    assert job.wait(10)
    assert stray.pid in [p.pid for p in job.members()]
    assert job.end(grace=1.0) == []
    assert not stray.is_alive()


def test_ending_twice_does_nothing(start):
    """And ending what has ended by itself neither."""
    job = start("true")
    job.wait(10)
    assert job.end(grace=1.0) == []
    assert job.end(grace=1.0) == []


def test_a_reused_pid_is_not_signalled(start):
    """The start time tells that it is another process."""
    job = start("sleep 60")
    real = eventually(lambda: process.find(job.pid))
    earlier = process.Process(pid=real.pid, started="1", parent=1, session=1, name="x")
    assert process.end([earlier], grace=0.0) == []
    assert real.is_alive()


def test_family_ties_are_seen(start):
    """Upwards and downwards."""
    job = start("sleep 60 & echo $!; wait")
    child = int(eventually(lambda: process.tail(job.log))[0])
    assert child in [p.pid for p in process.descendants(os.getpid())]
    assert [p.pid for p in process.ancestors(child)][:2] == [job.pid, os.getpid()]


def test_a_short_command_answers_whatever_happens():
    """Output, a missing program, and one that does not end."""
    assert process.run(["/bin/echo", "hi"]).stdout == "hi\n"
    missing = process.run(["/no/such/program"])
    assert missing.code is None
    assert "/no/such/program" in missing.stderr
    slow = process.run(["/bin/sh", "-c", "sleep 60"], timeout=0.2)
    assert slow.code is None
    assert "did not end" in slow.stderr


def test_a_detached_job_is_left_alone(start):
    """It outlives the object that started it, without a complaint."""
    job = start("sleep 60")
    found = eventually(lambda: process.find(job.pid))
    job.detach()
    assert found.is_alive()
    assert process.end([found], grace=1.0) == []
    os.waitpid(job.pid, 0)
