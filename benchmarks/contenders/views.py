"""What is done with ours and with ipyparallel alike: the same lines, for the views have the same API."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import psutil

from benchmarks.measures import Size
from benchmarks.processes import MARK, cpu_seconds, family
from benchmarks.work import Measurement, arrays, expect, increment, rates, times

__all__ = ["measurements", "push"]


def measurements(rc: Any, *, tasks_fraction: float = 1.0) -> Mapping[str, Measurement]:
    """All that a client with direct and load-balanced views can be measured at."""
    return {
        "apply": partial(apply, rc),
        "together": partial(together, rc),
        "map": partial(map_of_four, rc),
        "tasks": partial(tasks, rc, tasks_fraction),
        "push": partial(push, rc[:]),
        "scatter": partial(scatter, rc[:]),
        "gather": partial(gather, rc[:]),
        "idle": idle,
    }


def apply(rc: Any, size: Size) -> list[float]:
    """One call on one engine and back."""
    engine = rc[0]
    times(lambda: engine.apply_sync(increment, 1), size.warmup)
    return times(lambda: engine.apply_sync(increment, 1), size.calls)


def together(rc: Any, size: Size) -> list[float]:
    """One call on all engines and back."""
    engines = rc[:]
    times(lambda: engines.apply_sync(increment, 1), size.warmup)
    return times(lambda: engines.apply_sync(increment, 1), size.calls)


def map_of_four(rc: Any, size: Size) -> list[float]:
    """A load-balanced map of four items."""
    view = rc.load_balanced_view()
    times(lambda: view.map_sync(increment, range(4)), max(1, size.warmup // 4))
    return times(lambda: view.map_sync(increment, range(4)), size.maps)


def tasks(rc: Any, fraction: float, size: Size) -> list[float]:
    """Many small tasks, one message's worth each."""
    view = rc.load_balanced_view()
    return rates(lambda n: list(view.map_sync(increment, range(n), chunksize=1)), int(size.tasks * fraction), size.bursts)


def push(view: Any, size: Size) -> list[float]:
    """One array to all engines of the view."""
    samples = []
    for array in arrays(size):
        samples += times(lambda array=array: view.push({"a": array}, block=True), 1)  # type: ignore[misc]
        view.execute("last = float(a[-1])", block=True)
        expect(all(last == array[-1] for last in view.pull("last", block=True)), "an engine holds another array")
    return samples[1:]


def scatter(view: Any, size: Size) -> list[float]:
    """One array in equal parts, one to each engine."""
    samples = []
    for array in arrays(size):
        samples += times(lambda array=array: view.scatter("a", array, block=True), 1)  # type: ignore[misc]
    view.execute("n = len(a)", block=True)
    expect(sum(view.pull("n", block=True)) == len(array), "the parts are not the whole")
    return samples[1:]


def gather(view: Any, size: Size) -> list[float]:
    """The parts back into one array."""
    array = next(arrays(size))
    view.scatter("a", array, block=True)
    samples = []
    for _ in range(size.copies + 1):
        begin = time.perf_counter()
        whole = view.gather("a", block=True)
        samples.append(time.perf_counter() - begin)
    expect(np.array_equal(whole, array), "the whole is not what was scattered")
    return samples[1:]


def idle(size: Size) -> list[float]:
    """CPU of all processes of the cluster while nobody asks anything of it, in percent of one core.

    The client's own process is not counted.
    """
    time.sleep(size.settle)
    cluster: list[psutil.Process] = family(os.environ[MARK], os.getpid())
    expect(len(cluster) > 4, f"a cluster of {len(cluster)} processes cannot be all of it")
    before, begin = cpu_seconds(cluster), time.perf_counter()
    time.sleep(size.idle)
    return [100 * (cpu_seconds(cluster) - before) / (time.perf_counter() - begin)]
