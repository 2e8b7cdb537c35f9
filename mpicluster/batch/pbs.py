"""OpenPBS and PBS Professional. Words from their manuals (PBS Professional Reference Guide, qstat)."""

from __future__ import annotations

import re

from mpicluster.batch.request import Request, clock
from mpicluster.batch.system import ENDED, FAILED, PENDING, RUNNING, Job, Status, System, Unknown, exited
from mpicluster.batch.template import filled

__all__ = ["PBS"]

_STATE = {
    "Q": PENDING,
    "H": PENDING,
    "W": PENDING,
    "T": PENDING,
    "M": PENDING,
    "S": PENDING,
    "B": RUNNING,
    "R": RUNNING,
    "E": RUNNING,
    "U": RUNNING,
}
#: exit statuses that are not the script's
_WORDS = {
    -29: "it reached its time limit",
    -27: "it ran out of memory",
    -1: "it could not be started",
    -2: "it could not be started",
    -3: "it could not be started",
}


class PBS(System):
    """PBS."""

    name = "pbs"
    file = "pbs.sh"
    prefix = "#PBS"
    named = "pbs-${PBS_JOBID%%.*}"
    submitter = "qsub"
    refused = {"qos": "PBS has none; what a site has instead is a queue (--partition), or goes through --extra"}
    unspeakable = {
        "name": (r"^[^A-Za-z]|[^\w.+-]", "is letters, digits, and . _ + -, and begins with a letter"),
        "log": (":", "has no colon, before which PBS looks for a host"),
    }

    def script(self, template: str, request: Request) -> str:
        """Chunks are nodes, also where PBS would put several on one; and what else a site has in its line stays."""
        text = super().script(template, request)
        old, new = (re.search(r"^#?#PBS\s+-l\s+select=([^\s,]+)", t, re.MULTILINE) for t in (template, text))
        if old and new and request.n is not None:
            ours = {part.partition("=")[0] for part in new[1].split(":")}
            stays = [part for part in old[1].partition("+")[0].split(":")[1:] if part.partition("=")[0] not in ours]
            text = ":".join([text[: new.end(1)], *stays]) + text[new.end(1) :]
        if (request.nodes or 1) > 1 and not re.search(r"^#PBS\s.*\bplace=", text, re.MULTILINE):
            text = filled(text, self.prefix, {"-l place=": "-l place=scatter"})
        return text

    def directives(self, request: Request) -> dict[str, str]:
        r = request
        lines = {
            "-N ": r.name,
            "-l walltime=": None if r.time is None else clock(r.time),
            "-q ": r.partition,
            "-A ": r.account,
            "-o ": r.log,
        }
        found = self.said(lines)
        if r.n is not None:
            nodes = r.nodes or 1
            each, rest = divmod(r.n, nodes)
            if rest or not each:
                raise ValueError(f"PBS gives all nodes alike, and {r.n} engines do not divide evenly among {nodes}")
            chunk = f"{nodes}:ncpus={each}:mpiprocs={each}"
            if r.mem is not None:
                chunk += f":mem={r.mem}mb"
            if r.gpus is not None:
                if r.gpus % nodes:
                    raise ValueError(f"PBS gives all nodes alike, and {r.gpus} accelerators do not divide evenly among {nodes}")
                chunk += f":ngpus={r.gpus // nodes}"
            found["-l select="] = f"-l select={chunk}"
        elif (r.nodes, r.mem, r.gpus) != (None, None, None):
            raise ValueError("PBS has nodes, memory and accelerators in one line with the number of engines: say -n too")
        return found

    def parse_submission(self, text: str) -> str | None:
        found = re.fullmatch(r"(\d+(?:\[\])?\S*)", text.strip().rpartition("\n")[2])
        return found[1] if found else None

    def status(self, job: Job) -> Status:
        try:
            text = self._ask(["qstat", "-x", "-f", job.id])  # with those that have ended
        except Unknown as e:
            if "history" not in str(e).lower():
                raise
            text = self._ask(["qstat", "-f", job.id])  # the server keeps none
        text = re.sub(r"\n\t", "", text)  # long values go on in the next line
        state = re.search(r"^\s*job_state = (\w)", text, re.MULTILINE)
        if state is None:
            raise Unknown(f"qstat says nothing of the state of job {job.id}")
        comment = re.search(r"^\s*comment = (.*)$", text, re.MULTILINE)
        if state[1] in _STATE:
            return Status(_STATE[state[1]], comment[1].strip() if comment and _STATE[state[1]] == PENDING else "")
        code = re.search(r"^\s*Exit_status = (-?\d+)", text, re.MULTILINE)
        if code is None:
            return Status(ENDED, "it was cancelled before it began")
        number = int(code[1])
        if number and "walltime" in (comment[1] if comment else ""):
            return Status(FAILED, _WORDS[-29])
        if number in (271, 265):  # 256 and the signal: qdel, the manual says; at some sites also the end of the time
            return Status(FAILED, "it was told to end: by qdel, or because its time was over")
        if 0 <= number < 256:
            return exited(number)
        said = f"it was ended by signal {number - 256}" if number > 256 else f"it exited with {number}"
        return Status(FAILED, _WORDS.get(number, said))

    def cancellation(self, job: Job) -> list[str]:
        return ["qdel", job.id]
