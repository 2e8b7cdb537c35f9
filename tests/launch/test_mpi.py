"""From facts to a command line and an environment, and the check for the classic: every rank says 0 of 1."""

from __future__ import annotations

import subprocess

import pytest

from mpicluster.launch import mpi
from mpicluster.launch.installed import Installation, Launcher, Library

WORKER = ["python", "-m", "mpicluster", "engine"]


def installation(vendor, version, *, ulfm=False, env=None):
    lib = Library(vendor=vendor, version=version, path="/opt/lib/libmpi.so", mpi4py="4.1.2", ulfm=ulfm, env=env or {})
    return Installation(lib, Launcher("/opt/bin/mpiexec", vendor, version))


def test_open_mpi_gets_fault_tolerance_oversubscription_and_no_binding():
    """In the order that mpiexec wants: its options, then the program."""
    assert mpi.command(installation("Open MPI", "5.0.11", ulfm=True), 4, WORKER) == [
        *("/opt/bin/mpiexec", "--with-ft", "ulfm", "--map-by", ":OVERSUBSCRIBE", "--bind-to", "none", "-n", "4"),
        *WORKER,
    ]


def test_an_open_mpi_without_ulfm_is_not_asked_for_it():
    """It would refuse to start."""
    assert "--with-ft" not in mpi.command(installation("Open MPI", "4.1.4"), 4, WORKER)


@pytest.mark.parametrize("vendor", ["MPICH", "Intel MPI", "Cray MPICH"])
def test_mpich_and_its_kin_get_a_plain_command_line(vendor):
    """They oversubscribe and leave ranks unbound by themselves."""
    assert mpi.command(installation(vendor, "5.0.2"), 3, WORKER) == ["/opt/bin/mpiexec", "-n", "3", *WORKER]


@pytest.mark.parametrize(("vendor", "kept"), [("Open MPI", ""), ("MPICH", "here")])
def test_what_a_killed_mpiexec_of_the_same_pid_has_left_is_removed(tmp_path, vendor, kept):
    """The shell becomes the command, with its pid, and says which it is."""
    seen = 'test -e "$TMPDIR/ompi.$$/stale" && echo here; test "$2" = "$$@host" && echo told'
    script = f'mkdir "$TMPDIR/ompi.$$"; touch "$TMPDIR/ompi.$$/stale"; {mpi.shell(installation(vendor, "5.0.11"))}'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "host", "/bin/sh", "-c", seen, "sh"],
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [*([kept] if kept else []), "told"]


def test_open_mpi_is_told_that_root_may_only_when_root_runs_it():
    """Both variables, or neither."""
    words = {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"}
    assert words <= mpi.environment(installation("Open MPI", "5.0.11"), {}, root=True).keys()
    assert not words & mpi.environment(installation("Open MPI", "5.0.11"), {}, root=False).keys()
    assert not words & mpi.environment(installation("MPICH", "5.0.2"), {}, root=True).keys()


def test_open_mpi_does_not_look_for_a_transport_that_is_not_used():
    """It would take a second; what a person has chosen stays."""
    assert mpi.environment(installation("Open MPI", "5.0.11"), {}, root=False)["OMPI_MCA_btl"] == "^ofi"
    assert mpi.environment(installation("Open MPI", "5.0.11"), {"OMPI_MCA_btl": "self,tcp"}, root=False)["OMPI_MCA_btl"] == "self,tcp"
    assert mpi.tuning("MPICH", {}) == {}


def test_children_load_the_mpi_that_was_chosen():
    """Where several are installed, a variable tells mpi4py which."""
    env = mpi.environment(installation("MPICH", "5.0.2", env={"MPI4PY_LIBMPI": "/opt/lib/libmpi.so.12"}), {"A": "1"}, root=False)
    assert env == {"A": "1", "MPI4PY_LIBMPI": "/opt/lib/libmpi.so.12"}


def test_a_cluster_started_from_a_rank_is_not_part_of_its_world():
    """The outer launcher's marks do not reach the inner mpiexec."""
    env = mpi.environment(installation("MPICH", "5.0.2"), {"PMI_RANK": "0", "PMI_SIZE": "2", "PMI_FD": "5", "A": "1"}, root=False)
    assert env == {"A": "1"}


# --- the right launcher?

OPEN_MPI = "Open MPI v5.0.11, package: x"
MPICH = "MPICH Version:      5.0.2\n"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """Ranks other than 0 wait for it to be heard; here there is no rank 0."""
    monkeypatch.setattr(mpi, "_RANK_0_SPEAKS", 0.0)


@pytest.mark.parametrize(
    ("size", "rank", "environ"),
    [
        (1, 0, {}),
        (1, 0, {"SLURM_NTASKS": "4"}),  # a shell in an allocation: one engine is what was asked for
        (1, 0, {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0", "PMIX_RANK": "0"}),
        (1, 0, {"PMI_SIZE": "1", "PMI_RANK": "0", "MPI_LOCALNRANKS": "1"}),
        (1, 0, {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}),
        (1, 0, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}),
        (4, 3, {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}),
        (4, 1, {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1"}),
        (4, 0, {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0", "PMIX_RANK": "0"}),
    ],
)
def test_a_world_as_the_launcher_made_it_is_fine(size, rank, environ):
    """No explanation where nothing is wrong."""
    assert mpi.check_launcher(size, rank, environ) is None


@pytest.mark.parametrize(
    ("environ", "says", "advice"),
    [
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}, "OMPI_COMM_WORLD_SIZE=4", "-n 4 mpicluster engine"),
        ({"PMI_SIZE": "3", "PMI_RANK": "0"}, "PMI_SIZE=3", "-n 3 mpicluster engine"),
        ({"PMI_SIZE": "2", "PMI_RANK": "0", "SLURM_STEP_NUM_TASKS": "2", "PMI_FD": "4"}, "srun --mpi=pmi2", "srun --mpi="),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, "srun says that there are 4 ranks", "srun --mpi="),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, "a Slurm job script says", "a job script is one process"),
        ({"MPI_LOCALNRANKS": "2"}, "at least 2 ranks (MPI_LOCALNRANKS=2)", "-n 2 mpicluster engine"),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, "=4", "-n 4"),
    ],
)
def test_a_rank_that_is_alone_is_told_why_and_what_to_do(environ, says, advice):
    """What happened, what mpi4py loads, the right mpiexec."""
    text = mpi.check_launcher(1, 0, environ)
    assert text is not None
    found = mpi.installation()
    assert says in text
    assert "0 of 1" in text
    assert advice in text
    assert str(found.library) in text
    assert found.launcher.path in text
    assert "mpicluster start" in text


@pytest.mark.parametrize("environ", [{"PMIX_RANK": "2"}, {"PMI_SIZE": "4", "PMI_RANK": "2"}])
def test_other_ranks_say_one_line(environ):
    """So that a hundred ranks do not say it a hundred times."""
    text = mpi.check_launcher(1, 0, environ)
    assert text is not None
    assert "rank 2" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("library", "environ", "wrong"),
    [
        (OPEN_MPI, {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}, False),
        (MPICH, {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}, True),
        (MPICH, {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, True),  # this MPICH aborts in that environment
        (MPICH, {"OMPI_COMM_WORLD_SIZE": "4", "PMI_SIZE": "2", "PMI_RANK": "0", "PMI_FD": "5"}, False),
        (MPICH, {"PMI_SIZE": "4", "PMI_RANK": "0"}, False),
        (OPEN_MPI, {"PMI_SIZE": "4", "PMI_RANK": "0"}, True),
        (OPEN_MPI, {"PMI_SIZE": "1", "PMI_RANK": "0"}, False),
        (OPEN_MPI, {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}, False),  # depends on srun's options: seen after start
        (OPEN_MPI, {}, False),
        (MPICH, {}, False),
    ],
)
def test_another_mpis_launcher_is_seen_before_mpi_starts(library, environ, wrong):
    """Some libraries abort, or take a second to fail, in another's environment."""
    text = mpi.check_library(library, environ)
    assert (text is not None) is wrong
