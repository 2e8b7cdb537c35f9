"""A cluster without sockets, processes and MPI: the real scheduler, with engines and clients that keep to the protocol.

Every connection is a queue of its own, as in the real thing: an engine has two (its threads), and what two peers say at
the same time arrives in any order. `Cluster.step` lets one thing happen, chosen by the generator of random numbers.
"""

from __future__ import annotations

import itertools
from collections import deque

from mpicluster.hub.notes import Ended, Submitted
from mpicluster.hub.scheduler import Scheduler
from mpicluster.wire import messages as m

#: Bytes of a bulk payload that a receiver allows at a time, and that a sender puts into a chunk.
WINDOW, CHUNK = 4, 2
#: What several engines run as one gang.
GANGS = ("spmd", "arrays")


def submit(first=1, targets=None, data=(b"d",), *, kind="apply", collective="", retries=0, allowed=(), sizes=(), fn=b"f", terms=None):
    return m.Submit(first, kind, targets, list(allowed), fn, list(data), b"", list(sizes), collective, retries, terms)


class Receiving:
    """A payload on its way in."""

    def __init__(self, total):
        self.total, self.received, self.credited, self.lost = total, 0, 0, False

    def more(self):
        more = min(WINDOW - (self.credited - self.received), self.total - self.credited)
        self.credited += more
        return more

    @property
    def complete(self):
        return self.received >= self.total


class Sending:
    """A payload on its way out."""

    def __init__(self, total):
        self.total, self.position, self.credit = total, 0, 0

    def chunks(self):
        while self.credit > 0 and self.position < self.total:
            size = min(CHUNK, self.total - self.position)
            yield self.position, b"x" * size
            self.position, self.credit = self.position + size, self.credit - size


class FakeEngine:
    """What `mpicluster.engine` does, without running anything."""

    def __init__(self, cluster, id_):
        self.cluster, self.id = cluster, id_
        #: from the hub, and to the hub, for each of the two threads
        self.main_in, self.control_in = deque(), deque()
        self.main_out, self.control_out = deque(), deque()
        self.queue = deque()
        self.begun, self.skip = 0, set()
        #: assignments in which others are not to be waited for
        self.doomed = set()
        self.epoch = 0
        #: how often it has shrunk its world, and the communicators of some engines that it keeps
        self.shrinks, self.groups, self.gangs = 0, set(), set()
        #: which of the user's communicators it has, and whether that is revoked
        self.turn, self.revoked = 0, False
        self.incoming, self.outgoing = {}, {}
        self.functions = set()
        #: the assignment that waits for its payload, at the door, or inside a collective
        self.payload, self.door, self.inside = None, None, None
        #: the one whose code runs, and will not end by itself; how many messages of output it has sent
        self.running, self.outputs = None, 0
        #: results that another engine tells
        self.kept = deque(maxlen=16)
        self.runs = []
        self.stopped = False

    # -- control thread

    def control(self):
        message, frame = self.control_in.popleft()
        match message:
            case m.Expect(seq=seq, sizes=sizes):
                self.incoming[seq] = Receiving(sum(sizes))
                self.say_control(m.Credit(seq, self.id, self.incoming[seq].more()))
            case m.Chunk(name=seq):
                incoming = self.incoming.get(seq)
                if incoming is not None:
                    assert message.offset == incoming.received, "a chunk out of order"
                    incoming.received += len(frame)
                    assert incoming.received <= incoming.credited
                    more = incoming.more()
                    if more:
                        self.say_control(m.Credit(seq, self.id, more))
            case m.Credit(name=seq, nbytes=nbytes):
                if nbytes < 0:
                    self.outgoing.pop(seq, None)
                    if seq in self.incoming and not self.incoming[seq].complete:
                        self.incoming[seq].lost = True
                elif seq in self.outgoing:
                    sending = self.outgoing[seq]
                    sending.credit += nbytes
                    for offset, data in sending.chunks():
                        self.say_control(m.Chunk(seq, self.id, offset), data)
                    if sending.position >= sending.total:
                        del self.outgoing[seq]
            case m.Withdraw(seqs=seqs):
                returned = [s for s in seqs if s > self.begun]
                self.skip.update(returned)
                self.say_control(m.Withdrawn(returned, [s for s in seqs if s not in returned]))
            case m.Halt(seq=seq):
                if seq > self.begun:
                    self.skip.add(seq)
                    self.say_control(m.Withdrawn([seq], []))
                    return
                if seq:
                    self.say_control(m.Withdrawn([], [seq]))
                self.end_running(seq, m.FAILED)
            case m.Free(seq=seq):
                self.doomed.add(seq)
                self.end_running(seq, m.ABANDONED)
                for done in self.kept:
                    if done.seq == seq:
                        self.say_control(done)
            case m.Refresh(turn=turn):
                if turn > self.turn:
                    assert turn == self.turn + 1, "a communicator is made that others have made before"
                    self.turn, self.revoked = turn, False
            case m.Heal(epoch=epoch, turn=turn):
                self.epoch = epoch
                self.shrinks += 1
                self.groups.clear()
                self.gangs.clear()
                self.turn, self.revoked = turn, False
                if self.inside is not None:
                    task, self.inside = self.inside[0], None
                    self.done(task, m.LOST)
                self.say_control(m.Healed(epoch, sorted(self.cluster.engines)))
            case m.Stop():
                self.stopped = True

    def end_running(self, seq, outcome):
        """Code that waits for another engine, or for ever, is ended."""
        if self.running is not None and seq in (0, self.running.seq):
            task, self.running = self.running, None
            self.revoked = self.revoked or self.cluster.random.random() < 0.5
            self.done(task, outcome)
        elif self.inside is not None and self.inside[0].kind in GANGS and seq in (0, self.inside[0].seq):
            task, self.inside = self.inside[0], None
            self.done(task, outcome)

    def say_control(self, message, frame=None):
        self.control_out.append((message, frame))

    # -- main thread

    def main(self):
        """Take one message, or do one piece of work."""
        if self.main_in:
            message, _ = self.main_in.popleft()
            match message:
                case m.Assign():
                    if message.fn_id and message.fn:
                        self.functions.add(message.fn_id)
                    self.queue.append(message)
                case m.Forget():
                    self.queue.append(message)
                case m.Enter(seq=seq, epoch=epoch, metas=metas, keep=keep, fresh=fresh):
                    if self.door is not None and self.door.seq == seq:
                        task, self.door = self.door, None
                        assert sum(count for count, _ in metas) == len(task.targets)
                        if epoch == self.epoch:
                            known = self.gangs if task.kind in GANGS else self.groups
                            key = tuple(task.targets)
                            self.inside = (task, epoch, fresh if task.kind in GANGS else key not in known)
                            assert fresh or key in known, "a communicator that it does not have"
                            if keep:
                                known.add(key)
                        else:
                            self.done(task, m.LOST)
                case m.Abandon(seq=seq):
                    if self.door is not None and self.door.seq == seq:
                        task, self.door = self.door, None
                        self.done(task, m.ABANDONED)
        elif self.inside is not None:
            self.meet()
        elif self.payload is not None:
            task, incoming = self.payload, self.incoming[self.payload.seq]
            self.payload = None
            self.done(task, m.LOST) if incoming.lost else self.perform(task)
        elif self.queue:
            self.begin(self.queue.popleft())

    @property
    def can_work(self):
        if self.main_in:
            return True
        if self.inside is not None:
            return self.all_inside() is not None
        if self.payload is not None:
            incoming = self.incoming.get(self.payload.seq)
            return incoming is not None and (incoming.complete or incoming.lost)
        return self.door is None and self.running is None and bool(self.queue)

    def begin(self, task):
        if isinstance(task, m.Forget):
            self.functions.difference_update(task.fn_ids)
            return
        assert task.seq > self.begun, "assignments come in order"
        self.begun = task.seq
        if task.seq in self.skip:
            self.skip.discard(task.seq)
            self.incoming.pop(task.seq, None)
            return
        assert not task.fn_id or task.fn_id in self.functions, "a function that never came"
        if task.sizes and (not task.collective or task.targets[0] == self.id):
            self.payload = task
        else:
            self.perform(task)

    def perform(self, task):
        random = self.cluster.random
        self.runs.append(task.data)
        self.outputs = 0
        while random.random() < 0.1:
            self.outputs += 1
            self.say_control(m.Output(task.seq, [(m.STDOUT, b"said")]))
        if random.random() < self.cluster.failures:
            self.done(task, random.choice((m.FAILED, m.UNMET, m.LATE)))
        elif task.enter is not None:
            assert task.collective == "spmd", "they meet before they are a gang"
            assert tuple(task.targets) in self.gangs or task.enter.epoch != self.epoch, "a communicator that it does not have"
            if task.seq in self.doomed:
                self.done(task, m.ABANDONED)
            elif task.enter.epoch == self.epoch:
                self.inside = (task, self.epoch, False)
            else:
                self.done(task, m.LOST)
        elif task.collective:
            self.door = task
            self.main_out.append((m.Ready(task.seq, b""), None))
        elif task.kind == "endless":
            self.running = task
        else:
            self.done(task, m.OK, large=random.random() < 0.3)

    def all_inside(self):
        """The engines of this collective, when all are in it."""
        task, epoch, _ = self.inside
        others = [self.cluster.engines.get(i) for i in task.targets]
        if all(e is not None and e.inside is not None and e.inside[0].data == task.data and e.inside[1] == epoch for e in others):
            return others
        return None

    def meet(self):
        together = self.all_inside() or ()
        assert len({engine.inside[2] for engine in together}) == 1, "some make a communicator that others have"
        failing = {e.id for e in together if e.inside[0].kind in GANGS and self.cluster.random.random() < self.cluster.failures}
        if together and together[0].inside[0].collective == "coalesce":
            self.coalesce(together)
            return
        for engine in together:
            task, engine.inside = engine.inside[0], None
            if task.kind in GANGS and failing:  # some fail, the others may have ended before, or wait
                ended = self.cluster.random.random() < 0.5
                engine.done(task, m.FAILED if engine.id in failing else m.OK if ended else m.ABANDONED)
            else:
                engine.done(task, m.OK, large=engine.id == task.targets[0])

    def coalesce(self, together):
        """The first engine tells what all have done that did well."""
        dones = []
        root = self.cluster.engines[together[0].inside[0].targets[0]]
        for engine in together:
            task, engine.inside = engine.inside[0], None
            engine.done(task, m.FAILED if self.cluster.random.random() < self.cluster.failures else m.OK)
            if engine.main_out[-1][0].outcome == m.OK:
                done, _ = engine.main_out.pop()
                engine.kept.append(done)
                dones.append((engine.id, done))
        root.main_out.append((m.Dones(dones), None))

    def done(self, task, outcome, *, large=False):
        self.incoming.pop(task.seq, None)
        if large:
            self.outgoing[task.seq] = Sending(9)
        now = self.cluster.now
        revoked = self.turn if self.revoked else -1
        self.main_out.append((m.Done(task.seq, outcome, b"v", [4, 5] if large else [], now, now, [], self.outputs, revoked), None))
        self.outputs = 0


class FakeClient:
    """What `mpicluster.client` does."""

    def __init__(self, cluster, name):
        self.cluster, self.name, self.address = cluster, name, name.encode() + b"r"
        self.inbox, self.outbox = deque(), deque()
        self.next_task, self.next_request = 1, 1
        #: what each task is expected to be answered with: engine ids, or None if there is one answer
        self.expected = {}
        self.submits = {}
        #: final answers
        self.answers = {}
        self.uploads, self.downloads = {}, {}
        #: first tasks of the submissions that the hub has heard, and whether it left with a word
        self.heard, self.polite = set(), False
        self.requests, self.verdicts = {}, {}
        self.interrupted, self.written = set(), 0
        self.farewell = None
        self.engines = []
        self.outbox.append((m.Hello(name, 1), None))

    def submit(self, **options):
        message = submit(self.next_task, **options)
        count = len(message.data) if message.targets is None else 1
        data = [b"%s-%d-%d" % (self.name.encode(), self.next_task, i) for i in range(len(message.data))]
        message = m.Submit(*(data if f == "data" else getattr(message, f) for f in message.__struct_fields__))
        for i in range(count):
            self.expected[self.next_task + i] = None if message.kind == "arrays" else message.targets
            self.submits[self.next_task + i] = (message, data[i if count > 1 else 0])
        if message.sizes:
            self.uploads[self.next_task] = (-1, Sending(sum(message.sizes)))
        self.next_task += count
        self.outbox.append((message, None))

    def cancel(self, tasks):
        self.requests[self.next_request] = tasks
        self.outbox.append((m.Cancel(self.next_request, tasks), None))
        self.next_request += 1

    def interrupt(self, tasks):
        self.interrupted.update(tasks)
        self.outbox.append((m.Interrupt(self.next_request, tasks), None))
        self.requests[self.next_request] = []
        self.next_request += 1

    def read(self):
        message, frame = self.inbox.popleft()
        match message:
            case m.Written():
                assert message.task in self.expected
                targets = self.expected[message.task]
                key = (message.task, message.engine if targets is not None else None)
                assert key not in self.answers or self.submits[message.task][0].kind == "arrays", "output after the result"
            case m.Welcome() | m.Engines():
                self.engines = [e.id for e in message.engines]
            case m.Verdict():
                assert message.request not in self.verdicts
                self.verdicts[message.request] = message.cancelled
            case m.Farewell():
                self.farewell = message.reason
            case m.Result(sizes=sizes) if sizes and message.outcome in (m.OK, m.FAILED):
                receiving = Receiving(sum(sizes))
                self.downloads[message.task, message.engine] = (message, receiving)
                self.outbox.append((m.Credit(message.task, message.engine, receiving.more()), None))
            case m.Result():
                self.answer(message)
            case m.Chunk():
                if (message.name, message.engine) in self.downloads:
                    result, receiving = self.downloads[message.name, message.engine]
                    receiving.received += len(frame)
                    if receiving.complete:
                        del self.downloads[message.name, message.engine]
                        self.answer(result)
                    elif more := receiving.more():
                        self.outbox.append((m.Credit(message.name, message.engine, more), None))
            case m.Credit():
                if message.name in self.uploads:
                    engine, sending = self.uploads[message.name]
                    if engine != message.engine:
                        sending = sending if engine == -1 else Sending(sending.total)
                        self.uploads[message.name] = (message.engine, sending)
                    sending.credit += message.nbytes
                    for offset, data in sending.chunks():
                        self.outbox.append((m.Chunk(message.name, message.engine, offset), data))

    def answer(self, result):
        assert result.task in self.expected, "an answer to nothing that was asked"
        targets = self.expected[result.task]
        assert targets is None or result.engine in targets
        key = (result.task, result.engine if targets is not None else None)
        assert key not in self.answers, f"{key} was answered twice"
        self.answers[key] = result
        if all((result.task, t) in self.answers for t in targets or [None]):
            self.uploads.pop(result.task, None)
            for download in [k for k in self.downloads if k[0] == result.task]:
                del self.downloads[download]

    @property
    def missing(self):
        wanted = {(task, t) for task, targets in self.expected.items() for t in targets or [None]}
        return wanted - self.answers.keys()


class Cluster:
    """All of it, and time."""

    def __init__(self, random, engines, clients=1, *, survives=True, failures=0.0):
        self.random, self.failures, self.survives = random, failures, survives
        self.scheduler = Scheduler("cluster", engines)
        self.now = 0.0
        #: what the history would be told
        self.notes = []
        self.engines, self.dead = {}, {}
        self.clients, self.gone = {}, {}
        for i in range(engines):
            self.register(i)
        self.names = itertools.count()
        for _ in range(clients):
            self.connect()
        self.settle()

    def register(self, id_, channels=("main", "control")):
        engine = self.engines.setdefault(id_, FakeEngine(self, id_))
        info = m.EngineInfo(id_, id_, "host", 100 + id_, 1)
        for channel in channels:
            self.scheduler.roster.register(m.Register(info, channel, "MPI", self.survives), b"e%d%c" % (id_, ord(channel[0])), self.now)
        return engine

    def connect(self):
        client = FakeClient(self, f"c{next(self.names)}")
        self.clients[client.address] = client
        return client

    # -- what may happen

    def decide(self):
        sends = self.scheduler.decide(self.now)
        self.scheduler.check()
        self.notes += self.scheduler.notes
        self.scheduler.notes = []
        for to, message, frame in sends:
            if to.startswith(b"e"):
                engine = self.engines.get(int(to[1:-1]))
                if engine is not None:
                    (engine.main_in if to.endswith(b"m") else engine.control_in).append((message, frame))
            elif to in self.clients:
                self.clients[to].inbox.append((message, frame))

    def hear_engine(self, engine, queue):
        message, frame = queue.popleft()
        if engine.id in self.scheduler.engines:
            self.scheduler.from_engine(engine.id, message, self.now, frame)
        self.decide()

    def hear_client(self, client):
        message, frame = client.outbox.popleft()
        self.scheduler.from_client(client.address, message, self.now, frame)
        if isinstance(message, m.Submit):
            client.heard.add(message.first)
        self.decide()

    def choices(self):
        """All that can happen next without an accident."""
        found = []
        for engine in self.engines.values():
            if engine.control_in:
                found.append(engine.control)
            if engine.can_work:
                found.append(engine.main)
            if engine.running is not None and engine.running.time_limit:
                found.append(lambda e=engine: e.end_running(0, m.LATE))
            found += [lambda e=engine, q=q: self.hear_engine(e, q) for q in (engine.main_out, engine.control_out) if q]
        for client in self.clients.values():
            if client.inbox:
                found.append(client.read)
            if client.outbox:
                found.append(lambda c=client: self.hear_client(c))
        return found

    def step(self):
        """One thing happens; False if nothing can."""
        found = self.choices()
        if not found:
            wake = self.scheduler.wake_at()
            if wake is None or self.scheduler.ended is not None:
                return False
            assert wake > self.now or self.scheduler.out, "the hub would spin"
            self.now = max(wake, self.now) + 1e-9
            self.decide()
            return True
        self.now += 1e-4
        self.random.choice(found)()
        return True

    def settle(self):
        """Let all happen that can."""
        for _ in range(100_000):
            if not self.step():
                return
        raise AssertionError("never comes to rest")

    # -- accidents

    def kill(self, id_):
        """An engine dies; the hub hears a part of its last words."""
        engine = self.engines.pop(id_)
        self.dead[id_] = engine
        for queue in (engine.main_out, engine.control_out):
            for _ in range(self.random.randint(0, len(queue))):
                self.hear_engine(engine, queue)
        self.scheduler.roster.lost(id_, "died", self.now)
        self.decide()

    def leave(self, address, *, politely):
        """A client goes away, with or without a word."""
        client = self.clients.pop(address)
        self.gone[address] = client
        for _ in range(self.random.randint(0, len(client.outbox))):
            self.hear_client(client)
        if politely and address in self.scheduler.clients:
            self.scheduler.from_client(address, m.Goodbye(), self.now)
            client.polite = True
        self.scheduler.client_lost(address)
        self.decide()

    # -- what must be true at rest

    def check_answers(self):
        """What clients were told is what happened on the engines."""
        everywhere = [*self.engines.values(), *self.dead.values()]
        for client in self.clients.values():
            for (task, target), answer in client.answers.items():
                message, data = client.submits[task]
                runs = sum(e.runs.count(data) for e in everywhere if target is None or e.id == target)
                if answer.outcome == m.OK:
                    assert runs >= 1, "a value of a task that never ran"
                if answer.outcome == m.ABORTED and not (message.collective or message.retries or self.dead or self.failures):
                    assert runs == 0, "a task that ran was called cancelled"
                again = message.retries + len(self.dead) + len(everywhere) * (self.failures > 0)  # an engine may be unfit
                once = 1 if target is not None else len(message.targets or [0])  # on each engine of those that have one answer
                assert runs <= (once if message.targets else 1 + again), "a task ran too often"
                if message.terms is not None:
                    self.check_terms(client, message, answer, runs)
            for request, cancelled in client.verdicts.items():
                if cancelled and client.requests[request]:
                    outcomes = {a.outcome for (task, _), a in client.answers.items() if task in client.requests[request]}
                    assert outcomes == {m.ABORTED}, "a task that was called cancelled has another answer"
        for client in self.gone.values():
            if client.polite and not client.requests and not self.dead and self.scheduler.ended is None:
                for message, data in client.submits.values():
                    if message.first in client.heard and not message.sizes and not (message.collective or message.allowed or message.terms):
                        assert sum(e.runs.count(data) for e in everywhere) >= 1, "a task of a client that left in good order was not run"

    def check_terms(self, client, message, answer, runs):
        """A task ran only if what it depends on had ended as it should."""
        for needs in filter(None, (message.terms.after, message.terms.follow)):
            ended = [client.answers.get((task, None)) for task, _ in needs.own]
            fits = [a is not None and (needs.success if a.outcome == m.OK else needs.failure) for a in ended]
            if runs:
                assert all(fits) if needs.all else any(fits), "a task ran though its dependency was not met"
        if answer.outcome == m.REFUSED:
            assert runs == 0
        if answer.outcome == m.LATE and not self.failures:
            assert message.terms.timeout > 0 or message.terms.time_limit > 0

    def check_notes(self):
        """The history hears of each job, and how each part of it has ended, as its client was told."""
        open_, results = {}, {}
        for note in self.notes:
            match note:
                case Submitted(job, client, submit):
                    assert job not in open_
                    open_[job] = set(range(len(submit.data if submit.targets is None else submit.targets)))
                case Ended(job, part, result):
                    open_[job].discard(part)
                    engine = result.engine if result.engine >= 0 else None
                    results.setdefault((job, part), []).append((result.outcome, engine))
        assert not any(open_.values())
        names = {note.job: (note.client, note.submit) for note in self.notes if isinstance(note, Submitted)}
        told = {}
        for (job, part), known in results.items():
            client, submit = names[job]
            key = (submit.first + part, None) if submit.targets is None else (submit.first, submit.targets[part])
            told[client, *key] = [outcome for outcome, _ in known]
            if submit.kind == "arrays":
                told.setdefault((client, submit.first, None), []).append(known[-1][0])
        for client in self.clients.values():
            for key, answer in client.answers.items():
                outcomes = told[client.name, *key]
                together = client.submits[key[0]][0].kind == "arrays"
                assert answer.outcome in outcomes if together else answer.outcome == outcomes[-1]

    def check_rest(self):
        """Nothing waits, nothing is remembered for nothing."""
        s = self.scheduler
        if s.ended is None:
            self.check_notes()
        for client in self.clients.values():
            assert client.farewell is not None or client.missing == set()
            assert client.farewell is not None or set(client.verdicts) == set(client.requests)
            assert client.farewell is not None or not client.uploads
            if client.farewell is None:
                assert not client.downloads
        if s.ended is not None:
            return
        assert all(c.parts == {} for c in s.clients.values())
        assert s.endings._cancels == {}
        assert s.endings._unwanted == {}
        assert len(s.conditions._dependencies) == 0
        assert not s.conditions._ended
        assert s.meetings.waiting == []
        assert not s.healing
        assert s.balancer.waiting == 0
        for engine in s.engines.values():
            assert not engine.parts
            assert not engine.delivering
            assert not engine.withdrawing
        for engine in self.engines.values():
            assert engine.shrinks == s.roster.epoch, "some shrink more often than others"
            assert not engine.stopped
            assert not engine.incoming
            assert not engine.outgoing
            assert not engine.skip
            assert not engine.functions
            assert not engine.queue
            assert engine.door is engine.payload is engine.inside is engine.running is None
            assert engine.turn == s.worlds[0].turn
