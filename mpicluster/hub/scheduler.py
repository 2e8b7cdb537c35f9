"""The hub's decisions: events in, instructions out. Pure: no socket, clock, thread or configuration file.

The scheduler is the one owner of every task's fate. Whatever happens (a result, a dead engine, a cancel, a client that
leaves) comes in as an event through one of the methods below; `decide` then says what follows. Time is an argument.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sized
from typing import Any, NamedTuple

from mpicluster.config import CHUNK, GROUPS_KEPT, HEAL_TIMEOUT, MAX_LOST
from mpicluster.errors import ProtocolError
from mpicluster.hub.balance import Balancer
from mpicluster.hub.notes import Ended, Note, Submitted, Wrote
from mpicluster.hub.records import CancelRequest, ClientRecord, EngineRecord, Job, Part, State
from mpicluster.wire import messages as m

__all__ = ["Scheduler", "Send"]

#: The function of a map of so few tasks for each engine comes with each task: to have it forgotten costs more.
_FEW = 2
#: Numbers of tasks fit in 63 bits.
_LAST_TASK = 2**63 - 1


class Send(NamedTuple):
    """Say this to that address; a `Chunk` takes along the frame of bytes that came with the event."""

    to: bytes
    message: m.Message
    frame: Sized | None = None


class Scheduler:
    """State of one cluster.

    Invariants (`check`): a part is in ``engine.parts`` of its engine exactly while ASSIGNED, READY or ENTERED, and in
    ``engine.delivering`` exactly while DELIVERING; ``job.open`` counts its parts that are not ENDED.
    """

    def __init__(self, cluster: str, expected: int) -> None:
        self.cluster = cluster
        #: engines the cluster started with
        self.expected = expected
        #: engines with both channels here, by id
        self.engines: dict[int, EngineRecord] = {}
        #: engines of which one channel is here
        self.arriving: dict[int, EngineRecord] = {}
        self.clients: dict[bytes, ClientRecord] = {}
        self._last_client = 0
        self.balancer = Balancer(self.engines)
        self.mpi = ""
        self.survives = True
        #: the world's epoch, and the engines that have not healed into it
        self.epoch = 0
        self.healing: set[int] = set()
        self.heal_started: float | None = None
        #: targets of collectives whose communicator the engines keep, in this epoch
        self._groups: set[tuple[int, ...]] = set()
        #: why the cluster ends; None while it does not
        self.ended: str | None = None
        self.tasks_done = 0
        #: what the history is to remember, taken by whoever drives this after each turn
        self.notes: list[Note] = []
        self._last_job = 0
        self._ready_jobs: list[Job] = []
        #: by engine and seq
        self._cancels: dict[tuple[int, int], list[CancelRequest]] = {}
        self._next_fn = 1
        self._decided_at = 0.0
        self._out: list[Send] = []
        self._on: dict[type, Callable[[Any, Any, float], None]] = {
            m.Hello: self._hello,
            m.Submit: self._submit,
            m.Cancel: self._cancel,
            m.Goodbye: self._goodbye,
            m.Shutdown: self._shutdown,
            m.Done: self._done,
            m.Output: self._output,
            m.Ready: self._ready,
            m.Withdrawn: self._withdrawn,
            m.Healed: self._healed,
            m.HealFailed: self._heal_failed,
        }

    # -- events ------------------------------------------------------------------------------------------------------

    def from_client(self, address: bytes, message: m.ClientMessage, now: float, frame: Sized | None = None) -> None:
        """A message of a client, with the frame that a chunk has.

        Raises
        ------
        ProtocolError
            it makes no sense; nothing has changed.
        """
        if type(message) is m.Hello:
            self._hello(address, message, now)
        else:
            client = self.clients.get(address)
            if client is None:
                if type(message) is m.Goodbye:
                    return  # its connection was seen to end before
                raise ProtocolError("a message from a client that has not said hello")
            if type(message) is m.Chunk or type(message) is m.Credit:
                self._client_stream(client, message, frame)
            else:
                self._handler(message)(client, message, now)

    def from_engine(self, engine_id: int, message: m.FromEngine, now: float, frame: Sized | None = None) -> None:
        """A message of a registered engine.

        Raises
        ------
        ProtocolError
            it makes no sense; nothing has changed.
        """
        engine = self.engines.get(engine_id)
        if engine is None:
            raise ProtocolError(f"a message from engine {engine_id}, which is not registered")
        if type(message) is m.Chunk or type(message) is m.Credit:
            self._engine_stream(engine, message, frame)
        else:
            self._handler(message)(engine, message, now)

    def _handler(self, message: m.Message) -> Callable[[Any, Any, float], None]:
        try:
            return self._on[type(message)]
        except KeyError:
            raise ProtocolError(f"a {type(message).__name__} is not for the scheduler") from None

    def register(self, message: m.Register, address: bytes, now: float) -> None:
        """One of an engine's two channels is here.

        Raises
        ------
        ProtocolError
            it is none of this cluster's engines, or that channel is here already.
        """
        info = message.engine
        if not 0 <= info.id < self.expected or message.channel not in ("main", "control"):
            raise ProtocolError(f"there is no channel {message.channel!r} of an engine {info.id}")
        engine = self.arriving.get(info.id) or EngineRecord(info)
        if info.id in self.engines or message.channel in engine.channels:
            raise ProtocolError(f"engine {info.id} registers its channel {message.channel!r} twice")
        self.arriving[info.id] = engine
        engine.channels.add(message.channel)
        engine.ring = message.ring or engine.ring
        if message.channel == "main":
            engine.main = address
        else:
            engine.control = address
        self.mpi, self.survives = message.mpi, message.survives
        self._out.append(Send(address, m.Registered()))
        if len(engine.channels) == 2:
            del self.arriving[info.id]
            self.engines[info.id] = engine
            self.balancer.update(engine)
            self._tell_engines("")
            if self.ended is not None:
                self._out.append(Send(engine.control, m.Stop(self.ended)))
            elif self.epoch > 0:  # another died before this one was here
                self.healing.add(info.id)
                self.heal_started = now
                alive = sorted(self.engines)  # it shrinks as often as the others did, or some would wait for it
                self._out += [Send(engine.control, m.Heal(epoch, alive)) for epoch in range(1, self.epoch + 1)]

    def engine_lost(self, engine_id: int, reason: str, now: float) -> None:
        """An engine's process is gone, or one of its channels: it is told to end then."""
        if engine_id in self.engines and self.ended is None:
            engine = self.engines[engine_id]
            for part in [p for p in engine.parts.values() if p.done is not None]:
                assert part.done is not None
                part.outputs = part.done.outputs  # no more of them will come
                self._done(engine, part.done, now)
        gone = self.engines.pop(engine_id, None) or self.arriving.pop(engine_id, None)
        if gone is None:
            return
        engine = gone
        self._out += [Send(a, m.Stop("the hub has lost a connection to it")) for a in (engine.control,) if a]
        if self.ended is not None:
            return
        self.balancer.remove(engine_id)
        info = engine.info
        text = f"engine {info.id} (rank {info.rank}, pid {info.pid} on {info.host}) {reason}"
        self._settle_cancels(engine_id)
        running = next(iter(engine.parts.values()), None)
        for part in [*reversed(engine.parts.values()), *engine.delivering.values()]:  # the oldest is to be first again
            self._part_lost(part, text, was_running=part is running)
        engine.parts.clear()
        engine.delivering.clear()
        if not self.engines and not self.arriving:
            self._end(f"the last engine is gone: {text}")
        elif not self.survives:
            self._end(f"{text}; {self.mpi} cannot go on with a dead rank, so the cluster ends (Open MPI with --with-ft ulfm can)")
        else:
            self.epoch += 1
            self._groups.clear()
            self.healing = set(self.engines)
            self.heal_started = now if self.healing else None
            alive = sorted(self.engines)
            self._out += [Send(e.control, m.Heal(self.epoch, alive)) for e in self.engines.values()]
            self._tell_engines(text)
        for part in self.balancer.drop_impossible():
            self._end_part(part, m.LOST, f"none of the engines it may run on is left; {text}".encode())

    def client_lost(self, address: bytes) -> None:
        """A client's connection is gone."""
        client = self.clients.get(address)
        if client is not None:
            self._drop_client(client)

    def refuse(self, address: bytes, message: m.Submit, why: str) -> None:
        """A submission made no sense: its tasks fail."""
        client = self.clients.get(address)
        tasks = range(message.first, message.first + (len(message.data) if message.targets is None else 1))
        if client is None or not 0 <= tasks.start <= tasks.stop <= _LAST_TASK:
            return
        for task in tasks:
            if task not in client.parts:
                for engine in message.targets or [-1]:
                    self._tell(client, m.Result(task, engine, m.LOST, why.encode(), [], 0.0, 0.0))

    def end(self, reason: str) -> None:
        """End the cluster."""
        self._end(reason)

    def decide(self, now: float) -> list[Send]:
        """All that is to be said after the events so far."""
        self._decided_at = now
        if self.heal_started is not None and now - self.heal_started > HEAL_TIMEOUT:
            self._end(f"engines {sorted(self.healing)} did not mend their MPI world within {HEAL_TIMEOUT:.0f} s")
        if self.ended is None:
            if self._ready_jobs:
                self._enter_ready()
            for engine, part in self.balancer.assignments():
                self._assign(part, engine, now)
            for engine, parts in self.balancer.to_withdraw(now):
                engine.withdrawing.update(p.seq for p in parts)
                self._out.append(Send(engine.control, m.Withdraw([p.seq for p in parts])))
        out, self._out = self._out, []
        return out

    def wake_at(self) -> float | None:
        """When `decide` should be called next if nothing happens."""
        work = self.balancer.wake_at(self._decided_at)
        if self.heal_started is None:
            return work
        heal = self.heal_started + HEAL_TIMEOUT
        return heal if work is None else min(heal, work)

    # -- clients -----------------------------------------------------------------------------------------------------

    def _hello(self, address: bytes, message: m.Hello, now: float) -> None:
        client = self.clients.get(address)
        if client is None:
            self._last_client += 1
            client = self.clients[address] = ClientRecord(message.client, address, self._last_client, message.ring)
        infos = [e.info for e in self.engines.values()]
        self._out.append(Send(address, m.Welcome(self.cluster, self.expected, self.epoch, infos, self.mpi, self.survives)))
        if self.ended is not None:
            self._out.append(Send(address, m.Farewell(self.ended)))

    def _goodbye(self, client: ClientRecord, message: m.Goodbye, now: float) -> None:
        """It leaves in good order: what it submitted is done, unheard."""
        self._tell(client, m.Left())
        self.clients.pop(client.address, None)
        self._end_streams(client)

    def _drop_client(self, client: ClientRecord) -> None:
        """Forget a client: what has not begun is dropped, what runs runs to its end unheard."""
        self.clients.pop(client.address, None)
        client.dropped = True
        self._end_streams(client)
        withdraw: dict[int, list[int]] = {}
        for parts in list(client.parts.values()):
            for part in list(parts):
                if part.state is State.WAITING:
                    self._end_part(part, m.ABORTED, b"")
                    self.balancer.dropped()
                elif part.engine in self.engines:
                    withdraw.setdefault(part.engine, []).append(part.seq)
        for engine_id, seqs in withdraw.items():
            self._out.append(Send(self.engines[engine_id].control, m.Withdraw(seqs)))

    def _end_streams(self, client: ClientRecord) -> None:
        """No bulk payload comes from a client any more, nor goes there."""
        for engine in self.engines.values():
            if client.number in engine.readers:
                engine.readers.discard(client.number)
                self._out.append(Send(engine.control, m.ReaderGone(client.number)))
        for parts in list(client.parts.values()):
            for part in list(parts):
                streamed = bool(part.job.submit.sizes)
                if part.state is State.WAITING and streamed:
                    self._end_part(part, m.ABORTED, b"")
                    self.balancer.dropped()
                elif part.engine in self.engines and (streamed or part.state is State.DELIVERING):
                    engine = self.engines[part.engine]  # a payload that is complete is not given up by this
                    self._out.append(Send(engine.control, m.Credit(part.seq, part.engine, -1)))
                    if part.state is State.DELIVERING:
                        engine.delivering.pop(part.seq, None)
                        self._end_part(part, m.ABORTED, b"")

    def _shutdown(self, client: ClientRecord, message: m.Shutdown, now: float) -> None:
        self._end("it was stopped")

    def _end(self, reason: str) -> None:
        if self.ended is not None:
            return
        self.ended = reason
        self.heal_started = None
        for client in self.clients.values():
            self._out.append(Send(client.address, m.Farewell(reason)))
        for engine in self.engines.values():
            self._out.append(Send(engine.control, m.Stop(reason)))

    def _tell_engines(self, reason: str) -> None:
        news = m.Engines(self.epoch, [e.info for e in self.engines.values()], reason)
        self._out += [Send(c.address, news) for c in self.clients.values()]

    # -- work comes in -----------------------------------------------------------------------------------------------

    def _submit(self, client: ClientRecord, message: m.Submit, now: float) -> None:
        _check_submit(message)
        count = len(message.data) if message.targets is None else 1
        if any(task in client.parts for task in range(message.first, message.first + count)):
            raise ProtocolError(f"task {message.first} is known already")
        fn_id = 0
        if message.targets is None and len(message.data) > _FEW * max(1, len(self.engines)):
            fn_id, self._next_fn = self._next_fn, self._next_fn + 1
        job = Job(client, message, fn_id)
        if message.terms is None or not message.terms.forget:
            self._last_job += 1
            job.number = self._last_job
            self.notes.append(Submitted(job.number, client.id, message))
        if message.targets is None:
            parts = [Part(job, i, None) for i in range(len(message.data))]
            job.open = len(parts)
            for part in parts:
                client.parts[part.task] = [part]
            if self.ended is None and any(not message.allowed or i in message.allowed for i in self.engines):
                self.balancer.add(parts)
            else:
                self._refuse(parts, "the cluster has no engine that this may run on")
            return
        job.parts = [Part(job, i, target) for i, target in enumerate(message.targets)]
        job.open = len(job.parts)
        client.parts[message.first] = list(job.parts)
        gone = [p.engine for p in job.parts if p.engine not in self.engines]
        if gone or self.ended is not None:
            self._refuse(job.parts, f"engine {next(iter(gone), None)} is not there; engines: {sorted(self.engines)}")
            return
        for part in job.parts:
            assert part.engine is not None
            self._assign(part, self.engines[part.engine], now)

    def _refuse(self, parts: Iterable[Part], why: str) -> None:
        why = f"the cluster ended: {self.ended}" if self.ended is not None else why
        for part in parts:
            self._end_part(part, m.LOST, why.encode())

    def _assign(self, part: Part, engine: EngineRecord, now: float) -> None:
        part.to("assign")
        job, submit = part.job, part.job.submit
        engine.seq += 1
        part.seq, part.engine = engine.seq, engine.info.id
        part.outputs, part.done = 0, None
        if not engine.parts:
            engine.begun_at = now
        engine.hold(part)
        fn = submit.fn
        if job.fn_id:
            if engine.info.id in job.holders:
                fn = b""
            job.holders.add(engine.info.id)
        first = part.index == 0 or part.balanced
        if first and submit.sizes:  # the control thread receives while the main one may be busy
            self._out.append(Send(engine.control, m.Expect(part.seq, submit.sizes, job.client.ring)))
        data = submit.data[part.index if len(submit.data) > 1 else 0]
        self._out.append(
            Send(
                engine.main,
                m.Assign(
                    part.seq,
                    submit.kind,
                    job.fn_id,
                    fn,
                    data,
                    submit.bulk if first else b"",
                    submit.sizes,
                    submit.collective,
                    submit.targets or [] if submit.collective else [],
                ),
            )
        )
        self.balancer.update(engine)

    # -- work comes back ---------------------------------------------------------------------------------------------

    def _done(self, engine: EngineRecord, message: m.Done, now: float) -> None:
        part = engine.parts.get(message.seq)
        if part is None:
            if message.seq > engine.seq:
                raise ProtocolError(f"engine {engine.info.id} finished assignment {message.seq}, which it never had")
            return  # given up meanwhile: its collective was abandoned
        if message.outputs > part.outputs:
            part.done = message  # what it has written is on the way
            return
        entered = part.state is State.ENTERED
        if message.sizes and message.outcome in (m.OK, m.FAILED):
            part.to("deliver")
        engine.release(message.seq)
        engine.begun_at = now
        engine.done += 1
        self.tasks_done += 1
        if part.balanced:
            took = max(0.0, message.completed - message.started)
            engine.mean = took if engine.mean is None else 0.8 * engine.mean + 0.2 * took
        self.balancer.update(engine)
        if message.outcome == m.FAILED and part.balanced and part.retries > 0 and self._may_return(part):
            if part.state is State.DELIVERING:
                self._out.append(Send(engine.control, m.Credit(part.seq, engine.info.id, -1)))
            part.retries -= 1
            part.avoid = engine.info.id
            self._return(part)
            return
        job = part.job
        job.answered = True
        job.metas.pop(engine.info.id, None)
        if job.submit.collective and not entered:
            self._abandon(job, part)
        result = m.Result(
            part.task,
            engine.info.id,
            message.outcome,
            message.data,
            message.sizes,
            message.started,
            message.completed,
            message.output,
            engine.ring if message.sizes else None,
        )
        self._tell(job.client, result)
        if job.number:
            self.notes.append(Ended(job.number, part.index, result))
        if part.state is State.DELIVERING:
            part.remaining = sum(message.sizes)
            engine.delivering[part.seq] = part
            if job.client.address not in self.clients:
                del engine.delivering[part.seq]
                self._out.append(Send(engine.control, m.Credit(part.seq, engine.info.id, -1)))
                self._close_part(part)
        else:
            self._close_part(part)

    def _output(self, engine: EngineRecord, message: m.Output, now: float) -> None:
        """A task writes. Its result waits for all of it: they come by two ways."""
        part = engine.parts.get(message.seq)
        if part is None:
            return
        part.outputs += 1
        if part.job.number:
            self.notes.append(Wrote(part.job.number, part.index, message.output))
        self._tell(part.job.client, m.Written(part.task, engine.info.id, message.output))
        if part.done is not None:
            self._done(engine, part.done, now)

    def _tell(self, client: ClientRecord, message: m.Message) -> None:
        if client.address in self.clients:
            self._out.append(Send(client.address, message))

    def _end_part(self, part: Part, outcome: int, data: bytes) -> None:
        """End a part without its engine's word."""
        engine = part.engine if part.engine is not None else -1
        part.job.answered |= outcome != m.ABORTED
        result = m.Result(part.task, engine, outcome, data, [], 0.0, 0.0)
        self._tell(part.job.client, result)
        if part.job.number and not (part.state is State.DELIVERING and outcome == m.ABORTED):  # which has ended well, unheard
            self.notes.append(Ended(part.job.number, part.index, result))
        self._close_part(part)

    def _close_part(self, part: Part) -> None:
        part.to("end")
        job = part.job
        job.open -= 1
        parts = job.client.parts.get(part.task)
        if parts is not None:
            parts.remove(part)
            if not parts:
                del job.client.parts[part.task]
        if job.open == 0 and job.fn_id:
            self._out += [Send(self.engines[i].main, m.Forget([job.fn_id])) for i in job.holders if i in self.engines]

    def _part_lost(self, part: Part, why: str, *, was_running: bool) -> None:
        if not part.balanced:
            if part.job.submit.collective:
                self._abandon(part.job, part)
            self._end_part(part, m.LOST, why.encode())
            return
        part.lost += was_running
        if part.lost >= MAX_LOST or not self._may_return(part):
            self._end_part(part, m.LOST, f"{why}; it is the {part.lost}. engine that died with this task, which is given up".encode())
            return
        self._return(part)

    def _may_return(self, part: Part) -> bool:
        """Whether a part can be run again: somebody wants it, and its data can still be had."""
        client = part.job.client
        return not client.dropped and (not part.job.submit.sizes or client.address in self.clients)

    def _return(self, part: Part) -> None:
        """Let a part wait for another engine."""
        part.to("return")
        part.engine = None
        if part.job.submit.sizes:
            self._tell(part.job.client, m.Credit(part.task, -1, 0))
        self.balancer.add([part], first=True)

    # -- collectives -------------------------------------------------------------------------------------------------

    def _ready(self, engine: EngineRecord, message: m.Ready, now: float) -> None:
        part = engine.parts.get(message.seq)
        if part is None:
            return
        job = part.job
        part.to("ready")
        if job.abandoned or not job.submit.collective:
            self._turn_away(part, m.ABANDONED)
            return
        job.metas[engine.info.id] = message.meta
        if len(job.metas) == len(job.parts):
            self._ready_jobs.append(job)

    def _enter_ready(self) -> None:
        """Open the doors, unless the world is being mended."""
        if self.healing:
            return
        for job in self._ready_jobs:
            if job.abandoned:
                continue
            metas = _runs(job.metas[p.engine] for p in job.parts if p.engine is not None)
            key = tuple(job.submit.targets or ())
            keep = key in self._groups or len(self._groups) < GROUPS_KEPT
            if keep:
                self._groups.add(key)
            for part in job.parts:
                assert part.engine is not None
                part.to("enter")
                self._out.append(Send(self.engines[part.engine].main, m.Enter(part.seq, self.epoch, metas, keep)))
            job.metas.clear()
        self._ready_jobs.clear()

    def _abandon(self, job: Job, cause: Part, outcome: int = m.ABANDONED) -> None:
        """A target will not come: let the others go that stand at the door."""
        if job.abandoned:
            return
        job.abandoned = True
        for part in job.parts:
            if part is not cause and part.state is State.READY:
                self._turn_away(part, outcome)

    def _turn_away(self, part: Part, outcome: int) -> None:
        assert part.engine is not None
        engine = self.engines.get(part.engine)
        if engine is not None:
            engine.release(part.seq)
            self._out.append(Send(engine.main, m.Abandon(part.seq)))
            self.balancer.update(engine)
        self._end_part(part, outcome, b"")

    def _healed(self, engine: EngineRecord, message: m.Healed, now: float) -> None:
        if engine.info.id not in message.engines:
            raise ProtocolError(f"engine {engine.info.id} healed into a world without it")
        if message.epoch == self.epoch:
            self.healing.discard(engine.info.id)
            engine.info = m.EngineInfo(
                engine.info.id, message.engines.index(engine.info.id), engine.info.host, engine.info.pid, engine.info.threads
            )
            if not self.healing:
                self.heal_started = None
                self._tell_engines("")

    def _heal_failed(self, engine: EngineRecord, message: m.HealFailed, now: float) -> None:
        if message.epoch == self.epoch:  # else another rank died meanwhile, and the next attempt is under way
            self._end(f"the MPI world could not be mended after a rank died: {message.reason}")

    # -- taking work back --------------------------------------------------------------------------------------------

    def _cancel(self, client: ClientRecord, message: m.Cancel, now: float) -> None:
        request = CancelRequest(client, message.request)
        withdraw: dict[int, list[int]] = {}
        for task in dict.fromkeys(message.tasks):
            parts = client.parts.get(task)
            if parts is None:
                request.cancelled = False
                continue
            if parts[0].job.answered and not parts[0].balanced:
                request.cancelled = False  # on another engine it ran
            for part in list(parts):
                if part.state is State.WAITING:
                    self._end_part(part, m.ABORTED, b"")
                    self.balancer.dropped()
                elif part.state is State.ASSIGNED and part.engine in self.engines:
                    request.pending.add((part.engine, part.seq))
                    self._cancels.setdefault((part.engine, part.seq), []).append(request)
                    withdraw.setdefault(part.engine, []).append(part.seq)
                elif part.state is not State.READY or not any(p.state is State.ASSIGNED for p in part.job.parts):
                    request.cancelled = False  # at the door, its fate is that of the parts that are not there yet
        for engine_id, seqs in withdraw.items():
            self._out.append(Send(self.engines[engine_id].control, m.Withdraw(seqs)))
        self._answer(request)

    def _answer(self, request: CancelRequest) -> None:
        if not request.pending:
            self._tell(request.client, m.Verdict(request.number, request.cancelled))

    def _settle_cancels(self, engine_id: int) -> None:
        """An engine died: what was to be withdrawn from it had not been."""
        for _, seq in [k for k in self._cancels if k[0] == engine_id]:
            self._settle(engine_id, seq, cancelled=False)

    def _settle(self, engine_id: int, seq: int, *, cancelled: bool) -> None:
        """Those who asked to cancel an assignment: whether it came back before it began."""
        for request in self._cancels.pop((engine_id, seq), []):
            request.pending.discard((engine_id, seq))
            request.cancelled &= cancelled
            self._answer(request)

    def _withdrawn(self, engine: EngineRecord, message: m.Withdrawn, now: float) -> None:
        for seq in message.begun:
            engine.withdrawing.discard(seq)
            self._settle(engine.info.id, seq, cancelled=False)
        for seq in reversed(message.returned):  # the oldest is to be first again
            part = engine.release(seq)
            wanted = seq in engine.withdrawing and (engine.info.id, seq) not in self._cancels
            engine.withdrawing.discard(seq)
            if part is not None:
                if part.job.submit.collective:
                    self._abandon(part.job, part, m.ABORTED)
                if wanted and self._may_return(part):
                    self._return(part)
                else:
                    self._end_part(part, m.ABORTED, b"")
            self._settle(engine.info.id, seq, cancelled=True)
        self.balancer.update(engine)

    # -- bulk payloads -----------------------------------------------------------------------------------------------

    def _client_stream(self, client: ClientRecord, message: m.Chunk | m.Credit, frame: Sized | None) -> None:
        """A client sends a piece of what it submitted, or asks for more of a result."""
        if isinstance(message, m.Chunk):
            part = next((p for p in client.parts.get(message.name, ()) if p.index == 0 or p.balanced), None)
            engine = self.engines.get(message.engine)
            if part is None or engine is None or part.engine != message.engine:
                return  # too late: its task has ended, or moved
            if not 0 <= message.offset <= sum(part.job.submit.sizes) - _size(message, frame):
                raise ProtocolError("a chunk outside its payload")
            self._out.append(Send(engine.control, _renamed(message, part.seq), frame))
            return
        part = next((p for p in client.parts.get(message.name, ()) if p.engine == message.engine), None)
        engine = self.engines.get(message.engine)
        if part is None or engine is None or part.state is not State.DELIVERING:
            return
        reader = part.job.client.number if message.ring else 0
        if reader:
            engine.readers.add(reader)
        self._out.append(Send(engine.control, m.Credit(part.seq, message.engine, message.nbytes, reader)))
        if message.nbytes < 0:
            del engine.delivering[part.seq]
            self._close_part(part)

    def _engine_stream(self, engine: EngineRecord, message: m.Chunk | m.Credit, frame: Sized | None) -> None:
        """An engine sends a piece of a result, or asks for more of a payload."""
        if isinstance(message, m.Credit):
            part = engine.parts.get(message.name)
            if part is not None:
                self._tell(part.job.client, m.Credit(part.task, engine.info.id, message.nbytes, message.ring))
            return
        part = engine.delivering.get(message.name)
        if part is None:
            return
        size = _size(message, frame)
        self._out.append(Send(part.job.client.address, _renamed(message, part.task), frame))
        part.remaining -= size
        if part.remaining <= 0:
            del engine.delivering[message.name]
            self._close_part(part)

    def check(self) -> None:
        """Assert the invariants (for tests)."""
        held = (State.ASSIGNED, State.READY, State.ENTERED)
        for i, engine in self.engines.items():
            assert engine.info.id == i
            assert all(p.state in held and p.engine == i and p.seq == s for s, p in engine.parts.items())
            assert all(p.state is State.DELIVERING and p.engine == i for p in engine.delivering.values())
            movable = {s: p for held in engine.movable.values() for s, p in held.items()}
            assert movable == {s: p for s, p in engine.parts.items() if p.movable}
        for client in self.clients.values():
            for task, parts in client.parts.items():
                assert parts
                assert all(p.state is not State.ENDED and p.task == task for p in parts)
        assert all(part.state is State.READY for job in self._ready_jobs if not job.abandoned for part in job.parts)


def _size(chunk: m.Chunk, frame: Sized | None) -> int:
    """Bytes of a chunk, wherever they are."""
    if (frame is None) == (chunk.slot < 0) or not 0 <= chunk.nbytes <= CHUNK:
        raise ProtocolError("a chunk has its bytes in a frame or in a slot")
    return chunk.nbytes if frame is None else len(frame)


def _renamed(chunk: m.Chunk, name: int) -> m.Chunk:
    return m.Chunk(name, chunk.engine, chunk.offset, chunk.slot, chunk.use, chunk.nbytes)


def _runs(metas: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """Runs of equal ones: as many as there are engines would make a message of a square's size."""
    return [(sum(1 for _ in run), meta) for meta, run in itertools.groupby(metas)]


def _check_submit(message: m.Submit) -> None:
    if message.collective not in m.COLLECTIVES:
        raise ProtocolError(f"unknown collective {message.collective!r}")
    if message.targets is None:
        if not message.data or message.collective or (message.sizes and len(message.data) > 1):
            raise ProtocolError("a balanced submission needs data, takes no collective, and one payload when it is large")
    elif not message.targets or len(set(message.targets)) != len(message.targets) or len(message.data) not in (1, len(message.targets)):
        raise ProtocolError("a submission needs distinct targets and one payload, or one for each")
    elif message.sizes and not message.collective and len(message.targets) > 1:
        raise ProtocolError("a large payload for several engines goes by a collective")
    elif message.collective == "bcast" and not message.sizes:
        raise ProtocolError("there is nothing to broadcast")
    if any(size < 0 for size in message.sizes):
        raise ProtocolError("a buffer's size is negative")
    if not 0 <= message.first <= _LAST_TASK - len(message.data):
        raise ProtocolError("a task's number is out of range")
