"""What is asked of a batch system, in words that are no system's own. Values and text only."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Request", "clock", "mebibytes", "seconds"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TIMES = (
    re.compile(r"(?:(?P<d>\d+)-)?(?P<h>\d+):(?P<m>\d{1,2}):(?P<s>\d{1,2})"),
    re.compile(r"(?P<d>\d+)-(?P<h>\d+)(?::(?P<m>\d{1,2}))?"),
    re.compile(r"(?=\d)(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m(?:in)?)?(?:(?P<s>\d+)s)?"),
)
_SIZES = {"": 1, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}


class Request(NamedTuple):
    """A job that runs engines. What is None or empty was not asked for: the template, or the site, decides.

    A system to which one of these means nothing refuses it.
    """

    #: engines
    n: int | None = None
    nodes: int | None = None
    #: seconds that it may run
    time: int | None = None
    #: the partition, or queue
    partition: str | None = None
    #: the account, or project, that pays
    account: str | None = None
    qos: str | None = None
    #: memory of each node, MiB
    mem: int | None = None
    #: accelerators, of all nodes together
    gpus: int | None = None
    #: name of the job
    name: str | None = None
    #: file for what it prints
    log: str | None = None
    #: a file that is sourced before anything is started
    env_script: str | None = None
    #: lines of the system's own, as they are
    extra: tuple[str, ...] = ()
    #: the Python that has mpicluster
    python: str | None = None
    #: what of mpicluster's is run there: ``start`` or ``run``, and what follows
    words: tuple[str, ...] = ()
    #: under which names clients find it; a cluster without one is named for its job
    profile: str | None = None
    cluster: str | None = None
    #: variables that it gets, besides those that the system hands on
    environment: tuple[tuple[str, str], ...] = ()


def seconds(text: str) -> int:
    """A time: ``1:30:00``, ``2-12:00:00``, ``2-12``, ``90m``, ``1h30m``, ``2d``.

    Raises
    ------
    ValueError
        it is something else: of ``1:30``, systems differ in what they make.
    """
    for pattern in _TIMES:
        if found := pattern.fullmatch(text.strip()):
            total = sum(int(value) * _UNITS[unit] for unit, value in found.groupdict().items() if value)
            if total:
                return total
    raise ValueError(
        f"{text!r} is no time: write hours, minutes and seconds (1:30:00), days before them (2-12:00:00), or units (90m, 1h30m, 2d)"
    )


def clock(total: int, *, days: bool = False) -> str:
    """Seconds as ``HH:MM:SS``, or ``D-HH:MM:SS``."""
    minutes, second = divmod(total, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24) if days else (0, hours)
    return f"{day}-{hour:02}:{minute:02}:{second:02}" if day else f"{hour:02}:{minute:02}:{second:02}"


def mebibytes(text: str) -> int:
    """A size of memory: ``16G``, ``512M``, ``2T``, or a number of MiB.

    Raises
    ------
    ValueError
        it is something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(float(found[1]) * _SIZES[found[2].upper()]) if found else 0
    if size < 1:
        raise ValueError(f"{text!r} is no size of memory: write 16G, 512M, or a number of MiB")
    return size
