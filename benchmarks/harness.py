"""One round of one contender: start its process, follow its records, and see that nothing is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import msgspec

from benchmarks import processes
from benchmarks.contenders import Contender
from benchmarks.linalg.measures import MatrixSize
from benchmarks.measures import Size
from benchmarks.records import Began, Ended, Failed, Record, Request, Sampled, read

__all__ = ["environment", "run_round"]

ROOT = Path(__file__).resolve().parent.parent
#: how often the records are looked at; rarely, for whoever looks takes time from whom is measured
LOOK_EVERY = 0.25
#: how long a contender's processes may take to go once it has ended
LEAVE_WITHIN = 10.0


def environment(folder: Path, mark: str) -> dict[str, str]:
    """What a contender's processes inherit: our packages first, any number of ranks, all files in a folder of their own."""
    inherited = dict(os.environ)
    settings = {
        processes.MARK: mark,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH")])),
        "TMPDIR": str(folder),
        "IPYTHONDIR": str(folder / "ipython"),
        "DASK_TEMPORARY_DIRECTORY": str(folder),
        "MPICLUSTER_STATE_DIR": str(folder / "state"),
        # Open MPI binds each rank to a core and refuses more ranks than cores, unless told otherwise
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "PRTE_MCA_hwloc_default_binding_policy": "none",
    }
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        settings |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return inherited | settings


def _threads(contender: Contender) -> dict[str, str]:
    """How many threads each of its processes may use."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {} if contender.threads is None else dict.fromkeys(names, str(contender.threads))


def run_round(contender: Contender, size: Size | MatrixSize, engines: int, measures: list[str], patience: float) -> list[Record]:
    """Everything that one contender has to say in one round: samples and failures, never an exception of its own.

    Parameters
    ----------
    patience
        seconds in which a contender must come forward with its next record; then it is ended and this is its failure.
    """
    mark = uuid.uuid4().hex
    # short, for the addresses of sockets in it may have about 100 characters
    with tempfile.TemporaryDirectory(prefix="b-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        records, log = folder / "records.jsonl", folder / "log"
        request = msgspec.json.encode(Request(engines, measures, size, str(records))).decode()
        with log.open("wb") as sink:
            try:
                process = subprocess.Popen(
                    [*contender.command(engines), request],
                    cwd=ROOT,
                    env=environment(folder, mark) | _threads(contender),
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is for us; we end it
                )
            except OSError as error:
                return [Failed("start", _plain(str(error), folder))]
            try:
                hung = not _follow(process, records, patience)
            finally:
                names = processes.end(mark, process.pid, grace=0 if process.poll() is None else LEAVE_WITHIN)
                if process.poll() is None:
                    process.kill()
                process.wait()
        told = read(records)
        return [*_outcomes(told, folder), *_end(told, process.returncode, hung, patience, names, log, folder)]


def _follow(process: subprocess.Popen[bytes], records: Path, patience: float) -> bool:
    """Wait until the process ends; False if it fell silent before."""
    seen, deadline = 0, time.monotonic() + patience
    while process.poll() is None:
        time.sleep(LOOK_EVERY)
        size = records.stat().st_size if records.exists() else 0
        if size > seen:
            seen, deadline = size, time.monotonic() + patience
        elif time.monotonic() > deadline:
            return False
    return True


def _outcomes(told: list[Record], folder: Path) -> list[Record]:
    """Samples and failures alone, their reasons fit to be published."""
    return [
        Failed(record.measure, _plain(record.reason, folder)) if isinstance(record, Failed) else record
        for record in told
        if isinstance(record, Sampled | Failed)
    ]


def _end(told: list[Record], returncode: int, hung: bool, patience: float, left: list[str], log: Path, folder: Path) -> list[Record]:
    """The failure, if any, that the contender could not tell itself."""
    last = told[-1] if told else Began("start")
    at = last.measure if isinstance(last, Began) else "stop"
    if hung:
        return [Failed(at, f"nothing within {patience:g} s, ended")]
    if not isinstance(last, Ended | Failed):
        return [Failed(at, f"exit code {returncode}: {_plain(_last_words(log), folder)}")]
    if isinstance(last, Ended) and left:
        return [Failed("stop", f"left behind, ended: {', '.join(sorted(left))}")]
    return []


def _last_words(log: Path) -> str:
    """The line in the log that most likely says why: the last that names an error, else the last."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip(" -\t")]
    named = [line for line in lines if "Error" in line or "error" in line]
    return (named or lines or ["it said nothing"])[-1][:300]


def _plain(text: str, folder: Path) -> str:
    """Without the folders of this machine."""
    for path, word in ((str(folder), "<scratch>"), (sys.prefix, "<env>"), (str(ROOT), "<here>")):
        text = text.replace(path, word)
    return text
