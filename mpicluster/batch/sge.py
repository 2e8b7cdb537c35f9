"""Grid Engine, all that descend from Sun's. Words from its manual pages (qsub, qstat, qacct) and runs with 8.1.9."""

from __future__ import annotations

import re
from pathlib import Path

from mpicluster.batch.request import Request, clock
from mpicluster.batch.system import ENDED, FAILED, PENDING, RUNNING, Job, Status, System, Unknown, exited

__all__ = ["GridEngine"]


class GridEngine(System):
    """Grid Engine."""

    name = "sge"
    file = "sge.sh"
    prefix = "#$"
    named = "sge-$JOB_ID"
    submitter = "qsub"
    refused = {
        "nodes": "the parallel environment decides how slots are spread (its allocation_rule, `qconf -sp NAME`)",
        "qos": "Grid Engine has none; what a site has instead goes through --extra",
        "mem": "Grid Engine counts memory for each slot, under a name of the site's: --extra '-l h_vmem=4G'",
        "gpus": "accelerators have a name of the site's: --extra '-l gpu=1'",
    }

    unspeakable = {
        "name": (r"^\d|[\s/:@\\*?]", "has no blanks and none of /:@*?, and does not begin with a digit"),
        "log": (r"[:$]", "has no colon, before which Grid Engine looks for a host, and no $"),
    }

    def script(self, template: str, request: Request) -> str:
        """With the parallel environment that the template has: its name is the site's."""
        found = re.search(r"^#?#\$\s*-pe\s+(\S+)", template, re.MULTILINE)
        text = super().script(template, request)
        return re.sub(r"(?m)^#\$ -pe mpi\b", f"#$ -pe {found[1]}", text) if found else text

    def directives(self, request: Request) -> dict[str, str]:
        r = request
        lines = {
            "-N ": r.name,
            "-l h_rt=": None if r.time is None else clock(r.time),
            "-q ": r.partition,
            "-P ": r.account,
            "-o ": r.log,
        }
        found = self.said(lines)
        return found if r.n is None else {**found, "-pe ": f"-pe mpi {r.n}"}

    def submission(self, path: Path) -> list[str]:
        return ["qsub", "-terse", str(path)]

    def parse_submission(self, text: str) -> str | None:
        found = re.fullmatch(r"(\d+)(?:\.\S+)?", text.strip().rpartition("\n")[2])
        return found[1] if found else None

    def taken_all_the_same(self, text: str) -> str | None:
        found = re.search(r"Your job (\d+) .* has been submitted", text)  # with a warning, qsub ends with 1
        return found[1] if found else None

    def status(self, job: Job) -> Status:
        for line in self._ask(["qstat", "-u", "*"]).splitlines():
            fields = line.split()
            if len(fields) > 4 and fields[0] == job.id:
                return self._waiting_or_running(job, fields[4])
        return self._accounted(job)

    def _waiting_or_running(self, job: Job, letters: str) -> Status:
        """Letters: what it does (q, w, r, t, s), and what hinders or is done to it (h, E, d)."""
        if "E" in letters:
            why = re.search(r"^error reason\s+\d*:\s*(.*)$", self._ask(["qstat", "-j", job.id]), re.MULTILINE)
            return Status(FAILED, why[1].strip() if why else "it is in error state; `qstat -j` says why", stays=True)
        if "r" in letters or "t" in letters or letters in ("s", "S", "T"):
            return Status(RUNNING)
        return Status(PENDING, "it is held" if "h" in letters else "")

    def _accounted(self, job: Job) -> Status:
        text = self._ask(["qacct", "-j", job.id])
        failed, code = (
            re.findall(r"^failed\s+(\d+)\s*:?\s*(.*)$", text, re.MULTILINE),
            re.findall(r"^exit_status\s+(\d+)", text, re.MULTILINE),
        )
        if not failed or not code:
            raise Unknown(f"qacct says nothing of how job {job.id} ended")
        (number, why), status = failed[-1], int(code[-1])
        if number == "100" and status in (137, 143) and re.search(r"^deleted_by\s+(?!NONE)\S+", text, re.MULTILINE):
            return Status(ENDED, "it was cancelled")
        if number != "0":
            return Status(
                FAILED, f"it was ended by signal {status - 128}" if number == "100" and status > 128 else why.strip() or f"failure {number}"
            )
        return exited(status)

    def cancellation(self, job: Job) -> list[str]:
        return ["qdel", job.id]
