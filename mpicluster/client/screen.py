"""Where output of engines is shown: a log, a terminal, or a notebook. Knows nothing of results or clients.

Complete lines are written as they are, under the label of their source. Lines under way are shown too, so that progress bars look right:
a terminal has them below all else, a notebook in an area of its own, and a log has a bar once, when it is done.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO, TypeAlias

from mpicluster.tracebacks import as_wanted

__all__ = ["Screen", "Source", "activate_first", "in_notebook", "ipython", "screen"]

#: A stream of one task, and its label.
Source: TypeAlias = "tuple[int, int, str]"
_STDERR = 2
#: When an unfinished line is shown, and when another may take its place.
_SHOWN_AFTER, _STALE = 0.1, 1.0
#: How often bars in a notebook are drawn.
_REDRAW = 0.1
#: Bars in one area of a notebook or terminal.
_BARS = 40
_numbers = itertools.count()


def ipython() -> Any:
    """The IPython shell that runs here, None if there is none. Never imports it."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    return type(ipython()).__name__ == "ZMQInteractiveShell"


def activate_first(client: Any) -> None:
    """Give the magics of the IPython that runs here, if one does, to its first client, or to the next after that was closed."""
    if ipython() is not None:
        from mpicluster.client.magics import activate_first as activate

        activate(client)


def screen() -> Screen:
    """What fits here."""
    if in_notebook():
        return _Notebook()
    if all(s is not None and s.isatty() for s in (sys.stdout, sys.stderr)) and os.environ.get("TERM") != "dumb":
        return _Terminal()
    return Screen()


def _file(source: Source) -> TextIO:
    return sys.stderr if source[1] == _STDERR else sys.stdout


@contextlib.contextmanager
def _beside_bars() -> Iterator[None]:
    """Take progress bars of this process out of the way for a moment."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None or not getattr(tqdm.tqdm, "_instances", None):
        yield
        return
    with tqdm.tqdm.external_write_mode(sys.stdout):
        yield


class Screen:
    """A log, or a pipe: an unfinished line is begun and continued, unless it is being rewritten."""

    def __init__(self) -> None:
        #: the source whose unfinished line is at the end of what was written, and when it last grew
        self._open: Source | None = None
        self._grown_at = 0.0
        #: what was written of unfinished lines
        self._begun: dict[Source, str] = {}
        #: since when unfinished lines have been there
        self._since: dict[Source, float] = {}

    def lines(self, source: Source, complete: Sequence[str]) -> None:
        """A source has complete lines."""
        self._since.pop(source, None)
        label, begun = source[2], self._begun.pop(source, "")
        if self._open != source or not complete[0].startswith(begun):
            self.break_line()
            if begun and complete[0].startswith(begun):  # another line came in between
                rest = complete[0][len(begun) :]
                complete = [rest, *complete[1:]] if rest else complete[1:]
            text = label
        else:
            complete = [complete[0][len(begun) :], *complete[1:]]
            self._open, text = None, ""
        if complete:
            self._write(source, f"{text}{f'{chr(10)}{label}'.join(complete)}\n")

    def under_way(self, source: Source, lines: Sequence[str], *, rewritten: bool, now: float) -> None:
        """A source has these unfinished lines."""
        if not lines:
            self._since.pop(source, None)
            return
        since = self._since.setdefault(source, now)
        begun = self._begun.get(source, "")
        if rewritten or len(lines) > 1 or not lines[0].startswith(begun) or now < since + _SHOWN_AFTER:
            return
        if self._open not in (None, source):
            if now < self._grown_at + _STALE:
                return
            self.break_line()
        more = lines[0][len(begun) :]
        if more:
            self._write(source, more if self._open == source else source[2] + more)
            self._open, self._grown_at, self._begun[source] = source, now, lines[0]

    def break_line(self) -> None:
        """Something else comes: end the line that is under way."""
        if self._open is not None:
            source, self._open = self._open, None
            self._write(source, "\n")

    def _write(self, source: Source, text: str) -> None:
        file = _file(source)
        with _beside_bars():
            file.write(text)
            file.flush()

    def finish(self) -> None:
        """Nothing will come any more."""
        self.break_line()

    # -- displays ----------------------------------------------------------------------------------------------------

    def show(self, output: dict[str, Any], label: str) -> None:
        """Show a display, or the value of a cell, under a label (none if empty)."""
        self.break_line()
        (label,) = as_wanted([label])
        data: dict[str, Any] = output.get("data", {})
        text = data.get("text/plain", "")
        shell = ipython()
        update = output["output_type"] == "update_display_data"
        if label and not update and (shell is None or set(data) - {"text/plain"}):
            text = f"{label}{chr(10) if chr(10) in text else ' '}{text}"
            if shell is not None:
                self._write((0, 0, ""), f"{label}\n")
        elif label and not update:
            data = {"text/plain": f"{label}{chr(10) if chr(10) in text else ' '}{text}"}
        with _beside_bars():
            if shell is None:
                sys.stdout.write(f"{text}\n")
            else:
                options: dict[str, Any] = {"transient": output["transient"], "update": update} if output.get("transient") else {}
                shell.display_pub.publish(data=data, metadata=output.get("metadata") or {}, **options)

    def clear(self, *, wait: bool) -> None:
        """Clear what was shown, where that is possible."""
        shell = ipython()
        if shell is not None:
            shell.display_pub.clear_output(wait=wait)

    def error(self, ename: str, evalue: str, lines: list[str], plain: list[str]) -> None:
        """Show a traceback: coloured where IPython is, plain elsewhere."""
        self.break_line()
        shell = ipython()
        with _beside_bars():
            if shell is None:
                sys.stderr.write("\n".join(plain) + "\n")
                sys.stderr.flush()
            else:
                shell._showtraceback(type(ename, (Exception,), {}), evalue, as_wanted(lines))


class _Terminal(Screen):
    """Lines under way are drawn below all others, and drawn again when something comes above them."""

    def __init__(self) -> None:
        super().__init__()
        self._live: dict[Source, list[str]] = {}
        self._drawn = 0

    def _erase(self) -> str:
        drawn, self._drawn = self._drawn, 0
        return f"\x1b[{drawn}A\r\x1b[J" if drawn else ""

    def _draw(self) -> str:
        width = shutil.get_terminal_size().columns - 1
        lines = [f"{source[2]}{line}" for source, open_lines in self._live.items() for line in open_lines][-_BARS:]
        self._drawn = len(lines)
        return "".join(f"{line if len(line) <= width else line[: width - 1] + '…'}\n" for line in lines)

    def _write(self, source: Source, text: str) -> None:
        with _beside_bars():
            sys.stdout.write(self._erase())
            sys.stdout.flush()
            file = _file(source)
            file.write(text)
            file.flush()
            sys.stdout.write(self._draw())
            sys.stdout.flush()

    def lines(self, source: Source, complete: Sequence[str]) -> None:
        self._live.pop(source, None)
        super().lines(source, complete)

    def under_way(self, source: Source, lines: Sequence[str], *, rewritten: bool, now: float) -> None:
        if list(lines) == self._live.get(source, []):
            return
        if lines:
            self._live[source] = list(lines)
        else:
            del self._live[source]
        with _beside_bars():
            sys.stdout.write(self._erase() + self._draw())
            sys.stdout.flush()

    def break_line(self) -> None:
        if self._drawn:
            sys.stdout.write(self._erase())
            sys.stdout.flush()

    def show(self, output: dict[str, Any], label: str) -> None:
        super().show(output, label)
        sys.stdout.write(self._draw())
        sys.stdout.flush()

    def finish(self) -> None:
        self._live.clear()
        self.break_line()


class _Notebook(Screen):
    """Bars have an area, which stays where they began: a display that is updated. The last state of each stays in it."""

    def __init__(self) -> None:
        super().__init__()
        self._area = ""
        self._bars: dict[Source, list[str]] = {}
        #: bars of the area that are done
        self._done: list[str] = []
        self._drawn_at = 0.0
        self._changed = False

    def lines(self, source: Source, complete: Sequence[str]) -> None:
        bar = self._bars.pop(source, None)
        if bar is not None:
            self._done += [f"{source[2]}{line}" for line in complete[:1]]
            complete = complete[1:]
            self._redraw()
        if complete:
            if self._area and not self._bars:
                self._close_area()
            super().lines(source, complete)

    def under_way(self, source: Source, lines: Sequence[str], *, rewritten: bool, now: float) -> None:
        if not rewritten and source not in self._bars:
            super().under_way(source, lines, rewritten=False, now=now)
            return
        if not lines:
            self._changed |= self._bars.pop(source, None) is not None
        elif self._bars.get(source) != list(lines):
            if not self._bars and len(self._done) >= _BARS:
                self._close_area()
            self._bars[source] = list(lines)
            self._changed = True
        if self._changed and now >= self._drawn_at + _REDRAW:
            self._redraw()
            self._drawn_at = now

    def _redraw(self) -> None:
        self._changed = False
        text = "\n".join([*self._done, *(f"{source[2]}{line}" for source, lines in self._bars.items() for line in lines)])
        update = bool(self._area)
        if not update:
            super().break_line()
            self._area = f"mpicluster-{os.getpid()}-{next(_numbers)}"
        ipython().display_pub.publish(data={"text/plain": text}, metadata={}, transient={"display_id": self._area}, update=update)

    def _close_area(self) -> None:
        if self._changed:
            self._redraw()
        self._area, self._done = "", []

    def show(self, output: dict[str, Any], label: str) -> None:
        if self._area and not self._bars:
            self._close_area()
        super().show(output, label)

    def finish(self) -> None:
        if self._changed:
            self._redraw()
        self._bars.clear()
        self._close_area()
        super().finish()
