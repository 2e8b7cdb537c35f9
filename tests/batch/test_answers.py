"""What is made of the answers of batch systems, word by word."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpicluster.batch import jobs
from mpicluster.batch.system import ENDED, FAILED, PENDING, RUNNING, Job, Status, Unknown
from mpicluster.batch.systems import system
from mpicluster.errors import LaunchError
from mpicluster.wire import contact as contact_file

SCONTROL = "JobId=7 JobName=x JobState={} Reason={} Dependency=(null) ExitCode={} RunTime={} TimeLimit={} TimeMin=N/A"
CONDOR = "\t".join(["{}"] * 6)
NONE = "undefined"
REMOVED = "The job attribute PeriodicRemove expression '(JobStatus == 1 && NumJobStarts > 0)' evaluated to TRUE"
TIME = "it reached its time limit"
TOLD = "it was told to end: its time was over, or somebody ended it"


def qstat(state, *rest):
    return "\n".join(["Job Id: 7.server", f"    job_state = {state}", *(f"    {line}" for line in rest)])


@pytest.mark.parametrize(("name", "answer", "expected"), [
    ("slurm", SCONTROL.format("FAILED", "NonZeroExitCode", "143:0", "00:59:10", "01:00:00"), Status(FAILED, TIME, 143)),
    ("slurm", SCONTROL.format("FAILED", "NonZeroExitCode", "130:0", "1-00:00:00", "1-00:01:00"), Status(FAILED, TIME, 130)),
    ("slurm", SCONTROL.format("FAILED", "NonZeroExitCode", "143:0", "00:00:10", "01:00:00"), Status(FAILED, TOLD, 143)),
    ("slurm", SCONTROL.format("FAILED", "NonZeroExitCode", "1:0", "00:59:10", "01:00:00"), Status(FAILED, "it exited with 1", 1)),
    ("slurm", SCONTROL.format("FAILED", "NonZeroExitCode", "143:0", "00:59:10", "UNLIMITED"), Status(FAILED, TOLD, 143)),
    ("slurm", SCONTROL.format("COMPLETED", "None", "0:0", "00:59:10", "01:00:00"), Status(ENDED)),
    ("slurm", SCONTROL.format("FAILED", "JobLaunchFailure", "0:53", "0", "1"), Status(FAILED, "its log could not be written")),
    ("pbs", qstat("F", "Exit_status = 0"), Status(ENDED)),
    ("pbs", qstat("F", "Exit_status = 271", "comment = job killed: walltime 70 exceeded limit 60"), Status(FAILED, TIME)),
    ("pbs", qstat("F", "Exit_status = 271"), Status(FAILED, "it was told to end: by qdel, or because its time was over")),
    ("pbs", qstat("F", "Exit_status = -29"), Status(FAILED, TIME)),
    ("pbs", qstat("F", "Exit_status = 265"), Status(FAILED, "it was told to end: by qdel, or because its time was over")),
    ("pbs", qstat("F", "Exit_status = 267"), Status(FAILED, "it was ended by signal 11")),
    ("pbs", qstat("H"), Status(PENDING)),
    ("lsf", "UNKWN|-|-|-", Status(RUNNING)),
    ("lsf", "EXIT|143|TERM_RUNLIMIT: job killed after reaching LSF run time limit|-", Status(FAILED, TIME)),
    ("lsf", "EXIT|1|TERM_OWNER: job killed by owner|-", Status(ENDED, "it was cancelled")),
    ("htcondor", CONDOR.format(1, NONE, NONE, NONE, NONE, NONE), Status(PENDING)),
    ("htcondor", CONDOR.format(4, 2, 0, NONE, NONE, NONE), Status(ENDED)),
    ("htcondor", CONDOR.format(4, 2, 3, NONE, NONE, NONE), Status(FAILED, "it exited with 3", 3)),
    ("htcondor", CONDOR.format(4, 2, NONE, 9, NONE, NONE), Status(FAILED, "it was ended by signal 9")),
    ("htcondor", CONDOR.format(5, 2, NONE, NONE, "Error from slot1: no folder", NONE),
     Status(FAILED, "it is held: Error from slot1: no folder", stays=True)),
    ("htcondor", CONDOR.format(3, 2, NONE, NONE, NONE, REMOVED), Status(FAILED, TIME)),
    ("htcondor", CONDOR.format(3, 1, NONE, NONE, NONE, REMOVED), Status(FAILED, "its machine was taken from it")),
    ("htcondor", CONDOR.format(3, 2, NONE, NONE, NONE, "via condor_rm (by user me)"), Status(ENDED, "it was cancelled")),
    ("htcondor", CONDOR.format(3, 2, NONE, NONE, NONE, "SYSTEM_PERIODIC_REMOVE"), Status(FAILED, "SYSTEM_PERIODIC_REMOVE")),
])  # fmt: skip
def test_answers(name, answer, expected, monkeypatch):
    kind = system(name)
    monkeypatch.setattr(kind, "_ask", lambda _argv: answer)
    assert kind.status(Job("7", None)) == expected


@pytest.mark.parametrize(("name", "answer"), [
    ("slurm", "slurm_load_jobs error: Unable to contact slurm controller"),
    ("pbs", "What?"),
    ("lsf", ""),
    ("lsf", "DREAMS|-|-|-"),
    ("htcondor", "4 error what"),
    ("htcondor", ""),
])  # fmt: skip
def test_nonsense(name, answer, monkeypatch):
    kind = system(name)
    monkeypatch.setattr(kind, "_ask", lambda _argv: answer)
    with pytest.raises(Unknown):
        kind.status(Job("7", None))


def test_a_pbs_that_keeps_no_history(monkeypatch):
    kind, asked = system("pbs"), []

    def ask(argv):
        asked.append(argv)
        if "-x" in argv:
            raise Unknown("qstat: PBS is not configured to maintain job history")
        return qstat("R")

    monkeypatch.setattr(kind, "_ask", ask)
    assert kind.status(Job("7.server", None)) == Status(RUNNING)
    assert asked == [["qstat", "-x", "-f", "7.server"], ["qstat", "-f", "7.server"]]


def test_a_job_of_grid_engine_in_error_state(monkeypatch):
    kind = system("sge")
    answers = {"-u": "  7 0.555 x me Eqw 11/26/2026 09:00:00 4\n", "-j": "error reason    1:          11/26/2026: no folder\n"}
    monkeypatch.setattr(kind, "_ask", lambda argv: answers[argv[1]])
    assert kind.status(Job("7", None)) == Status(FAILED, "11/26/2026: no folder", stays=True)


def test_one_of_several_slurms(monkeypatch):
    kind, asked = system("slurm"), []
    assert kind.parse_submission("4711;alps\n") == "4711;alps"
    monkeypatch.setattr(kind, "_ask", lambda argv: (asked.append(argv), SCONTROL.format("RUNNING", "None", "0:0", "0", "0"))[1])
    assert kind.status(Job("4711;alps", None)) == Status(RUNNING)
    assert asked == [["scontrol", "-M", "alps", "-o", "show", "job", "4711"]]
    assert kind.cancellation(Job("4711;alps", None)) == ["scancel", "-M", "alps", "4711"]
    assert kind.cancellation(Job("4711", None)) == ["scancel", "4711"]


# -- what is remembered -----------------------------------------------------------------------------------------------


@pytest.fixture
def condor(tmp_path, monkeypatch):
    """A pool of which tests say how it answers."""
    kind = system("htcondor")
    monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    class Pool:
        answer = CONDOR.format(2, 1, NONE, NONE, NONE, NONE)
        cancelled = 0

        def cancel(self, _job):
            self.cancelled += 1

    pool = Pool()
    numbers = iter(range(55, 99))
    monkeypatch.setattr(kind, "_ask", lambda _argv: pool.answer)
    monkeypatch.setattr(kind, "submit", lambda path, _cwd, _log: Job(str(next(numbers)), path))
    monkeypatch.setattr(kind, "cancel", pool.cancel)
    return pool


def test_a_job_that_is_held_can_be_released_or_cancelled(condor):
    record = jobs.submit("htcondor", jobs.request(n=2))
    condor.answer = CONDOR.format(5, 2, NONE, NONE, "no folder", NONE)
    watch = jobs.Watch(record)
    assert watch.status() == record.status() == Status(FAILED, "it is held: no folder", stays=True)
    condor.answer = CONDOR.format(2, 5, NONE, NONE, NONE, NONE)
    assert watch.status(fresh=True) == jobs.find("default", None).status() == Status(RUNNING)
    condor.answer = CONDOR.format(5, 2, NONE, NONE, "no folder", NONE)
    record.cancel()
    assert condor.cancelled == 1
    condor.answer = CONDOR.format(3, 5, NONE, NONE, NONE, "via condor_rm")
    assert record.status() == Status(ENDED, "it was cancelled")
    record.cancel()
    assert condor.cancelled == 1


def test_what_mpicluster_ends_with_after_a_signal(condor):
    record = jobs.submit("htcondor", jobs.request(n=2))
    condor.answer = CONDOR.format(4, 2, 143, NONE, NONE, NONE)
    assert record.status() == Status(FAILED, TOLD, 143)


def test_an_id_is_one_cluster_s(condor, some_contact):
    jobs.submit("htcondor", jobs.request(n=2), cluster="main")
    with pytest.raises(LaunchError, match=r"job 55 \(htcondor\), which is to start a cluster 'main', is running: take another id, or"):
        jobs.submit("htcondor", jobs.request(n=2), cluster="main")
    condor.answer = CONDOR.format(4, 2, 0, NONE, NONE, NONE)
    assert jobs.submit("htcondor", jobs.request(n=2), cluster="main").job == "56"
    condor.answer = ""  # it has ended, and is forgotten
    assert jobs.submit("htcondor", jobs.request(n=2), cluster="main").job == "57"
    path = contact_file.write(some_contact(cluster="main"))
    with pytest.raises(LaunchError, match=f"runs already on elsewhere, or has left {path}"):
        jobs.submit("htcondor", jobs.request(n=2), cluster="main")
    condor.answer = CONDOR.format(4, 2, 0, NONE, NONE, NONE)  # its job is known to be over: it has left the file
    assert jobs.submit("htcondor", jobs.request(n=2), cluster="main").job == "58"
    assert not path.exists()


def test_a_job_is_found_without_its_server(condor):
    record = jobs.submit("htcondor", jobs.request(n=2))
    for job in ("55.server.org", "55;alps"):
        record.job = job
        jobs._write(record)
        assert jobs.find("default", "55").job == job
    with pytest.raises(LaunchError, match="no job '5'"):
        jobs.find("default", "5")


# -- what cannot be asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "words"), [
    ({"extra": "--constraint=a\nrm -rf x"}, "extra is one line"),
    ({"extra": ["ok", ""]}, "extra is one line"),
    ({"partition": ""}, "partition is one line"),
    ({"name": "a/b"}, "name is no path"),
    ({"log": "x-%j.log"}, "without patterns"),
    ({"log": Path("x-%j.log")}, "without patterns"),
    ({"name": 5}, "name is one line"),
    ({"log": "x-$JOB_ID.log"}, "without patterns"),
])  # fmt: skip
def test_what_no_system_is_asked(options, words):
    with pytest.raises(ValueError, match=words):
        jobs.request(n=2, **options)


@pytest.mark.parametrize(("name", "options", "words"), [
    ("pbs", {"name": "my job"}, "name 'my job' cannot be said to pbs"),
    ("pbs", {"name": "1st"}, "begins with a letter"),
    ("sge", {"name": "my job"}, "name 'my job' cannot be said to sge"),
    ("pbs", {"log": "a:b"}, "looks for a host"),
    ("sge", {"log": "a:b"}, "looks for a host"),
    ("slurm", {"account": 'a"b'}, "has quotes"),
    ("lsf", {"account": "a\\b"}, "has quotes or backslashes"),
    ("slurm", {"env_script": "nowhere.sh"}, "no such file"),
])  # fmt: skip
def test_what_one_system_cannot_be_asked(name, options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        jobs.script(name, jobs.request(n=2, **options))


@pytest.mark.parametrize("word", ["a'b", "$(HOME)", "$$(x)", 'a"b'])
def test_what_a_submit_file_cannot_hand_on(word, tmp_path, monkeypatch):
    (tmp_path / "s.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="cannot hand on"):
        jobs.script("htcondor", jobs.request(n=2), command=["s.py", word])


def test_a_folder_with_blanks_and_patterns(tmp_path, monkeypatch):
    """In which whoever submits may be."""
    folder = tmp_path / "my 50% #1"
    folder.mkdir()
    monkeypatch.chdir(folder)
    expected = {
        "slurm": f'#SBATCH --output="{tmp_path}/my 50%% #1/x.log"',
        "pbs": f'#PBS -o "{folder}/x.log"',
        "lsf": f'#BSUB -o "{folder}/x.log"',
        "sge": f'#$ -o "{folder}/x.log"',
        "htcondor": f"output = {folder}/x.log",
    }
    for name, line in expected.items():
        assert line in jobs.script(name, jobs.request(n=2, log="x.log")).splitlines()
    with pytest.raises(ValueError, match="no such folder"):
        jobs.submit("slurm", jobs.request(n=2, log="nowhere/x.log"))


def test_a_template_that_does_not_heed_the_time(tmp_path):
    own = tmp_path / "mine.sub"
    own.write_text("request_cpus = 6\npython =\nmpicluster =\nqueue\n")
    with pytest.raises(ValueError, match=r"no line that heeds \$\(seconds\)"):
        jobs.script("htcondor", jobs.request(n=2, time="1h"), given=own)


def test_cores_of_a_template_are_the_engines(tmp_path):
    own = tmp_path / "mine.sub"
    own.write_text("request_cpus = 6\npython =\nmpicluster =\nqueue\n")
    assert "\nmpicluster = start -n 6 --profile default" in jobs.script("htcondor", jobs.request(), given=own)
