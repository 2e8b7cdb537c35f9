"""``mpicluster submit local``: a job of this machine from its submission to its end, with real engines."""

from __future__ import annotations

import json

import pytest

import mpicluster


def jobs(home):
    return json.loads(home.run("jobs", "--json").stdout)


def submitted(home, *options):
    done = home.run("submit", "local", "-n", "1", "--wait", "--log", str(home.output.parent / "job.log"), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 engines are there." in done.stdout
    return jobs(home)[0]["job"]


def test_a_job_that_is_cancelled_before_its_time(home):
    job = submitted(home, "--time", "10m")
    with mpicluster.Client() as rc:
        assert rc.ids == [0]
    assert f"Cancelled job {job} (local)" in home.run("cancel").stdout
    home.eventually(lambda: jobs(home)[0]["state"] == "ended", "the end of the job")
    assert jobs(home)[0]["reason"] == "it was cancelled"
    home.check_nothing_is_left()


def test_a_job_whose_time_is_over(home):
    submitted(home, "--time", "20s")
    home.eventually(lambda: jobs(home)[0]["state"] == "failed", "the end of the job")
    assert jobs(home)[0]["reason"] == "it reached its time limit"
    assert "Stopping (SIGTERM)" in (home.output.parent / "job.log").read_text()
    home.check_nothing_is_left()


def test_what_a_cluster_of_a_batch_system_must_be_told():
    with pytest.raises(ValueError, match="how many engines"):
        mpicluster.Cluster(launcher="local")
    with pytest.raises(ValueError, match="hosts= is for engines that are started here"):
        mpicluster.Cluster(2, launcher="local", hosts="a:2")
