"""What all batch systems have in common. A system knows its own words; commands are run, and files read, here."""

from __future__ import annotations

import re
import shlex
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from mpicluster.batch.request import Request
from mpicluster.batch.template import filled
from mpicluster.config import LAST_WORDS
from mpicluster.errors import LaunchError
from mpicluster.launch import process

__all__ = ["ENDED", "FAILED", "PENDING", "RUNNING", "Job", "Status", "System", "Unknown", "exited", "told_to_end"]

PENDING, RUNNING, ENDED, FAILED = "pending", "running", "ended", "failed"
#: What needs no quotes in a directive.
_PLAIN = re.compile(r"[\w@%+=:,./^\[\]-]+")
#: Seconds that a command of a batch system may take: some are slow, and none is worth waiting for without an end.
_PATIENCE = 60.0


class Job(NamedTuple):
    """A job that was submitted."""

    #: the system's name for it
    id: str
    #: what was submitted
    script: Path


class Status(NamedTuple):
    """How a job is."""

    state: str
    #: why it waits, or failed, in the system's words or better ones
    reason: str = ""
    #: exit status of its script, if it failed by one
    code: int | None = None
    #: whether it is still in the queue, though it cannot go on as it is: somebody may release it, or cancel it
    stays: bool = False

    @property
    def stands(self) -> bool:
        """Whether nothing more becomes of it by itself."""
        return self.state in (ENDED, FAILED)

    @property
    def over(self) -> bool:
        """Whether nothing more will become of it."""
        return self.stands and not self.stays

    def __str__(self) -> str:
        return f"{self.state} ({self.reason})" if self.reason else self.state


class Unknown(Exception):
    """The system did not answer, or not in words that are known: how the job is, nobody can say now."""


def told_to_end(code: int) -> bool:
    """Whether a script with this exit status, mpicluster's or one that it ran, has heard a signal, and come to its end."""
    return code - 128 in (signal.SIGINT, *LAST_WORDS)


def exited(code: int) -> Status:
    """Of a job whose script has ended with this status."""
    if code == 0:
        return Status(ENDED)
    why = "it was told to end: its time was over, or somebody ended it" if told_to_end(code) else f"it exited with {code}"
    return Status(FAILED, why, code)


class System(ABC):
    """One kind of batch system."""

    #: as users call it, and its template
    name: ClassVar[str]
    file: ClassVar[str]
    #: what directives begin with
    prefix: ClassVar[str]
    #: of a `Request`, what this system has no word for, and what to do instead
    refused: ClassVar[Mapping[str, str]] = {}
    #: of a `Request`, what a value must not have (a regular expression), and how that is said
    unspeakable: ClassVar[Mapping[str, tuple[str, str]]] = {}
    #: a cluster's id, made of the job's, in the words of the template's language
    named: ClassVar[str]
    #: the command that submits
    submitter: ClassVar[str]

    # -- scripts

    def script(self, template: str, request: Request) -> str:
        """A template, filled in.

        Raises
        ------
        ValueError
            this system cannot do what is asked.
        """
        for what, instead in self.refused.items():
            if getattr(request, what) not in (None, ()):
                raise ValueError(f"--{what.replace('_', '-')} means nothing to {self.name}: {instead}")
        for what, (pattern, must) in self.unspeakable.items():
            value = getattr(request, what)
            if value is not None and re.search(pattern, value):
                raise ValueError(f"{what.replace('_', '-')} {value!r} cannot be said to {self.name}: it {must}")
        return filled(template, self.prefix, self.directives(request), request.extra, self.variables(request))

    def value(self, value: object) -> str:
        """A value as it stands in a directive: in quotes if it has to be.

        Raises
        ------
        ValueError
            it has quotes itself.
        """
        text = str(value)
        if _PLAIN.fullmatch(text):
            return text
        if re.search(r'["\\`\n]', text) or not text:
            raise ValueError(f"{text!r} cannot be said in a directive of {self.name}: it is empty, or has quotes or backslashes")
        return f'"{text}"'

    def said(self, values: Mapping[str, object]) -> dict[str, str]:
        """Directives, by what they begin with, of those that have a value."""
        return {option: f"{option}{self.value(value)}" for option, value in values.items() if value is not None}

    @abstractmethod
    def directives(self, request: Request) -> dict[str, str]:
        """Lines, without the prefix, by what they begin with."""

    def variables(self, request: Request) -> dict[str, str]:
        """The shell's variables."""
        values = {}
        if request.env_script is not None:
            values["ENV_SCRIPT="] = shlex.quote(request.env_script)
        if request.python is not None:
            exports = "".join(f"{name}={shlex.quote(value)} " for name, value in request.environment)
            values["PYTHON="] = shlex.quote(request.python) + (f"\nexport {exports.rstrip()}" if exports else "")
        if request.words:
            values["MPICLUSTER="] = f"({shlex.join(request.words)})"
        if request.profile is not None:
            cluster = shlex.quote(request.cluster) if request.cluster is not None else f'"{self.named}"'
            values["NAME="] = f"(--profile {shlex.quote(request.profile)} --cluster {cluster})"
        return values

    # -- jobs

    def submit(self, path: Path, cwd: Path, log: Path) -> Job:
        """Submit a script from a folder. ``log``: where it will print, as the script says too.

        Raises
        ------
        LaunchError
            it was refused, or there is no such system here; in its words.
        """
        said = self._run(self.submission(path), cwd=cwd)
        found = self.parse_submission(said.stdout) if said.code == 0 else self.taken_all_the_same(said.stdout + said.stderr)
        if found is None:
            words = "\n    ".join((said.stderr.strip() or said.stdout.strip() or f"it ended with {said.code}").splitlines())
            raise LaunchError(f"{self.submitter} did not take the job:\n    {words}\nThe script is {path}.")
        return Job(found, path)

    def submission(self, path: Path) -> list[str]:
        """The command that submits a script."""
        return [self.submitter, str(path)]

    def taken_all_the_same(self, text: str) -> str | None:
        """The job's id, if the command failed, and yet says that it took the job."""
        return None

    @abstractmethod
    def parse_submission(self, text: str) -> str | None:
        """The job's id, from what the command printed; None if there is none."""

    @abstractmethod
    def status(self, job: Job) -> Status:
        """How a job is.

        Raises
        ------
        Unknown
            that cannot be known now.
        """

    @abstractmethod
    def cancellation(self, job: Job) -> list[str]:
        """The command that cancels a job."""

    def cancel(self, job: Job) -> None:
        """Cancel a job; one that has ended already is none to complain about.

        Raises
        ------
        LaunchError
            it could not be, and runs.
        """
        said = self._run(self.cancellation(job))
        if said.code == 0:
            return
        try:
            if self.status(job).over:
                return
        except Unknown:
            pass
        raise LaunchError(f"job {job.id} could not be cancelled: {said.stderr.strip() or said.stdout.strip() or said.code}")

    def _run(self, argv: Sequence[str], cwd: Path | None = None) -> process.Output:
        return process.run(argv, timeout=_PATIENCE, cwd=cwd)

    def _ask(self, argv: Sequence[str]) -> str:
        """What a command prints.

        Raises
        ------
        Unknown
            it failed, or did not answer in time.
        """
        said = self._run(argv)
        if said.code != 0:
            raise Unknown(said.stderr.strip() or said.stdout.strip() or f"{argv[0]} ended with {said.code}")
        return said.stdout
