"""The hub's decisions: events in, instructions out. Pure: no socket, clock, thread or configuration file.

The scheduler is the one owner of every task's fate. Whatever happens (a result, a dead engine, a cancel, a client that
leaves) comes in as an event through one of the methods below; `decide` then says what follows. Time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import Any

from mpicluster.config import MAX_LOST
from mpicluster.errors import ProtocolError
from mpicluster.hub.balance import Balancer
from mpicluster.hub.conditions import Conditions, Refused, Release
from mpicluster.hub.endings import Endings, blocked
from mpicluster.hub.meetings import Meetings
from mpicluster.hub.notes import Ended, Note, Submitted, Wrote
from mpicluster.hub.records import ClientRecord, EngineRecord, Job, Part, Send, State
from mpicluster.hub.relay import Relay
from mpicluster.hub.roster import Roster
from mpicluster.hub.worlds import Worlds
from mpicluster.wire import messages as m

__all__ = ["Scheduler"]

#: The function of a map of so few tasks for each engine comes with each task: to have it forgotten costs more.
_FEW = 2
#: Numbers of tasks fit in 63 bits.
_LAST_TASK = 2**63 - 1
#: Numbers of engines fit in 31.
_LAST_ENGINE = 2**31 - 1


class Scheduler:
    """State of one cluster.

    Invariants (`check`): a part is in ``engine.parts`` of its engine exactly while ASSIGNED, READY or ENTERED, and in
    ``engine.delivering`` exactly while DELIVERING; ``job.open`` counts its parts that are not ENDED.
    """

    def __init__(self, cluster: str, expected: int, scheme: str = "leastload") -> None:
        self.cluster = cluster
        #: engines the cluster started with
        self.expected = expected
        #: engines with both channels here, by id
        self.engines: dict[int, EngineRecord] = {}
        self.clients: dict[bytes, ClientRecord] = {}
        self._last_client = 0
        self.balancer = Balancer(self.engines, scheme)
        self.conditions = Conditions()
        self.endings = Endings(self)
        self.meetings = Meetings(self)
        self.relay = Relay(self)
        self.roster = Roster(self)
        self.worlds = Worlds(expected)
        #: why the cluster ends; None while it does not
        self.ended: str | None = None
        self.tasks_done = 0
        #: what the history is to remember, taken by whoever drives this after each turn
        self.notes: list[Note] = []
        self._last_job = 0
        self._next_fn = 1
        self._decided_at = 0.0
        self.out: list[Send] = []
        self._on: dict[type, Callable[[Any, Any, float], None]] = {
            m.Hello: self._hello,
            m.Submit: self._submit,
            m.Cancel: self.endings.cancel,
            m.Interrupt: self.endings.interrupt,
            m.SendSignal: self.endings.send_signal,
            m.Goodbye: self._goodbye,
            m.Shutdown: self._shutdown,
            m.Done: self.done,
            m.Dones: self._dones,
            m.Output: self._output,
            m.Ready: self.meetings.ready,
            m.Withdrawn: self.endings.withdrawn,
            m.Stuck: self.endings.stuck,
            m.Healed: self.roster.healed,
            m.HealFailed: self.roster.heal_failed,
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
                self.relay.from_client(client, message, frame)
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
            self.relay.from_engine(engine, message, frame)
        else:
            self._handler(message)(engine, message, now)

    def _handler(self, message: m.Message) -> Callable[[Any, Any, float], None]:
        try:
            return self._on[type(message)]
        except KeyError:
            raise ProtocolError(f"a {type(message).__name__} is not for the scheduler") from None

    @property
    def mpi(self) -> str:
        """The MPI with which the cluster began."""
        return self.worlds[0].mpi

    @property
    def survives(self) -> bool:
        """Whether the world with which it began survives a dead rank."""
        return self.worlds[0].survives

    @property
    def healing(self) -> set[int]:
        """Engines that have not healed."""
        return {i for world in self.worlds for i in world.healing}

    def end_impossible(self, why: str = "") -> None:
        """End what waits for engines that are gone, or take no work."""
        for part in self.balancer.drop_impossible():
            engines = part.job.allowed or self.engines
            reason = why or next((blocked(e) for i, e in self.engines.items() if i in engines and e.stuck is not None), "")
            self.end_part(part, m.LOST, f"none of the engines it may run on is left; {reason}".encode())

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
                    self.tell(client, m.Result(task, engine, m.LOST, why.encode(), [], 0.0, 0.0))

    def end(self, reason: str) -> None:
        """End the cluster."""
        self._end(reason)

    def decide(self, now: float) -> list[Send]:
        """All that is to be said after the events so far."""
        self._decided_at = now
        for finding in self.conditions.findings(now):
            if isinstance(finding, Release):
                self._release(finding.job, finding.engines)
            elif isinstance(finding, Refused):
                self._refuse(finding.job.tasks(), finding.why, m.REFUSED)
            else:
                self.endings.too_late(finding.job, finding.why)
        self.roster.end_overdue(now)
        if self.ended is None:
            if self.meetings.waiting:
                self.meetings.open_doors()
            for engine, part in self.balancer.assignments():
                self._assign(part, engine, now)
            for engine, parts in self.balancer.to_withdraw(now):
                engine.withdrawing.update(p.seq for p in parts)
                self.out.append(Send(engine.control, m.Withdraw([p.seq for p in parts])))
        out, self.out = self.out, []
        return out

    def wake_at(self) -> float | None:
        """When `decide` should be called next if nothing happens."""
        wakes = (self.balancer.wake_at(self._decided_at), self.conditions.wake_at(), self.roster.wake_at())
        times = [t for t in wakes if t is not None]
        return min(times) if times else None

    # -- clients -----------------------------------------------------------------------------------------------------

    def _hello(self, address: bytes, message: m.Hello, now: float) -> None:
        client = self.clients.get(address)
        if client is None:
            self._last_client += 1
            client = self.clients[address] = ClientRecord(message.client, address, self._last_client, message.ring)
            self.conditions.client_came(client)
        infos = [e.info for e in self.engines.values()]
        self.out.append(Send(address, m.Welcome(self.cluster, self.expected, self.roster.epoch, infos, self.mpi, self.survives)))
        if self.ended is not None:
            self.out.append(Send(address, m.Farewell(self.ended)))

    def _goodbye(self, client: ClientRecord, message: m.Goodbye, now: float) -> None:
        """It leaves in good order: what it submitted is done, unheard."""
        self.tell(client, m.Left())
        self.clients.pop(client.address, None)
        self._client_left(client)

    def _drop_client(self, client: ClientRecord) -> None:
        """Forget a client: what has not begun is dropped, what runs runs to its end unheard."""
        self.clients.pop(client.address, None)
        client.dropped = True
        parts = [part for parts in client.parts.values() for part in parts]
        for part in parts:
            if part.state is State.WAITING:
                self.end_part(part, m.ABORTED, b"")
        self.endings.withdraw(p for p in parts if p.state is not State.ENDED)
        self._client_left(client)

    def _client_left(self, client: ClientRecord) -> None:
        """What is kept for a client is needed no more."""
        self.relay.client_left(client)
        self.conditions.client_gone(client)
        if client.holds:  # after all that they do for it: they hear this in their queues
            self.out += [Send(e.main, m.Forget([], client.id)) for e in self.engines.values()]

    def _shutdown(self, client: ClientRecord, message: m.Shutdown, now: float) -> None:
        self._end("it was stopped")

    def _end(self, reason: str) -> None:
        if self.ended is not None:
            return
        self.ended = reason
        for world in self.worlds:
            world.heal_started = None
        for client in self.clients.values():
            self.out.append(Send(client.address, m.Farewell(reason)))
        for engine in self.engines.values():
            self.out.append(Send(engine.control, m.Stop(reason)))

    # -- work comes in -----------------------------------------------------------------------------------------------

    def _submit(self, client: ClientRecord, message: m.Submit, now: float) -> None:
        _check_submit(message)
        if message.collective and not self.meetings.can(message.targets or ()):
            raise ProtocolError("what engines do together is done by engines of one MPI world")
        count = len(message.data) if message.targets is None else 1
        if any(task in client.parts for task in range(message.first, message.first + count)):
            raise ProtocolError(f"task {message.first} is known already")
        fn_id = 0
        if message.targets is None and len(message.data) > _FEW * max(1, len(self.engines)):
            fn_id, self._next_fn = self._next_fn, self._next_fn + 1
        job = Job(client, message, fn_id)
        at_once = self.conditions.admit(job, now)  # raises before anything has changed
        self._last_job += 1
        job.number = self._last_job
        self.notes.append(Submitted(job.number, client.id, message))
        if message.targets is None:
            parts = [Part(job, i, None) for i in range(len(message.data))]
            job.open = len(parts)
            for part in parts:
                client.parts[part.task] = [part]
            if self.ended is not None:
                self._refuse(parts, "")
            elif at_once:
                self._queue(job, parts)
            return
        client.holds = client.holds or message.kind == "arrays"
        job.parts = [Part(job, i, target) for i, target in enumerate(message.targets)]
        job.open = len(job.parts)
        client.parts[message.first] = list(job.parts)
        gone = [p.engine for p in job.parts if p.engine not in self.engines]
        if gone or self.ended is not None:
            self._refuse(job.parts, f"engine {next(iter(gone), None)} is not there; engines: {sorted(self.engines)}")
            return
        stuck = [self.engines[i] for i in message.targets if self.engines[i].stuck is not None]
        if stuck:
            self._refuse(job.parts, blocked(stuck[0]))
            return
        no_door = self.meetings.need_no_door(job)
        for part in job.parts:
            assert part.engine is not None
            self._assign(part, self.engines[part.engine], now, no_door)

    def _queue(self, job: Job, parts: list[Part]) -> None:
        if self.balancer.has_taker(job.allowed):
            self.balancer.add(parts)
            return
        stuck = next((blocked(e) for e in self.engines.values() if e.stuck is not None), "")
        self._refuse(parts, "the cluster has no engine that this may run on" + (f"; {stuck}" if stuck else ""))

    def _release(self, job: Job, engines: frozenset[int] | None) -> None:
        """What a job depends on has ended as it should."""
        parts = job.tasks()
        if engines is not None:
            job.allowed = job.allowed & engines if job.allowed else engines
            if not any(i in self.engines for i in job.allowed):
                self._refuse(
                    parts, "there is no engine on which all the tasks ran that it is to follow, and on which it may run", m.REFUSED
                )
                return
        self._queue(job, parts)

    def _refuse(self, parts: Iterable[Part], why: str, outcome: int = m.LOST) -> None:
        why = f"the cluster ended: {self.ended}" if self.ended is not None else why
        for part in list(parts):
            self.end_part(part, outcome, why.encode())

    def _assign(self, part: Part, engine: EngineRecord, now: float, no_door: bool = False) -> None:
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
            self.out.append(Send(engine.control, m.Expect(part.seq, submit.sizes, job.client.ring)))
        data = submit.data[part.index if len(submit.data) > 1 else 0]
        world = self.worlds.of(engine)
        if no_door:
            part.to("enter")
        self.out.append(
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
                    world.turn,
                    submit.terms.time_limit if submit.terms is not None else 0.0,
                    m.Enter(part.seq, world.epoch, [], keep=True) if no_door else None,
                ),
            )
        )
        self.balancer.update(engine)

    # -- work comes back ---------------------------------------------------------------------------------------------

    def done(self, engine: EngineRecord, message: m.Done, now: float) -> None:
        """An engine has done a part; its output may be on the way."""
        part = engine.parts.get(message.seq)
        if part is None:
            if message.seq > engine.seq:
                raise ProtocolError(f"engine {engine.info.id} finished assignment {message.seq}, which it never had")
            self.endings.came_back(engine, message.seq)
            self._revoked(engine, message)
            return  # given up meanwhile
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
        self._revoked(engine, message)
        if part.balanced and message.outcome != m.OK and self._again(part, engine, message.outcome):
            return
        job = part.job
        if message.outcome != m.OK:
            self.meetings.failed(job, part)
        job.answered = True
        job.metas.pop(engine.info.id, None)
        if job.submit.collective and not entered:
            self.meetings.abandon(job, part)
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
        self._answer(job, result)
        self.notes.append(Ended(job.number, part.index, result))
        if part.state is State.DELIVERING:
            part.remaining = sum(message.sizes)
            engine.delivering[part.seq] = part
            if job.client.address not in self.clients:
                del engine.delivering[part.seq]
                self.out.append(Send(engine.control, m.Credit(part.seq, engine.info.id, -1)))
                self.close_part(part, message.outcome)
        else:
            self.close_part(part, message.outcome)

    def _dones(self, engine: EngineRecord, message: m.Dones, now: float) -> None:
        """The first of several engines tells what all of them have done."""
        for number, done in message.dones:
            if number in self.engines:
                self.done(self.engines[number], done, now)

    def _again(self, part: Part, engine: EngineRecord, outcome: int) -> bool:
        """Whether a balanced part that failed is run again, on another engine first."""
        me = engine.info.id
        if not self.may_return(part):
            return False
        if outcome == m.UNMET:
            unfit = part.unfit | {me}
            if not self.balancer.has_taker(part.job.allowed, unfit):
                return False
            part.unfit = unfit
        elif outcome in (m.FAILED, m.LATE) and part.retries > 0:
            part.retries -= 1
            part.avoid = me
        else:
            return False
        if part.state is State.DELIVERING:
            self.out.append(Send(engine.control, m.Credit(part.seq, me, -1)))
        self.give_back(part)
        return True

    def _revoked(self, engine: EngineRecord, message: m.Done) -> None:
        """The user's communicator was revoked, to free who waited in it: all make a new one."""
        world = self.worlds.of(engine)
        if message.revoked == world.turn:
            world.turn += 1
            self.out += [Send(self.engines[i].control, m.Refresh(world.turn)) for i in self.roster.alive(world)]

    def _output(self, engine: EngineRecord, message: m.Output, now: float) -> None:
        """A task writes. Its result waits for all of it: they come by two ways."""
        part = engine.parts.get(message.seq)
        if part is None:
            return
        part.outputs += 1
        self.notes.append(Wrote(part.job.number, part.index, message.output))
        self.tell(part.job.client, m.Written(part.task, engine.info.id, message.output))
        if part.done is not None:
            self.done(engine, part.done, now)

    def tell(self, client: ClientRecord, message: m.Message) -> None:
        """Say something to a client, if it is there."""
        if client.address in self.clients:
            self.out.append(Send(client.address, message))

    def _answer(self, job: Job, result: m.Result) -> None:
        """Tell a client what became of a part; of a kind that has one answer, the first target's, or, in the end, why there is none."""
        if job.submit.kind not in m.ONE_ANSWER:
            self.tell(job.client, result)
        elif job.told is not None:
            if job.told.engine == result.engine:  # it died while it sent its large one
                self.tell(job.client, result)
        elif result.outcome == m.OK:
            first = job.submit.targets is not None and result.engine == job.submit.targets[0]
            if first and (job.kept is None or result.sizes):  # a large one is under way: what another lacks, its next program will say
                job.told = result
                self.tell(job.client, result)
        elif job.kept is None or job.kept.outcome == m.ABANDONED:  # which one is since another has failed
            job.kept = result

    def end_part(self, part: Part, outcome: int, data: bytes) -> None:
        """End a part without its engine's word."""
        engine = part.engine if part.engine is not None else -1
        part.job.answered |= outcome != m.ABORTED
        result = m.Result(part.task, engine, outcome, data, [], 0.0, 0.0)
        self._answer(part.job, result)
        if not (part.state is State.DELIVERING and outcome == m.ABORTED):  # which has ended well, unheard
            self.notes.append(Ended(part.job.number, part.index, result))
        if part.state is State.WAITING and not part.job.held:
            self.balancer.dropped()
        self.close_part(part, outcome)

    def close_part(self, part: Part, outcome: int) -> None:
        """A part has ended."""
        part.to("end")
        job = part.job
        job.open -= 1
        parts = job.client.parts.get(part.task)
        if parts is not None:
            parts.remove(part)
            if not parts:
                del job.client.parts[part.task]
        self.conditions.ended(part, outcome)
        if job.open == 0:
            if job.told is None and job.kept is not None:
                self.tell(job.client, job.kept)
            job.parts = []  # no cycle is left: all of it is freed at once
            if job.fn_id:
                self.out += [Send(self.engines[i].main, m.Forget([job.fn_id])) for i in job.holders if i in self.engines]

    def part_lost(self, part: Part, why: str, *, was_running: bool) -> None:
        """A part's engine is gone: it runs elsewhere, if it may."""
        if not part.balanced:
            if part.job.submit.collective:
                self.meetings.abandon(part.job, part)
            self.end_part(part, m.LOST, why.encode())
            self.meetings.failed(part.job, part)
            return
        part.lost += was_running
        if part.lost >= MAX_LOST or not self.may_return(part):
            if part.given_up:
                self.end_part(part, m.LOST, why.encode())
                return
            self.end_part(part, m.LOST, f"{why}; it is the {part.lost}. engine that died with this task, which is given up".encode())
            return
        self.give_back(part)

    def may_return(self, part: Part) -> bool:
        """Whether a part can be run again: somebody wants it, and its data can still be had."""
        client = part.job.client
        return not client.dropped and not part.given_up and (not part.job.submit.sizes or client.address in self.clients)

    def give_back(self, part: Part) -> None:
        """Let a part wait for another engine."""
        part.to("return")
        part.engine = None
        if part.job.submit.sizes:
            self.tell(part.job.client, m.Credit(part.task, -1, 0))
        self.balancer.add([part], first=True)

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
        assert all(part.state is State.READY for job in self.meetings.waiting if not job.abandoned for part in job.parts)


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
    if not all(0 <= target <= _LAST_ENGINE for target in message.targets or ()):
        raise ProtocolError("an engine's number is out of range")
    if any(size < 0 for size in message.sizes):
        raise ProtocolError("a buffer's size is negative")
    if not 0 <= message.first <= _LAST_TASK - len(message.data):
        raise ProtocolError("a task's number is out of range")
