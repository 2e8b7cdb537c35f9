"""Jobs of a real Slurm, submitted as a user would."""

from __future__ import annotations

import json
import re
import sys

PIDS = """
import mpicluster
def node():
    import os
    return os.environ["SLURMD_NODENAME"]
rc = mpicluster.Client(CLUSTER timeout=60)
print(len(rc), sorted(set(rc[:].apply_sync(node))))
print(rc[:].spmd(lambda comm: comm.allreduce(comm.rank)).get(30))
"""


def submitted(said):
    found = re.search(r"Submitted job (\d+) \(slurm\), cluster (\w+)\.", said.stdout)
    assert found, said.stdout
    return found[1], found[2]


def test_engines_over_two_nodes_until_they_are_stopped(site):
    said = site.mpicluster("submit", "slurm", "-n", "4", "--nodes", "2", "--time", "5m", "--wait")
    job, cluster = submitted(said)
    assert said.returncode == 0
    assert "Job " + job + " is running." in said.stderr
    assert "4 engines are there." in said.stdout
    facts = site.job(job)
    assert (facts["NumNodes"], facts["NumTasks"], facts["TimeLimit"], facts["Requeue"]) == ("2", "4", "00:05:00", "0")
    rows = json.loads(site.mpicluster("jobs", "--json").stdout)
    assert [(r["job"], r["cluster"], r["state"], r["engines"]) for r in rows] == [(job, cluster, "running", 4)]
    client = site.python(PIDS.replace("CLUSTER", f"cluster={cluster!r},"))
    assert client.stdout == "4 ['n1', 'n2']\n[6, 6, 6, 6]\n", client.stderr
    assert site.mpicluster("stop", cluster).returncode == 0
    site.until(lambda: site.job(job)["JobState"] == "COMPLETED", "the job ends with the cluster")
    assert json.loads(site.mpicluster("jobs", "--json").stdout)[0]["state"] == "ended"


def test_a_script_and_its_engines(site):
    """The same script, in a job and under `mpicluster run`."""
    script = site.script(PIDS.replace("CLUSTER", "") + "import sys\nprint(sys.argv[1:])\nsys.exit(7)\n")
    said = site.mpicluster("submit", "slurm", "-n", "4", "--nodes", "2", "--time", "5m", "--wait", "--", script, "a b")
    job, _ = submitted(said)
    assert said.returncode == 7
    assert said.stdout.endswith("4 ['n1', 'n2']\n[6, 6, 6, 6]\n['a b']\n"), said.stdout
    assert "is failed (it exited with 7)" in said.stderr
    assert site.job(job)["ExitCode"] == "7:0"


def test_a_cluster_of_python(site):
    said = site.python(
        "import mpicluster\n"
        "with mpicluster.Cluster(launcher='slurm', n=2, time='5m', name='mine') as rc:\n"
        "    print(len(rc), rc[:].apply_sync(int, '3'))\n"
    )
    assert said.stdout == "2 [3, 3]\n", said.stderr
    assert [r["state"] for r in json.loads(site.mpicluster("jobs", "--json").stdout)] == ["ended"]


def test_a_job_that_fails_says_why(site):
    (site.path / "env.sh").write_text("echo there is no module of that name; exit 3\n")
    said = site.python(
        "import mpicluster\n"
        "try:\n"
        "    mpicluster.Cluster(launcher='slurm', n=2, env_script='env.sh').start()\n"
        "except mpicluster.errors.LaunchError as e:\n"
        "    print(e)\n"
    )
    assert "its job ended before the engines were there (0 of 2 came)" in said.stdout, said.stderr
    assert re.search(r"Job \d+ \(slurm\) is failed \(it exited with 3\)", said.stdout)
    assert "    there is no module of that name" in said.stdout


def test_what_slurm_refuses(site):
    said = site.mpicluster("submit", "slurm", "-n", "4", "--partition", "nowhere")
    assert said.returncode == 1
    assert "sbatch did not take the job:\n    sbatch: error: " in said.stderr
    assert "invalid partition" in said.stderr


def test_a_job_that_waits_is_cancelled(site):
    blocker = site.run("sbatch", "--parsable", "-N2", "--exclusive", "--wrap", "sleep 300").stdout.strip()
    site.until(lambda: site.job(blocker)["JobState"] == "RUNNING", "the machine is full")
    job, _ = submitted(site.mpicluster("submit", "slurm", "-n", "2", "--time", "5m"))
    row = site.until(
        lambda: next((r for r in json.loads(site.mpicluster("jobs", "--json").stdout) if r["reason"]), None), "the reason why it waits"
    )
    assert (row["job"], row["state"], row["reason"]) == (job, "pending", "Resources")
    assert f"Cancelled job {job}" in site.mpicluster("cancel", job).stdout
    assert "it was cancelled" in site.mpicluster("jobs").stdout
    assert f"Job {job} is over: ended (it was cancelled)." in site.mpicluster("cancel", job).stdout


def test_the_end_of_the_time_reaches_a_script(site):
    """What `--signal=B:TERM@60` does a minute before the end, `scancel --batch` does now."""
    script = site.script(
        "import time, mpicluster\nrc = mpicluster.Client()\nprint('there', flush=True)\n"
        "try:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    print('saved', len(rc[:].apply_sync(int)))\n"
    )
    job, cluster = submitted(site.mpicluster("submit", "slurm", "-n", "2", "--time", "5m", "--", script))
    log = site.path / f"mpicluster-{cluster}.log"
    site.until(lambda: log.exists() and "there" in log.read_text(), "the script runs")
    site.run("scancel", "--batch", "--signal=TERM", job)
    site.until(lambda: site.job(job)["JobState"] == "COMPLETED", "the script ends in good order")
    assert log.read_text().endswith("saved 2\n")


def test_run_in_an_allocation(site):
    script = site.script("import mpicluster\nprint(len(mpicluster.Client()))\n")
    said = site.run("salloc", "-n4", "-N2", sys.executable, "-m", "mpicluster", "run", script)
    assert said.stdout.endswith("4\n"), said.stderr
