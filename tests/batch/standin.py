"""Stands in for the commands of a batch system: called as one of them, it behaves as its manual says.

Jobs are folders of ``$STANDIN``. A job waits while there is a file ``hold``; then its script runs, here, with what the system would
have set. ``refuse`` (a text) has submissions refused, ``warn`` (a text) has Grid Engine take them and end as if it had not, ``slow``
(seconds) has answers come late, ``forgotten`` has no job known.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(os.environ["STANDIN"])
NAME = Path(sys.argv[0]).name
ARGS = sys.argv[1:]


def fail(text, code=1):
    sys.exit((sys.stderr.write(text + "\n"), code)[1])


def submit(script, environment):
    if (ROOT / "refuse").exists():
        fail((ROOT / "refuse").read_text())
    number = 100 + len(list(ROOT.glob("job-*")))
    folder = ROOT / f"job-{number}"
    folder.mkdir()
    (folder / "script").write_text(script)
    (folder / "environment").write_text(json.dumps(environment(number, folder)))
    subprocess.Popen(
        [sys.executable, __file__, "--run", str(folder)],
        start_new_session=True,
        **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL),
    )
    return number


def run(folder):
    """The life of a job."""
    (folder / "pid").write_text(str(os.getpid()))
    signal.signal(signal.SIGTERM, lambda *_: None)
    while (ROOT / "hold").exists() and not (folder / "cancelled").exists():
        time.sleep(0.02)
    if not (folder / "cancelled").exists():
        (folder / "running").touch()
        text = (folder / "script").read_text()
        log = next(
            (line.split(mark, 1)[1].strip(' "\n') for line in text.splitlines() for mark in ("-o ", "output = ") if mark in line),
            os.devnull,
        )
        env = {**os.environ, **json.loads((folder / "environment").read_text())}
        with Path(log).open("ab") as out:
            child = subprocess.Popen(["bash", str(folder / "script")], stdout=out, stderr=out, env=env, start_new_session=True)
            (folder / "child").write_text(str(child.pid))
            code = child.wait()
        (folder / "code").write_text(str(code if code >= 0 else 128 - code))
    (folder / "over").touch()


def job(number):
    folder = ROOT / f"job-{str(number).partition('.')[0]}"
    if not folder.is_dir() or (ROOT / "forgotten").exists():
        return None, "", ""
    cancelled = (folder / "cancelled").exists()
    if (folder / "over").exists():
        code = (folder / "code").read_text() if (folder / "code").exists() else ""
        return folder, "cancelled" if cancelled else "over", code
    return folder, "running" if (folder / "running").exists() else "pending", ""


def cancel(number):
    folder, state, _ = job(number)
    if folder is None or state in ("over", "cancelled"):
        return False
    (folder / "cancelled").touch()
    if (folder / "child").exists():
        os.killpg(int((folder / "child").read_text()), signal.SIGTERM)
    return True


def pbs():
    if NAME == "qsub":
        text = Path(ARGS[-1]).read_text()
        where = {"PBS_O_WORKDIR": str(Path.cwd())}
        number = submit(text, lambda n, folder: {"PBS_JOBID": f"{n}.server", "PBS_NODEFILE": str(folder / "nodes"), **where})
        count = int(next(line for line in text.splitlines() if "select=" in line).partition("mpiprocs=")[2].partition(":")[0])
        (ROOT / f"job-{number}" / "nodes").write_text("here\n" * count)
        print(f"{number}.server")
    elif NAME == "qstat":
        folder, state, code = job(ARGS[-1])
        if folder is None:
            fail(f"qstat: Unknown Job Id {ARGS[-1]}", 153)
        letter = {"pending": "Q", "running": "R"}.get(state, "F")
        print(f"Job Id: {ARGS[-1]}\n    Job_Name = mpicluster\n    job_state = {letter}")
        if state == "pending":
            print("    comment = Not Running: Insufficient amount of resource:\n\t ncpus")
        elif code or state == "cancelled":
            print(*([f"    Exit_status = {'271' if state == 'cancelled' else code}"] if code else []))
    elif not cancel(ARGS[-1]):
        fail(f"qdel: Job has finished {ARGS[-1]}", 35)


def lsf():
    if NAME == "bsub":
        text = sys.stdin.read()
        count = next(line.split()[-1] for line in text.splitlines() if line.startswith("#BSUB -n "))
        number = submit(text, lambda n, _: {"LSB_JOBID": str(n), "LSB_DJOB_NUMPROC": count})
        print(f"Job <{number}> is submitted to default queue <normal>.")
    elif NAME == "bjobs":
        folder, state, code = job(ARGS[-1])
        if folder is None:
            fail(f"Job <{ARGS[-1]}> is not found", 255)
        if state == "pending":
            print("PEND|-|-|Job slot limit reached: 2 hosts;")
        elif state == "running":
            print("RUN|-|-|-")
        elif state == "cancelled":
            print("EXIT|143|TERM_OWNER: job killed by owner|-")
        else:
            print("DONE|-|-|-" if code == "0" else f"EXIT|{code}|-|-")
    elif not cancel(ARGS[-1]):
        fail(f"Job <{ARGS[-1]}>: Job has already finished", 255)


def sge():
    if NAME == "qsub":
        text = Path(ARGS[-1]).read_text()
        count = next(line.split()[-1] for line in text.splitlines() if line.startswith("#$ -pe "))
        hosts = ROOT / "hosts"
        hosts.write_text(f"localhost {count} all.q@localhost UNDEFINED\n")
        number = submit(text, lambda n, _: {"JOB_ID": str(n), "NSLOTS": count, "PE_HOSTFILE": str(hosts)})
        if (ROOT / "warn").exists():
            fail(
                f'Unable to run job: warning: {(ROOT / "warn").read_text()}\nYour job {number} ("mpicluster") has been submitted\nExiting.'
            )
        print(number)
    elif NAME == "qstat":
        print("job-ID  prior   name       user         state submit/start at     queue   slots ja-task-ID\n" + "-" * 60)
        for path in ROOT.glob("job-*"):
            number = path.name.partition("-")[2]
            folder, state, _ = job(number)
            if folder is not None and state in ("pending", "running"):
                print(
                    f"    {number} 0.55500 mpicluster me           {'qw' if state == 'pending' else 'r'}     11/26/2026 09:00:00          4"
                )
    elif NAME == "qacct":
        folder, state, code = job(ARGS[-1])
        if (
            folder is None or state not in ("over", "cancelled") or not (folder / "running").exists()
        ):  # there is no word of what never began
            fail(f"error: job id {ARGS[-1]} not found")
        failed = "100 : assumedly after job" if state == "cancelled" else "0"
        print(f"{'=' * 62}\nfailed       {failed}\nexit_status  {'143' if state == 'cancelled' else code}")
        print(f"deleted_by   {'me@here' if state == 'cancelled' else 'NONE'}")
    elif not cancel(ARGS[-1]):
        fail(f'denied: job "{ARGS[-1]}" does not exist')


def condor():
    if NAME == "condor_submit":
        lines = Path(ARGS[-1]).read_text().splitlines()
        values = dict(line.split(" = ", 1) for line in lines if " = " in line and not line.startswith("#"))
        script = f"exec {values['python']} -m mpicluster {values['mpicluster']}\n"
        log = f"# output = {values['output']}\n"
        environment = dict(pair.split("=", 1) for pair in values.get("environment", '""').strip('"').replace("'", "").split())
        number = submit(log + script, lambda n, _: environment)
        print(f"{number}.0 - {number}.0")
    elif NAME in ("condor_q", "condor_history"):
        folder, state, code = job(ARGS[0])
        over = state in ("over", "cancelled")
        if folder is not None and over == (NAME == "condor_history"):
            number = {"pending": 1, "running": 2, "cancelled": 3, "over": 4}[state]
            removed = "via condor_rm (by user me)" if state == "cancelled" else "undefined"
            print(number, 2 if over else 1, code or "undefined", "undefined", "undefined", removed, sep="\t")
    elif not cancel(ARGS[-1]):
        fail(f"Couldn't find/remove all jobs matching constraint (ClusterId == {ARGS[-1]})")


if __name__ == "__main__":
    if ARGS[:1] == ["--run"]:
        run(Path(ARGS[1]))
    else:
        if (ROOT / "slow").exists():
            time.sleep(float((ROOT / "slow").read_text()))
        {"pbs": pbs, "lsf": lsf, "sge": sge, "htcondor": condor}[os.environ["STANDIN_SYSTEM"]]()
