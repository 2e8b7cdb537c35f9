"""From a laptop: a real sshd on the login node, engines in a job of a real Slurm, and connections that drop."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest
from test_jobs import submitted

from mpicluster.launch import process

pytestmark = pytest.mark.parametrize("minislurm", ["hosts"], indirect=True)

CLIENT = """
import os, signal, sys, time
import mpicluster

def task(i):
    import time
    time.sleep(0.05)
    return i * i

with mpicluster.Client(ARGUMENTS) as rc:
    print(len(rc), rc[:].spmd_sync(lambda comm: comm.allreduce(comm.rank)), flush=True)
    result = rc.load_balanced_view().map_async(task, range(100), chunksize=1)
    DROP
    print(result.get(60) == [i * i for i in range(100)], flush=True)
    import numpy as np
    a = np.arange(1e6)
    print(float(rc.xp.sum(rc.xp.asarray(a))) == a.sum())
print("closed")
"""


class Laptop:
    def __init__(self, site):
        self.words, self.environment = site.laptop()
        self.folder = site.path / "laptop"
        self.site = site

    def run(self, *argv, timeout=90):
        return subprocess.run(
            [*self.words, *map(str, argv)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def start(self, *argv):
        log = (self.folder / "log").open("w")
        with log:
            return subprocess.Popen(
                [*self.words, *map(str, argv)], env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def log(self):
        return (self.folder / "log").read_text()

    def client(self, arguments, drop):
        (self.folder / "client.py").write_text(CLIENT.replace("ARGUMENTS", arguments).replace("DROP", drop))
        return self.run(sys.executable, "client.py")


def tunnel(pid):
    """The ssh that a process has started."""
    (found,) = (p.pid for p in process.descendants(pid) if p.name == "ssh")
    return found


@pytest.fixture
def laptop(site):
    return Laptop(site)


@pytest.fixture
def job(site):
    said = site.mpicluster("submit", "slurm", "-n", "4", "--nodes", "2", "--time", "5m", "--wait")
    yield submitted(said)
    site.mpicluster("stop", submitted(said)[1])


def test_a_client_by_ssh(laptop, job):
    """Its ssh is killed meanwhile: it starts another, and nothing is lost."""
    said = laptop.client("ssh='head'", "os.kill(rc._tunnel._session._child.pid, signal.SIGKILL)")
    assert said.stdout == "4 [6, 6, 6, 6]\nTrue\nTrue\nclosed\n", said.stderr
    assert said.stderr == ""


def test_connect(laptop, job, site):
    """`mpicluster connect` stays, and `Client()` finds the cluster; a tunnel that drops is opened again."""
    _, cluster = job
    there = laptop.start(sys.executable, "-m", "mpicluster", "connect", "head")
    try:
        site.until(lambda: "Ctrl-C" in laptop.log(), "it is connected")
        assert f"Cluster {cluster}, 4 engines on n1, is reached through head." in laptop.log() or not site.slurm.hosts
        assert f"mpicluster.Client(cluster={cluster!r})" in laptop.log()
        said = laptop.client("", f"os.kill({tunnel(there.pid)}, signal.SIGKILL)")
        assert said.stdout == "4 [6, 6, 6, 6]\nTrue\nTrue\nclosed\n", said.stderr
        assert "dropped; trying again" in laptop.log()
        assert "It is back." in laptop.log()
        assert cluster in laptop.run(sys.executable, "-m", "mpicluster", "list").stdout
    finally:
        there.send_signal(signal.SIGINT)
        assert there.wait(30) == 0, laptop.log()
    assert laptop.log().endswith("Closed.\n")
    assert not list((laptop.folder / "state").glob("*/*.json"))
    assert laptop.run(sys.executable, "-m", "mpicluster", "list").returncode == 0


def test_what_cannot_be_reached_says_so(laptop, site):
    said = laptop.run(sys.executable, "-m", "mpicluster", "connect", "head")
    assert said.returncode == 1
    assert said.stderr == "Error: there is no cluster under profile 'default' on head\n"
    said = laptop.run(sys.executable, "-m", "mpicluster", "connect", "nowhere.invalid")
    assert said.returncode == 1
    assert re.search("Error: ssh nowhere.invalid: .*nowhere.invalid", said.stderr)


def test_a_cluster_that_ends_ends_the_connection(laptop, job, site):
    there = laptop.start(sys.executable, "-m", "mpicluster", "connect", "head", "--cluster", job[1])
    try:
        site.until(lambda: "Ctrl-C" in laptop.log(), "it is connected")
        said = laptop.client("", "rc.shutdown(); sys.exit(0)")
        assert said.returncode == 0, said.stderr
        assert laptop.client("timeout=1", "").returncode != 0
    finally:
        there.send_signal(signal.SIGINT)
        assert there.wait(30) == 0
