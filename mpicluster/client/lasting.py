"""A connection that may drop, as those through a tunnel do, and comes back: nothing is lost, and nothing comes twice.

Both ends keep what they have said until the other has heard it; see `mpicluster.hub.lasting`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from mpicluster import config
from mpicluster.client.connection import Connection
from mpicluster.errors import ClosedError, ClusterStopped, NoCluster
from mpicluster.wire import frames
from mpicluster.wire import messages as m
from mpicluster.wire.contact import Contact
from mpicluster.wire.log import HEARD_EVERY, Log

__all__ = ["LastingConnection"]

#: How long a hub that was lost is given to answer, and the pauses between two attempts.
_ANSWERS_WITHIN = 5.0
_FIRST_PAUSE, _LAST_PAUSE = 0.1, 5.0


class LastingConnection(Connection):
    """A `Connection` that comes back.

    ``again()``
        gives the address of the hub, or None if there is no way to it now; and raises `NoCluster` if there is no hub any more;
    ``away``
        for how long that is tried, and the hub waits, seconds.
    """

    def __init__(
        self,
        contact: Contact,
        on_message: Callable[[m.ToClient, Any], None],
        on_lost: Callable[[str], None],
        again: Callable[[], str | None],
        away: float = config.AWAY_WITHIN,
    ) -> None:
        self._again, self._lasting = again, away
        #: what was said and may not have been heard, and how much was heard
        self._log = Log()
        self._heard = 0
        #: how many connections there were before
        self._number = 0
        super().__init__(contact, on_message, on_lost)

    def _name(self) -> str:
        return f"{self.name}#{self._number}" if self._number else self.name

    def _record(self, parts: Sequence[Any]) -> None:
        self._log.add(*parts)

    def _taken(self) -> None:
        self._heard += 1
        if self._heard % HEARD_EVERY == 0:
            with contextlib.suppress(ClosedError, ClusterStopped):
                self.say([m.Heard(self._heard)])

    def _on_heard(self, count: int) -> None:
        with self._lock:
            self._log.forget(count)

    def _drop(self) -> None:
        """What is said from now on waits."""
        with self._lock:
            self._away = True
            self._close_pair()

    def _close_pair(self) -> None:
        for source in (self._sources[0], *self._ends):
            self._selector.unregister(source)
        self._shut()

    def _come_back(self) -> bool:
        until, pause = time.monotonic() + self._lasting, _FIRST_PAUSE
        while not self._closed:
            try:
                address = self._again()
            except NoCluster as e:
                self._lose(str(e))
                return False
            if address is not None and self._back_at(address):
                return True
            if self._hub_gone:
                return False
            if time.monotonic() >= until:
                self._lose(f"the connection to the hub was lost, and could not be had again within {self._lasting:g} s")
                return False
            after = time.monotonic() + pause
            while not self._closed and (left := after - time.monotonic()) > 0:
                self._resume.wait(left)
                self._resume.clear()
            pause = min(1.5 * pause, _LAST_PAUSE)
        return False

    def _back_at(self, address: str) -> bool:
        """Connect anew, and say what the hub has not heard. False if it does not answer."""
        with self._turn:
            self._handle_inbox()  # what came last counts as heard
            self._number += 1
            with self._lock:
                self._open(address, m.Hello(self.name, frames.VERSION, None, self._lasting, self._heard))
            first = self._first_word()
            with self._lock:
                if type(first) is m.Heard:
                    self._log.forget(first.count)
                    self._away = False
                    with contextlib.suppress(zmq.Again):  # it dropped again
                        for parts in self._log:
                            self._talk_now(parts)
                    return True
                self._close_pair()
        if type(first) is m.Farewell:
            self._lose(first.reason)
        return False

    def _first_word(self) -> m.ToClient | None:
        """What the hub says first, if it does within some seconds."""
        until = time.monotonic() + _ANSWERS_WITHIN
        listen, wake, _ = self._sources
        while (left := until - time.monotonic()) > 0 and not self._closed:
            ready = self._selector.wait(left)
            if listen in ready:
                head = self._receive(zmq.NOBLOCK)
                self._selector.used(listen)
                return frames.from_hub_to_client.unpack(head.buffer)[0]
            if any(end in ready for end in self._ends):
                return None
            if wake in ready:
                self._clear_wake()
        return None
