"""The magics ``%px``, ``%%px``, ``%autopx``, ``%pxresult`` and ``%pxconfig``: cells of this IPython that run on the engines.

The only part of a client that imports IPython; loaded by ``%load_ext mpicluster``, by `activate`, and by the first client made in IPython.
"""

from __future__ import annotations

import re
import signal
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython import get_ipython
from IPython.core import magic_arguments as arguments
from IPython.core.error import UsageError
from IPython.core.magic import Magics, magics_class, no_var_expand

from mpicluster.client import progress
from mpicluster.client.display import Follower, display_outputs
from mpicluster.errors import AlreadyDisplayedError, ClusterError

if TYPE_CHECKING:
    from mpicluster.client.client import Client
    from mpicluster.client.direct import DirectView
    from mpicluster.client.result import AsyncResult

__all__ = ["ParallelMagics", "activate", "activate_first", "load"]

#: How long engines may take to end what was interrupted.
_INTERRUPT_GRACE = 5.0
_TARGETS = re.compile(r"(-?\d*:-?\d*(:-?\d*)?|-?\d+)")
#: the newest client of this process, for magics that were loaded before there was one
_newest: weakref.ref[Client] | None = None


# -- which view ------------------------------------------------------------------------------------------------------------


def load(shell: Any) -> None:
    """``%load_ext mpicluster``."""
    if _known(shell, "") is None:
        _register(shell, None, "")


def activate(view: DirectView, suffix: str = "") -> None:
    """Have the magics of this suffix use a view.

    Raises
    ------
    RuntimeError
        this is not IPython.
    ValueError
        the suffix cannot be part of a name.
    """
    shell = get_ipython()
    if shell is None:
        raise RuntimeError("there are magics in IPython only: %px and the like need an IPython shell or a notebook")
    if not re.fullmatch(r"\w*", suffix):
        raise ValueError(f"a suffix is made of letters, digits and underscores, not {suffix!r}")
    known = _known(shell, suffix)
    if known is not None:
        known.view = view
    else:
        _register(shell, view, suffix)


def activate_first(client: Client) -> None:
    """Let the plain magics use a client, unless they have one that still lives."""
    global _newest
    _newest = weakref.ref(client)
    known = _known(get_ipython(), "")
    if known is None or (known.given is not None and known.given.client._lost is not None):
        client.activate()


def _known(shell: Any, suffix: str) -> ParallelMagics | None:
    magic = shell.magics_manager.magics["line"].get(f"px{suffix}")
    owner = getattr(magic, "__self__", None)
    return owner if isinstance(owner, ParallelMagics) else None


def _register(shell: Any, view: DirectView | None, suffix: str) -> None:
    shell.register_magics(ParallelMagics(shell, view, suffix))


# -- options ---------------------------------------------------------------------------------------------------------------


def targets_of(text: str) -> Any:
    """What ``--targets`` names: ``all``, ``1``, ``0:2``, ``::2``, ``0,2``, ``[0, 2]``. Nothing is evaluated.

    Raises
    ------
    UsageError
        it is none of these.
    """
    text = text.strip().strip("'\"")
    if text == "all":
        return "all"
    words = [w.strip() for w in text.strip("[]()").split(",") if w.strip()]
    if not words or not all(_TARGETS.fullmatch(w) for w in words) or (len(words) > 1 and ":" in text):
        raise UsageError(f"--targets takes all, a number, a slice (0:2, ::2) or a list (0,2), not {text!r}")
    if ":" in text:
        return slice(*(int(part) if part else None for part in words[0].split(":")))
    return [int(w) for w in words] if len(words) > 1 or text[0] in "[(" else int(words[0])


def signal_of(text: str) -> int:
    """The number of a signal, by name or number; 0 for none.

    Raises
    ------
    UsageError
        there is no such signal.
    """
    try:
        return int(text) if text.isdigit() else int(signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"])
    except KeyError:
        raise UsageError(f"there is no signal {text!r}; --signal-on-interrupt takes SIGINT, INT, 2, or 0 for none") from None


def _run_options(f: Any) -> Any:
    """What `%%px` and `%pxconfig` take."""
    argument = arguments.argument
    for option in (
        argument("-b", "--block", action="store_const", const=True, dest="block", help="wait for the result (default)"),
        argument("-a", "--noblock", action="store_const", const=False, dest="block", help="do not wait; see %%pxresult"),
        argument("--stream", action="store_const", const=True, dest="stream", help="show output as it comes (default, when waiting)"),
        argument("--no-stream", action="store_const", const=False, dest="stream", help="show output at the end, grouped"),
        argument("-t", "--targets", type=str, help="engines: all, 1, 0:2, ::2, 0,2"),
        argument("--verbose", action="store_const", const=True, dest="verbose", help="say what is run where"),
        argument("--no-verbose", action="store_const", const=False, dest="verbose", help="do not (default)"),
        argument("--progress-after", type=float, dest="progress_after", help="seconds until a bar is shown; -1: never, 0: at once"),
        argument("--signal-on-interrupt", type=str, dest="signal", help="signal for the engines at Ctrl-C (default SIGINT; 0: none)"),
    ):
        f = option(f)
    return f


def _output_options(f: Any) -> Any:
    """What `%%px` and `%pxresult` take."""
    argument = arguments.argument
    for option in (
        argument("-r", action="store_const", const="order", dest="groupby", help="the same as --group-outputs=order"),
        argument("-e", action="store_const", const="engine", dest="groupby", help="the same as --group-outputs=engine"),
        argument("--group-outputs", choices=["engine", "order", "type"], dest="groupby", help="how output is grouped at the end"),
        argument("-o", "--out", type=str, dest="save", help="store the AsyncResult under this name"),
    ):
        f = option(f)
    return f


class _Interrupted(KeyboardInterrupt):
    """A person has interrupted a cell; what the engines made of it was shown, and this process's part in it is of no interest."""

    def _render_traceback_(self) -> list[str]:
        return ["KeyboardInterrupt"]


@magics_class
class ParallelMagics(Magics):  # type: ignore[misc]
    """The magics of one suffix. ``view`` is where they run; its attributes are the defaults that `%pxconfig` sets."""

    def __init__(self, shell: Any, view: DirectView | None, suffix: str) -> None:
        super().__init__(shell)
        line = {f"px{suffix}": self.px, f"autopx{suffix}": self.autopx}
        line |= {f"pxresult{suffix}": self.pxresult, f"pxconfig{suffix}": self.pxconfig}
        if not suffix:
            line["result"] = self.pxresult
        self.magics = {"line": line, "cell": {f"px{suffix}": self.cell_px}}
        self.suffix = suffix
        self.given = view
        #: what the last cell gave
        self.last_result: AsyncResult | None = None
        alone = progress.unattended()
        self.stream_output = not alone
        self.progress_after = -1.0 if alone else 2.0
        self.signal_on_interrupt = int(signal.SIGINT)
        self.verbose = False
        self.targets: Any = None
        self._automatic = False

    @property
    def view(self) -> DirectView:
        """Where cells run: the view that was activated, or all engines of the newest client; where there is none, of a new one."""
        if self.given is None:
            client = _newest() if _newest is not None else None
            if client is None or client._lost is not None:
                from mpicluster.client.client import Client

                client = Client()
            if self.given is None:  # the first client activates itself
                self.given = client.direct_view("all", block=True)
        return self.given

    @view.setter
    def view(self, view: DirectView) -> None:
        self.given, self.targets = view, None

    # -- the magics --------------------------------------------------------------------------------------------------

    @no_var_expand  # type: ignore[untyped-decorator]  # braces and dollars are for the engines
    def px(self, line: str) -> Any:
        """Run a line on the engines: ``%px import numpy as np``. Waits, and shows output as it comes."""
        return self.run(line)

    @arguments.magic_arguments()  # type: ignore[untyped-decorator]
    @_run_options
    @_output_options
    @arguments.argument("--local", action="store_true", help="run the cell here too")  # type: ignore[untyped-decorator]
    def cell_px(self, line: str, cell: str) -> Any:
        """Run a cell on the engines. Waits, and shows output as it comes, unless told otherwise."""
        options = arguments.parse_argstring(self.cell_px, line)
        return self.run(
            cell,
            block=options.block,
            stream=options.stream,
            targets=None if options.targets is None else targets_of(options.targets),
            verbose=options.verbose,
            progress_after=options.progress_after,
            number=None if options.signal is None else signal_of(options.signal),
            groupby=options.groupby,
            save=options.save,
            meanwhile=(lambda: self.shell.run_cell(cell, store_history=False)) if options.local else None,
        )

    @arguments.magic_arguments()  # type: ignore[untyped-decorator]
    @_output_options
    def pxresult(self, line: str) -> None:
        """Wait for the last cell and show its output."""
        options = arguments.parse_argstring(self.pxresult, line)
        if self.last_result is None:
            raise UsageError(f"there is no result yet: %pxresult{self.suffix} shows that of the last %px{self.suffix}")
        self._save(self.last_result, options.save)
        display_outputs(self.last_result, options.groupby or "type", labelled=True)
        self.last_result.get()

    @arguments.magic_arguments()  # type: ignore[untyped-decorator]
    @_run_options
    def pxconfig(self, line: str) -> None:
        """Set what `%px` and `%%px` do where they are told nothing else."""
        options = arguments.parse_argstring(self.pxconfig, line)
        if options.targets is not None:
            targets = targets_of(options.targets)
            self.view._ids(targets)  # complains about engines that do not exist
            self.targets = targets
        if options.block is not None:
            self.view.block = options.block
        if options.stream is not None:
            self.stream_output = options.stream
        if options.verbose is not None:
            self.verbose = options.verbose
        if options.progress_after is not None:
            self.progress_after = options.progress_after
        if options.signal is not None:
            self.signal_on_interrupt = signal_of(options.signal)

    def autopx(self, line: str) -> None:
        """From now on, run every cell on the engines; the second time, run them here again."""
        transformers = self.shell.input_transformers_cleanup
        self._automatic = not self._automatic
        if self._automatic:
            transformers.append(self._send_away)
        else:
            transformers.remove(self._send_away)
        print(f"%autopx{self.suffix} {'enabled' if self._automatic else 'disabled'}")

    def _send_away(self, lines: list[str]) -> list[str]:
        """Make a cell one for the engines, unless it is blank or calls one of these magics itself."""
        first = next((x.strip() for x in lines if x.strip()), "")
        if not first or re.match(rf"%(%px|px|px(result|config)|autopx){self.suffix}\b", first) or "run_cell_magic('px" in first:
            return lines
        return [f"%%px{self.suffix}\n", *lines]

    # -- running -----------------------------------------------------------------------------------------------------

    def run(
        self,
        code: str,
        *,
        block: bool | None = None,
        stream: bool | None = None,
        targets: Any = None,
        verbose: bool | None = None,
        progress_after: float | None = None,
        number: int | None = None,
        groupby: str | None = None,
        save: str | None = None,
        meanwhile: Callable[[], Any] | None = None,
    ) -> AsyncResult | None:
        """Run code on the engines, and ``meanwhile()`` here. Returns the result if it is not waited for."""
        view = self.view
        block = bool(view.block if block is None else block)
        stream = self.stream_output if stream is None else stream
        targets = self.targets if targets is None else targets
        if self.verbose if verbose is None else verbose:
            how = "Parallel" if block else "Async parallel"
            print(f"{how} execution on engine(s): {view.targets if targets is None else targets}")
        result = view.execute(code, silent=False, targets=targets, block=False)
        self.last_result = result
        self._save(result, save)
        if meanwhile is not None:
            meanwhile()
        if not block:
            return result
        after = self.progress_after if progress_after is None else progress_after
        self._wait(result, stream and groupby is None, after, self.signal_on_interrupt if number is None else number)
        if not stream or groupby is not None:
            display_outputs(result, groupby or "type", labelled=True)
            result.get()
        return None

    def _save(self, result: AsyncResult, name: str | None) -> None:
        if name:
            self.shell.user_ns[name] = result

    def _wait(self, result: AsyncResult, stream: bool, after: float, number: int) -> None:
        """Wait for a result and show what comes; at Ctrl-C, end it on the engines.

        Raises
        ------
        AlreadyDisplayedError
            engines raised, and it was shown.
        """
        follower = Follower(result) if stream else None
        bar = progress.Bar(len(result), "%px", "engine", shown=None if after >= 0 else False)
        began = time.monotonic()
        try:
            with bar:
                self._follow(result, follower, bar.since(0), began + max(0.0, after))
        except KeyboardInterrupt:
            self._interrupt(result, follower, number)
            raise _Interrupted from None
        finally:
            if follower is not None:
                follower.close()
        error = result.exception() if not result.cancelled() else None
        if error is not None and follower is not None and follower.shown_errors and isinstance(error, Exception):
            raise AlreadyDisplayedError(error) from error

    @staticmethod
    def _follow(result: AsyncResult, follower: Follower | None, bar: progress.Bar, bar_at: float) -> None:
        while True:
            now = time.monotonic()
            if now >= bar_at and not result.done():
                bar.update(result.progress)
            until = bar_at if now < bar_at else now + 0.2
            if follower.run(until) if follower is not None else result.wait(until - now):
                if now >= bar_at:
                    bar.update(result.progress)
                return

    def _interrupt(self, result: AsyncResult, follower: Follower | None, number: int) -> None:
        """Send the engines a signal, and wait a while for what they make of it."""
        if result.done() or not number:
            return
        print(f"Interrupting the engines ({signal.Signals(number).name}) ...")
        client = result._client
        try:
            if number == signal.SIGINT:
                result.interrupt()
            else:
                engines = [e for i in range(len(result._replies)) if (e := self._engine(result, i)) is not None]
                client.send_signal(number, targets=engines)
        except (ClusterError, TimeoutError) as e:
            print(f"The engines could not be interrupted: {e}")
        until = time.monotonic() + _INTERRUPT_GRACE
        there = follower.run(until) if follower is not None else result.wait(_INTERRUPT_GRACE)
        if not there:
            waiting = len(result) - result.progress
            print(f"{waiting} of {len(result)} engines have not ended after {_INTERRUPT_GRACE:g} s; the result is %pxresult's when they do")

    @staticmethod
    def _engine(result: AsyncResult, slot: int) -> int | None:
        """The engine of a slot that is still under way."""
        if result._replies[slot] is not None:
            return None
        engines = result._runs[-1][2] if result._runs else None
        return engines[slot - result._runs[-1][0]] if engines is not None else None
