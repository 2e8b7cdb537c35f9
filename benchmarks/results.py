"""What a run has found: kept as samples, read as medians, held against the targets."""

from __future__ import annotations

from statistics import median

import msgspec

from benchmarks.linalg.measures import MatrixSize
from benchmarks.measures import OURS, Rule, Size, Target
from benchmarks.suites import Suite

__all__ = ["Failure", "Row", "Run", "Spread", "judge"]


class Failure(msgspec.Struct, frozen=True):
    """What did not work, where."""

    contender: str
    turn: int
    measure: str
    reason: str


class Run(msgspec.Struct):
    """One run of all contenders."""

    date: str
    machine: dict[str, str]
    engines: int
    size: Size | MatrixSize
    #: load average of the machine before and after
    load: list[str] = []
    #: contender -> measure -> round -> samples, in the measure's unit
    samples: dict[str, dict[str, dict[int, list[float]]]] = {}
    failures: list[Failure] = []

    def add(self, contender: str, measure: str, turn: int, samples: list[float]) -> None:
        self.samples.setdefault(contender, {}).setdefault(measure, {})[turn] = samples

    def by_round(self, contender: str, measure: str) -> dict[int, float]:
        """The median of each round that has one."""
        rounds = self.samples.get(contender, {}).get(measure, {})
        return {turn: median(samples) for turn, samples in rounds.items() if samples}

    def reason(self, contender: str, measure: str) -> str:
        """Why there is nothing, in short; the failures have the long of it."""
        failed = {failure.measure for failure in self.failures if failure.contender == contender}
        for at in (measure, "start"):
            if at in failed:
                return f"failed in {at}"
        return "was not run"


class Spread(msgspec.Struct, frozen=True):
    """Median, least and most of the rounds' medians."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        return cls(median(values), min(values), max(values)) if values else None


class Row(msgspec.Struct, frozen=True):
    """A target and what became of it."""

    target: Target
    ours: Spread | None
    other: Spread | None
    #: ours held against the other: of the medians, and in the rounds that both have
    ratio: Spread | None
    #: None: it could not be seen
    met: bool | None
    #: why not, if it could not
    reason: str = ""


def judge(run: Run, target: Target, suite: Suite) -> Row:
    """Hold a run against one target."""
    ours = run.by_round(OURS, target.measure)
    spread = Spread.of(list(ours.values()))
    if spread is None:
        return Row(target, None, None, None, None, f"{OURS} {run.reason(OURS, target.measure)}")
    if target.other is None:
        met = spread.median < target.bound if target.rule is Rule.BELOW else spread.median > target.bound
        return Row(target, spread, None, None, met)
    other_measure = target.other_measure or target.measure
    theirs = run.by_round(target.other, other_measure)
    other = Spread.of(list(theirs.values()))
    if other is None:
        return Row(target, spread, None, None, None, f"{target.other} {run.reason(target.other, other_measure)}")
    # how many times better ours is; for a floor, how many times the floor it takes
    up = (target.rule is Rule.WITHIN) != suite.measures[target.measure].more_is_better
    paired = [ours[turn] / theirs[turn] if up else theirs[turn] / ours[turn] for turn in ours if turn in theirs]
    overall = spread.median / other.median if up else other.median / spread.median
    ratio = Spread(overall, min(paired, default=overall), max(paired, default=overall))
    return Row(target, spread, other, ratio, _met(target, overall))


def _met(target: Target, ratio: float) -> bool:
    if target.rule is Rule.WITHIN:
        return ratio <= target.bound
    return ratio > target.bound if target.bound == 1 else ratio >= target.bound
