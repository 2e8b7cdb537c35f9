"""IBM Spectrum LSF. Words from its manual (Spectrum LSF 10.1: bsub, bjobs, job states)."""

from __future__ import annotations

import re
from pathlib import Path

from mpicluster.batch.request import Request
from mpicluster.batch.system import ENDED, FAILED, PENDING, RUNNING, Job, Status, System, Unknown, exited

__all__ = ["LSF"]

_STATE = {
    "PEND": PENDING,
    "PSUSP": PENDING,
    "WAIT": PENDING,
    "PROV": PENDING,
    "RUN": RUNNING,
    "USUSP": RUNNING,
    "SSUSP": RUNNING,
    "UNKWN": RUNNING,  # its host does not answer
    "DONE": ENDED,
    "EXIT": FAILED,
    "ZOMBI": FAILED,
}
_WORDS = {
    "TERM_RUNLIMIT": "it reached its time limit",
    "TERM_MEMLIMIT": "it ran out of memory",
    "TERM_OWNER": "it was cancelled",
    "TERM_FORCE_OWNER": "it was cancelled",
    "TERM_PREEMPT": "it was preempted",
}


class LSF(System):
    """LSF."""

    name = "lsf"
    file = "lsf.sh"
    prefix = "#BSUB"
    named = "lsf-$LSB_JOBID"
    submitter = "bsub"
    refused = {"qos": "LSF has service classes instead: --extra '-sla CLASS'"}

    def directives(self, request: Request) -> dict[str, str]:
        r = request
        lines: dict[str, object] = {"-J ": r.name, "-n ": r.n, "-q ": r.partition, "-P ": r.account, "-o ": r.log}
        found = self.said(lines)
        if r.time is not None:
            hours, minutes = divmod(-(-r.time // 60), 60)
            found["-W "] = f"-W {hours}:{minutes:02}"
        if r.nodes is not None:
            if r.n is None or r.n % r.nodes:
                raise ValueError(
                    f"LSF gives all nodes alike, and {r.n or 'an unknown number of'} engines do not divide evenly among {r.nodes}"
                )
            found['-R "span['] = f'-R "span[ptile={r.n // r.nodes}]"'
        if r.mem is not None:
            found['-R "rusage['] = f'-R "rusage[mem={r.mem}M/host]"'
        if r.gpus is not None:
            if r.gpus % (r.nodes or 1):
                raise ValueError(f"LSF gives all nodes alike, and {r.gpus} accelerators do not divide evenly among {r.nodes}")
            found["-gpu "] = f'-gpu "num={r.gpus // (r.nodes or 1)}"'
        return found

    def submission(self, path: Path) -> list[str]:
        # it reads directives from its standard input alone; the log is to be seen while the job runs
        return ["sh", "-c", 'LSB_STDOUT_DIRECT=Y exec bsub < "$1"', "sh", str(path)]

    def parse_submission(self, text: str) -> str | None:
        found = re.search(r"Job <(\d+)> is submitted", text)
        return found[1] if found else None

    def status(self, job: Job) -> Status:
        text = self._ask(["bjobs", "-a", "-noheader", "-o", "stat exit_code exit_reason pend_reason delimiter='|'", job.id]).strip()
        fields = [f.strip() for f in text.rpartition("\n")[2].split("|")]
        if len(fields) != 4 or fields[0] not in _STATE:
            raise Unknown(f"bjobs says of job {job.id}: {text or 'nothing'}")
        word, code, ended, waits = fields
        state = _STATE[word]
        if state == PENDING:
            return Status(state, "" if waits in ("", "-") else waits)
        if state != FAILED:
            return Status(state)
        for name, words in _WORDS.items():
            if name in ended:
                return Status(ENDED if words == "it was cancelled" else FAILED, words)
        if word == "ZOMBI":
            return Status(FAILED, "its host is lost")
        failed = exited(int(code)) if code.isdigit() and code != "0" else Status(FAILED, "it failed")
        return failed if ended in ("", "-") else failed._replace(reason=f"{failed.reason}: {ended}")

    def cancellation(self, job: Job) -> list[str]:
        return ["bkill", job.id]
