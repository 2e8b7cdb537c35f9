"""Commands that start, stop and show clusters. Words only: what is done is done in `mpicluster.cluster`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpicluster.cli.group import (
    Interrupted,
    cluster_option,
    engines_option,
    heed,
    host_option,
    hub_options,
    interface_option,
    local_pid,
    main,
    mpi_option,
    plain_word,
    profile_option,
    refuse_for_ranks,
    timeout_option,
)
from mpicluster.config import LAST_WORDS, HistoryLimits

if TYPE_CHECKING:
    from mpicluster.cluster.cluster import Cluster
    from mpicluster.wire.contact import Contact

__all__ = ["attach", "doctor", "engine", "list_", "logs", "start", "status", "stop"]


# --- start and engine -------------------------------------------------------------------------------------------------


@main.command()
@profile_option
@cluster_option
@click.option("--owner", metavar="PID[@HOST]", callback=local_pid, help="Process with whose end the cluster ends.")
@click.option("--launcher", callback=local_pid, hidden=True)
@interface_option
@hub_options
def engine(
    profile: str,
    cluster: str | None,
    owner: int | None,
    launcher: int | None,
    interface: str | None,
    history: HistoryLimits | None,
    scheme: str,
) -> None:
    """Be one engine: run this under mpiexec or srun.

    \b
    mpiexec -n 4 mpicluster engine

    Rank 0 also starts the hub, to which clients connect.
    """
    from mpicluster.cluster.worker import run_engine

    sys.exit(
        run_engine(profile=profile, cluster=cluster, owner=owner, launcher=launcher, history=history, scheme=scheme, interface=interface)
    )


@main.command()
@click.option("-n", "n", type=click.IntRange(min=1), default=None, help="Number of engines.  [default: the cores this process may use]")
@profile_option
@cluster_option
@mpi_option
@host_option
@interface_option
@click.option("--daemonize", is_flag=True, help="Return when all engines are there; `mpicluster stop` ends them.")
@timeout_option
@hub_options
def start(
    n: int | None,
    profile: str,
    cluster: str | None,
    mpi: str | None,
    host: str | None,
    interface: str | None,
    daemonize: bool,
    timeout: float,
    history: HistoryLimits | None,
    scheme: str,
) -> None:
    """Start a hub and engines, and stay until Ctrl-C.

    On this machine, on the hosts that are given, or on those of the batch job in which it runs.
    """
    from mpicluster.cluster.cluster import Cluster

    try:
        limits = history._asdict() if history is not None else False
        ours = Cluster(
            n, profile=profile, mpi=mpi, timeout=timeout, cluster=cluster, history=limits, scheme=scheme, hosts=host, interface=interface
        )
    except ValueError as e:
        raise click.UsageError(str(e)) from e
    heed()
    try:
        ours.start(detach=daemonize, progress=True)
        _say_how_to_connect(ours, daemonize)
        if daemonize:
            return
        reason = ours.wait()
    except Interrupted as e:
        _leave_us_alone()
        click.echo(f"\nStopping ({e}) ...", err=True)
        ours.stop()
        click.echo("Stopped.", err=True)
        sys.exit(e.status)
    _leave_us_alone()
    log_dir = ours.contact.log_dir if ours.contact else ""
    ours.stop()
    click.echo(f"The cluster has ended: {reason}.", err=True)
    if reason != "it was stopped":  # by a client, or by `mpicluster stop`
        click.echo(f"Its logs: {log_dir}", err=True)
        sys.exit(1)


@main.command()
@engines_option
@profile_option
@click.option("--cluster", default=None, callback=plain_word, help="Id of the cluster.  [default: the newest of the profile]")
@mpi_option
@host_option
@timeout_option
@click.option("--place", default="", hidden=True)
@click.option("--launcher", callback=local_pid, hidden=True, expose_value=False)
def attach(n: int | None, profile: str, cluster: str | None, mpi: str | None, host: str | None, timeout: float, place: str) -> None:
    """Start more engines for a cluster that runs, and stay until Ctrl-C; or be one of them, under mpiexec.

    They are an MPI world of their own: tasks of load-balanced views run on all engines, SPMD code and collectives within one world, which
    is `rc[rc.worlds[1]]` for the first that attaches.

    \b
    mpicluster attach -n 4
    mpiexec -n 4 mpicluster attach
    """
    from mpicluster.launch.mpi import is_rank

    if is_rank(os.environ):
        from mpicluster.cluster.worker import run_engine

        refuse_for_ranks(n, mpi, host)
        sys.exit(run_engine(profile=profile, cluster=cluster, attach=place))
    from mpicluster.cluster.attached import Attached

    heed()
    ours, status = None, 0
    try:
        ours = Attached(n, profile=profile, cluster=cluster, mpi=mpi, hosts=host, timeout=timeout)
        click.echo(f"Engines {ours.ids[0]} to {ours.ids[-1]} are attached to cluster {ours.contact.cluster}; Ctrl-C ends them.")
        while not ours.wait(0.5):
            pass
    except Interrupted as e:
        _leave_us_alone()
        click.echo(f"\nEnding them ({e}) ...", err=True)
        status = e.status
    finally:
        _leave_us_alone()
        if ours is not None:
            ours.end()
    click.echo("They have ended.", err=True)
    sys.exit(status)


def _leave_us_alone() -> None:
    """From here on the end is under way and takes seconds: a second Ctrl-C would only leave something behind."""
    for number in (signal.SIGINT, *LAST_WORDS):
        signal.signal(number, signal.SIG_IGN)


def _say_how_to_connect(cluster: Cluster, daemonized: bool) -> None:
    profile, n = cluster.profile, cluster.n
    argument = "" if profile == "default" else f"profile={profile!r}"
    option = "" if profile == "default" else f" --profile {profile}"
    click.echo(f"Cluster {cluster.cluster_id} is running: {n} engine{'s' if n != 1 else ''}, profile {profile}. Connect with\n")
    click.echo(f"    import mpicluster\n    rc = mpicluster.Client({argument})\n")
    click.echo(f"Stop it with `mpicluster stop{option}`." if daemonized else f"Ctrl-C, or `mpicluster stop{option}`, stops it.")


# --- stop -------------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("cluster", required=False)
@click.option("--profile", default=None, callback=plain_word, help="Profile of the cluster.  [default: default; with --all: every one]")
@click.option("--all", "everything", is_flag=True, help="Stop all clusters.")
def stop(cluster: str | None, profile: str | None, everything: bool) -> None:
    """Stop a cluster: its hub, its engines, and all that they left.

    CLUSTER is an id as shown by `mpicluster list`; it may be left out when one cluster runs.
    """
    from mpicluster.cluster import ending
    from mpicluster.wire.contact import contacts, is_alive

    if everything and cluster:
        raise click.UsageError("name a cluster, or say --all; not both")
    found = contacts(profile if everything else profile or "default")
    if cluster:
        found = [c for c in found if c.cluster == cluster]
        if not found:
            raise click.ClickException(f"there is no cluster {cluster!r} under profile {profile or 'default'!r}; see `mpicluster list`")
    stale = [c for c in found if is_alive(c) is False]
    running = [c for c in found if c not in stale]
    if len(running) > 1 and not everything:
        names = " ".join(c.cluster for c in running)
        raise click.ClickException(f"{len(running)} clusters run under profile {profile or 'default'!r}: {names}\nName one, or say --all.")
    failed = False
    for contact in [*stale, *running]:
        done = ending.end(contact)
        failed |= bool(done.left) or done.unreachable
        click.echo(_how_it_went(done, was_stale=contact in stale), err=bool(done.left) or done.unreachable)
    if failed:
        sys.exit(1)
    if not found:
        where = f"under profile {profile or 'default'!r}" if profile or not everything else "under any profile"
        if everything:
            click.echo(f"No cluster is running {where}.")
        else:
            raise click.ClickException(f"no cluster is running {where}; see `mpicluster list`")


def _how_it_went(done: Any, *, was_stale: bool) -> str:
    contact: Contact = done.contact
    name = f"cluster {contact.cluster} (profile {contact.profile})"
    if done.left:
        pids = ", ".join(f"{p.pid} ({p.name})" for p in done.left)
        return f"Could not end all of {name}; still there: {pids}"
    if done.unreachable:
        return f"{name} is on {contact.host} and its hub does not answer from here; run `mpicluster stop` on that host"
    if was_stale:
        many = f", and ended {len(done.ended)} process{'es' if len(done.ended) != 1 else ''} of it" if done.ended else ""
        return f"Removed what {name} left: its hub was gone{many}."
    if done.gracefully:
        return f"Stopped {name}."
    return f"Stopped {name}; its hub did not answer, so {len(done.ended)} processes were ended by signals."


# --- list, status, logs -----------------------------------------------------------------------------------------------


@main.command("list")
@click.option("--profile", default=None, callback=plain_word, help="Only this profile.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(profile: str | None, as_json: bool) -> None:
    """List the clusters of all profiles."""
    from mpicluster.cluster import words
    from mpicluster.wire.contact import contacts, is_alive, state_dir

    rows: list[dict[str, Any]] = [
        {
            "profile": c.profile,
            "cluster": c.cluster,
            "state": {True: "running", False: "stale", None: "on another host"}[is_alive(c)],
            "engines": c.engines,
            "host": c.host,
            "hub_pid": c.hub_pid,
            "started": c.started,
            "mpi": c.mpi,
            "log_dir": c.log_dir,
        }
        for c in contacts(profile)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    elif not rows:
        click.echo(f"No clusters (looked in {state_dir()}). Start one with `mpicluster start`.")
    else:
        head = ["PROFILE", "CLUSTER", "STATE", "ENGINES", "HOST", "HUB PID", "AGE", "MPI"]
        now = time.time()
        cells = [
            [
                r["profile"],
                r["cluster"],
                r["state"],
                r["engines"],
                r["host"],
                r["hub_pid"],
                words.duration(now - float(str(r["started"]))),
                r["mpi"],
            ]
            for r in rows
        ]
        click.echo(words.table(head, cells))
        if any(r["state"] == "stale" for r in rows):
            click.echo("\nstale: the hub is gone. `mpicluster stop --all` removes what such a cluster left.")


@main.command()
@click.argument("cluster", required=False)
@profile_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--timeout", type=float, default=10.0, show_default=True, help="Seconds to wait for the hub's answer.")
def status(cluster: str | None, profile: str, as_json: bool, timeout: float) -> None:
    """Show how a cluster is: its engines, tasks and clients."""
    from mpicluster.cluster import words
    from mpicluster.wire.contact import find

    contact = find(profile, cluster)
    from mpicluster.client.client import Client  # not before it is known that there is something to ask

    with Client(contact, timeout=timeout, wait=False) as rc:
        facts = rc.status()
    facts["hub"].setdefault("host", contact.host)
    facts["engines"].sort(key=lambda e: e["id"])
    click.echo(json.dumps(facts, indent=1, default=str) if as_json else words.status(facts))


@main.command()
@click.argument("cluster", required=False)
@profile_option
@click.option("-f", "--follow", is_flag=True, help="Go on until the cluster ends, or Ctrl-C.")
@click.option("--lines", type=click.IntRange(min=0), default=40, show_default=True, help="Lines of each file.")
def logs(cluster: str | None, profile: str, follow: bool, lines: int) -> None:
    """Show the logs of a cluster; without CLUSTER those of the newest, also when it has ended."""
    from mpicluster.cluster import logs as log_files
    from mpicluster.cluster.follow import Follower
    from mpicluster.wire.contact import contacts, is_alive

    known = next((c for c in contacts(profile) if c.cluster == cluster or (cluster is None and is_alive(c) is not False)), None)
    if known is not None:
        folder = Path(known.log_dir)
    elif cluster is not None:
        folder = log_files.log_dir(profile, cluster)
    else:
        newest = log_files.folders(profile)
        if not newest:
            raise click.ClickException(f"there are no logs of profile {profile!r}")
        folder = newest[0]
    if not folder.is_dir():
        raise click.ClickException(f"there are no logs of cluster {folder.name!r} in {folder.parent}")
    click.echo(f"# {folder}", err=True)
    follower = Follower(folder, lines)
    for text in follower.read():
        click.echo(text)
    try:
        while follow and (known is None or is_alive(known) is not False):
            time.sleep(0.2)
            for text in follower.read():
                click.echo(text)
            if known is None:
                break
    except KeyboardInterrupt:
        pass
    else:
        for text in follower.read():
            click.echo(text)


@main.command()
@click.option("-n", "n", type=click.IntRange(min=1), default=None, help="Engines to reckon with.  [default: the cores]")
@click.option("--mpi", default=None, metavar="openmpi|mpich|PATH", help="MPI to look at, as for start.")
def doctor(n: int | None, mpi: str | None) -> None:
    """Check MPI, its mpiexec and this machine, and say what to do where something is wrong."""
    from mpicluster.cluster.doctor import examine

    worst = 0
    for finding in examine(n=n, mpi=mpi):
        click.echo(finding.render(color=sys.stdout.isatty()))
        worst = max(worst, finding.level)
    click.echo(["\nAll is well.", "\nIt works; see the warnings.", "\nThere are problems."][worst])
    if worst == 2:
        sys.exit(1)
