"""The command line: its group, and options that several commands have.

Each command imports what it needs itself, so that engines start fast.
"""

from __future__ import annotations

import functools
import signal
import socket
from collections.abc import Callable
from typing import Any, NoReturn

import click

from mpicluster.config import LAST_WORDS, SCHEMES, HistoryLimits

__all__ = [
    "Interrupted",
    "cluster_option",
    "engines_option",
    "host_option",
    "hub_options",
    "interface_option",
    "heed",
    "local_pid",
    "main",
    "mpi_option",
    "plain_word",
    "profile_option",
    "refuse_for_ranks",
    "timeout_option",
]


class _Commands(click.Group):
    """Shows the errors of mpicluster as a sentence; a traceback is for faults of ours."""

    def invoke(self, ctx: click.Context) -> Any:
        from mpicluster.errors import ClusterError

        try:
            return super().invoke(ctx)
        except (ClusterError, TimeoutError) as e:
            raise click.ClickException(str(e) or type(e).__name__) from e


def plain_word(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A name that can be that of a file."""
    if value is not None and (not value or "/" in value or value.startswith(".")):
        raise click.BadParameter(f"{value!r} is not a plain word")
    return value


def local_pid(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """``PID`` or ``PID@HOST``; None for a process of another host, which cannot be watched from here."""
    if value is None:
        return None
    pid, _, host = value.partition("@")
    if not pid.isdigit():
        raise click.BadParameter(f"{value!r} is not a process: PID or PID@HOST")
    return int(pid) if not host or host == socket.gethostname() else None


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"mpicluster {version('mpicluster')}")
        except PackageNotFoundError:
            click.echo("mpicluster (not installed: run from its source)")
        ctx.exit()


profile_option: Callable[[Any], Any] = click.option(
    "--profile", default="default", show_default=True, callback=plain_word, help="Name under which clients find the cluster."
)


cluster_option: Callable[[Any], Any] = click.option(
    "--cluster", default=None, callback=plain_word, help="Id of the cluster; made up if not given."
)
engines_option: Callable[[Any], Any] = click.option(
    "-n", "n", type=click.IntRange(min=1), default=None, help="Number of engines.  [default: those of the batch job, or the cores]"
)
timeout_option: Callable[[Any], Any] = click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=120.0, show_default=True, help="Seconds for engines to come."
)
mpi_option: Callable[[Any], Any] = click.option(
    "--mpi", default=None, metavar="openmpi|mpich|PATH", help="MPI to use, or its mpiexec.  [default: the one that mpi4py loads]"
)
host_option: Callable[[Any], Any] = click.option(
    "--host",
    default=None,
    metavar="A:2,B:2|FILE",
    help="Hosts, with engines for each, or mpiexec's host file; reached by ssh.  [default: here]",
)
interface_option: Callable[[Any], Any] = click.option(
    "--interface",
    default=None,
    metavar="NAME",
    help="Network interface of the hub by which it is reached.  [default: $MPICLUSTER_INTERFACE, or all, tried in turn]",
)


def refuse_for_ranks(n: int | None, mpi: str | None, host: str | None) -> None:
    """What says how ranks are started means nothing to one."""
    if n is not None or mpi is not None or host is not None:
        raise click.UsageError("-n, --mpi and --host are for mpiexec, which has started this already")


class Interrupted(KeyboardInterrupt):
    """A signal came after which the command ends.

    ``status``
        the command's then: 0 after Ctrl-C, else what a shell makes of a signal, by which a batch system's user sees why the job ended.
    """

    def __init__(self, number: int) -> None:
        super().__init__("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)
        self.status = 0 if number == signal.SIGINT else 128 + number


def _interrupt(number: int, _frame: object) -> NoReturn:
    """Handles such a signal."""
    raise Interrupted(number)


def heed() -> None:
    """From now on such signals raise `Interrupted`. What is ignored stays so, as by nohup; but for Ctrl-C."""
    for number in (signal.SIGINT, *LAST_WORDS):
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def hub_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for the hub: what it remembers, and how it gives out tasks."""
    default = HistoryLimits()

    def with_limits(*, history: bool, history_tasks: int, history_nbytes: int, history_age: float, **others: Any) -> Any:
        return command(history=HistoryLimits(history_tasks, history_nbytes, history_age) if history else None, **others)

    decorated: Callable[..., Any] = functools.update_wrapper(with_limits, command)
    for option in (
        click.option(
            "--history-age",
            type=click.FloatRange(min=0, min_open=True),
            default=default.age,
            show_default=True,
            help="Seconds that it remembers them.",
        ),
        click.option(
            "--history-nbytes", type=click.IntRange(min=1), default=default.nbytes, show_default=True, help="Bytes that its file may have."
        ),
        click.option(
            "--history-tasks", type=click.IntRange(min=1), default=default.tasks, show_default=True, help="Tasks that it remembers."
        ),
        click.option(
            "--scheme",
            type=click.Choice(SCHEMES),
            default=SCHEMES[0],
            show_default=True,
            help="In what order engines are given balanced tasks.",
        ),
        click.option("--history/--no-history", default=True, show_default=True, help="Whether the hub remembers tasks and their results."),
    ):
        decorated = option(decorated)
    return decorated


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version and exit.")
def main() -> None:
    """Interactive and batch Python on a cluster of MPI engines.

    \b
    mpicluster start -n 4            start four engines here, until Ctrl-C
    mpiexec -n 4 mpicluster engine   the same under your own mpiexec
    mpicluster run -n 4 script.py    engines for a script, which is their client
    mpicluster submit slurm -n 64    engines as a job of a batch system
    mpicluster doctor                see whether MPI works on this machine

    Then, in Python:  rc = mpicluster.Client()
    """
