"""Holds back Python's signal handlers while a message is in hand.

pyzmq runs pending handlers at the end of each of its calls, so a Ctrl-C that comes while the main thread receives would
throw away what it has just received.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from mpicluster.config import LAST_WORDS

__all__ = ["Deferred", "leave_last_words_to"]

_SIGNALS = tuple(map(int, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)))
#: without their wrapping, which turns numbers into enums at nine times the cost of all else here
_plain: Any = getattr(signal, "_signal", signal)
_get_handler, _set_handler = _plain.getsignal, _plain.signal


class Deferred:
    """While entered (in the main thread; elsewhere it does nothing), signals are noted; `handle` runs their handlers.

    ``descriptor`` becomes readable when one has come, so that a wait can end.
    """

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._originals: list[tuple[int, Any]] = []
        self._come: list[tuple[int, FrameType | None]] = []

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._come.append((number, frame))
        os.eventfd_write(self.descriptor, 1)

    def __enter__(self) -> Deferred:
        if threading.get_ident() == threading.main_thread().ident:
            for number in _SIGNALS:
                handler = _get_handler(number)
                if callable(handler):
                    self._originals.append((number, handler))
                    _set_handler(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        originals, self._originals = self._originals, []
        for number, handler in originals:
            _set_handler(number, handler)

    def handle(self) -> None:
        """Run the handlers of what has come. The caller holds nothing that a handler might want: it may use the client."""
        if not self._come or threading.get_ident() != threading.main_thread().ident:
            return
        come, self._come = self._come, []
        self.clear()
        for number, frame in come:
            handler = _get_handler(number)
            if callable(handler):
                handler(number, frame)

    def clear(self) -> None:
        """Make the descriptor unreadable."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)


def leave_last_words_to(parent: int) -> None:
    """Heed no such signal while that process is the parent, who hears it too and passes it on as Ctrl-C; afterwards it ends this one.

    Many systems send it to every process of a job. What the user's code has set stays; nothing is done outside the main thread.
    """
    if os.getppid() != parent or threading.get_ident() != threading.main_thread().ident:
        return

    def heard(number: int, _frame: FrameType | None) -> None:
        if os.getppid() != parent:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in LAST_WORDS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, heard)
