"""An engine that ends takes no other along.

Open MPI's launcher lets the others go on when a rank is ended by a signal, or exits with 0, but ends the whole job when one
exits with another status, whatever its options say (seen with 5.0.11). So where the world survives, an engine whose code
calls ``os._exit(1)``, or whose library calls C's ``exit`` or Fortran's ``STOP``, ends by a signal instead.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
from typing import Any, NoReturn

__all__ = ["exit_by_signal"]

#: What libc calls at its exit, with nothing of interest.
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_kept: list[Any] = []  # libc has the handler's address only
#: by which libc knows the handler
_key = ctypes.c_char()


def exit_by_signal() -> None:
    """From now on this process ends by SIGKILL when its code would exit at once with another status than 0, or C code would at all."""
    me, leave, armed = os.getpid(), os._exit, True

    def end(_nothing: object = None) -> None:
        if armed and os.getpid() == me:  # a fork may exit as it likes
            os.kill(me, signal.SIGKILL)

    def exit_now(status: int) -> NoReturn:
        """Exit at once (`os._exit`)."""
        if status:
            end()
        leave(status)

    os._exit = exit_now
    vars(sys.modules[os.name])["_exit"] = exit_now  # by this name it is pickled
    handler, libc = _Handler(end), ctypes.CDLL(None)
    _kept.append(handler)
    libc.__cxa_atexit(handler, None, ctypes.byref(_key))

    @atexit.register
    def disarm() -> None:
        """Python is ending in good order. Without it the handler could not run."""
        nonlocal armed
        armed = False
        libc.__cxa_finalize(ctypes.byref(_key))
