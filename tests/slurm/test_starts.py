"""What starts engines in a job: mpiexec and srun, of both MPIs; what ends them: a death, the time."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from test_jobs import submitted

#: The Python of the environment with MPICH, beside that of these tests, which has Open MPI.
MPICH = os.environ.get("MPICLUSTER_MPICH_PYTHON", str(Path(sys.prefix).parent / ".venv-mpich" / "bin" / "python"))
PYTHONS = {"openmpi": sys.executable, "mpich": MPICH}
CLIENT = """
import mpicluster
rc = mpicluster.Client(cluster={cluster!r}, timeout=60)
print(len(rc), rc[:].spmd_sync(lambda comm: comm.allreduce(comm.rank)), rc.contact.mpi.split()[0])
rc.shutdown()
"""


pytestmark = pytest.mark.parametrize("minislurm", ["hosts"], indirect=True)


@pytest.mark.parametrize("mpi", PYTHONS)
def test_mpiexec(site, mpi):
    """A job over two nodes, by ``submit``, with the MPI of the Python that submits."""
    said = site.run(PYTHONS[mpi], "-m", "mpicluster", "submit", "slurm", "-n", "4", "--nodes", "2", "--time", "5m", "--wait")
    job, cluster = submitted(said)
    assert "4 engines are there." in said.stdout, said.stderr
    client = site.python(CLIENT.format(cluster=cluster))
    assert client.stdout == f"4 [6, 6, 6, 6] {'Open' if mpi == 'openmpi' else 'MPICH'}\n", client.stderr
    site.until(lambda: site.job(job)["JobState"] == "COMPLETED", "the job ends with the cluster")


@pytest.mark.parametrize(("mpi", "plugin"), [("openmpi", "pmix"), ("mpich", "pmi2")])
def test_srun(site, mpi, plugin):
    """``srun mpicluster engine`` in a script of the user's own."""
    log = site.path / "srun.log"
    script = f"#!/bin/bash\nsrun --mpi={plugin} {PYTHONS[mpi]} -m mpicluster engine --cluster mine\n"
    (site.path / "mine.sh").write_text(script)
    job = site.run("sbatch", "--parsable", "-N2", "-n2", "--ntasks-per-node=1", "-o", log, "mine.sh").stdout.strip()
    client = site.python(CLIENT.format(cluster="mine"))
    assert client.stdout == f"2 [1, 1] {'Open' if mpi == 'openmpi' else 'MPICH'}\n", client.stderr + log.read_text()
    site.until(lambda: site.job(job)["JobState"] in ("COMPLETED", "FAILED"), "the job ends with the cluster")
    assert site.job(job)["JobState"] == "COMPLETED", log.read_text()


def test_srun_of_another_mpi_says_so(site):
    """Every rank would be alone: that is an error, and the job fails."""
    log = site.path / "srun.log"
    (site.path / "mine.sh").write_text(f"#!/bin/bash\nsrun --mpi=none {sys.executable} -m mpicluster engine --cluster mine\n")
    job = site.run("sbatch", "--parsable", "-N2", "-n4", "-o", log, "mine.sh").stdout.strip()
    site.until(lambda: site.job(job)["JobState"] == "FAILED", "the job fails")
    assert "0 of 1" in log.read_text()


def test_an_engine_dies_in_a_job(site):
    """The others go on, over both nodes, and the job goes on."""
    job, cluster = submitted(site.mpicluster("submit", "slurm", "-n", "4", "--nodes", "2", "--time", "5m", "--wait"))
    code = (
        "import os, signal, time, mpicluster\n"
        f"rc = mpicluster.Client(cluster={cluster!r})\n"
        "pids = rc[:].apply_sync(os.getpid)\n"
        "result = rc.load_balanced_view().map_async(lambda i: (__import__('time').sleep(0.02), i)[1], range(100), chunksize=1)\n"
        "os.kill(pids[3], signal.SIGKILL)\n"
        "print(result.get(60) == list(range(100)))\n"
        "while len(rc) == 4: time.sleep(0.01)\n"
        "print(rc.ids, rc[:].spmd_sync(lambda comm: comm.allreduce(1)))\n"
    )
    said = site.python(code)
    assert said.stdout == "True\n[0, 1, 2] [3, 3, 3]\n", said.stderr
    assert site.job(job)["JobState"] == "RUNNING"
    assert site.mpicluster("stop", cluster).returncode == 0


def test_a_second_job_attaches(site):
    """Two engines, and two more from another job, on the other node. When that is cancelled, the cluster goes on."""
    _, cluster = submitted(site.mpicluster("submit", "slurm", "-n", "2", "--nodes", "1", "--time", "5m", "--wait"))
    said = site.mpicluster("submit", "slurm", "-n", "2", "--nodes", "1", "--time", "5m", "--attach", cluster, "--wait")
    assert "They are there." in said.stdout, said.stdout + said.stderr
    second = re.search(r"Submitted job (\d+)", said.stdout)[1]
    connect = f"import mpicluster, os, time\nrc = mpicluster.Client(cluster={cluster!r})\n"
    code = connect + "print(rc.worlds, len(set(rc[:].apply_sync(os.getpid))))\n"
    assert site.python(code).stdout == "[[0, 1], [2, 3]] 4\n"
    rows = json.loads(site.mpicluster("jobs", "--json").stdout)
    assert [(r["cluster"], r["state"]) for r in rows] == [(cluster, "running")] * 2
    assert site.mpicluster("cancel", second).returncode == 0
    gone = connect + "while len(rc) > 2: time.sleep(0.01)\nprint(rc.worlds)\n"
    assert site.python(gone).stdout == "[[0, 1]]\n"
    assert site.mpicluster("stop", cluster).returncode == 0


def test_the_time_is_over(site):
    """The shortest that Slurm has: its signal, up to a minute early, reaches the script, which ends in good order; and engines alone."""
    alone, _ = submitted(site.mpicluster("submit", "slurm", "-n", "2", "--time", "1m"))
    script = site.script(
        "import time, mpicluster\nrc = mpicluster.Client()\nprint('there', flush=True)\n"
        "try:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    print('saved', len(rc[:].apply_sync(int)))\n"
    )
    said = site.mpicluster("submit", "slurm", "-n", "2", "--time", "1m", "--wait", "--", script, timeout=150)
    assert re.search(r"^there$(.|\n)*^saved 2$", said.stdout, re.MULTILINE), said.stdout + said.stderr
    assert said.returncode == 0
    rows = site.until(
        lambda: [r for r in json.loads(site.mpicluster("jobs", "--json").stdout) if r["state"] == "failed"], "the other's end"
    )
    assert [(r["job"], r["reason"]) for r in rows] == [(alone, "it reached its time limit")]


def test_a_script_that_does_not_end_is_ended(site):
    """What it says is not lost, and the job's failure is told."""
    script = site.script(
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\ntime.sleep(600)\n"
    )
    job, cluster = submitted(site.mpicluster("submit", "slurm", "-n", "2", "--grace", "1", "--time", "5m", "--", script))
    log = site.path / f"mpicluster-{cluster}.log"
    site.until(lambda: log.exists() and "deaf" in log.read_text(), "the script runs")
    site.run("scancel", "--batch", f"--signal={signal.SIGTERM.name.removeprefix('SIG')}", job)
    site.until(lambda: site.job(job)["JobState"] == "FAILED", "the script is ended")
    assert site.job(job)["ExitCode"] == "137:0"


def test_the_example(site):
    """One command: a grid search, and a distributed SVD."""
    example = Path(__file__).parents[2] / "examples" / "batch" / "search_and_svd.py"
    said = site.mpicluster(
        "submit", "slurm", "-n", "4", "--nodes", "2", "--time", "5m", "--wait", "--", example, "--rows", "4000", "--columns", "40"
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert re.search(r"4 engines on .*\n(\d+ of 720 fits\n)+Best: width ", said.stdout), said.stdout
    results = json.loads((site.path / "results" / "results.json").read_text())
    assert results["search"]["fits"] == 720
    assert results["search"]["error"] < 0.02
    assert results["svd"]["rank"] == 5
    assert results["svd"]["residual"] < 1e-12


@pytest.mark.parametrize("mpi", PYTHONS)
def test_hosts_by_ssh(site, mpi):
    """No batch system: mpiexec reaches the hosts by ssh."""
    _, environment = site.laptop()  # with an ssh that knows the hosts
    path = environment["PATH"]
    hosts = "n1:2,n2:2" if site.slurm.hosts else "localhost:4"
    code = (
        f"import mpicluster\nwith mpicluster.Cluster(n=4, hosts={hosts!r}) as rc:\n"
        "    print(rc[:].apply_sync(__import__('socket').gethostname), rc[:].spmd_sync(lambda comm: comm.allreduce(comm.rank)))\n"
    )
    (site.path / "client.py").write_text(code)
    said = site.slurm.run(PYTHONS[mpi], "client.py", cwd=site.path, PATH=path)
    names = ["n1", "n1", "n2", "n2"] if site.slurm.hosts else [os.uname().nodename] * 4
    assert said.stdout == f"{names} [6, 6, 6, 6]\n", said.stdout + said.stderr


def test_who_waits_for_engines_hears_what_became_of_the_job(site):
    """... and sees the end of what it printed."""
    job, cluster = submitted(site.mpicluster("submit", "slurm", "-n", "2", "--time", "5m", "--wait"))
    code = (
        "import mpicluster, subprocess, threading, time\n"
        f"rc = mpicluster.Client(cluster={cluster!r})\n"
        f"threading.Timer(0.5, subprocess.run, [['scancel', {job!r}]]).start()\n"
        "try:\n    rc.wait_for_engines(8, timeout=60)\nexcept mpicluster.errors.ClusterError as e:\n    print(e)\n"
    )
    said = site.python(code)
    assert f"Job {job} (slurm), which started it, is ended (it was cancelled)." in said.stdout, said.stdout + said.stderr
    assert "The last lines of " in said.stdout
