"""Commands for batch systems, and for scripts that bring their engines with them."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpicluster.cli.group import (
    cluster_option,
    engines_option,
    host_option,
    hub_options,
    interface_option,
    main,
    mpi_option,
    plain_word,
    profile_option,
    refuse_for_ranks,
    timeout_option,
)
from mpicluster.config import JOB_GRACE, SCHEMES, HistoryLimits

if TYPE_CHECKING:
    from mpicluster.batch.jobs import Record
    from mpicluster.batch.request import Request

__all__ = ["cancel", "jobs", "run", "script", "submit"]

#: Jobs that a batch system is asked after at the same time.
_ASKED_AT_ONCE = 8
_SCRIPT = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def _job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What is asked of a batch system; the command gets it as ``asked``."""
    names = ("n", "nodes", "time", "partition", "account", "qos", "mem", "gpus", "name", "log", "env_script", "extra")

    def with_request(**values: Any) -> Any:
        asked = {name: values.pop(name) for name in names}
        return command(asked=asked, **values)

    decorated: Callable[..., Any] = functools.update_wrapper(with_request, command)
    for option in (
        click.option(
            "--template", type=click.Path(exists=True, dir_okay=False), help="A template of your own, in the place of the one that comes."
        ),
        click.option("--extra", multiple=True, metavar="DIRECTIVE", help="A directive as it is, after the prefix; may be repeated."),
        click.option("--env-script", metavar="FILE", help="Sourced first: modules, conda, variables."),
        click.option("--log", metavar="FILE", help="Where it prints.  [default: NAME-CLUSTER.log here]"),
        click.option("--name", help="Name of the job.  [default: mpicluster]"),
        click.option("--gpus", type=click.IntRange(min=1), help="Accelerators, of all nodes together."),
        click.option("--mem", metavar="16G", help="Memory of each node."),
        click.option("--qos", help="Quality of service."),
        click.option("--account", help="Account, or project, that pays."),
        click.option("--partition", "--queue", help="Partition, or queue."),
        click.option("--time", metavar="1:30:00", help="How long it may run; also 2-12:00:00, 90m, 1h30m."),
        click.option("--nodes", type=click.IntRange(min=1), help="Nodes to spread the engines over, evenly."),
        click.option("-n", "n", type=click.IntRange(min=1), help="Number of engines."),
    ):
        decorated = option(decorated)
    return decorated


def _words(mpi: str | None, interface: str | None, history: HistoryLimits | None, scheme: str) -> list[str]:
    """Options of ``start`` and ``run`` as they are handed on."""
    from mpicluster.cluster.words import history_options

    words = ["--mpi", mpi] if mpi is not None else []
    words += ["--interface", interface] if interface is not None else []
    return [*words, *history_options(history), *(["--scheme", scheme] if scheme != SCHEMES[0] else [])]


class _WithScript(click.Command):
    """A system, and perhaps a script, whose arguments are its own, also without ``--`` before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        takes_value = {name for p in self.params if isinstance(p, click.Option) and not p.is_flag for name in p.opts}
        positional, i = 0, 0
        while i < len(args) and args[i] != "--":
            if not args[i].startswith("-"):
                positional += 1
                if positional == 2:
                    args = [*args[:i], "--", *args[i:]]
                    break
            i += 2 if args[i] in takes_value else 1
        return super().parse_args(ctx, args)


def _job_command(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `script` and `submit` have in common; the command gets the system, and all else as `batch.jobs.submit` takes it."""

    def with_job(
        system: str,
        asked: dict[str, Any],
        template: str | None,
        profile: str,
        cluster: str | None,
        attach: str | None,
        mpi: str | None,
        interface: str | None,
        grace: float,
        history: HistoryLimits | None,
        scheme: str,
        command_: tuple[str, ...],
        **values: Any,
    ) -> Any:
        from mpicluster.batch import jobs as batch

        options = _words(mpi, interface, history, scheme)
        if attach is not None:
            options = _words(mpi, None, HistoryLimits(), SCHEMES[0])
            if cluster or command_ or interface:
                raise click.UsageError("--attach names a cluster that is there: it takes no --cluster, no --interface and no script")
        job = {
            "profile": profile,
            "cluster": attach or cluster,
            "attach": attach is not None,
            "options": options,
            "command": command_,
            "grace": grace,
            "given": template,
        }
        try:
            return command(system, batch.request(**asked), job, **values)
        except ValueError as e:
            raise click.UsageError(str(e)) from e

    decorated: Callable[..., Any] = hub_options(functools.update_wrapper(with_job, command))
    for option in (
        click.argument("command_", metavar="[SCRIPT ARGUMENTS...]", nargs=-1, type=click.UNPROCESSED),
        click.argument("system"),
        click.option(
            "--grace",
            type=click.FloatRange(min=0),
            default=JOB_GRACE,
            show_default=True,
            help="Seconds for a script after KeyboardInterrupt.",
        ),
        interface_option,
        mpi_option,
        click.option(
            "--attach", metavar="CLUSTER", callback=plain_word, help="Give a cluster that runs more engines, an MPI world of their own."
        ),
        cluster_option,
        profile_option,
    ):
        decorated = option(decorated)
    return _job_options(decorated)


@main.command(cls=_WithScript)
@_job_command
def script(system: str, request: Request, job: dict[str, Any]) -> None:
    """Print the job script that `submit` would submit.

    \b
    mpicluster script slurm -n 64 --time 1:00:00 > job.sh
    """
    from mpicluster.batch import jobs as batch

    click.echo(batch.script(system, request, **job), nl=False)


@main.command(cls=_WithScript)
@_job_command
@click.option("--wait", is_flag=True, help="Stay until the engines are there, or the script has ended.")
def submit(system: str, request: Request, job: dict[str, Any], *, wait: bool) -> None:
    """Submit a job that starts engines; with a script, one that runs it as their client.

    SYSTEM is slurm, pbs, lsf, sge, htcondor, or local.

    \b
    mpicluster submit slurm -n 64 --nodes 4 --time 1:00:00
    mpicluster submit slurm -n 64 --time 1:00:00 --wait -- script.py ARGUMENTS
    mpicluster submit slurm -n 64 --time 1:00:00 --attach CLUSTER

    With --wait the exit status is the script's.
    """
    from mpicluster.batch import jobs as batch
    from mpicluster.wire.contact import find as find_contact

    if request.n is None and job["given"] is None:
        raise click.UsageError("how many engines? Say -n")
    if job["attach"]:
        find_contact(job["profile"], job["cluster"])  # complains if there is none
    record = batch.submit(system, request, **job)
    _say_where(record)
    if wait:
        sys.exit(_follow(record))


def _say_where(record: Record) -> None:
    from mpicluster.wire.contact import profile_dir

    option = "" if record.profile == "default" else f" --profile {record.profile}"
    argument = f"cluster={record.cluster!r}" + ("" if record.profile == "default" else f", profile={record.profile!r}")
    click.echo(f"Submitted job {record.job} ({record.system}), cluster {record.cluster}.")
    click.echo(f"It prints to {record.log}.")
    if record.attaches:
        click.echo("Its engines will be found in rc.worlds of the clients of that cluster.")
    elif not record.command:
        click.echo(f"Its contact file will be {profile_dir(record.profile) / record.cluster}.json. Connect, when it runs, with\n")
        click.echo(f"    import mpicluster\n    rc = mpicluster.Client({argument}, timeout=600)\n")
    click.echo(f"`mpicluster jobs{option}` shows how it is, `mpicluster cancel {record.job}{option}` ends it.")


def _follow(record: Record) -> int:
    """Say what the job does, and show what it prints, until its engines are there or its script has ended. The exit status."""
    from mpicluster.batch.jobs import Watch
    from mpicluster.batch.system import ENDED, RUNNING
    from mpicluster.client.client import Client
    from mpicluster.cluster.follow import Tail
    from mpicluster.wire.contact import profile_dir

    watch, printed = Watch(record), Tail(Path(record.log))
    worlds = 0
    if record.attaches:
        with Client(profile=record.profile, cluster=record.cluster) as rc:
            worlds = len(rc.worlds)
    contact = profile_dir(record.profile) / f"{record.cluster}.json"
    said = ""
    try:
        while True:
            status = watch.status()
            if str(status) != said:
                said = str(status)
                click.echo(f"Job {record.job} is {said}.", err=True)
            for text in printed.read():
                click.echo(text)
            if status.stands:
                time.sleep(0.2)  # what it printed last, on a file system of the network
                for text in printed.read(whole=True):
                    click.echo(text)
                if status.stays:
                    click.echo(f"It is still in the queue; `mpicluster cancel {record.job}` takes it out.", err=True)
                return 0 if status.state == ENDED else status.code or 1
            if record.attaches and status.state == RUNNING:
                with Client(profile=record.profile, cluster=record.cluster) as rc:
                    here = len(rc.worlds)
                if here > worlds:
                    click.echo("They are there.")
                    return 0
            elif not record.attaches and not record.command and contact.exists():
                _await_engines(record)
                return 0
            time.sleep(0.2)
    except KeyboardInterrupt:
        click.echo(f"\nJob {record.job} goes on; `mpicluster cancel {record.job}` ends it.", err=True)
        return 130


def _await_engines(record: Record) -> None:
    from mpicluster.client.client import Client

    with Client(profile=record.profile, cluster=record.cluster) as rc:
        click.echo(f"{len(rc)} engines are there.")


@main.command()
@profile_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def jobs(profile: str, as_json: bool) -> None:
    """List the jobs that were submitted, and how they are."""
    import json
    from concurrent.futures import ThreadPoolExecutor

    from mpicluster.batch.jobs import records
    from mpicluster.batch.system import Unknown
    from mpicluster.cluster import words
    from mpicluster.launch import process

    def ask(record: Record) -> tuple[str, str]:
        try:
            status = record.status()
        except Unknown as e:
            return "unknown", str(e).splitlines()[0]
        return status.state, status.reason

    known = records(profile)
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:  # a slow system is waited for once, not once for each job
        try:
            answers = list(pool.map(ask, known))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            process.end(process.descendants(os.getpid()), grace=0.5)  # or they would be waited for
            raise
    rows = []
    for record, (state, reason) in zip(known, answers, strict=True):
        rows.append({
            "job": record.job,
            "system": record.system,
            "cluster": record.cluster,
            "engines": record.engines,
            "state": state,
            "reason": reason,
            "submitted": record.submitted,
            "script": " ".join(record.command),
            "log": record.log,
        })  # fmt: skip
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    elif not rows:
        click.echo(f"No jobs were submitted under profile {profile!r}. Submit one with `mpicluster submit`.")
    else:
        now = time.time()
        cells = [
            [
                r["job"],
                r["system"],
                r["cluster"],
                r["engines"] or "",
                r["state"],
                words.duration(now - float(str(r["submitted"]))),
                r["script"],
                r["reason"],
            ]
            for r in rows
        ]
        click.echo(words.table(["JOB", "SYSTEM", "CLUSTER", "ENGINES", "STATE", "AGE", "SCRIPT", "REASON"], cells))


@main.command()
@click.argument("job", required=False)
@profile_option
def cancel(job: str | None, profile: str) -> None:
    """Cancel a job, by its id or by that of its cluster; without JOB the newest."""
    from mpicluster.batch.jobs import find

    record = find(profile, job)
    ended = record.cancel()
    if ended is not None:
        click.echo(f"Job {record.job} is over: {ended}.")
        return
    click.echo(f"Cancelled job {record.job} ({record.system}), cluster {record.cluster}.")


@main.command(context_settings=_SCRIPT)
@engines_option
@profile_option
@cluster_option
@mpi_option
@host_option
@interface_option
@timeout_option
@click.option(
    "--grace", type=click.FloatRange(min=0), default=5.0, show_default=True, help="Seconds for the script after KeyboardInterrupt."
)
@hub_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    n: int | None,
    profile: str,
    cluster: str | None,
    mpi: str | None,
    host: str | None,
    interface: str | None,
    timeout: float,
    grace: float,
    history: HistoryLimits | None,
    scheme: str,
    command: tuple[str, ...],
) -> None:
    """Start engines, run a Python script as their client, and end all; exit with the script's status.

    `mpicluster.Client()` in the script finds these engines. SIGTERM, as batch systems send it before the time is over, reaches the script
    as KeyboardInterrupt.

    \b
    mpicluster run -n 4 script.py ARGUMENTS
    mpiexec -n 64 mpicluster run script.py ARGUMENTS
    """
    command = command[1:] if command[0] == "--" else command
    if not command:
        raise click.UsageError("which script?")
    if not command[0].startswith("-") and not Path(command[0]).is_file():
        raise click.UsageError(f"there is no script {command[0]}")
    from mpicluster.launch.mpi import is_rank

    if is_rank(os.environ):
        refuse_for_ranks(n, mpi, host)
        sys.exit(
            _as_rank(
                command,
                profile=profile,
                cluster=cluster,
                grace=grace,
                history=history,
                scheme=scheme,
                interface=interface,
            )
        )
    from mpicluster.cluster.cluster import Cluster
    from mpicluster.cluster.running import run as run_script

    try:
        limits = history._asdict() if history is not None else False
        ours = Cluster(
            n, profile=profile, mpi=mpi, timeout=timeout, cluster=cluster, history=limits, scheme=scheme, hosts=host, interface=interface
        )
    except ValueError as e:
        raise click.UsageError(str(e)) from e
    sys.exit(run_script(ours, command, grace=grace))


def _as_rank(command: Sequence[str], *, profile: str, cluster: str | None, grace: float, **options: Any) -> int:
    """Under mpiexec: every rank is an engine, and rank 0 has the script beside it."""
    from mpicluster.cluster.worker import run_engine
    from mpicluster.launch.mpi import launcher_rank

    if launcher_rank(os.environ) != 0:
        return run_engine(profile=profile, cluster=cluster, **options)
    from mpicluster.cluster.running import run_beside

    return run_beside(
        lambda cluster: run_engine(profile=profile, cluster=cluster, **options), command, profile=profile, cluster=cluster, grace=grace
    )
