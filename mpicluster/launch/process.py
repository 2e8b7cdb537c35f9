"""Start a command, watch it, end it with everything that it started; read what the kernel says of processes of this host.

A process is named by its pid *and* the time at which it started: a pid alone may have been given to another.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Child",
    "Forked",
    "Job",
    "Kept",
    "Output",
    "Process",
    "ancestors",
    "descendants",
    "end",
    "find",
    "last_lines",
    "marked",
    "processes",
    "run",
    "tail",
]

_POLL = 0.01
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class Process:
    """A process of this host at the moment it was looked at."""

    pid: int
    #: in the kernel's own words, as in ``Contact.hub_started``
    started: str
    parent: int
    session: int
    #: name of the program, cut at 15 characters by the kernel
    name: str

    def is_alive(self) -> bool:
        """Whether it still runs: the same process, not another one of the same pid."""
        now = find(self.pid)
        return now is not None and now.started == self.started

    def command(self) -> list[str]:
        """Its command line; empty when it is gone or not ours to read."""
        try:
            return [os.fsdecode(a) for a in Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0") if a]
        except OSError:
            return []

    def program(self) -> str:
        """Path of its executable; empty when it is gone or not ours to read."""
        try:
            return str(Path(f"/proc/{self.pid}/exe").readlink())
        except OSError:
            return ""


def find(pid: int) -> Process | None:
    """The process of a pid, or None when there is none or it has ended and only waits to be collected."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    before, _, after = text.rpartition(")")
    fields = after.split()
    if fields[0] in "ZX":
        return None
    return Process(pid=pid, started=fields[19], parent=int(fields[1]), session=int(fields[3]), name=before.partition("(")[2])


def processes() -> list[Process]:
    """All processes of this host that can be seen."""
    found = (find(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit())
    return [p for p in found if p is not None]


def ancestors(pid: int) -> list[Process]:
    """Parent, its parent, and so on, without init."""
    found: list[Process] = []
    process = find(pid)
    while process is not None and process.parent > 1:
        process = find(process.parent)
        if process is not None:
            found.append(process)
    return found


def descendants(pid: int) -> list[Process]:
    """Children, their children, and so on; parents first."""
    children: dict[int, list[Process]] = {}
    for process in processes():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    todo = [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            found.append(child)
            todo.append(child.pid)
    return found


def marked(variable: str, value: str) -> list[Process]:
    """Processes that were started with ``variable=value`` in their environment, themselves or by way of a parent."""
    mark = os.fsencode(f"{variable}={value}")
    found = []
    for process in processes():
        if process.pid == os.getpid():
            continue
        try:
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        except OSError:
            continue  # gone, or somebody else's
        if mark in environment.split(b"\0"):
            found.append(process)
    return found


def _signal(process: Process, number: int) -> None:
    if process.is_alive():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def end(group: Iterable[Process], *, grace: float) -> list[Process]:
    """End these processes: SIGTERM, and SIGKILL for those that are still there after ``grace`` seconds.

    Returns those that even then did not go (not ours, or stuck in the kernel).
    """
    left = [p for p in group if p.is_alive()]
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 2.0)):
        for process in left:
            _signal(process, number)
        deadline = time.monotonic() + patience
        while left := [p for p in left if p.is_alive()]:
            if time.monotonic() >= deadline:
                break
            time.sleep(_POLL)
    return left


def tail(path: str | os.PathLike[str], lines: int = 20) -> list[str]:
    """The last lines of a text file; none when it is not there."""
    try:
        with Path(path).open("rb") as f:
            f.seek(0, os.SEEK_END)
            f.seek(max(0, f.tell() - _TAIL_BYTES))
            text = f.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:] if lines > 0 else []


def last_lines(path: str | os.PathLike[str], lines: int = 15) -> list[str]:
    """The last lines of a log that are not blank, for an error message."""
    return [line for line in tail(path, 200) if line.strip()][-lines:]


@dataclass(frozen=True)
class Output:
    """What a short command printed."""

    stdout: str
    stderr: str
    #: None when it could not be started or did not end in time; ``stderr`` then says so
    code: int | None


def run(argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 20.0, cwd: Path | None = None) -> Output:
    """Run a short command to its end. Never raises: what went wrong is in the answer."""
    try:
        child = subprocess.Popen(
            list(argv),
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            errors="replace",
        )
    except OSError as e:
        return Output("", f"{argv[0]}: {e.strerror or e}", None)
    with child:
        try:
            stdout, stderr = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            group = [p for p in (find(child.pid), *descendants(child.pid)) if p is not None]
            end(group, grace=0.5)
            return Output("", f"{argv[0]} did not end within {timeout:g} s", None)
        except BaseException:
            child.kill()
            raise
    return Output(stdout, stderr, child.returncode)


class Child:
    """A command that has this process's input and output, and ends before it."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str]) -> None:
        """Start it.

        Raises
        ------
        OSError
            it could not be started.
        """
        self._child = subprocess.Popen(list(argv), env=dict(env))
        self._process = find(self._child.pid)  # also a fork of this process can use it

    def send(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self._process is not None:
            _signal(self._process, number)

    def is_over(self, within: float) -> bool:
        """Whether it has ended, after so many seconds."""
        time.sleep(within)
        return self._process is None or not self._process.is_alive()

    def wait(self) -> int:
        """Wait until it ends. Its exit status, as a shell has it."""
        code = self._child.wait()
        return code if code >= 0 else 128 - code


class Forked:
    """A fork of this process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._code: int | None = None

    def code(self) -> int | None:
        """Its exit status, as a shell has it; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._code = code if code >= 0 else 128 - code
        return self._code

    def wait(self, timeout: float) -> bool:
        """Wait until it has ended; False when it has not after ``timeout`` seconds."""
        until = time.monotonic() + timeout
        while self.code() is None:
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL)
        return True

    def end(self, grace: float) -> None:
        """End it: SIGTERM, and SIGKILL after ``grace`` seconds."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.code() is None:
                os.kill(self._pid, number)
                self.wait(grace)


class Kept:
    """A command that ends when this process does: its input is a pipe that only this process has. What it says goes to files.

    ``aside``
        whether Ctrl-C at the terminal passes it by. It cannot ask for a password then; if it is not aside, it just does not heed Ctrl-C.
    """

    def __init__(self, argv: Sequence[str], folder: Path, *, aside: bool) -> None:
        """Start it; from the main thread, if it is not aside.

        Raises
        ------
        OSError
            it could not be started.
        """
        self._out, self._err = folder / "out", folder / "err"
        before = None if aside else signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with self._out.open("wb") as out, self._err.open("wb") as err:
                self._child = subprocess.Popen(
                    list(argv), stdin=subprocess.PIPE, stdout=out, stderr=err, process_group=0 if aside else None
                )
        finally:
            if not aside:
                signal.signal(signal.SIGINT, before)

    def is_running(self) -> bool:
        """Whether it still runs."""
        return self._child.poll() is None

    def said(self) -> str:
        """What it has printed."""
        return self._out.read_text(errors="replace")

    def forget(self) -> None:
        """Remove what it has printed so far."""
        os.truncate(self._out, 0)

    def complaint(self) -> str:
        """What it has printed to its standard error."""
        return self._err.read_text(errors="replace")

    def end(self) -> None:
        """End it."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.terminate()
        try:
            self._child.wait(2.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


class Job:
    """A command that runs in a session of its own, with its output in a file.

    ``pid``
        of the command itself;
    ``log``
        the file with its output.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        mark: tuple[str, str] | None = None,
        cwd: str | None = None,
    ) -> None:
        """Start it.

        ``mark`` is a variable and its value, put into the environment, by which `end` finds also those descendants that
        left the session or lost their parent.

        Raises
        ------
        OSError
            it could not be started.
        """
        self.argv = list(argv)
        self.log = log
        self._mark = mark
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                self.argv,
                env={**env, **dict([mark] if mark else [])},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=cwd,
            )
        self.pid = self._child.pid
        self._leader = find(self.pid)

    def __repr__(self) -> str:
        code = self._child.returncode
        return f"<Job {self.argv[0]} pid {self.pid}: {'running' if code is None else f'ended with {code}'}>"

    def is_running(self) -> bool:
        """Whether the command itself (not those that it started) still runs."""
        return self._child.poll() is None

    def code(self) -> int | None:
        """Its exit code; negative for a signal; None while it runs. Not to be trusted of an mpiexec."""
        return self._child.poll()

    def wait(self, timeout: float) -> bool:
        """Wait until the command has ended; False when it has not after ``timeout`` seconds."""
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def detach(self) -> None:
        """Let it outlive this process; it is not waited for any more."""
        self._child.returncode = 0  # or else its end would be asked for when this object goes

    def members(self) -> list[Process]:
        """The command and everything that it started and that still runs on this host."""
        found = {p.pid: p for p in descendants(self.pid)} if self.is_running() else {}
        if self._leader is not None:
            since = int(self._leader.started)
            found |= {p.pid: p for p in processes() if p.session == self.pid and int(p.started) >= since}
        if self._mark:
            found |= {p.pid: p for p in marked(*self._mark)}
        return list(found.values())

    def end(self, *, grace: float) -> list[Process]:
        """End it and everything that it started: the command gets SIGTERM first, what is left after ``grace`` SIGKILL.

        Returns the processes that could not be ended.
        """
        group = self.members()
        if self.is_running():
            self._child.terminate()
            if not self.wait(grace):
                self._child.kill()
                self._child.wait()
            # those that the command should have taken with it get a moment to follow
            deadline = time.monotonic() + min(grace, 1.0)
            while any(p.is_alive() for p in group) and time.monotonic() < deadline:
                time.sleep(_POLL)
        known = {p.pid: p for p in [*group, *self.members()]}
        return end(known.values(), grace=0.2)
