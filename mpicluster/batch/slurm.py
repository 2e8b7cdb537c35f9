"""Slurm: https://slurm.schedmd.com. Tried with 22.05; `scontrol` has had these words since 14."""

from __future__ import annotations

import re
from pathlib import Path

from mpicluster.batch.request import Request, clock, seconds
from mpicluster.batch.system import ENDED, FAILED, PENDING, RUNNING, Job, Status, System, Unknown, exited, told_to_end

__all__ = ["Slurm"]

_STATES = {
    PENDING: "PENDING CONFIGURING REQUEUED REQUEUE_HOLD REQUEUE_FED RESV_DEL_HOLD SPECIAL_EXIT",
    RUNNING: "RUNNING COMPLETING SUSPENDED STOPPED RESIZING SIGNALING STAGE_OUT",
    ENDED: "COMPLETED CANCELLED",
    FAILED: "FAILED TIMEOUT OUT_OF_MEMORY NODE_FAIL PREEMPTED BOOT_FAIL DEADLINE REVOKED LAUNCH_FAILED RECONFIG_FAIL",
}
_STATE = {word: state for state, words in _STATES.items() for word in words.split()}
_WORDS = {
    "CANCELLED": "it was cancelled",
    "TIMEOUT": "it reached its time limit",
    "OUT_OF_MEMORY": "it ran out of memory",
    "NODE_FAIL": "a node failed",
    "PREEMPTED": "it was preempted",
    "BOOT_FAIL": "a node did not boot",
    "DEADLINE": "it could not end before its deadline",
}
#: The template has Slurm send SIGTERM so many seconds before the end; of a job that is shorter than four times that, a quarter.
_WARNING = 60
#: with which Slurm ends a job whose log cannot be written
_NO_LOG = "53"


class Slurm(System):
    """Slurm."""

    name = "slurm"
    file = "slurm.sh"
    prefix = "#SBATCH"
    named = "slurm-$SLURM_JOB_ID"
    submitter = "sbatch"

    def directives(self, request: Request) -> dict[str, str]:
        r = request
        values = {
            "--job-name=": r.name,
            "--ntasks=": r.n,
            "--nodes=": r.nodes,
            "--time=": None if r.time is None else clock(-(-r.time // 60) * 60, days=True),  # it counts minutes
            "--signal=": None if r.time is None or r.time >= 4 * _WARNING else f"B:TERM@{max(1, r.time // 4)}",
            "--partition=": r.partition,
            "--account=": r.account,
            "--qos=": r.qos,
            "--mem=": None if r.mem is None else f"{r.mem}M",
            "--gpus=": r.gpus,
            "--output=": None if r.log is None else r.log.replace("%", "%%"),
        }
        return self.said(values)

    def submission(self, path: Path) -> list[str]:
        return ["sbatch", "--parsable", str(path)]

    def parse_submission(self, text: str) -> str | None:
        found = re.fullmatch(r"\d+(?:;\S+)?", text.strip().rpartition("\n")[2])
        return found[0] if found else None

    def status(self, job: Job) -> Status:
        try:
            number, there = _where(job)
            text = self._ask(["scontrol", *there, "-o", "show", "job", number])
        except Unknown as e:
            if "Invalid job id" not in str(e):
                raise
            return self._accounted(job)  # forgotten by the controller, some minutes after its end
        state = re.search(r"\bJobState=(\S+)", text)
        if state is None:
            raise Unknown(f"scontrol says nothing of the state of job {job.id}")
        reason, code = re.search(r"\bReason=(.*?) Dependency=", text), re.search(r"\bExitCode=(\d+):(\d+)", text)
        ran, limit = (_seconds(re.search(rf"\b{name}=(\S+)", text)) for name in ("RunTime", "TimeLimit"))
        warned = ran is not None and limit is not None and ran >= limit - 2 * _WARNING  # it says so up to a minute early
        return _status(state[1], reason[1] if reason else "", code[1] + ":" + code[2] if code else "", warned=warned)

    def _accounted(self, job: Job) -> Status:
        """What accounting knows, where there is any."""
        number, there = _where(job)
        text = self._ask(["sacct", *there, "-X", "-n", "-P", "-j", number, "-o", "State,ExitCode"])
        state, _, code = text.strip().partition("\n")[0].partition("|")
        if not state:
            raise Unknown(f"neither scontrol nor sacct knows job {job.id}")
        return _status(state.split()[0], "", code)

    def cancellation(self, job: Job) -> list[str]:
        number, there = _where(job)
        return ["scancel", *there, number]


def _where(job: Job) -> tuple[str, list[str]]:
    """Its number, and which of several Slurms knows it."""
    number, _, cluster = job.id.partition(";")
    return number, ["-M", cluster] if cluster else []


def _seconds(found: re.Match[str] | None) -> int | None:
    """A time of scontrol's: ``1-02:03:04``."""
    try:
        return seconds(found[1]) if found else None
    except ValueError:  # UNLIMITED
        return None


def _status(word: str, reason: str, code: str, *, warned: bool = False) -> Status:
    state = _STATE.get(word)
    if state is None:
        raise Unknown(f"there is no job state {word!r}")
    reason = "" if reason in ("None", "(null)") else reason
    if state == PENDING:
        return Status(state, reason)
    if state == RUNNING:
        return Status(state)
    exit_code, _, number = code.partition(":")
    if number == _NO_LOG:
        return Status(FAILED, "its log could not be written")
    if word == "FAILED":
        if warned and told_to_end(int(exit_code or 0)):
            return Status(FAILED, _WORDS["TIMEOUT"], int(exit_code))
        failed = Status(FAILED, f"it was ended by signal {number}") if number not in ("", "0") else exited(int(exit_code or 1))
        return failed if reason in ("", "NonZeroExitCode") else failed._replace(reason=f"{failed.reason}: {reason}")
    return Status(state, _WORDS.get(word, "" if state == ENDED else reason or word))
