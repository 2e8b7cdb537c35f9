"""HTCondor, on one machine. Words from its manual (24.0: condor_submit, condor_q, JobStatus)."""

from __future__ import annotations

import re
from pathlib import Path

from mpicluster.batch.request import Request
from mpicluster.batch.system import ENDED, FAILED, PENDING, RUNNING, Job, Status, System, Unknown, exited

__all__ = ["HTCondor"]

#: JobStatus: idle, running, removed, completed, held, transferring output, suspended
_STATE = {"1": PENDING, "2": RUNNING, "3": ENDED, "4": ENDED, "5": FAILED, "6": RUNNING, "7": RUNNING}


class HTCondor(System):
    """HTCondor."""

    name = "htcondor"
    file = "htcondor.sub"
    prefix = ""
    named = "condor-$(Cluster)"
    submitter = "condor_submit"
    unspeakable = {
        "env_script": (r"""['"]|\$\(""", "has no quotes, and no $("),
        "python": (r"""['"]|\$\(""", "has no quotes, and no $("),
        "log": (r"\$\(", "has no $("),
    }
    refused = {
        "partition": "HTCondor has no queues; what a machine must have goes through --extra 'requirements = ...'",
        "qos": "HTCondor has none",
    }

    def script(self, template: str, request: Request) -> str:
        """As many engines as the template has cores, if none are asked for: nothing else tells them."""
        if request.n is None and request.words:
            found = re.search(r"^request_cpus\s*=\s*(\d+)", template, re.MULTILINE)
            request = request._replace(n=int(found[1]) if found else None)
        if request.time is not None and "$(seconds)" not in template:
            raise ValueError(
                "--time: the template has no line that heeds $(seconds); see periodic_remove in the one that comes with mpicluster"
            )
        return super().script(template, request)

    def directives(self, request: Request) -> dict[str, str]:
        r = request
        if r.nodes not in (None, 1):
            raise ValueError(
                "MPI over several machines takes HTCondor's parallel universe, which a site must have prepared: --nodes is 1 here"
            )
        lines = {
            "batch_name = ": r.name,
            "request_cpus = ": r.n,
            "request_memory = ": None if r.mem is None else f"{r.mem}M",
            "request_gpus = ": r.gpus,
            "accounting_group = ": r.account,
            "seconds = ": r.time,
            "output = ": r.log,
            "error = ": r.log,
        }
        return {option: f"{option}{value}" for option, value in lines.items() if value is not None}

    def variables(self, request: Request) -> dict[str, str]:
        r = request
        values = {}
        if r.env_script is not None:
            values["env_script ="] = f" {r.env_script}"
        if r.python is not None:
            values["python ="] = f" {r.python}"
        if r.words:
            command, *rest = r.words
            count = () if r.n is None else ("-n", str(r.n))
            names = ["--profile", r.profile or "default", "--cluster", r.cluster or self.named]
            words = [command, *count, *names, *rest]
            for word in words:
                if re.search(r"['\"\n]|\$\(", word.replace(self.named, "")):
                    raise ValueError(f"{word!r} has quotes, or $(, which a submit file cannot hand on: put them into a script")
            values["mpicluster ="] = " " + " ".join(f"'{w}'" if re.search(r"\s|^$", w) else w for w in words)
        if r.environment:
            said = " ".join(f"{name}={_quoted(value)}" for name, value in r.environment)
            values["getenv ="] = f' true\nenvironment = "{said}"'
        return values

    def submission(self, path: Path) -> list[str]:
        return ["condor_submit", "-terse", str(path)]

    def parse_submission(self, text: str) -> str | None:
        found = re.match(r"(\d+)\.\d+", text.strip())
        return found[1] if found else None

    def status(self, job: Job) -> Status:
        wanted = ["-af:t", "JobStatus", "LastJobStatus", "ExitCode", "ExitSignal", "HoldReason", "RemoveReason"]
        text = self._ask(["condor_q", job.id, *wanted]).strip() or self._ask(["condor_history", job.id, "-limit", "1", *wanted]).strip()
        fields = ["" if f.strip() == "undefined" else f.strip() for f in text.partition("\n")[0].split("\t")]
        number, last, code, number_of_signal, held, removed = [*fields, *[""] * 6][:6]
        state = _STATE.get(number)
        if state is None:
            raise Unknown(f"neither condor_q nor condor_history knows job {job.id}" if not text else f"there is no job state {text!r}")
        if number == "5":
            return Status(FAILED, f"it is held: {held}", stays=True)
        if number == "3":
            if "PeriodicRemove" in removed:  # as the template has it
                return Status(FAILED, "it reached its time limit" if last == "2" else "its machine was taken from it")
            return Status(ENDED, "it was cancelled") if "condor_rm" in removed else Status(FAILED, removed or "it was removed")
        if state == ENDED and number_of_signal:
            return Status(FAILED, f"it was ended by signal {number_of_signal}")
        return exited(int(code)) if state == ENDED and code.isdigit() else Status(state)

    def cancellation(self, job: Job) -> list[str]:
        return ["condor_rm", job.id]


def _quoted(value: str) -> str:
    """A value of ``environment = "..."``."""
    return "'" + value.replace("'", "''").replace('"', '""') + "'"
