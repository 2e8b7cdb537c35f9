"""What launchers say of themselves, as tables of environments."""

from __future__ import annotations

import pytest

from mpicluster.launch.variables import belongs, clean_environment, launcher_rank, launcher_size, told

OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "PMIX_RANK": "2", "OMPI_MCA_num_procs": "4", "PRTE_LAUNCHED": "1"}
MPICH = {"PMI_SIZE": "3", "PMI_RANK": "1", "PMI_FD": "9", "HYDI_CONTROL_FD": "7", "MPI_LOCALNRANKS": "3", "MPI_LOCALRANKID": "1"}
STEP = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}
SCRIPT = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}
PERSON = {"PATH": "/bin", "HOME": "/home/me", "OMP_NUM_THREADS": "2", "OMPI_ALLOW_RUN_AS_ROOT": "1"}


@pytest.mark.parametrize(
    ("environ", "kind", "size", "rank"),
    [
        (OPEN_MPI, "openmpi", 4, 2),
        (MPICH, "mpich", 3, 1),
        (STEP, "slurm", 2, 1),
        (SCRIPT, "batch", 8, 0),
        (STEP | OPEN_MPI, "openmpi", 4, 2),  # mpiexec on another node is carried by srun
        (STEP | MPICH, "mpich", 3, 1),
        (STEP | {"PMI_SIZE": "2", "PMI_RANK": "1", "PMI_FD": "5"}, "slurm", 2, 1),  # srun --mpi=pmi2
        ({"MV2_COMM_WORLD_SIZE": "5", "MV2_COMM_WORLD_RANK": "0"}, "mpich", 5, 0),
    ],
)
def test_the_launcher_that_started_this_process_is_the_one_heard(environ, kind, size, rank):
    """mpiexec's word counts more than that of the srun around it."""
    found = told(PERSON | environ)
    assert found is not None
    assert (found.kind, found.size, found.rank) == (kind, size, rank)
    assert launcher_size(environ) == size
    assert launcher_rank(environ) == rank


@pytest.mark.parametrize("environ", [PERSON, {"SLURM_NTASKS": "8"}, {"PMI_SIZE": "many"}, {"OMPI_COMM_WORLD_SIZE": ""}])
def test_without_a_launcher_nothing_is_told(environ):
    """A shell in an allocation is no rank, and nonsense is no number."""
    assert told(environ) is None
    assert launcher_size(environ) is None
    assert launcher_rank(environ) is None


def test_a_pmix_rank_is_a_rank_without_a_size():
    """srun --mpi=pmix says the rank in its own way."""
    assert launcher_rank({"PMIX_RANK": "3"}) == 3


@pytest.mark.parametrize("marks", [OPEN_MPI, MPICH, STEP, STEP | MPICH, OPEN_MPI | STEP])
def test_a_cleaned_environment_is_nobodys_rank(marks):
    """What a person set stays, what the launcher set goes."""
    cleaned = clean_environment(PERSON | marks)
    assert told(cleaned) is None or told(cleaned).kind == "batch"
    assert launcher_rank(cleaned) is None
    assert PERSON.items() <= cleaned.items()
    assert not [k for k in cleaned if k.startswith(("PMI", "OMPI_COMM", "HYDI", "PRTE", "MPI_LOCAL", "SLURM_STEP"))]


def test_a_job_scripts_environment_is_kept_for_mpiexec():
    """Mpiexec reads the allocation from it, and the person's tuning is in it."""
    environ = PERSON | SCRIPT | {"OMPI_MCA_btl": "self,sm"}
    assert clean_environment(environ) == environ


def test_the_allocation_is_kept_when_a_step_is_cleaned():
    """An mpiexec started from within a step still knows its nodes."""
    assert clean_environment(STEP)["SLURM_JOB_ID"] == "7"


@pytest.mark.parametrize(
    ("kind", "vendor", "fits"),
    [
        ("openmpi", "Open MPI", True),
        ("openmpi", "Spectrum MPI", True),
        ("openmpi", "MPICH", False),
        ("openmpi", "Intel MPI", False),
        ("mpich", "MPICH", True),
        ("mpich", "Intel MPI", True),
        ("mpich", "Cray MPICH", True),
        ("mpich", "Open MPI", False),
        ("slurm", "Open MPI", None),
        ("batch", "MPICH", None),
    ],
)
def test_which_launcher_starts_which_mpi(kind, vendor, fits):
    """Two families; srun depends on its options."""
    assert belongs(kind, vendor) is fits
