"""Sizes and times that the parts agree on. Pure; imports nothing of ours.

All durations are seconds, all sizes are bytes.
"""

from __future__ import annotations

import signal
from typing import NamedTuple

__all__ = [
    "AWAY_AT_MOST",
    "AWAY_BYTES",
    "AWAY_WITHIN",
    "BROADCAST_FROM",
    "BROADCAST_VIEW_FROM",
    "CHUNK",
    "CONNECT_TIMEOUT",
    "GROUPS_KEPT",
    "HEAL_TIMEOUT",
    "HISTORY_LIMITS",
    "HISTORY_OUTPUT",
    "HISTORY_PAUSE",
    "HISTORY_PENDING",
    "HistoryLimits",
    "INLINE_UP_TO",
    "JOB_GRACE",
    "LAST_WORDS",
    "MAX_CLIENTS",
    "MAX_FRAME",
    "MAX_LOST",
    "MAX_OUTPUT",
    "OUTPUT_KEPT",
    "PREFETCH_TIME",
    "RING_SLOTS",
    "SCHEMES",
    "START_TIMEOUT",
    "STOP_GRACE",
    "TRANSPORT_MAX_FRAME",
    "WINDOW",
]

#: A payload up to this size rides inside its message; a larger one follows as a stream of chunks.
INLINE_UP_TO = 256 * 1024
#: A payload for several engines is broadcast over MPI when size x engines exceeds this, else copied to each by the hub.
#: Measured with 4 engines: copies are faster up to 128 KiB each, equal at 256 KiB, slower above.
BROADCAST_FROM = 1024 * 1024
#: The same for a view that is made for many engines.
BROADCAST_VIEW_FROM = 64 * 1024
#: Bytes in one chunk of a stream. Measured: 1 MiB moves three times as fast through the hub as one 80 MB frame,
#: since the allocator then reuses warm pages.
CHUNK = 1024 * 1024
#: Bytes of a stream that may be under way at a time, so that the hub's memory stays flat.
WINDOW = 16 * CHUNK
#: Chunks that a sender may have in memory it shares with receivers of its host; beyond, they go by message.
RING_SLOTS = 32

#: A frame above this is counted and dropped by the hub ...
MAX_FRAME = 32 * 1024 * 1024
#: ... and one above this ends the connection before it is read.
TRANSPORT_MAX_FRAME = 64 * 1024 * 1024
MAX_CLIENTS = 1024

#: How often engines on other hosts and clients are probed, and when they count as gone.
HEARTBEAT = 5.0
HEARTBEAT_TIMEOUT = 30.0

#: So long a client whose connection may drop can be away, unless it asks for another time, and at most; and so much may wait for it.
AWAY_WITHIN = 600.0
AWAY_AT_MOST = 7 * 86400.0
AWAY_BYTES = 256 * 1024 * 1024

#: A task that was running on this many engines when they died is given up.
MAX_LOST = 3
#: Communicators of some engines that are kept for the next collective of just these; others are made for one.
GROUPS_KEPT = 512
#: Work that an engine should have ahead, so that it never waits for the hub.
PREFETCH_TIME = 0.02
PREFETCH_MAX = 256
#: What one task may write on one engine ...
MAX_OUTPUT = 64 * 1024 * 1024
#: ... and how much of it a client keeps, the newest.
OUTPUT_KEPT = 16 * 1024 * 1024


#: In what order engines that have room for a task are served: those with the least first; in turn; with the least most likely
#: first; at random.
SCHEMES = ("leastload", "roundrobin", "weighted", "random")


class HistoryLimits(NamedTuple):
    """How much the history keeps; beyond, the oldest is forgotten."""

    #: tasks; of a call on several engines, each engine's part counts
    tasks: int = 1_000_000
    nbytes: int = 512 * 1024 * 1024
    age: float = 30 * 86400.0


HISTORY_LIMITS = HistoryLimits()

#: How often the history is written, seconds ...
HISTORY_PAUSE = 0.2
#: ... how much may wait for that: more than this is noted without its values ...
HISTORY_PENDING = 64 * 1024 * 1024
#: ... and what of a task's output is kept, the newest.
HISTORY_OUTPUT = 256 * 1024

#: Signals after which a command comes to its end: of a person's, and of batch systems before they kill.
LAST_WORDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

#: How long a script in a batch job has after the first of them: systems give it a minute.
JOB_GRACE = 50.0

CONNECT_TIMEOUT = 10.0
START_TIMEOUT = 120.0
HEAL_TIMEOUT = 60.0
#: How long engines and hub may take to end after they were asked to.
STOP_GRACE = 5.0
