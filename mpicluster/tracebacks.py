"""Remote tracebacks as IPython shows them: in colour, with the lines around, and with cells named. Imports nothing of ours.

Used only when IPython shows an error, so that failures by the thousand cost nothing of this.
"""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Iterator

__all__ = ["as_wanted", "paint"]

_RED, _GREEN, _CYAN, _RESET = "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[39m"
_FRAME = re.compile(r"(?P<file>.+):(?P<line>\d+) in (?P<name>[\w<>]+)(?P<arguments>\(.*\))?")
_LAST = re.compile(r"[A-Za-z_][\w.]*(?=: |$|\s+Traceback \(most)")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: lines of source before and after the one that failed
_AROUND = 2


def as_wanted(lines: list[str]) -> list[str]:
    """Lines as they are where IPython runs here, unless it shows no colours; without colours elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    coloured = shell is not None and str(shell.colors).lower() != "nocolor"
    return lines if coloured else [_ANSI.sub("", line) for line in lines]


def paint(traceback: str) -> list[str]:
    """The lines of a traceback as `serial.failure` writes them, in colour. Source that only this process has (functions of its session) is
    filled in."""
    lines = traceback.splitlines()
    painted: list[str] = []
    skip = False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if skip:
            skip = False
            continue
        frame = _FRAME.fullmatch(line)
        if frame is not None:
            sent = following.strip() if following.startswith("    ") else ""
            skip = bool(sent)
            painted += [*_frame(frame["file"], int(frame["line"]), frame["name"] + (frame["arguments"] or ""), sent), ""]
        elif set(line) == {"-"} or line.startswith(" "):
            painted.append(f"{_RED}{line}{_RESET}" if line.startswith("-") else line)
        else:
            painted.append(_LAST.sub(lambda m: f"{_RED}{m[0]}{_RESET}", line, count=1))
    return painted


def _frame(file: str, line: int, name: str, sent: str) -> Iterator[str]:
    where = _cell(file)
    function = "" if name.startswith("<module>") else f", in {_CYAN}{name}{_RESET}"
    yield f"{_GREEN}{where}, line {line}{_RESET}{function}" if where else f"File {_GREEN}{file}:{line}{_RESET}{function}"
    source = linecache.cache[file][2] if file in linecache.cache and len(linecache.cache[file]) == 4 else []  # type: ignore[misc]
    if not source and sent:
        source = linecache.getlines(file)
    if not 0 < line <= len(source) or (sent and source[line - 1].strip() != sent):
        if sent:
            yield f"{_GREEN}----> {line}{_RESET} {sent}"
        return
    first = max(1, line - _AROUND)
    for number, text in enumerate(_highlighted(source[first - 1 : line + _AROUND]), first):
        arrow = f"{'-' * max(1, 5 - len(str(number)))}> {number}" if number == line else f"{number:>7}"
        yield f"{_GREEN}{arrow}{_RESET} {text}"


def _cell(file: str) -> str:
    """``Cell In[3]`` for a cell of the IPython that runs here."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    names: dict[str, int] = getattr(getattr(shell, "compile", None), "_filename_map", {})
    return f"Cell In[{names[file]}]" if file in names else ""


def _highlighted(source: list[str]) -> list[str]:
    try:
        from pygments import highlight
        from pygments.formatters import TerminalFormatter
        from pygments.lexers import PythonLexer
    except ImportError:
        return [line.rstrip("\n") for line in source]
    text: str = highlight("".join(source), PythonLexer(stripnl=False, ensurenl=False), TerminalFormatter())
    return text.splitlines()
