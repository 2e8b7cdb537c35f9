"""An engine that ends takes no other along.

Open MPI's launcher lets the others go on when a rank is ended by a signal, or exits with 0, but ends the whole job when one
exits with another status, whatever its options say (seen with 5.0.11). So where the world survives, an engine whose code
calls ``os._exit(1)``, or whose library calls C's ``exit(1)`` or Fortran's ``STOP 1``, ends by a signal instead.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any, NoReturn

__all__ = ["exit_by_signal"]

#: What libc calls at its exit: the status, and nothing of interest.
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p)
_kept: list[Any] = []  # libc has the handler's address only


def exit_by_signal() -> None:
    """From now on this process ends by SIGKILL when it would exit with another status than 0."""
    me, leave = os.getpid(), os._exit

    def end(status: int, _nothing: object = None) -> None:
        if status and os.getpid() == me:  # a fork may exit as it likes
            os.kill(me, signal.SIGKILL)

    def exit_now(status: int) -> NoReturn:
        """Exit at once (`os._exit`)."""
        end(status)
        leave(status)

    os._exit = exit_now
    vars(sys.modules[os.name])["_exit"] = exit_now  # by this name it is pickled
    handler = _Handler(end)
    _kept.append(handler)
    ctypes.CDLL(None).on_exit(handler, None)
