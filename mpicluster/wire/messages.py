"""Every sentence the parts say to each other: one frozen struct per verb, and nothing else.

Tasks are named three ways, each by the side that owns the name: a client numbers its own tasks (``task``), the hub
numbers what it gives to one engine (``seq``, rising by one), and nobody else sees either.

A *bulk* payload is one too large to ride in its message. It follows as `Chunk` messages, each with one frame of raw
bytes, and only as far as the receiver has allowed by `Credit`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

__all__ = [
    "Abandon",
    "Answer",
    "Attach",
    "Assign",
    "Cancel",
    "Chunk",
    "ClientMessage",
    "Collective",
    "COLLECTIVES",
    "Credit",
    "Done",
    "Dones",
    "EngineInfo",
    "EngineMessage",
    "Engines",
    "Enter",
    "Expect",
    "Farewell",
    "Find",
    "Forget",
    "Free",
    "FromEngine",
    "Goodbye",
    "Halt",
    "Heal",
    "Healed",
    "HealFailed",
    "Heard",
    "Hello",
    "History",
    "Interrupt",
    "Left",
    "Message",
    "Needs",
    "Output",
    "Piece",
    "Purge",
    "Question",
    "QueueStatus",
    "ReaderGone",
    "Ready",
    "Recall",
    "Recalled",
    "Refresh",
    "Register",
    "Registered",
    "Remembered",
    "Resubmit",
    "Result",
    "RingPlace",
    "SendSignal",
    "Shutdown",
    "Signal",
    "Status",
    "StatusReply",
    "Stop",
    "Stuck",
    "Submit",
    "Terms",
    "ToClient",
    "Verdict",
    "Welcome",
    "Withdraw",
    "Withdrawn",
    "Written",
]

#: How targets of one task meet over MPI: "" for not at all.
Collective: TypeAlias = str
COLLECTIVES = ("", "bcast", "scatter", "gather", "reduce", "spmd", "coalesce")


#: Something that a task has written: where, and what. UTF-8 for `STDOUT` and `STDERR`; for `DISPLAY`, an output as notebooks have it
#: (output_type display_data, execute_result, update_display_data or clear_output), as JSON; for `DATA`, a value that was
#: published: its name, a zero byte, and the value as a payload.
Piece: TypeAlias = tuple[int, bytes]
STDOUT, STDERR, DISPLAY, DATA = 1, 2, 3, 4


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


class EngineInfo(_Message, frozen=True, tag=1):
    """One live engine."""

    id: int
    rank: int
    host: str
    pid: int
    #: BLAS and OpenMP threads it may use
    threads: int
    #: number of the MPI world that it is in
    world: int = 0


class RingPlace(_Message, frozen=True, tag=2):
    """Where a sender's shared memory is: a process, its descriptor, and a token by which it is known (see `serial.ring`)."""

    pid: int
    fd: int
    token: bytes


# -- client to hub ---------------------------------------------------------------------------------------------------


class Hello(_Message, frozen=True, tag=10):
    """The first word of a client, on the socket it will listen on."""

    client: str
    version: int
    #: memory through which it can send chunks to a process of its host
    ring: RingPlace | None = None
    #: so long it may be away if its connection drops, seconds; 0 if that is its end
    away: float = 0.0
    #: of the hub's envelopes, how many it has heard, if it is back; else -1
    heard: int = -1


class Needs(_Message, frozen=True, tag=3):
    """Other tasks on which a task depends: all of them, or any, that ended well, or not, or either."""

    #: tasks of the same client, and the engine of a part (-1: the whole task)
    own: list[tuple[int, int]]
    #: tasks of other clients, by their ids
    others: list[tuple[str, int, int]]
    all: bool = True
    success: bool = True
    failure: bool = False


class Terms(_Message, frozen=True, tag=4):
    """What is asked of a submission beyond that it is run. All durations are seconds; 0 for no limit."""

    #: a person's word for it
    label: str = ""
    #: not before these
    after: Needs | None = None
    #: where these ran
    follow: Needs | None = None
    #: when it must have begun
    timeout: float = 0.0
    #: how long it may run
    time_limit: float = 0.0
    #: higher first, among the tasks of one client
    priority: int = 0


class Submit(_Message, frozen=True, tag=11):
    """One call, or all calls of a map: tasks ``first``, ``first + 1``, ...

    With ``targets``, the task runs on each of these engines, and ``data`` has one entry for all, or one per target.
    Without, each entry of ``data`` is a task of its own for whichever of ``allowed`` (empty: any) is free.
    """

    first: int
    kind: str
    targets: list[int] | None
    allowed: list[int]
    #: function or code that all the tasks share
    fn: bytes
    data: list[bytes]
    #: for the first target only: payload that goes on by a collective
    bulk: bytes
    #: sizes of the buffers that follow as a stream, for the first target (or the engine of a balanced task)
    sizes: list[int]
    collective: Collective
    retries: int
    terms: Terms | None = None


class Cancel(_Message, frozen=True, tag=12):
    """Do not start these tasks; answered by a `Verdict`."""

    request: int
    tasks: list[int]


class Interrupt(_Message, frozen=True, tag=16):
    """End these tasks, also those that run; answered by a `Verdict`: whether there was anything to end."""

    request: int
    tasks: list[int]


class SendSignal(_Message, frozen=True, tag=17):
    """Send a signal to the processes of these engines; answered by a `Verdict`. SIGINT ends what runs there."""

    request: int
    number: int
    engines: list[int]


class QueueStatus(_Message, frozen=True, tag=60):
    """What each of these engines has; answered by an `Answer`."""

    request: int
    engines: list[int]
    #: ids of tasks, or just their numbers
    verbose: bool


class Find(_Message, frozen=True, tag=61):
    """Records of the history that match a query (as MongoDB has them, in msgpack); answered by an `Answer`.

    The answer is ``[records, next]``: some of them, oldest first, and the ``start`` to ask with for more (-1: there are no more).
    """

    request: int
    query: bytes
    #: the fields wanted; empty for all but payloads
    keys: list[str]
    #: where to go on
    start: int = 0


class History(_Message, frozen=True, tag=65):
    """Which tasks are remembered; answered by an `Answer`, in pages like a `Find`.

    Each submission as its client, first task, number of tasks, and the engines if it is one task for several.
    """

    request: int
    start: int = 0


class Recall(_Message, frozen=True, tag=62):
    """What became of these tasks, whoever submitted them; answered by an `Answer`: ``[known, parts]``.

    That is of the first ``known`` of the ids, their parts in order (`Remembered`): what does not fit is asked for again. With
    ``watch``, a `Recalled` follows for each part that is under way.
    """

    request: int
    ids: list[str]
    #: whether values and output are wanted; else only how the tasks are
    results: bool
    watch: bool = False


class Purge(_Message, frozen=True, tag=63):
    """Forget finished tasks: those named, and all that ran on these engines, or all; answered by an `Answer`, in pages like a `Find`.

    The answer is how many were forgotten, and where to go on.
    """

    request: int
    ids: list[str]
    engines: list[int]
    everything: bool
    start: int = 0


class Resubmit(_Message, frozen=True, tag=64):
    """This client will run finished tasks again; answered by an `Answer`: what they were, as a list of `Submit`.

    Tasks of one submission come together. Their numbers are ``first``, ... in this order, and are noted with the old records.
    """

    request: int
    first: int
    ids: list[str]


class Attach(_Message, frozen=True, tag=66):
    """So many engines of another MPI world want to come; answered by an `Answer`: a `hub.orders.Invitation`, as JSON."""

    request: int
    size: int
    #: name of a place: asked for first by who starts the engines, then by them
    place: str = ""


class Status(_Message, frozen=True, tag=13):
    """How is everything? Answered by `StatusReply`."""

    request: int


class Shutdown(_Message, frozen=True, tag=14):
    """End the cluster."""


class Goodbye(_Message, frozen=True, tag=15):
    """The client leaves, and hears no answers; what it submitted is done. Answered by `Left`."""


# -- both ways -------------------------------------------------------------------------------------------------------


class Chunk(_Message, frozen=True, tag=20):
    """Part of a bulk payload. ``name`` is a task at the client, a seq at an engine.

    Its bytes are the next frame, or ``nbytes`` in a slot of the sender's ring.
    """

    name: int
    engine: int
    offset: int
    #: slot and number of its use; -1 for a frame
    slot: int = -1
    use: int = 0
    nbytes: int = 0


class Heard(_Message, frozen=True, tag=22):
    """So many of the other's envelopes were heard, since it first said hello. For clients that may come back; the hub's are not counted."""

    count: int


class Credit(_Message, frozen=True, tag=21):
    """So many more bytes of a bulk payload may be sent. Negative: no more of it will be sent, or is wanted.

    A credit for another ``engine`` than before starts the payload anew: its task moved there. Engine -1: it left there,
    and waits for another.
    """

    name: int
    engine: int
    nbytes: int
    #: whether chunks may come through the sender's ring; to an engine, which of the hub's clients will read it (0: not)
    ring: int = 0


# -- hub to client ---------------------------------------------------------------------------------------------------


class Welcome(_Message, frozen=True, tag=30):
    """The hub knows the client."""

    cluster: str
    #: engines the cluster started with
    expected: int
    epoch: int
    engines: list[EngineInfo]
    #: the MPI of the engines, and whether its worlds survive a dead rank
    mpi: str
    survives: bool


class Engines(_Message, frozen=True, tag=31):
    """The engines changed."""

    epoch: int
    engines: list[EngineInfo]
    #: why the last one left; empty if none did
    reason: str


class Result(_Message, frozen=True, tag=32):
    """What became of a task on one engine."""

    task: int
    engine: int
    outcome: int
    data: bytes
    sizes: list[int]
    started: float
    completed: float
    #: what it has written that no `Written` has brought
    output: list[Piece] = []
    #: the engine's, when a bulk payload is to follow
    ring: RingPlace | None = None


class Written(_Message, frozen=True, tag=37):
    """A task writes, on one engine, while it runs there."""

    task: int
    engine: int
    output: list[Piece]


class Answer(_Message, frozen=True, tag=38):
    """Of a question to the hub: msgpack, or why there is none, and whose fault that is (`NO_HISTORY`, ...)."""

    request: int
    data: bytes
    error: str = ""
    fault: int = 0


#: Why there is no answer: the history is off or has stopped; there is no such task; it cannot be done with it; the question makes no sense.
NO_HISTORY, UNKNOWN, UNFIT, NONSENSE = range(1, 5)


class Remembered(_Message, frozen=True, tag=5):
    """A part of a task, as the history has it."""

    id: str
    #: -1: it is under way
    outcome: int
    engine: int
    data: bytes
    #: bytes of its value that were not kept
    dropped: int
    submitted: float
    started: float
    completed: float
    kind: str
    label: str
    output: list[Piece]


class Recalled(_Message, frozen=True, tag=39):
    """A part has ended that a `Recall` asked for."""

    request: int
    part: Remembered


class Verdict(_Message, frozen=True, tag=33):
    """Whether all tasks of a `Cancel` were stopped before they started."""

    request: int
    cancelled: bool


class StatusReply(_Message, frozen=True, tag=34):
    """JSON for a `Status`."""

    request: int
    text: bytes


class Left(_Message, frozen=True, tag=36):
    """All that the client said before its `Goodbye` was heard."""


class Farewell(_Message, frozen=True, tag=35):
    """The cluster ends, and why."""

    reason: str


# -- hub to engine ---------------------------------------------------------------------------------------------------


class Registered(_Message, frozen=True, tag=40):
    """The hub knows the engine."""


class Enter(_Message, frozen=True, tag=42):
    """All targets are ready: enter the collective, in this epoch."""

    seq: int
    epoch: int
    #: what each target said in `Ready`; runs of equal ones as their number and one of them
    metas: list[tuple[int, bytes]]
    #: whether the communicator of these targets is kept for the next time: all must do the same
    keep: bool
    #: whether a new communicator is made though there may be one
    fresh: bool = False


class Assign(_Message, frozen=True, tag=41):
    """Run this."""

    seq: int
    kind: str
    #: key of a function or code given before (0: none), and the function itself when it is new
    fn_id: int
    fn: bytes
    data: bytes
    bulk: bytes
    sizes: list[int]
    collective: Collective
    #: who else takes part, when it is a collective
    targets: list[int]
    #: which of the user's communicators it is to find
    turn: int = 0
    #: seconds it may run; 0 for no limit
    time_limit: float = 0.0
    #: what would be the answer to `Ready`, which is not to be asked for
    enter: Enter | None = None


class Expect(_Message, frozen=True, tag=48):
    """A bulk payload for this assignment will come in buffers of these sizes (to the control thread)."""

    seq: int
    sizes: list[int]
    #: the client's
    ring: RingPlace | None = None


class ReaderGone(_Message, frozen=True, tag=49):
    """A client that may have read from the engine's ring has gone: its number, as in `Credit`."""

    reader: int


class Abandon(_Message, frozen=True, tag=43):
    """The collective will not happen."""

    seq: int


class Forget(_Message, frozen=True, tag=44):
    """These functions are not needed any more; nor is what a client holds that has left."""

    fn_ids: list[int]
    client: str = ""


class Withdraw(_Message, frozen=True, tag=45):
    """Give back what has not begun; answered by `Withdrawn`."""

    seqs: list[int]


class Heal(_Message, frozen=True, tag=46):
    """Ranks died: shrink the world to its survivors. ``engines`` are those the hub counts on."""

    epoch: int
    engines: list[int]
    #: which of the user's communicators that gives
    turn: int


class Halt(_Message, frozen=True, tag=70):
    """End this assignment if it runs (0: whatever runs), as Ctrl-C would; give it back if it has not begun. Answered like a `Withdraw`."""

    seq: int


class Free(_Message, frozen=True, tag=71):
    """Another engine of this call has failed: if this one waits for it in MPI, or will, it is freed."""

    seq: int
    why: str


class Refresh(_Message, frozen=True, tag=72):
    """The user's communicator was revoked: all engines make a new one, the ``turn``-th."""

    turn: int


class Signal(_Message, frozen=True, tag=73):
    """Send yourself a signal."""

    number: int


class Stop(_Message, frozen=True, tag=47):
    """End."""

    reason: str


# -- engine to hub ---------------------------------------------------------------------------------------------------


class Register(_Message, frozen=True, tag=50):
    """The first word of an engine, on each of its two sockets."""

    engine: EngineInfo
    channel: str
    mpi: str
    survives: bool
    ring: RingPlace | None = None


class Done(_Message, frozen=True, tag=51):
    """The outcome of an assignment: `OK`, `FAILED`, ... with the value or the failure as payload."""

    seq: int
    outcome: int
    data: bytes
    sizes: list[int]
    started: float
    completed: float
    #: what it has written that no `Output` has brought
    output: list[Piece] = []
    #: how many `Output` have been sent before: they come by another way, and are waited for
    outputs: int = 0
    #: which of the user's communicators was revoked meanwhile; -1 for none
    revoked: int = -1


class Dones(_Message, frozen=True, tag=58):
    """What the targets of one task have done, told by the first of them for all that did well: by engine."""

    dones: list[tuple[int, Done]]


class Ready(_Message, frozen=True, tag=52):
    """At the door of a collective, with what the others must know to enter it."""

    seq: int
    meta: bytes


class Withdrawn(_Message, frozen=True, tag=53):
    """Of a `Withdraw`: given back, and begun already."""

    returned: list[int]
    begun: list[int]


class Healed(_Message, frozen=True, tag=54):
    """The world of this epoch is sound here. ``engines`` by their new rank."""

    epoch: int
    engines: list[int]


class HealFailed(_Message, frozen=True, tag=55):
    """The world could not be mended."""

    epoch: int
    reason: str


class Output(_Message, frozen=True, tag=56):
    """An assignment writes while it runs."""

    seq: int
    output: list[Piece]


class Stuck(_Message, frozen=True, tag=57):
    """This assignment goes on though it was to end, and why nothing can be done about it: the outcome that it has for others."""

    seq: int
    outcome: int
    why: str


#: Kinds of task that have one answer, however many targets: the first target's, or why there is none.
ONE_ANSWER = frozenset({"arrays"})

#: Outcomes of a task on an engine.
OK, FAILED, ABANDONED, ABORTED, LOST, UNMET, REFUSED, LATE = OUTCOMES = range(8)
#: "LOST", "REFUSED" and "LATE" data is the reason as UTF-8 text; "FAILED" and "UNMET" data is a failure of `serial.failure`.
#: UNMET: the engine has not what the task needs, so it goes to another; REFUSED: what it depends on cannot be; LATE: no time left.

Question: TypeAlias = QueueStatus | History | Find | Recall | Purge | Resubmit
ClientMessage: TypeAlias = (
    Hello | Attach | Submit | Cancel | Interrupt | SendSignal | Question | Status | Shutdown | Goodbye | Chunk | Credit | Heard
)
FromEngine: TypeAlias = Register | Done | Dones | Output | Ready | Withdrawn | Healed | HealFailed | Stuck | Chunk | Credit
ToClient: TypeAlias = (
    Welcome | Engines | Result | Written | Verdict | Answer | Recalled | StatusReply | Farewell | Left | Chunk | Credit | Heard
)
EngineMessage: TypeAlias = (
    Registered
    | Assign
    | Expect
    | ReaderGone
    | Enter
    | Abandon
    | Forget
    | Withdraw
    | Halt
    | Free
    | Refresh
    | Signal
    | Heal
    | Stop
    | Chunk
    | Credit
)
Message: TypeAlias = ClientMessage | FromEngine | ToClient | EngineMessage
