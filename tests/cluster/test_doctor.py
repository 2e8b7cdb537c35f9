"""What the doctor makes of facts, and that it finds this machine fit."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from mpicluster.cluster import doctor
from mpicluster.cluster.doctor import OK, PROBLEM, WARNING
from mpicluster.launch import installed
from mpicluster.launch.installed import Installation, Launcher, Library

OPEN_MPI = Library(vendor="Open MPI", version="5.0.11", path="/opt/mpi/lib/libmpi.so.40", mpi4py="4.1.2", ulfm=True)
MPICH = Library(vendor="MPICH", version="5.0.2", path="", mpi4py="4.1.2", ulfm=False)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.mark.parametrize(("version", "level"), [((3, 11, 0), OK), ((3, 10, 9), PROBLEM), ((3, 14, 1), OK)])
def test_python(version, level):
    """3.11 is the first that will do."""
    assert doctor.python(version, "/bin/python").level == level


def test_survival():
    """A matter of the library."""
    assert doctor.survival(OPEN_MPI).level == OK
    assert doctor.survival(MPICH).level == WARNING


@pytest.mark.parametrize(
    ("environ", "cores", "engines", "level", "says"),
    [
        ({}, 8, 4, OK, "2 per engine"),
        ({}, 2, 4, OK, "1 per engine"),
        ({"OMP_NUM_THREADS": "1"}, 2, 4, OK, "OMP_NUM_THREADS=1"),
        ({"OMP_NUM_THREADS": "8"}, 8, 4, WARNING, "32 threads on 8 cores"),
        ({"OMP_NUM_THREADS": "2"}, 8, 4, OK, "keep to that"),
    ],
)
def test_blas_threads(environ, cores, engines, level, says):
    """Shared out, unless the person's environment says otherwise."""
    finding = doctor.blas(environ, cores, engines)
    assert finding.level == level
    assert says in finding.text


def test_root():
    """A matter of two variables, for Open MPI."""
    both = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    assert doctor.root(False, {}, OPEN_MPI).level == OK
    assert doctor.root(True, {}, OPEN_MPI).level == WARNING
    assert doctor.root(True, both, OPEN_MPI).level == OK
    assert doctor.root(True, {}, MPICH).level == OK


def test_a_wrong_mpiexec_first_on_path_is_pointed_out(monkeypatch):
    """With the path of the right one."""
    chosen = Installation(OPEN_MPI, Launcher("/opt/mpi/bin/mpiexec", "Open MPI", "5.0.11"))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/mpiexec")
    monkeypatch.setattr(doctor, "identify", lambda path: Launcher(path, "MPICH", "4.0.2"))
    finding = doctor.on_path(OPEN_MPI, chosen)
    assert finding.level == WARNING
    assert "0 of 1" in finding.text
    assert "/opt/mpi/bin/mpiexec" in finding.advice


def test_open_keys_are_a_problem(state):
    """Folders and files that others may read."""
    (state / "default").mkdir(parents=True)
    (state / "default").chmod(0o700)
    assert next(doctor.state()).level == OK
    leak = state / "default" / "x.json"
    leak.write_text("{}")
    leak.chmod(0o644)
    finding = next(doctor.state())
    assert finding.level == PROBLEM
    assert str(leak) in finding.text


def test_the_file_system_is_that_of_the_longest_mount():
    """A folder may have any number of mounts above it."""
    mounts = "/dev/a / ext4 rw 0 0\nserver:/h /home nfs4 rw 0 0\ntmpfs /home/me/t\\040mp tmpfs rw 0 0\n"
    assert doctor._file_system(Path("/home/me"), mounts) == "nfs4"
    assert doctor._file_system(Path("/home/me/t mp/x"), mounts) == "tmpfs"
    assert doctor._file_system(Path("/homes"), mounts) == "ext4"


def test_a_folder_too_deep_for_sockets_is_a_problem():
    """The bound is the kernel's: tried with a real socket."""
    with tempfile.TemporaryDirectory() as name:
        _try_depths(Path(name))


def _try_depths(tmp_path):
    for room, level in ((doctor._SOCKET_ROOM, OK), (doctor._SOCKET_ROOM + 1, PROBLEM)):
        folder = tmp_path / ("d" * (room - len(str(tmp_path)) - 1))
        folder.mkdir()
        assert doctor.socket_room(str(folder)).level == level
    inner = tmp_path / ("d" * (doctor._SOCKET_ROOM - len(str(tmp_path)) - 1)) / "mpicluster-xxxxxxxx"
    inner.mkdir()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(inner / "client"))


def test_findings_are_wrapped_and_show_what_to_do():
    """Mark, subject, text; then the advice."""
    lines = doctor.Finding(WARNING, "thing", "word " * 40, "do this\nand that").render().splitlines()
    assert lines[0].startswith("warning  thing: word")
    assert all(len(line) <= 100 for line in lines)
    assert [line.strip() for line in lines[-2:]] == ["-> do this", "-> and that"]


def test_this_machine_is_fit():
    """The whole examination, with a real run of two ranks."""
    findings = list(doctor.examine())
    assert [f.render() for f in findings if f.level == PROBLEM] == []
    run = next(f for f in findings if f.subject == "a run of 2 ranks")
    assert "MPI_THREAD_MULTIPLE granted" in run.text


def test_ranks_that_are_alone_are_recognised(tmp_path):
    """An mpiexec that starts processes without a world."""
    fake = tmp_path / "mpiexec"
    fake.write_text('#!/bin/sh\nwhile [ "$1" != -n ]; do shift; done; shift 2; "$@"; "$@"\n')
    fake.chmod(0o755)
    mine = installed.library()
    finding = doctor.two_ranks(Installation(mine, Launcher(str(fake), mine.vendor, mine.version)))
    assert finding.level == PROBLEM
    assert "0 of 1" in finding.text


def test_a_missing_mpi4py_is_a_finding_not_a_crash(monkeypatch):
    """The rest is still looked at."""
    monkeypatch.setattr(installed, "_PROBE", 'print(\'{"missing": "No module named mpi4py"}\')')
    installed._library.cache_clear()
    try:
        findings = list(doctor.examine())
    finally:
        installed._library.cache_clear()
    assert [f.subject for f in findings if f.level == PROBLEM] == ["mpi4py"]
    assert "shared memory" in [f.subject for f in findings]
