"""What the hub remembers, and the one table of a task's life. Pure.

A *job* is one call of a client; a *part* is what one engine does of it, and the unit that is scheduled. Only
`Part.to` changes a part's state; a verb that the table does not have is an error and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sized
from enum import Enum
from typing import Final, NamedTuple

from mpicluster.errors import ProtocolError
from mpicluster.wire.messages import Done, EngineInfo, Message, Result, RingPlace, Submit

__all__ = ["TRANSITIONS", "CancelRequest", "ClientRecord", "EngineRecord", "Job", "Part", "Send", "State"]


class Send(NamedTuple):
    """Say this to that address; a `Chunk` takes along the frame of bytes that came with the event."""

    to: bytes
    message: Message
    frame: Sized | None = None


class State(Enum):
    """Where a part is in its life."""

    WAITING = "waiting"  # for an engine
    ASSIGNED = "assigned"  # sent to an engine: queued or running there
    READY = "ready"  # its engine stands at the door of a collective
    ENTERED = "entered"  # its engine is in the collective
    DELIVERING = "delivering"  # done; its large result is on the way to the client
    ENDED = "ended"

    __hash__ = object.__hash__  # Enum's own is a function of Python's


TRANSITIONS: Final = {
    (State.WAITING, "assign"): State.ASSIGNED,
    (State.WAITING, "end"): State.ENDED,
    (State.ASSIGNED, "return"): State.WAITING,  # withdrawn, failed with retries left, or its engine died
    (State.ASSIGNED, "ready"): State.READY,
    (State.ASSIGNED, "enter"): State.ENTERED,  # the door stood open
    (State.ASSIGNED, "deliver"): State.DELIVERING,
    (State.ASSIGNED, "end"): State.ENDED,
    (State.READY, "enter"): State.ENTERED,
    (State.READY, "end"): State.ENDED,
    (State.ENTERED, "deliver"): State.DELIVERING,
    (State.ENTERED, "end"): State.ENDED,
    (State.DELIVERING, "return"): State.WAITING,  # its engine died before the client had it all
    (State.DELIVERING, "end"): State.ENDED,
}


class Job:
    """One `Submit`."""

    __slots__ = (
        "abandoned",
        "allowed",
        "answered",
        "client",
        "fn_id",
        "held",
        "holders",
        "kept",
        "metas",
        "number",
        "open",
        "parts",
        "priority",
        "submit",
        "told",
    )

    def __init__(self, client: ClientRecord, submit: Submit, fn_id: int) -> None:
        self.client = client
        self.submit = submit
        #: the history's number for it
        self.number = 0
        #: engines that a balanced one may run on; empty for any
        self.allowed = frozenset(submit.allowed)
        #: key under which engines keep the function, 0 when each assignment brings it along
        self.fn_id = fn_id
        #: engines that have it
        self.holders: set[int] = set()
        #: parts not ENDED
        self.open = 0
        #: parts of a job with targets, in their order; empty for a balanced one
        self.parts: list[Part] = []
        #: what each part said when it was READY, by engine
        self.metas: dict[int, bytes] = {}
        #: of a kind that has one answer: that, and why there is none, which is told in the end
        self.told: Result | None = None
        self.kept: Result | None = None
        #: the collective of this job will not happen
        self.abandoned = False
        #: a part of it has ended other than by being cancelled
        self.answered = False
        #: it waits for other tasks
        self.held = False
        self.priority = submit.terms.priority if submit.terms is not None else 0

    def tasks(self) -> list[Part]:
        """Its parts that have not ended."""
        if self.submit.targets is not None:
            return [p for p in self.parts if p.state is not State.ENDED]
        first = self.submit.first
        known = (self.client.parts.get(task) for task in range(first, first + len(self.submit.data)))
        return [parts[0] for parts in known if parts]


class Part:
    """What one engine does of a job."""

    __slots__ = (
        "avoid",
        "balanced",
        "done",
        "engine",
        "given_up",
        "index",
        "job",
        "lost",
        "movable",
        "outputs",
        "remaining",
        "retries",
        "seq",
        "state",
        "task",
        "unfit",
    )

    def __init__(self, job: Job, index: int, engine: int | None) -> None:
        submit = job.submit
        self.job = job
        #: entry of ``submit.data``, or position among its targets
        self.index = index
        #: whether the hub chooses its engine
        self.balanced = submit.targets is None
        #: the client's number for it
        self.task = submit.first + index if self.balanced else submit.first
        #: whether it may be taken back to be run elsewhere, as long as it has not begun
        self.movable = self.balanced and not submit.sizes
        #: the engine it is (to be) on; None while a balanced part waits
        self.engine = engine
        self.seq = 0
        self.state = State.WAITING
        self.retries = submit.retries
        #: engines that died with it
        self.lost = 0
        #: the engine where it failed last
        self.avoid: int | None = None
        #: it was interrupted: whatever happens, it is not run again
        self.given_up = False
        #: engines that lack what it needs
        self.unfit: frozenset[int] = frozenset()
        #: bytes of its result that have not passed yet
        self.remaining = 0
        #: how many messages of output have come from its engine, and its result, if that was faster than they
        self.outputs = 0
        self.done: Done | None = None

    def to(self, verb: str) -> None:
        """Go on in life.

        Raises
        ------
        ProtocolError
            this verb is not for a part in this state.
        """
        try:
            self.state = TRANSITIONS[self.state, verb]
        except KeyError:
            raise ProtocolError(f"a task that is {self.state.value} cannot {verb!r} (task {self.task}, engine {self.engine})") from None


class EngineRecord:
    """One live engine."""

    __slots__ = (
        "begun_at",
        "channels",
        "control",
        "delivering",
        "done",
        "info",
        "main",
        "mean",
        "movable",
        "parts",
        "readers",
        "ring",
        "seq",
        "stuck",
        "withdrawing",
    )

    def __init__(self, info: EngineInfo) -> None:
        self.info = info
        #: addresses of its two threads
        self.main = b""
        self.control = b""
        self.channels: set[str] = set()
        #: number of its newest assignment
        self.seq = 0
        #: assigned and not done, by seq, oldest first: the first one is running
        self.parts: dict[int, Part] = {}
        #: those of them that may be moved, by job
        self.movable: dict[Job, dict[int, Part]] = {}
        self.delivering: dict[int, Part] = {}
        #: running mean of how long its balanced parts take, seconds
        self.mean: float | None = None
        #: when the oldest part can have begun
        self.begun_at = 0.0
        self.done = 0
        #: its shared memory, and the clients (by number) that may read there
        self.ring: RingPlace | None = None
        self.readers: set[int] = set()
        #: parts it was asked to give back to be run elsewhere
        self.withdrawing: set[int] = set()
        #: the assignment that it cannot end, and why; it takes no other until it has
        self.stuck: tuple[int, str] | None = None

    def hold(self, part: Part) -> None:
        """It was assigned this part."""
        self.parts[part.seq] = part
        if part.movable:
            self.movable.setdefault(part.job, {})[part.seq] = part

    def release(self, seq: int) -> Part | None:
        """A part is done here, or came back; None if it is not here."""
        part = self.parts.pop(seq, None)
        if part is not None and part.movable:
            held = self.movable[part.job]
            del held[seq]
            if not held:
                del self.movable[part.job]
        return part

    @property
    def crowded(self) -> bool:
        """Whether it has a part that may be moved and cannot have begun."""
        if len(self.parts) < 2 or not self.movable:
            return False
        if len(self.movable) > 1:
            return True
        oldest = next(iter(self.parts.values()))
        held = self.movable.get(oldest.job)
        return held is None or not oldest.movable or len(held) > 1


class ClientRecord:
    """One client."""

    __slots__ = ("address", "dropped", "holds", "id", "number", "parts", "ring")

    def __init__(self, id_: str, address: bytes, number: int = 0, ring: RingPlace | None = None) -> None:
        self.id = id_
        #: how engines know it
        self.number = number
        self.ring = ring
        self.address = address
        #: unfinished parts by task
        self.parts: dict[int, list[Part]] = {}
        #: whether engines may keep arrays for it
        self.holds = False
        #: its connection was lost: nobody wants its results any more
        self.dropped = False


class CancelRequest:
    """A `Cancel` that waits for engines to say what had begun."""

    __slots__ = ("cancelled", "client", "number", "pending")

    def __init__(self, client: ClientRecord, number: int) -> None:
        self.client = client
        self.number = number
        #: ``(engine, seq)`` not answered for
        self.pending: set[tuple[int, int]] = set()
        self.cancelled = True
