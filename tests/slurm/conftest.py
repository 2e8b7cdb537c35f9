"""A Slurm of two nodes, shared by the tests of this folder, with a state folder for each test, and the proof that nothing is left."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from minislurm import MiniSlurm, can_make_hosts, install

from mpicluster.launch import process

TIMEOUT = 90


@pytest.fixture(scope="session", params=["loopback", "hosts"])
def minislurm(request):
    if os.geteuid() != 0:
        pytest.fail("Slurm's daemons, as these tests start them, need root")
    install()
    hosts = request.param == "hosts" and can_make_hosts()  # what is tested holds on one host, too
    with MiniSlurm(nodes=2, cpus=2, hosts=hosts) as slurm:
        yield slurm


class Site:
    """What a user of the login node has."""

    def __init__(self, slurm, path, monkeypatch):
        self.slurm, self.path = slurm, path
        self.state = path / "state"
        self._environment = {"MPICLUSTER_STATE_DIR": str(self.state), "PYTHONUNBUFFERED": "1"}
        for name, value in {**self._environment, "SLURM_CONF": slurm.env["SLURM_CONF"], "PATH": slurm.env["PATH"]}.items():
            monkeypatch.setenv(name, value)
        slurm.env.update(self._environment)

    def run(self, *argv, timeout=TIMEOUT):
        """A command on the login node."""
        return self.slurm.run(*argv, cwd=self.path, timeout=timeout)

    def mpicluster(self, *argv, timeout=TIMEOUT):
        """``mpicluster ...`` there."""
        return self.run(sys.executable, "-m", "mpicluster", *argv, timeout=timeout)

    def python(self, code, timeout=TIMEOUT):
        """A Python script there."""
        (self.path / "client.py").write_text(code)
        return self.run(sys.executable, "client.py", timeout=timeout)

    def laptop(self):
        """A host from which there is nothing but ``ssh head``: words before a command, and its environment."""
        home = self.path / "laptop"
        home.mkdir()
        path = f"{self.slurm.ssh(home, self.state)}:{os.environ['PATH']}"
        host = "laptop" if self.slurm.hosts else "head"
        return self.slurm.at(host, home), {**self.slurm.env, "PATH": path, "MPICLUSTER_STATE_DIR": str(home / "state"), "HOME": str(home)}

    def script(self, code):
        """A script for a job."""
        path = self.path / "job.py"
        path.write_text(code)
        return path

    def job(self, number):
        """What Slurm says of a job, by its words."""
        said = self.run("scontrol", "-o", "show", "job", str(number)).stdout
        return dict(word.split("=", 1) for word in said.split() if "=" in word)

    def until(self, condition, what, timeout=TIMEOUT):
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
            time.sleep(0.05)
        return value


@pytest.fixture
def site(minislurm, tmp_path, monkeypatch):
    site = Site(minislurm, tmp_path, monkeypatch)
    yield site
    minislurm.clear()
    left = lambda: [*process.marked("MPICLUSTER_STATE_DIR", str(site.state)), *site.state.glob("*/*.json")]  # noqa: E731
    site.until(lambda: not left(), "nothing is left", 20)


def pytest_configure():
    sys.path.insert(0, str(Path(__file__).parent))
