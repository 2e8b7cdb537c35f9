"""The hub's process, a child of rank 0. It outlives rank 0, so that survivors can go on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mpicluster import config
from mpicluster.errors import LaunchError

__all__ = ["HubProcess"]


class HubProcess:
    """A hub that is starting. ``orders`` is its first line of input; it answers with one line."""

    def __init__(self, orders: bytes, log: Path, environment: Mapping[str, str]) -> None:
        with log.open("ab") as f:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mpicluster.hub"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=f,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C at a terminal is not for it
            )
        self._log = log
        assert self._process.stdin is not None
        self._process.stdin.write(orders + b"\n")
        self._process.stdin.flush()  # and stays open: its end tells the hub that rank 0 has ended

    def answer(self) -> bytes:
        """Where it listens.

        Raises
        ------
        LaunchError
            it ended before it said so.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LaunchError(f"the hub ended at its start; its log is {self._log}:\n{self._log.read_text()[-2000:]}")
        return line

    def abandon(self) -> None:
        """End it: the cluster will not be. It sees that rank 0 has gone, and takes its sockets away."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(config.STOP_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
