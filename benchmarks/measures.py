"""What is measured, how much of it, and what must be reached. Tables only: nothing here runs anything."""

from __future__ import annotations

from enum import Enum

import msgspec

__all__ = ["FULL", "MEASURES", "OURS", "QUICK", "TARGETS", "Measure", "Rule", "Size", "Target"]

OURS = "mpicluster"


class Measure(msgspec.Struct, frozen=True):
    """One quantity, the same for every contender that offers it."""

    name: str
    title: str
    #: ``s`` and ``1/s`` are shown in the prefix that suits; ``%`` is of one core
    unit: str

    @property
    def more_is_better(self) -> bool:
        return self.unit == "1/s"


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("start", "start of the engines to the first result", "s"),
        Measure("apply", "one blocking `apply` and back", "s"),
        Measure("together", "one blocking `apply` on all engines and back", "s"),
        Measure("map", "load-balanced map of 4", "s"),
        Measure("tasks", "small load-balanced tasks, chunksize 1", "1/s"),
        Measure("array", "one small operation on arrays, and its value", "s"),
        Measure("arrays", "small operations on arrays, asynchronous", "1/s"),
        Measure("push", "push of 80 MB to all engines", "s"),
        Measure("broadcast", "the same by its `BroadcastView`", "s"),
        Measure("scatter", "scatter of 80 MB", "s"),
        Measure("gather", "gather of 80 MB", "s"),
        Measure("idle", "CPU of the idle cluster", "%"),
        Measure("hub", "hub memory above its start, after many tasks and pushes", "MB"),
    )
}


class Size(msgspec.Struct, frozen=True, tag="cluster"):
    """How much of everything one round does. A contender takes its samples in this amount or says why not."""

    #: blocking calls timed one by one, after `warmup` calls that are not
    calls: int = 300
    warmup: int = 30
    #: maps of 4 timed one by one
    maps: int = 100
    #: tasks in one burst; slow contenders do a stated fraction of it, the rate is what counts
    tasks: int = 10_000
    bursts: int = 2
    #: one array, and how often it is moved
    nbytes: int = 80_000_000
    copies: int = 5
    #: seconds that the cluster is left alone before its CPU is watched, and is watched
    settle: float = 3.0
    idle: float = 10.0
    #: what the hub must carry before its memory is looked at again
    hub_tasks: int = 100_000
    hub_pushes: int = 10


FULL = Size()
QUICK = Size(calls=50, warmup=5, maps=10, tasks=1_000, bursts=1, copies=2, settle=1.0, idle=2.0, hub_tasks=5_000, hub_pushes=2)


class Rule(Enum):
    """How ours is held against the bound."""

    FASTER = "at least {:g}x faster"
    WITHIN = "at most {:g}x of it"
    BELOW = "below {}"
    ABOVE = "above {}"


class Target(msgspec.Struct, frozen=True):
    """One row of the table: ours, the other's, and what must be reached."""

    measure: str
    rule: Rule
    #: a factor, or for `Rule.BELOW` and `Rule.ABOVE` a value in the measure's unit
    bound: float
    #: the contender that ours is held against (it may be ours, at another measure); None for `Rule.BELOW` and `Rule.ABOVE`
    other: str | None = None
    #: the other's measure, where it has another name there
    other_measure: str | None = None


TARGETS = (
    Target("apply", Rule.FASTER, 8, "ipyparallel"),
    Target("apply", Rule.WITHIN, 3, "raw-zmq"),
    Target("map", Rule.FASTER, 15, "ipyparallel"),
    Target("tasks", Rule.FASTER, 30, "ipyparallel"),
    Target("tasks", Rule.FASTER, 2, "mpi4py.futures"),
    Target("tasks", Rule.FASTER, 20, "dask"),
    Target("array", Rule.WITHIN, 3, OURS, "apply"),
    Target("array", Rule.WITHIN, 3, OURS, "together"),
    Target("arrays", Rule.ABOVE, 2000),
    Target("push", Rule.FASTER, 3, "ipyparallel"),
    Target("push", Rule.FASTER, 1, "ipyparallel", "broadcast"),
    Target("scatter", Rule.FASTER, 2, "ipyparallel"),
    Target("gather", Rule.FASTER, 2, "ipyparallel"),
    Target("start", Rule.FASTER, 2, "ipyparallel"),
    Target("idle", Rule.BELOW, 1),
    Target("hub", Rule.BELOW, 50),
)
