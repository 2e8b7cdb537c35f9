"""A state folder of its own for each test, and the proof that nothing is left of its clusters."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mpicluster.launch import mpi, process

TIMEOUT = 60.0


class Home:
    """Where the clusters of one test live."""

    def __init__(self, path: Path) -> None:
        self.state = path / "state"
        self.sockets = path / "run"
        self.sockets.mkdir(mode=0o700)
        self.output = path / "output"
        self.children: list[subprocess.Popen[str]] = []

    def processes(self) -> list[process.Process]:
        """Everything that was started for this test and still runs."""
        return process.marked("MPICLUSTER_STATE_DIR", str(self.state))

    def contacts(self) -> list[Path]:
        return list(self.state.glob("*/*.json"))

    def leftovers(self) -> list[str]:
        found = [f"process {p.pid}: {' '.join(p.command())}" for p in self.processes()]
        return found + [str(p) for p in [*self.contacts(), *self.sockets.iterdir()]]

    def check_nothing_is_left(self, timeout: float = 15.0) -> None:
        deadline = time.monotonic() + timeout
        while left := self.leftovers():
            if time.monotonic() >= deadline:
                pytest.fail("left behind:\n" + "\n".join(left))
            time.sleep(0.02)

    @staticmethod
    def eventually(condition: Callable[[], Any], what: str, timeout: float = TIMEOUT) -> Any:
        """Wait for something that other processes do."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() >= deadline:
                pytest.fail(f"not within {timeout:g} s: {what}")
            time.sleep(0.01)
        return value

    def run(self, *args: str, timeout: float = TIMEOUT) -> subprocess.CompletedProcess[str]:
        """``mpicluster ...`` to its end."""
        return subprocess.run([sys.executable, "-m", "mpicluster", *args], capture_output=True, text=True, timeout=timeout, check=False)

    def spawn(self, *argv: str) -> subprocess.Popen[str]:
        """A command beside the test; its output goes to a file."""
        with self.output.open("ab") as out:
            child = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, text=True, start_new_session=True)
        self.children.append(child)
        return child

    def said(self) -> str:
        """What the spawned commands have printed."""
        return self.output.read_text() if self.output.exists() else ""

    def wait_for(self, text: str, child: subprocess.Popen[str]) -> None:
        """Until a spawned command has printed something."""

        def printed() -> bool:
            if text in self.said():
                return True
            if child.poll() is not None and text not in self.said():
                pytest.fail(f"ended with {child.returncode} before it said {text!r}:\n{self.said()}")
            return False

        self.eventually(printed, f"output {text!r}")

    def clear(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        for stray in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(stray.pid, signal.SIGKILL)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """After the test nothing may be left: no process, no contact file, no socket."""
    home = Home(tmp_path)
    monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(home.state))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home.sockets))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))  # what a killed mpiexec leaves is in nobody's way
    try:
        yield home
        home.check_nothing_is_left()
    finally:
        home.clear()


@pytest.fixture
def mpiexec(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line by which a person starts two engines, without any help of `mpicluster start`."""
    chosen = mpi.installation()
    if os.geteuid() == 0:
        monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
        monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    return [chosen.launcher.path, "-n", "2", sys.executable, "-m", "mpicluster", "engine"]


@pytest.fixture
def fake_mpiexec(tmp_path: Path) -> Callable[[str], str]:
    """An mpiexec of the right kind that does something else than to start ranks."""

    def make(body: str) -> str:
        path = tmp_path / "mpiexec"
        version = process.run([mpi.installation().launcher.path, "--version"]).stdout
        (tmp_path / "version").write_text(version)
        path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then cat {tmp_path}/version; exit; fi\n{body}\n')
        path.chmod(0o755)
        return str(path)

    return make
