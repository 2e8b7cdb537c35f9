"""The hub's decisions: events in, instructions out. Pure: no socket, clock, thread or configuration file.

The scheduler is the one owner of every task's fate. Whatever happens (a result, a dead engine, a cancel, a client that
leaves) comes in as an event through one of the methods below; `decide` then says what follows. Time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import Any, NamedTuple

from mpicluster.config import HEAL_TIMEOUT, MAX_LOST
from mpicluster.errors import ProtocolError
from mpicluster.hub.balance import Balancer
from mpicluster.hub.records import CancelRequest, ClientRecord, EngineRecord, Job, Part, State
from mpicluster.wire import messages as m

__all__ = ["Scheduler", "Send"]


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
        self.balancer = Balancer(self.engines)
        self.mpi = ""
        self.survives = True
        #: the world's epoch, and the engines that have not healed into it
        self.epoch = 0
        self.healing: set[int] = set()
        self.heal_started: float | None = None
        #: why the cluster ends; None while it does not
        self.ended: str | None = None
        self.tasks_done = 0
        self._ready_jobs: list[Job] = []
        self._cancels: dict[tuple[int, int], CancelRequest] = {}
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
                raise ProtocolError("a message from a client that has not said hello")
            if type(message) is m.Chunk or type(message) is m.Credit:
                self._client_stream(client, message, frame)
            else:
                self._on[type(message)](client, message, now)

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
            self._on[type(message)](engine, message, now)

    def register(self, message: m.Register, address: bytes) -> None:
        """One of an engine's two channels is here.

        Raises
        ------
        ProtocolError
            that engine's channel is here already.
        """
        info = message.engine
        engine = self.arriving.setdefault(info.id, EngineRecord(info))
        if info.id in self.engines or message.channel in engine.channels:
            raise ProtocolError(f"engine {info.id} registers its channel {message.channel!r} twice")
        engine.channels.add(message.channel)
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

    def engine_lost(self, engine_id: int, reason: str, now: float) -> None:
        """An engine's process is gone."""
        self.arriving.pop(engine_id, None)
        engine = self.engines.pop(engine_id, None)
        if engine is None or self.ended is not None:
            return
        self.balancer.remove(engine_id)
        info = engine.info
        text = f"engine {info.id} (rank {info.rank}, pid {info.pid} on {info.host}) {reason}"
        self._settle_cancels(engine_id)
        running = next(iter(engine.parts.values()), None)
        for part in list(engine.parts.values()) + list(engine.delivering.values()):
            self._part_lost(part, text, was_running=part is running)
        engine.parts.clear()
        engine.delivering.clear()
        if not self.engines:
            self._end(f"the last engine is gone: {text}")
        elif not self.survives:
            self._end(f"{text}; {self.mpi} cannot go on with a dead rank, so the cluster ends (Open MPI with --with-ft ulfm can)")
        else:
            self.epoch += 1
            self.healing = set(self.engines)
            self.heal_started = now
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

    def end(self, reason: str) -> None:
        """End the cluster."""
        self._end(reason)

    def decide(self, now: float) -> list[Send]:
        """All that is to be said after the events so far."""
        self._decided_at = now
        if self.heal_started is not None and now - self.heal_started > HEAL_TIMEOUT:
            self._end(f"engines {sorted(self.healing)} did not mend their MPI world within {HEAL_TIMEOUT:.0f} s")
        if self._ready_jobs:
            self._enter_ready()
        if self.ended is None:
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
            client = self.clients[address] = ClientRecord(message.client, address)
        infos = [e.info for e in self.engines.values()]
        self._out.append(Send(address, m.Welcome(self.cluster, self.expected, self.epoch, infos, self.mpi, self.survives)))
        if self.ended is not None:
            self._out.append(Send(address, m.Farewell(self.ended)))

    def _goodbye(self, client: ClientRecord, message: m.Goodbye, now: float) -> None:
        self._drop_client(client)

    def _drop_client(self, client: ClientRecord) -> None:
        """Forget a client: what waits is dropped, what runs runs to its end unheard."""
        self.clients.pop(client.address, None)
        withdraw: dict[int, list[int]] = {}
        for parts in list(client.parts.values()):
            for part in parts:
                if part.state is State.WAITING:
                    self._end_part(part, m.ABORTED, b"")
                elif part.state is State.DELIVERING and part.engine in self.engines:
                    engine = self.engines[part.engine]
                    engine.delivering.pop(part.seq, None)
                    self._out.append(Send(engine.control, m.Credit(part.seq, part.engine, -1)))
                    self._end_part(part, m.ABORTED, b"")
                elif part.engine in self.engines:
                    withdraw.setdefault(part.engine, []).append(part.seq)
                    if part.job.submit.sizes:
                        self._out.append(Send(self.engines[part.engine].control, m.Credit(part.seq, part.engine, -1)))
        for engine_id, seqs in withdraw.items():
            self._out.append(Send(self.engines[engine_id].control, m.Withdraw(seqs)))

    def _shutdown(self, client: ClientRecord, message: m.Shutdown, now: float) -> None:
        self._end("it was stopped")

    def _end(self, reason: str) -> None:
        if self.ended is not None:
            return
        self.ended = reason
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
        if message.targets is None and len(message.data) > 1:
            fn_id, self._next_fn = self._next_fn, self._next_fn + 1
        job = Job(client, message, fn_id)
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
        if gone:
            self._refuse(job.parts, f"engine {gone[0]} is not there; engines: {sorted(self.engines)}")
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
        if not engine.parts:
            engine.begun_at = now
        engine.parts[part.seq] = part
        fn = submit.fn
        if job.fn_id:
            if engine.info.id in job.holders:
                fn = b""
            job.holders.add(engine.info.id)
        first = part.index == 0 or part.balanced
        if first and submit.sizes:  # the control thread receives while the main one may be busy
            self._out.append(Send(engine.control, m.Expect(part.seq, submit.sizes)))
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
        if message.sizes and message.outcome in (m.OK, m.FAILED):
            part.to("deliver")
        del engine.parts[message.seq]
        engine.begun_at = now
        engine.done += 1
        self.tasks_done += 1
        if part.balanced:
            took = max(0.0, message.completed - message.started)
            engine.mean = took if engine.mean is None else 0.8 * engine.mean + 0.2 * took
        self.balancer.update(engine)
        if message.outcome == m.FAILED and part.balanced and part.retries > 0 and part.job.client.address in self.clients:
            if part.state is State.DELIVERING:
                self._out.append(Send(engine.control, m.Credit(part.seq, engine.info.id, -1)))
            part.retries -= 1
            part.avoid = engine.info.id
            part.to("return")
            part.engine = None
            self.balancer.add([part], first=True)
            return
        job = part.job
        job.metas.pop(engine.info.id, None)
        if job.submit.collective and part.state is State.ASSIGNED:
            self._abandon(job, part)
        result = m.Result(
            part.task,
            engine.info.id,
            message.outcome,
            message.data,
            message.sizes,
            message.started,
            message.completed,
            message.stdout,
            message.stderr,
        )
        self._tell(job.client, result)
        if part.state is State.DELIVERING:
            part.remaining = sum(message.sizes)
            engine.delivering[part.seq] = part
            if job.client.address not in self.clients:
                del engine.delivering[part.seq]
                self._out.append(Send(engine.control, m.Credit(part.seq, engine.info.id, -1)))
                self._close_part(part)
        else:
            self._close_part(part)

    def _tell(self, client: ClientRecord, message: m.Message) -> None:
        if client.address in self.clients:
            self._out.append(Send(client.address, message))

    def _end_part(self, part: Part, outcome: int, data: bytes) -> None:
        """End a part without its engine's word."""
        engine = part.engine if part.engine is not None else -1
        self._tell(part.job.client, m.Result(part.task, engine, outcome, data, [], 0.0, 0.0, "", ""))
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
        if part.lost >= MAX_LOST or part.job.client.address not in self.clients:
            self._end_part(part, m.LOST, f"{why}; it is the {part.lost}. engine that died with this task, which is given up".encode())
            return
        part.to("return")
        part.engine = None
        self.balancer.add([part], first=True)

    # -- collectives -------------------------------------------------------------------------------------------------

    def _ready(self, engine: EngineRecord, message: m.Ready, now: float) -> None:
        part = engine.parts.get(message.seq)
        if part is None:
            return
        job = part.job
        part.to("ready")
        if job.abandoned:
            self._turn_away(part)
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
            metas = [job.metas[p.engine] for p in job.parts if p.engine is not None]
            for part in job.parts:
                assert part.engine is not None
                part.to("enter")
                self._out.append(Send(self.engines[part.engine].main, m.Enter(part.seq, self.epoch, metas)))
            job.metas.clear()
        self._ready_jobs.clear()

    def _abandon(self, job: Job, cause: Part) -> None:
        """A target will not come: let the others go that stand at the door."""
        if job.abandoned:
            return
        job.abandoned = True
        for part in job.parts:
            if part is not cause and part.state is State.READY:
                self._turn_away(part)

    def _turn_away(self, part: Part) -> None:
        assert part.engine is not None
        engine = self.engines.get(part.engine)
        if engine is not None:
            engine.parts.pop(part.seq, None)
            self._out.append(Send(engine.main, m.Abandon(part.seq)))
            self.balancer.update(engine)
        self._end_part(part, m.ABANDONED, b"")

    def _healed(self, engine: EngineRecord, message: m.Healed, now: float) -> None:
        if message.epoch == self.epoch:
            self.healing.discard(engine.info.id)
            engine.info = m.EngineInfo(
                engine.info.id, message.engines.index(engine.info.id), engine.info.host, engine.info.pid, engine.info.threads
            )
            if not self.healing:
                self.heal_started = None
                self._tell_engines("")

    def _heal_failed(self, engine: EngineRecord, message: m.HealFailed, now: float) -> None:
        self._end(f"the MPI world could not be mended after a rank died: {message.reason}")

    # -- taking work back --------------------------------------------------------------------------------------------

    def _cancel(self, client: ClientRecord, message: m.Cancel, now: float) -> None:
        request = CancelRequest(client, message.request)
        withdraw: dict[int, list[int]] = {}
        for task in message.tasks:
            parts = client.parts.get(task)
            if parts is None:
                request.cancelled = False
                continue
            for part in list(parts):
                if part.state is State.WAITING:
                    self._end_part(part, m.ABORTED, b"")
                elif part.state is State.ASSIGNED and part.engine in self.engines and (part.engine, part.seq) not in self._cancels:
                    request.pending.add((part.engine, part.seq))
                    self._cancels[part.engine, part.seq] = request
                    withdraw.setdefault(part.engine, []).append(part.seq)
                else:
                    request.cancelled = False
        for engine_id, seqs in withdraw.items():
            self._out.append(Send(self.engines[engine_id].control, m.Withdraw(seqs)))
        self._answer(request)

    def _answer(self, request: CancelRequest) -> None:
        if not request.pending:
            self._tell(request.client, m.Verdict(request.number, request.cancelled))

    def _settle_cancels(self, engine_id: int) -> None:
        """An engine died: what was to be withdrawn from it had not been."""
        for key in [k for k in self._cancels if k[0] == engine_id]:
            request = self._cancels.pop(key)
            request.pending.discard(key)
            request.cancelled = False
            self._answer(request)

    def _withdrawn(self, engine: EngineRecord, message: m.Withdrawn, now: float) -> None:
        for seq in message.begun:
            engine.withdrawing.discard(seq)
            request = self._cancels.pop((engine.info.id, seq), None)
            if request is not None:
                request.pending.discard((engine.info.id, seq))
                request.cancelled = False
                self._answer(request)
        for seq in message.returned:
            part = engine.parts.pop(seq, None)
            stolen = seq in engine.withdrawing
            engine.withdrawing.discard(seq)
            request = self._cancels.pop((engine.info.id, seq), None)
            if part is not None:
                if part.job.submit.collective:
                    self._abandon(part.job, part)
                if stolen and request is None and part.job.client.address in self.clients:
                    part.to("return")
                    part.engine = None
                    self.balancer.add([part], first=True)
                else:
                    self._end_part(part, m.ABORTED, b"")
            if request is not None:
                request.pending.discard((engine.info.id, seq))
                self._answer(request)
        self.balancer.update(engine)

    # -- bulk payloads -----------------------------------------------------------------------------------------------

    def _client_stream(self, client: ClientRecord, message: m.Chunk | m.Credit, frame: Sized | None) -> None:
        """A client sends a piece of what it submitted, or asks for more of a result."""
        for part in client.parts.get(message.name, ()):
            if isinstance(message, m.Chunk):
                if part.index == 0 or part.balanced:
                    if part.engine in self.engines and message.engine == part.engine:
                        self._out.append(Send(self.engines[part.engine].control, m.Chunk(part.seq, part.engine, message.offset), frame))
                    return
            elif part.engine == message.engine and part.state is State.DELIVERING:
                self._out.append(Send(self.engines[part.engine].control, m.Credit(part.seq, part.engine, message.nbytes)))
                if message.nbytes < 0:
                    del self.engines[part.engine].delivering[part.seq]
                    self._close_part(part)
                return

    def _engine_stream(self, engine: EngineRecord, message: m.Chunk | m.Credit, frame: Sized | None) -> None:
        """An engine sends a piece of a result, or asks for more of a payload."""
        if isinstance(message, m.Credit):
            part = engine.parts.get(message.name)
            if part is not None:
                self._tell(part.job.client, m.Credit(part.task, engine.info.id, message.nbytes))
            return
        part = engine.delivering.get(message.name)
        if part is None:
            return
        self._out.append(Send(part.job.client.address, m.Chunk(part.task, engine.info.id, message.offset), frame))
        part.remaining -= len(frame) if frame is not None else 0
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
        for client in self.clients.values():
            for task, parts in client.parts.items():
                assert parts
                assert all(p.state is not State.ENDED and p.task == task for p in parts)
        assert all(part.state is State.READY for job in self._ready_jobs if not job.abandoned for part in job.parts)


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
    if any(size < 0 for size in message.sizes):
        raise ProtocolError("a buffer's size is negative")
