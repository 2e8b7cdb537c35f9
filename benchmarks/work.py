"""What the contenders are given to do: the functions, the arrays, the stopwatch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from benchmarks.measures import Size

__all__ = ["Array", "Measurement", "arrays", "expect", "imported_increment", "increment", "rates", "times"]

Array = npt.NDArray[np.float64]
#: takes the samples of one measure
Measurement = Callable[[Size], list[float]]


def imported_increment(x: int) -> int:
    """The small task, as a function that engines can import."""
    return x + 1


def increment(x: int) -> int:
    """The small task, as a function that was typed in a notebook: engines cannot import it, it travels by value."""
    return x + 1


increment.__module__ = "__main__"


def times(call: Callable[[], object], repeat: int) -> list[float]:
    """Seconds that each of `repeat` calls took."""
    samples = []
    for _ in range(repeat):
        begin = time.perf_counter()
        call()
        samples.append(time.perf_counter() - begin)
    return samples


def rates(burst: Callable[[int], list[int]], tasks: int, bursts: int) -> list[float]:
    """Tasks per second of each burst, after a small one to warm up; the results are checked."""
    burst(tasks // 10)
    samples = []
    for _ in range(bursts):
        begin = time.perf_counter()
        results = burst(tasks)
        samples.append(tasks / (time.perf_counter() - begin))
        expect(results == list(range(1, tasks + 1)), "a task came back with another's result")
    return samples


def arrays(size: Size, copies: int | None = None) -> Iterator[Array]:
    """One array to warm up with, then one per copy, each different: none may be remembered from the last time."""
    base = np.random.default_rng(2).random(size.nbytes // 8)
    for i in range((size.copies if copies is None else copies) + 1):
        yield base + i


def expect(holds: bool, otherwise: str) -> None:
    """A fast wrong answer is no answer.

    Raises
    ------
    ValueError
        it does not hold.
    """
    if not holds:
        raise ValueError(otherwise)
