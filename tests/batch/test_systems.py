"""What systems are told and answer: submitted, waiting, running, ended, failed, cancelled, refused, slow.

By stand-ins for their commands; Slurm itself is tried in its own folder.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from mpicluster.batch import jobs
from mpicluster.batch import system as system_module
from mpicluster.batch.slurm import _status
from mpicluster.batch.system import ENDED, FAILED, PENDING, RUNNING, Status, Unknown
from mpicluster.errors import LaunchError

COMMANDS = {
    "pbs": ("qsub", "qstat", "qdel"),
    "lsf": ("bsub", "bjobs", "bkill"),
    "sge": ("qsub", "qstat", "qdel", "qacct"),
    "htcondor": ("condor_submit", "condor_q", "condor_history", "condor_rm"),
    "local": (),
}
TIMEOUT = 30


class Site:
    """A system at hand, with a Python that does in a job what a test wants."""

    def __init__(self, name, path, monkeypatch):
        self.name, self.path = name, path
        (path / "bin").mkdir()
        for command in COMMANDS[name]:
            (path / "bin" / command).symlink_to(Path(__file__).parent / "standin.py")
        self.python = path / "python"
        self.does(f"while [ ! -e {path}/go ]; do sleep 0.02; done; echo $@; exit $(cat {path}/go)")
        monkeypatch.setenv("PATH", f"{path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("STANDIN", str(path))
        monkeypatch.setenv("STANDIN_SYSTEM", name)
        monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(path / "state"))
        monkeypatch.chdir(path)

    def does(self, script):
        self.python.write_text(f"#!/bin/sh\n{script}\n")
        self.python.chmod(0o755)

    def submit(self, **options):
        return jobs.submit(self.name, jobs.request(n=4, python=str(self.python), **options))

    def end(self, code=0):
        (self.path / "go.new").write_text(str(code))
        (self.path / "go.new").rename(self.path / "go")


@pytest.fixture(params=list(COMMANDS))
def site(request, tmp_path, monkeypatch):
    standin = Path(__file__).parent / "standin.py"
    first = f"#!{sys.executable}\n"
    site = Site(request.param, tmp_path, monkeypatch)
    if COMMANDS[site.name]:
        runnable = tmp_path / "standin.py"
        runnable.write_text(first + standin.read_text())
        runnable.chmod(0o755)
        for command in COMMANDS[site.name]:
            (tmp_path / "bin" / command).unlink()
            (tmp_path / "bin" / command).symlink_to(runnable)
    yield site
    site.end()  # whatever still waits
    deadline = time.monotonic() + TIMEOUT
    while left := [p for p in tmp_path.glob("job-*") if not (p / "over").exists()]:
        (tmp_path / "hold").unlink(missing_ok=True)
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def become(record, state):
    deadline = time.monotonic() + TIMEOUT
    while (status := record.status()).state != state:
        assert time.monotonic() < deadline, status
        time.sleep(0.02)
    return status


def test_from_submission_to_end(site):
    if site.name != "local":
        (site.path / "hold").touch()
    record = site.submit()
    if site.name != "local":
        waits = become(record, PENDING)
        assert ("ncpus" in waits.reason) == (site.name == "pbs")
        (site.path / "hold").unlink()
    assert become(record, RUNNING) == Status(RUNNING)
    site.end()
    assert become(record, ENDED) == Status(ENDED)
    assert jobs.records("default") == [record]
    assert Path(record.log).read_text().split()[:5] == ["-m", "mpicluster", "start", "-n", "4"]
    assert f"--cluster {record.cluster}" in Path(record.log).read_text()
    assert "The last lines of" in record.story()


def test_a_job_that_fails(site):
    record = site.submit()
    become(record, RUNNING)
    site.end(3)
    assert become(record, FAILED) == Status(FAILED, "it exited with 3", 3)
    assert "job" in str(jobs.Watch(record).failure("the engines did not come"))


def test_a_job_that_is_cancelled(site):
    record = site.submit()
    become(record, RUNNING)
    record.cancel()
    assert become(record, ENDED) == Status(ENDED, "it was cancelled")
    record.cancel()  # once more is no error


def test_a_job_that_is_cancelled_before_it_runs(site):
    if site.name == "local":
        return  # it never waits
    (site.path / "hold").touch()
    record = site.submit()
    become(record, PENDING)
    record.cancel()
    assert "cancelled" in become(record, ENDED).reason


def test_a_submission_that_is_refused(site):
    if site.name == "local":
        return  # nobody refuses
    (site.path / "refuse").write_text("Job violates accounting policy")
    with pytest.raises(LaunchError, match=r"did not take the job:\n    Job violates accounting policy\nThe script is .*\.sh\.$"):
        site.submit()
    assert jobs.records("default") == []


def test_a_submission_that_is_taken_with_a_warning(site):
    """As Grid Engine says it: an error in all but its last words."""
    if site.name != "sge":
        return
    (site.path / "warn").write_text("root's job is not allowed to run in any queue")
    record = site.submit()
    become(record, RUNNING)
    site.end()
    become(record, ENDED)


def test_a_system_that_is_not_here(site, monkeypatch):
    if site.name == "local":
        return
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LaunchError, match=r"did not take the job:\n    .*No such file"):
        site.submit()


def test_slow_answers_and_none(site, monkeypatch):
    """What was known stays known for a while."""
    if site.name == "local":
        return
    record = site.submit()
    watch = jobs.Watch(record)
    become(record, RUNNING)
    assert watch.status() == Status(RUNNING)
    (site.path / "forgotten").touch()
    with pytest.raises(Unknown):
        record.status()
    assert watch.status(fresh=True) == Status(RUNNING)
    monkeypatch.setattr(jobs, "_UNKNOWN_FOR", 0.0)
    assert watch.status(fresh=True).state == FAILED
    assert "does not know it any more" in watch.status().reason
    (site.path / "forgotten").unlink()
    (site.path / "slow").write_text("5")
    monkeypatch.setattr(system_module, "_PATIENCE", 0.1)
    with pytest.raises(Unknown, match="did not end within"):
        record.status()
    (site.path / "slow").unlink()


def test_a_system_is_not_asked_too_often(site, monkeypatch):
    record = site.submit()
    asked = []
    monkeypatch.setattr(jobs.Record, "status", lambda _: (asked.append(1), Status(RUNNING))[1])
    watch = jobs.Watch(record)
    for _ in range(1000):
        assert watch.status().state == RUNNING
    assert len(asked) == 1


@pytest.mark.parametrize(("words", "expected"), [
    (("PENDING", "Resources", "0:0"), Status(PENDING, "Resources")),
    (("PENDING", "None", "0:0"), Status(PENDING)),
    (("CONFIGURING", "None", "0:0"), Status(PENDING)),
    (("RUNNING", "None", "0:0"), Status(RUNNING)),
    (("COMPLETING", "None", "0:0"), Status(RUNNING)),
    (("COMPLETED", "None", "0:0"), Status(ENDED)),
    (("CANCELLED", "None", "0:15"), Status(ENDED, "it was cancelled")),
    (("FAILED", "NonZeroExitCode", "3:0"), Status(FAILED, "it exited with 3", 3)),
    (("FAILED", "None", "0:9"), Status(FAILED, "it was ended by signal 9")),
    (("TIMEOUT", "TimeLimit", "0:0"), Status(FAILED, "it reached its time limit")),
    (("NODE_FAIL", "NodeDown", "0:0"), Status(FAILED, "a node failed")),
    (("OUT_OF_MEMORY", "OutOfMemory", "0:125"), Status(FAILED, "it ran out of memory")),
    (("LAUNCH_FAILED", "JobLaunchFailure", "0:0"), Status(FAILED, "JobLaunchFailure")),
])  # fmt: skip
def test_words_of_slurm(words, expected):
    assert _status(*words) == expected


def test_a_word_that_slurm_has_not():
    with pytest.raises(Unknown, match="no job state 'DREAMING'"):
        _status("DREAMING", "", "")
