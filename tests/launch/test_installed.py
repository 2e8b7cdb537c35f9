"""Which MPI is there: texts that MPIs print, and the one of this environment."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from mpicluster.errors import LaunchError
from mpicluster.launch import installed
from mpicluster.launch.installed import Launcher, Library, disagreement, parse_launcher, parse_library, places


def lib(vendor="Open MPI", version="5.0.11", path="/opt/mpi/lib/libmpi.so.40"):
    return Library(vendor=vendor, version=version, path=path, mpi4py="4.1.2", ulfm=False)


@pytest.mark.parametrize(
    ("text", "vendor", "version"),
    [
        ("Open MPI v5.0.11, package: Open MPI user@host Distribution, ident: 5.0.11\0", "Open MPI", "5.0.11"),
        ("Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4, repo rev: v4.1.4, May 26, 2022", "Open MPI", "4.1.4"),
        ("MPICH Version:      5.0.2\nMPICH Release date: Fri Sep 25\nMPICH ABI: 18:2:6\n", "MPICH", "5.0.2"),
        ("MPICH Version:\t4.0.2\nMPICH Release date:\tThu Apr 7", "MPICH", "4.0.2"),
        ("Intel(R) MPI Library 2021.10 for Linux* OS\n", "Intel MPI", "2021.10"),
        ("MPI VERSION    : CRAY MPICH version 8.1.25.17 (ANL base 3.4a2)\n", "Cray MPICH", "8.1.25.17"),
        ("MVAPICH2 Version      :\t2.3.7\nMVAPICH2 Release date : Wed", "MVAPICH", "2.3.7"),
        ("Some MPI of tomorrow\nmore", "Some MPI of tomorrow", ""),
        ("", "unknown", ""),
    ],
)
def test_a_librarys_own_words_are_understood(text, vendor, version):
    """As MPI_Get_library_version gives them."""
    assert parse_library(text) == (vendor, version)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mpiexec (Open MPI) 5.0.11\n\nReport bugs to https://www.open-mpi.org/community/help/\n", ("Open MPI", "5.0.11")),
        ("mpirun (Open MPI) 4.1.4\n", ("Open MPI", "4.1.4")),
        ("mpiexec (OpenRTE) 2.1.1\n", ("Open MPI", "2.1.1")),
        ("HYDRA build details:\n    Version:                                 5.0.2\n    Release Date: Fri\n", ("MPICH", "5.0.2")),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.10 Build 20230619 (id: c2e19c2f3e)\n", ("Intel MPI", "2021.10")),
        ("usage: mpiexec [-n N] program\n", None),
        ("", None),
    ],
)
def test_an_mpiexecs_own_words_are_understood(text, expected):
    """As `mpiexec --version` prints them."""
    assert parse_launcher(text) == expected


@pytest.mark.parametrize(
    ("library", "mpiexec", "fits"),
    [
        (lib(), Launcher("/x", "Open MPI", "5.0.3"), True),
        (lib(), Launcher("/x", "Open MPI", "4.1.4"), False),
        (lib(), Launcher("/x", "MPICH", "5.0.2"), False),
        (lib("MPICH", "5.0.2"), Launcher("/x", "Open MPI", "5.0.11"), False),
        (lib("MPICH", "5.0.2"), Launcher("/x", "MPICH", "4.0.2"), True),
        (lib("Intel MPI", "2021.10"), Launcher("/x", "MPICH", "4.0.2"), True),
    ],
)
def test_a_library_and_an_mpiexec_fit_by_family(library, mpiexec, fits):
    """Open MPI also by major version; the others speak one protocol."""
    assert (disagreement(library, mpiexec) == "") is fits


def test_the_mpiexec_beside_the_library_is_tried_first_and_path_last():
    """The library's own installation, then this Python's, then PATH; nothing twice."""
    tried = places(lib(path="/opt/mpi/lib/x86_64/libmpi.so.40"), "/venv", "/usr/bin:/opt/mpi/bin")
    assert tried.index("/opt/mpi/bin/mpiexec") < tried.index("/venv/bin/mpiexec") < tried.index("/usr/bin/mpiexec")
    assert len(tried) == len(set(tried))
    assert "/usr/bin/mpiexec.openmpi" in tried
    assert "/usr/bin/mpiexec.hydra" in places(lib("MPICH", "4.0"), "/venv", "/usr/bin")


def test_this_environments_mpi_and_mpiexec_fit():
    """What `mpicluster start` will use here."""
    found = installed.installation()
    assert found.library.version
    assert disagreement(found.library, found.launcher) == ""
    assert os.access(found.launcher.path, os.X_OK)
    assert installed.installation(found.library.kind).launcher == found.launcher
    assert installed.installation(found.launcher.path).library.vendor == found.library.vendor


def test_asking_which_mpi_starts_none_in_this_process():
    """mpi4py stays out of the client's process."""
    code = "import sys; from mpicluster.launch.installed import library; print(library()); assert 'mpi4py' not in sys.modules"
    said = installed.process.run([sys.executable, "-c", code])
    assert said.code == 0, said.stderr


def test_a_path_that_is_no_mpiexec_is_refused_with_words(tmp_path):
    """Neither a name that means nothing nor a program that is something else."""
    with pytest.raises(LaunchError, match="openmpi, mpich or the path"):
        installed.installation("/no/such/mpiexec")
    with pytest.raises(LaunchError, match="does not answer as the mpiexec"):
        installed.installation(script(tmp_path, "exit 0"))


def test_another_mpis_mpiexec_is_refused_with_the_reason(tmp_path):
    """It names both, and what would happen: every rank alone."""
    mine = installed.library()
    words = "echo 'HYDRA build details:'; echo '    Version:   4.2.0'" if mine.kind == "openmpi" else "echo 'mpiexec (Open MPI) 5.0.11'"
    with pytest.raises(LaunchError, match="0 of 1") as caught:
        installed.installation(script(tmp_path, words))
    assert str(mine) in str(caught.value)


def test_an_mpi_that_is_not_there_is_named_with_what_to_install(monkeypatch):
    """--mpi of the other kind, in an environment that has only one."""
    other = "mpich" if installed.library().kind == "openmpi" else "openmpi"
    monkeypatch.setattr(installed, "_libraries", lambda kind, prefixes: [])
    with pytest.raises(LaunchError, match=rf"pip install 'mpicluster\[{other}\]'"):
        installed.installation(other)


def test_a_python_without_mpi4py_says_what_to_install(monkeypatch):
    """The child's answer decides, not this process."""
    monkeypatch.setattr(installed, "_PROBE", 'print(\'{"missing": "No module named mpi4py"}\')')
    installed._library.cache_clear()
    try:
        with pytest.raises(LaunchError, match=r"mpi4py is not installed.*pip install"):
            installed.library()
    finally:
        installed._library.cache_clear()


def script(folder: Path, body: str) -> str:
    path = folder / "mpiexec"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)
