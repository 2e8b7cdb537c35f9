"""``python -m benchmarks``: run all contenders in turns, write what was found, print the table."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime
from pathlib import Path

import click
import msgspec

from benchmarks import machine
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.harness import environment, run_round
from benchmarks.measures import FULL, MEASURES, QUICK
from benchmarks.records import Failed, Sampled
from benchmarks.report import markdown
from benchmarks.results import Failure, Run

RESULTS = Path(__file__).resolve().parent / "results"
#: seconds in which a contender must come forward with its next measure
PATIENCE = 180.0


@click.command()
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    type=click.Choice([*CONTENDERS, *MEASURES]),
    help=f"Only this contender ({', '.join(CONTENDERS)}) or measure ({', '.join(MEASURES)}). May be repeated.",
)
@click.option("--repeat", type=click.IntRange(1), help="Rounds.  [default: 5, or 1 with --quick]")
@click.option("--quick", is_flag=True, help="Less of everything: whether it works, not how fast it is.")
@click.option("--engines", type=click.IntRange(1), default=4, show_default=True)
@click.option("--patience", type=float, default=PATIENCE, show_default=True, help="Seconds to wait for the next measure.")
def main(only: tuple[str, ...], repeat: int | None, quick: bool, engines: int, patience: float) -> None:
    """Measure mpicluster beside its peers and its floors on this machine.

    A full run replaces results/latest.*; one with --only, --quick, another number of engines, or
    interrupted, is written as partial.
    """
    contenders = [CONTENDERS[name] for name in CONTENDERS if name in only] or list(CONTENDERS.values())
    measures = [name for name in MEASURES if name in only] or list(MEASURES)
    size = QUICK if quick else FULL
    packages = dict.fromkeys(package for contender in CONTENDERS.values() for package in contender.packages)
    run = Run(
        date=datetime.now().astimezone().isoformat(timespec="minutes"),
        machine=machine.facts([*packages, "numpy"], environment(Path(tempfile.gettempdir()), "facts")),
        engines=engines,
        size=size,
    )
    run.load.append(machine.load())
    rounds = repeat or (1 if quick else 5)
    partial = bool(only) or quick or engines != 4
    try:
        for turn in range(1, rounds + 1):
            first = (turn - 1) % len(contenders)
            for contender in contenders[first:] + contenders[:first]:
                click.echo(f"round {turn} of {rounds}: {contender.name}", err=True)
                take_turn(run, contender, turn, measures, patience)
    except KeyboardInterrupt:
        click.echo("interrupted: this is what was found so far", err=True)
        partial = True
    run.load.append(machine.load())
    click.echo(write(run, partial=partial))


def take_turn(run: Run, contender: Contender, turn: int, measures: list[str], patience: float) -> None:
    """One contender's turn, into the run."""
    for record in run_round(contender, run.size, run.engines, measures, patience):
        if isinstance(record, Sampled):
            run.add(contender.name, record.measure, turn, record.samples)
        elif isinstance(record, Failed):
            click.echo(f"  {record.measure} failed: {record.reason}", err=True)
            run.failures.append(Failure(contender.name, turn, record.measure, record.reason))


def write(run: Run, *, partial: bool) -> str:
    """Write the samples and the report, each under its date and, if it is a full run, as the latest. Return the report."""
    RESULTS.mkdir(exist_ok=True)
    data, text = msgspec.json.format(msgspec.json.encode(run), indent=1), markdown(run)
    stem = run.date[:16].replace(":", "")
    for name in [f"{stem}-partial"] if partial else [stem, "latest"]:
        for suffix, content in ((".json", data), (".md", text.encode())):
            temporary = RESULTS / f".{name}{suffix}"
            temporary.write_bytes(content)
            os.replace(temporary, RESULTS / f"{name}{suffix}")
    return text


if __name__ == "__main__":
    main()
