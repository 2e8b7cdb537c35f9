"""A run as Markdown: text only, made from what was found."""

from __future__ import annotations

from benchmarks.measures import Measure, Rule
from benchmarks.results import Row, Run, Spread, judge
from benchmarks.suites import Suite

__all__ = ["markdown"]


def markdown(run: Run, suite: Suite) -> str:
    """The whole report."""
    rounds = max((len(r) for measures in run.samples.values() for r in measures.values()), default=0)
    parts = [
        f"# {suite.title}",
        (
            f"{run.date}, {run.engines} {'engines' if suite.name == 'cluster' else 'ranks'}, {rounds} rounds."
            " In each round every contender runs once, on its own, with a"
            " new cluster; the order moves on by one from round to round. A round's value is the median of its samples. Shown"
            " is the median of the rounds, with the least and the most, and the ratio of the medians, with the least and the"
            " most of the ratios within one round."
        ),
        _table(["", ""], [[name, value] for name, value in _facts(run).items()]),
        "## What must be reached",
        _table(
            ["measure", "mpicluster", "against", "the other", "ratio", "required", "met"],
            [_row(judge(run, target, suite), suite) for target in suite.targets],
        ),
        "## All medians",
        _table(
            ["measure", *suite.contenders],
            [[measure.title, *(_median(run, contender, measure) for contender in suite.contenders)] for measure in suite.measures.values()],
        ),
        suite.note,
    ]
    if run.failures:
        parts += [
            "## What failed",
            _table(
                ["contender", "round", "in", "reason"],
                [[f.contender, str(f.turn), f.measure, f.reason] for f in run.failures],
            ),
        ]
    return "\n\n".join(parts) + "\n"


def _facts(run: Run) -> dict[str, str]:
    return run.machine | {"load before and after": " and ".join(run.load)}


def _row(row: Row, suite: Suite) -> list[str]:
    target, measure = row.target, suite.measures[row.target.measure]
    bound = _value(target.bound, measure.unit) if target.rule in (Rule.BELOW, Rule.ABOVE) else target.bound
    against = " ".join(filter(None, [target.other, target.other_measure]))
    return [
        measure.title,
        _spread(row.ours, measure),
        against or "-",
        _spread(row.other, measure),
        "-" if row.ratio is None else f"{_factor(row.ratio.median)}x ({_factor(row.ratio.least)}-{_factor(row.ratio.most)})",
        "faster" if target.rule is Rule.FASTER and target.bound == 1 else target.rule.value.format(bound),
        row.reason if row.met is None else "yes" if row.met else "**no**",
    ]


def _median(run: Run, contender: str, measure: Measure) -> str:
    spread = Spread.of(list(run.by_round(contender, measure.name).values()))
    return "" if spread is None else _value(spread.median, measure.unit)


def _spread(spread: Spread | None, measure: Measure) -> str:
    if spread is None:
        return "-"
    return f"{_value(spread.median, measure.unit)} ({_value(spread.least, measure.unit)} - {_value(spread.most, measure.unit)})"


def _factor(value: float) -> str:
    """Two digits, or all before the point."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _value(value: float, unit: str) -> str:
    """Three digits and a prefix that suits."""
    match unit:
        case "s":
            return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"
        case "1/s":
            return f"{value:,.0f} /s"
        case "%":
            return f"{value:.2g} %"
    return f"{value:.3g} {unit}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
