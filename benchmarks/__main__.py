"""``python -m benchmarks``: run all contenders in turns, write what was found, print the table."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime
from pathlib import Path

import click
import msgspec

from benchmarks import machine
from benchmarks.contenders import Contender
from benchmarks.harness import environment, run_round
from benchmarks.records import Failed, Sampled
from benchmarks.report import markdown
from benchmarks.results import Failure, Run
from benchmarks.suites import SUITES, Suite

RESULTS = Path(__file__).resolve().parent / "results"
DOCS = Path(__file__).resolve().parent.parent / "docs"
#: seconds in which a contender must come forward with its next measure
PATIENCE = 180.0


@click.command()
@click.option("--suite", "name", type=click.Choice(list(SUITES)), default="cluster", show_default=True, help="What is measured.")
@click.option("--only", multiple=True, metavar="NAME", help="Only this contender or measure. May be repeated.")
@click.option("--repeat", type=click.IntRange(1), help="Rounds.  [default: 5 (3 of linalg), or 1 with --quick]")
@click.option("--quick", is_flag=True, help="Less of everything: whether it works, not how fast it is.")
@click.option("--engines", type=click.IntRange(1), help="Engines, or ranks.  [default: 4, or 2 of linalg]")
@click.option("--patience", type=float, default=PATIENCE, show_default=True, help="Seconds to wait for the next measure.")
def main(name: str, only: tuple[str, ...], repeat: int | None, quick: bool, engines: int | None, patience: float) -> None:
    """Measure mpicluster beside its peers and its floors on this machine.

    A full run replaces results/latest.* (results/linalg.* of linalg, and its page in docs/); one with --only, --quick, another number of
    engines, or interrupted, is written as partial.
    """
    suite = SUITES[name]
    unknown = sorted(set(only) - {*suite.contenders, *suite.measures})
    if unknown:
        raise click.BadParameter(f"{unknown[0]} is neither of {', '.join(suite.contenders)} nor of {', '.join(suite.measures)}")
    contenders = [suite.contenders[c] for c in suite.contenders if c in only] or list(suite.contenders.values())
    measures = [m for m in suite.measures if m in only] or list(suite.measures)
    packages = dict.fromkeys(package for contender in suite.contenders.values() for package in contender.packages)
    run = Run(
        date=datetime.now().astimezone().isoformat(timespec="minutes"),
        machine=machine.facts([*packages, "numpy"], environment(Path(tempfile.gettempdir()), "facts")),
        engines=engines or suite.engines,
        size=suite.quick if quick else suite.full,
    )
    run.load.append(machine.load())
    rounds = repeat or (1 if quick else suite.rounds)
    partial = bool(only) or quick or run.engines != suite.engines
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
    click.echo(write(run, suite, partial=partial))


def take_turn(run: Run, contender: Contender, turn: int, measures: list[str], patience: float) -> None:
    """One contender's turn, into the run."""
    for record in run_round(contender, run.size, run.engines, measures, patience):
        if isinstance(record, Sampled):
            run.add(contender.name, record.measure, turn, record.samples)
        elif isinstance(record, Failed):
            click.echo(f"  {record.measure} failed: {record.reason}", err=True)
            run.failures.append(Failure(contender.name, turn, record.measure, record.reason))


def write(run: Run, suite: Suite, *, partial: bool) -> str:
    """Write the samples and the report, each under its date and, if it is a full run, as the latest. Return the report."""
    RESULTS.mkdir(exist_ok=True)
    data, text = msgspec.json.format(msgspec.json.encode(run), indent=1), markdown(run, suite)
    stem, latest = run.date[:16].replace(":", ""), "latest" if suite.name == "cluster" else suite.name
    if latest != "latest":
        stem = f"{stem}-{suite.name}"
    for file in [f"{stem}-partial"] if partial else [stem, latest]:
        for suffix, content in ((".json", data), (".md", text.encode())):
            temporary = RESULTS / f".{file}{suffix}"
            temporary.write_bytes(content)
            os.replace(temporary, RESULTS / f"{file}{suffix}")
    if suite.page and not partial:
        (DOCS / f"{suite.page}.md").write_text(text)
    return text


if __name__ == "__main__":
    main()
