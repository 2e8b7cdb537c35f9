"""Text of a stream as lines, as a terminal would make them: carriage returns, erasing, moving up. Pure."""

from __future__ import annotations

import codecs
import re

__all__ = ["Lines"]

_CONTROL = re.compile(r"(\n|\r|\x08|\x1b\[\d*[AKJ])")
_REWRITES = re.compile(r"\r|\x08|\x1b\[\d*[AKJ]")


class Lines:
    """One stream of one task. Lines are complete when the stream has gone on below them; progress bars rewrite those that are not."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        #: lines that may still change, and where writing goes on
        self._lines = [""]
        self._row = self._column = 0
        #: how far up it has moved before: nested bars come back to lines that they have left
        self._reach = 0
        #: whether the open lines have been rewritten, as progress bars do
        self.rewritten = False

    def feed(self, content: bytes) -> list[str]:
        """The stream goes on; returns the lines that are complete now."""
        text = self._decode(content)
        if "\r\n" in text:
            text = text.replace("\r\n", "\n")
        if len(self._lines) == 1 and self._column == len(self._lines[0]) and not _REWRITES.search(text):
            head, newline, tail = text.rpartition("\n")
            if not newline:
                self._lines[0] += text
                self._column += len(text)
                return []
            complete = (self._lines[0] + head).split("\n")
            self._lines, self._column, self.rewritten = [tail], len(tail), False
            return complete
        for token in _CONTROL.split(text):
            self._write(token)
        done = max(0, self._row - self._reach)
        complete, self._lines = self._lines[:done], self._lines[done:]
        self._row -= done
        self.rewritten = (self.rewritten and any(self._lines)) or bool(_REWRITES.search(text.rpartition("\n")[2]))
        return [line.rstrip() for line in complete]

    def _write(self, token: str) -> None:
        """Text, or one control sequence."""
        line = self._lines[self._row]
        if token == "\n":
            self._row, self._column = self._row + 1, 0
            if self._row == len(self._lines):
                self._lines.append("")
        elif token == "\r":
            self._column = 0
        elif token == "\x08":
            self._column = max(0, self._column - 1)
        elif token.startswith("\x1b[") and _CONTROL.fullmatch(token):
            number = int(token[2:-1] or 0)
            if token.endswith("A"):
                self._reach = max(self._reach, min(self._row, max(1, number)))
                self._row = max(0, self._row - max(1, number))
            elif token.endswith("K"):
                self._lines[self._row] = {0: line[: self._column], 1: " " * self._column + line[self._column :]}.get(number, "")
            else:
                self._lines[self._row :] = [line[: self._column]]
        elif token:
            if self._column == 0 and ("\x1b" in line or "\x1b" in token):
                self._lines[self._row] = token  # colours have no width: what comes replaces it all
            else:
                self._lines[self._row] = line[: self._column].ljust(self._column) + token + line[self._column + len(token) :]
            self._column += len(token)

    @property
    def open(self) -> list[str]:
        """Lines that are not complete, without those that are blank."""
        return [line.rstrip() if self.rewritten else line for line in self._lines if line.strip()]

    def end(self) -> list[str]:
        """The stream has ended, or something else comes in between: what is open is complete."""
        rest = self.open
        self._lines, self._row, self._column, self._reach, self.rewritten = [""], 0, 0, 0, False
        return rest
