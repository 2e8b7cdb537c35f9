"""No batch system: a job is a process of this machine, in the background, that outlives who submitted it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from mpicluster.batch.request import Request
from mpicluster.batch.system import ENDED, FAILED, RUNNING, Job, Status, System
from mpicluster.errors import LaunchError
from mpicluster.launch import process

__all__ = ["Local"]

#: runs the rest of its words, and leaves how that ended in ``$0``; a signal is for the job, not for this
_KEEPER = 'trap : TERM INT HUP; "$@"; echo $? > "$0"'
#: What a shell makes of SIGTERM.
_CANCELLED = 128 + signal.SIGTERM
#: A job is told to end again and again, for so many seconds: then it has heard, and takes its time.
_AGAIN, _INSISTENCE = 0.2, 3.0


class Local(System):
    """This machine."""

    name = "local"
    file = "local.sh"
    prefix = "#LOCAL"
    named = "local-$$"
    submitter = "bash"
    refused = {
        "partition": "this machine has no queues",
        "account": "this machine has no accounts",
        "qos": "this machine has none",
        "mem": "memory is not divided here",
        "gpus": "accelerators are not divided here",
        "extra": "there are no directives",
    }

    def directives(self, request: Request) -> dict[str, str]:
        if request.nodes not in (None, 1):
            raise ValueError("this machine is one node; `mpicluster start --host a:2,b:2` starts engines on several by ssh")
        return {}

    def variables(self, request: Request) -> dict[str, str]:
        values = super().variables(request)
        if request.n is not None:
            values["ENGINES="] = str(request.n)
        if request.time is not None:
            values["WALLTIME="] = str(request.time)
        return values

    def submit(self, path: Path, cwd: Path, log: Path) -> Job:
        try:
            started = process.Job(
                ["/bin/sh", "-c", _KEEPER, str(self._outcome(path)), "bash", str(path)], env=os.environ, log=log, cwd=str(cwd)
            )
        except OSError as e:
            raise LaunchError(f"{path} could not be started: {e}") from e
        started.detach()
        return Job(str(started.pid), path)

    @staticmethod
    def _outcome(script: Path) -> Path:
        return script.with_suffix(".status")

    def parse_submission(self, text: str) -> str | None:
        return text.strip() or None

    def status(self, job: Job) -> Status:
        keeper = self._keeper(job)
        try:
            code = int(self._outcome(job.script).read_text())
        except (FileNotFoundError, ValueError):
            return Status(RUNNING) if keeper is not None else Status(FAILED, "it was killed")
        if code == 0:
            return Status(ENDED)
        if code == _CANCELLED:
            return Status(ENDED, "it was cancelled")
        if code == 124:
            return Status(FAILED, "it reached its time limit")
        return Status(FAILED, f"it was ended by signal {code - 128}" if code > 128 else f"it exited with {code}", code)

    def _keeper(self, job: Job) -> process.Process | None:
        """Its process; a pid alone may have been given to another."""
        found = process.find(int(job.id))
        words = found.command() if found is not None else []  # none in the first moment
        return found if not words or str(job.script) in words else None

    def cancellation(self, job: Job) -> list[str]:
        return ["kill", "-s", "TERM", "--", f"-{job.id}"]

    def cancel(self, job: Job) -> None:
        deadline = time.monotonic() + _INSISTENCE
        while self._keeper(job) is not None and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(job.id), signal.SIGTERM)  # which a shell that is just about to become the job may swallow
            time.sleep(_AGAIN)
        if self._keeper(job) is None and not self._outcome(job.script).exists():
            self._outcome(job.script).write_text(str(_CANCELLED))  # it had not even begun
