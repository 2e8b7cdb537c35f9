"""Taking work back, and ending what runs: what only the engines know is asked of them. Pure."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mpicluster.hub.records import CancelRequest, ClientRecord, EngineRecord, Job, Part, Send, State
from mpicluster.wire import messages as m

if TYPE_CHECKING:
    from mpicluster.hub.scheduler import Scheduler

__all__ = ["Endings"]


class Endings:
    """Cancels, interrupts, timeouts, and engines that cannot end what they run."""

    def __init__(self, hub: Scheduler) -> None:
        self._hub = hub
        #: who waits to hear whether an assignment came back before it began: by engine and seq
        self._cancels: dict[tuple[int, int], list[CancelRequest]] = {}
        #: assignments that are not to be run elsewhere if they come back, and how they end then
        self._unwanted: dict[tuple[int, int], tuple[int, str]] = {}

    def withdraw(self, parts: Iterable[Part]) -> None:
        """Ask for these back from their engines."""
        seqs: dict[int, list[int]] = {}
        for part in parts:
            if part.engine is not None and part.engine in self._hub.engines:
                seqs.setdefault(part.engine, []).append(part.seq)
        self._hub.out += [Send(self._hub.engines[engine].control, m.Withdraw(list_)) for engine, list_ in seqs.items()]

    # -- cancel ------------------------------------------------------------------------------------------------------

    def cancel(self, client: ClientRecord, message: m.Cancel, now: float) -> None:
        """Take back what has not begun."""
        request = CancelRequest(client, message.request)
        asked: list[Part] = []
        for task in dict.fromkeys(message.tasks):
            parts = client.parts.get(task)
            if parts is None:
                request.cancelled = False
                continue
            if parts[0].job.answered and not parts[0].balanced:
                request.cancelled = False  # on another engine it ran
            for part in list(parts):
                if part.state is State.WAITING:
                    self._hub.end_part(part, m.ABORTED, b"")
                elif part.state is State.ASSIGNED and part.engine in self._hub.engines:
                    request.pending.add((part.engine, part.seq))
                    self._cancels.setdefault((part.engine, part.seq), []).append(request)
                    asked.append(part)
                elif part.state is not State.READY or not any(p.state is State.ASSIGNED for p in part.job.parts):
                    request.cancelled = False  # at the door, its fate is that of the parts that are not there yet
        self.withdraw(asked)
        self._answer(request)

    def _answer(self, request: CancelRequest) -> None:
        if not request.pending:
            self._hub.tell(request.client, m.Verdict(request.number, request.cancelled))

    def engine_lost(self, engine_id: int) -> None:
        """An engine died: what was to be withdrawn from it had not been."""
        for key in [k for k in self._unwanted if k[0] == engine_id]:
            del self._unwanted[key]
        for _, seq in [k for k in self._cancels if k[0] == engine_id]:
            self._settle(engine_id, seq, cancelled=False)

    def _settle(self, engine_id: int, seq: int, *, cancelled: bool) -> None:
        """Those who asked to cancel an assignment: whether it came back before it began."""
        for request in self._cancels.pop((engine_id, seq), []):
            request.pending.discard((engine_id, seq))
            request.cancelled &= cancelled
            self._answer(request)

    def withdrawn(self, engine: EngineRecord, message: m.Withdrawn, now: float) -> None:
        """An engine says what it has given back."""
        me = engine.info.id
        for seq in message.begun:
            engine.withdrawing.discard(seq)
            self._unwanted.pop((me, seq), None)
            self._settle(me, seq, cancelled=False)
        for seq in reversed(message.returned):  # the oldest is to be first again
            part = engine.release(seq)
            outcome, why = self._unwanted.pop((me, seq), (m.ABORTED, ""))
            if (me, seq) in self._cancels:
                outcome, why = m.ABORTED, "cancelled"
            wanted = seq in engine.withdrawing and not why
            engine.withdrawing.discard(seq)
            if part is not None:
                if part.job.submit.collective:
                    self._hub.meetings.abandon(part.job, part, m.ABORTED)
                if part.state is State.ENTERED:  # its door stood open, and others may be inside
                    self._hub.meetings.failed(part.job, part)
                if wanted and self._hub.may_return(part):
                    self._hub.give_back(part)
                else:
                    self._hub.end_part(part, outcome, why.encode())
            self._settle(me, seq, cancelled=True)
        self._hub.balancer.update(engine)

    def too_late(self, job: Job, why: str) -> None:
        """Parts of a job that have not begun are not to begin any more."""
        asked = []
        for part in job.tasks():
            if part.state is State.WAITING:
                self._hub.end_part(part, m.LATE, why.encode())
            elif part.state is State.ASSIGNED and part.engine is not None:
                self._unwanted[part.engine, part.seq] = m.LATE, why
                asked.append(part)
        self.withdraw(asked)

    # -- interrupt ---------------------------------------------------------------------------------------------------

    def interrupt(self, client: ClientRecord, message: m.Interrupt, now: float) -> None:
        """End tasks, also those that run."""
        found = False
        for task in dict.fromkeys(message.tasks):
            for part in list(client.parts.get(task, ())):
                found = self._interrupt(part) or found
        self._hub.tell(client, m.Verdict(message.request, found))

    def _interrupt(self, part: Part) -> bool:
        part.given_up = True
        if part.state is State.WAITING:
            self._hub.end_part(part, m.ABORTED, b"")
        elif part.state is State.READY:
            self._hub.meetings.abandon(part.job, part, m.ABORTED)
            self._hub.meetings.turn_away(part, m.ABORTED)
        elif part.state in (State.ASSIGNED, State.ENTERED) and part.engine in self._hub.engines:
            self._hub.out.append(Send(self._hub.engines[part.engine].control, m.Halt(part.seq)))
        else:
            return False
        return True

    def send_signal(self, client: ClientRecord, message: m.SendSignal, now: float) -> None:
        """Have engines send themselves a signal; SIGINT ends what runs there."""
        there = [self._hub.engines[i] for i in message.engines if i in self._hub.engines]
        if message.number == signal.SIGINT:
            for part in (next(iter(engine.parts.values()), None) for engine in there):
                if part is not None:  # it is running
                    part.given_up = True
            self._hub.out += [Send(engine.control, m.Halt(0)) for engine in there]
        elif 0 < message.number < signal.NSIG:
            self._hub.out += [Send(engine.control, m.Signal(message.number)) for engine in there]
        self._hub.tell(client, m.Verdict(message.request, len(there) == len(message.engines)))

    # -- engines that are stuck --------------------------------------------------------------------------------------

    def stuck(self, engine: EngineRecord, message: m.Stuck, now: float) -> None:
        """An engine cannot end an assignment. For its client it ends now; what is queued behind it goes elsewhere, or fails."""
        part = engine.release(message.seq)
        engine.stuck = message.seq, message.why
        if part is not None:
            job = part.job
            if job.submit.collective and part.state is not State.ENTERED:
                self._hub.meetings.abandon(job, part)
            self._hub.end_part(part, message.outcome, message.why.encode())
            self._hub.meetings.failed(job, part)
        queued = list(engine.parts.values())
        self.withdraw(queued)
        for waiting in reversed(queued):
            engine.release(waiting.seq)
            engine.withdrawing.discard(waiting.seq)
            self._settle(engine.info.id, waiting.seq, cancelled=True)
            if waiting.balanced and self._hub.may_return(waiting):
                self._hub.give_back(waiting)
                continue
            if waiting.job.submit.collective:
                self._hub.meetings.abandon(waiting.job, waiting)
            self._hub.end_part(waiting, m.LOST, blocked(engine).encode())
        self._hub.balancer.update(engine)
        self._hub.end_impossible()

    def came_back(self, engine: EngineRecord, seq: int) -> None:
        """An engine has ended an assignment that was given up."""
        if engine.stuck is not None and engine.stuck[0] == seq:
            engine.stuck = None
            self._hub.balancer.update(engine)


def blocked(engine: EngineRecord) -> str:
    """Why an engine takes no work."""
    return f"engine {engine.info.id} cannot take work: {engine.stuck[1] if engine.stuck else ''}"
