"""Pieces of output on their way to a log, a terminal and a notebook."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from mpicluster.client import screen as screens
from mpicluster.client.display import Flow
from mpicluster.client.screen import Screen
from mpicluster.wire.messages import DATA, DISPLAY, STDERR, STDOUT


@pytest.fixture
def log(capsys):
    """``log()``: what was written on standard output since the last call."""
    return lambda: capsys.readouterr().out


def out(text: str) -> tuple[int, bytes]:
    return STDOUT, text.encode()


def display(kind: str = "display_data", **more: object) -> tuple[int, bytes]:
    return DISPLAY, json.dumps({"output_type": kind, "data": {"text/plain": "shown"}, "metadata": {}, **more}).encode()


class TestLog:
    """A log, or a pipe."""

    def test_complete_lines_are_labelled(self, log):
        flow = Flow(Screen())
        flow.write(0, 3, [out("a\nb\n")])
        flow.write(1, 5, [out("c\n")])
        assert log() == "[stdout:3] a\n[stdout:3] b\n[stdout:5] c\n"

    def test_an_unfinished_line_is_shown_after_a_while_and_continued(self, log):
        flow = Flow(Screen())
        flow.write(0, 0, [out("working")])
        flow.tick(0.0)
        assert log() == ""
        flow.tick(0.2)
        assert log() == "[stdout:0] working"
        flow.write(0, 0, [out(" ...")])
        flow.tick(0.3)
        assert log() == " ..."
        flow.write(0, 0, [out(" done\nnext\n")])
        assert log() == " done\n[stdout:0] next\n"

    def test_lines_of_two_engines_never_mix(self, log):
        flow = Flow(Screen())
        flow.write(0, 0, [out("half")])
        flow.tick(0.0)
        flow.tick(0.2)
        flow.write(1, 1, [out("whole\n")])
        flow.write(0, 0, [out(" and half\n")])
        assert log() == "[stdout:0] half\n[stdout:1] whole\n[stdout:0]  and half\n"

    def test_two_unfinished_lines_wait_for_each_other(self, log):
        flow = Flow(Screen())
        flow.write(0, 0, [out("zero")])
        flow.write(1, 1, [out("one")])
        for now in (0.0, 0.2, 0.4):
            flow.tick(now)
        assert log() == "[stdout:0] zero"
        flow.tick(2.0)
        assert log() == "\n[stdout:1] one"
        flow.finish()
        assert log() == "\n"

    def test_a_broken_line_that_goes_no_further_is_not_shown_again(self, log):
        flow = Flow(Screen())
        flow.write(0, 0, [out("zero")])
        flow.tick(0.0)
        flow.tick(0.2)
        flow.write(1, 1, [out("one\n")])
        flow.write(0, 0, [out("\n")])
        assert log() == "[stdout:0] zero\n[stdout:1] one\n"

    def test_a_bar_is_shown_when_it_is_done(self, log):
        flow = Flow(Screen())
        for i in range(5):
            flow.write(0, 0, [out(f"\r{i} of 4")])
            flow.tick(i / 2)
        assert log() == ""
        flow.write(0, 0, [out("\n")])
        assert log() == "[stdout:0] 4 of 4\n"

    def test_a_line_that_was_begun_and_then_rewritten_is_shown_as_it_is_in_the_end(self, log):
        flow = Flow(Screen())
        flow.write(0, 0, [out("loading")])
        flow.tick(0.0)
        flow.tick(0.2)
        flow.write(0, 0, [out("\rdone   \n")])
        assert log() == "[stdout:0] loading\n[stdout:0] done\n"

    def test_the_end_of_a_task_shows_what_it_has_not_finished(self, log):
        flow = Flow(Screen())
        flow.write(0, 0, [out("\r50%")])
        flow.end(0)
        assert log() == "[stdout:0] 50%\n"

    def test_standard_error_goes_to_standard_error(self, capsys):
        flow = Flow(Screen())
        flow.write(0, 0, [out("a\n"), (STDERR, b"b\n")])
        assert capsys.readouterr() == ("[stdout:0] a\n", "[stderr:0] b\n")

    def test_displays_come_in_order_with_lines(self, log):
        flow = Flow(Screen())
        flow.write(0, 0, [out("before"), display(), out("after\n"), display("execute_result", execution_count=7), (DATA, b"x\0")])
        assert log() == "[stdout:0] before\n[output:0] shown\n[stdout:0] after\nOut[0:7]: shown\n"

    def test_without_labels(self, log):
        flow = Flow(Screen(), labelled=False)
        flow.write(0, 0, [out("a\nb"), display()])
        assert log() == "a\nb\nshown\n"

    def test_an_unknown_engine(self, log):
        flow = Flow(Screen())
        flow.write(0, None, [out("a\n")])
        assert log() == "[stdout:?] a\n"


class Terminal(io.StringIO):
    """A file that says it is a terminal, and what a person would see on it."""

    def isatty(self) -> bool:
        return True

    def seen(self) -> list[str]:
        rows, row = [""], 0
        for token in re.split(r"(\n|\r|\x1b\[\d*[AJ])", self.getvalue()):
            if token == "\n":
                row += 1
                if row == len(rows):
                    rows.append("")
            elif token.startswith("\x1b[") and token.endswith("A"):
                row -= int(token[2:-1])
            elif token == "\x1b[J":
                del rows[row + 1 :]
                rows[row] = ""
            elif token != "\r":
                rows[row] += token
        return rows[:-1] if rows[-1] == "" else rows


class TestTerminal:
    """Lines under way are below all others."""

    @pytest.fixture
    def open_terminal(self, monkeypatch):
        """Called in the test: pytest has its own files until then."""

        def open_terminal():
            terminal = Terminal()
            monkeypatch.setattr(sys, "stdout", terminal)
            monkeypatch.setattr(sys, "stderr", terminal)
            monkeypatch.setenv("TERM", "xterm")
            monkeypatch.setenv("COLUMNS", "40")
            return terminal

        return open_terminal

    def test_bars_of_all_engines_are_seen_below_their_lines(self, open_terminal):
        terminal = open_terminal()
        flow = Flow(screens.screen())
        flow.write(0, 0, [(STDERR, b"\r10%")])
        flow.write(1, 1, [(STDERR, b"\r20%")])
        flow.tick(0.0)
        assert terminal.seen() == ["[stderr:0] 10%", "[stderr:1] 20%"]
        flow.write(0, 0, [out("a line\n"), (STDERR, b"\r30%")])
        flow.tick(0.1)
        assert terminal.seen() == ["[stdout:0] a line", "[stderr:0] 30%", "[stderr:1] 20%"]
        flow.write(1, 1, [(STDERR, b"\r100%\n")])
        flow.tick(0.2)
        assert terminal.seen() == ["[stdout:0] a line", "[stderr:1] 100%", "[stderr:0] 30%"]
        flow.finish()
        assert terminal.seen() == ["[stdout:0] a line", "[stderr:1] 100%", "[stderr:0] 30%"]

    def test_a_long_bar_is_cut_to_the_width(self, open_terminal):
        terminal = open_terminal()
        flow = Flow(screens.screen())
        flow.write(0, 0, [(STDERR, b"\r" + b"x" * 100)])
        flow.tick(0.0)
        (row,) = terminal.seen()
        assert len(row) == 39
        assert row.endswith("x…")

    def test_a_display_goes_above(self, open_terminal):
        terminal = open_terminal()
        flow = Flow(screens.screen())
        flow.write(0, 0, [out("\r10%")])
        flow.tick(0.0)
        flow.write(1, 1, [display()])
        flow.tick(0.1)
        assert terminal.seen() == ["[output:1] shown", "[stdout:0] 10%"]


class Publisher:
    """Stands for a notebook: displays in order, each as it is now, beside the streams."""

    def __init__(self) -> None:
        self.shown: dict[str, str] = {}
        self.updates = 0

    def publish(self, data, metadata, transient=None, update=False):
        name = (transient or {}).get("display_id", f"display-{len(self.shown)}")
        assert update == (name in self.shown)
        self.shown[name] = data["text/plain"]
        self.updates += update


class TestNotebook:
    """Bars have areas of their own."""

    @pytest.fixture
    def notebook(self, monkeypatch):
        shell = type("ZMQInteractiveShell", (), {"display_pub": Publisher(), "colors": "nocolor"})()
        module = type(sys)("IPython")
        module.get_ipython = lambda: shell
        monkeypatch.setitem(sys.modules, "IPython", module)
        return shell.display_pub

    def test_bars_are_updated_in_place_and_stay(self, notebook, log):
        flow = Flow(screens.screen())
        for k in range(1, 101):
            for engine in (0, 1):
                flow.write(engine, engine, [(STDERR, f"\r{k}%".encode())])
            flow.tick(k / 100)
        assert notebook.updates < 25
        flow.write(0, 0, [(STDERR, b"\n")])
        flow.write(1, 1, [(STDERR, b"\n"), out("done\n")])
        flow.finish()
        assert list(notebook.shown.values()) == ["[stderr:0] 100%\n[stderr:1] 100%"]
        assert log() == "[stdout:1] done\n"

    def test_a_bar_after_other_output_has_a_new_area(self, notebook, log):
        flow = Flow(screens.screen())
        for name in ("first", "second"):
            flow.write(0, 0, [out(f"\r{name}")])
            flow.tick(0.0)
            flow.write(0, 0, [out("\nline\n")])
        flow.finish()
        assert list(notebook.shown.values()) == ["[stdout:0] first", "[stdout:0] second"]
        assert log() == "[stdout:0] line\n[stdout:0] line\n"

    def test_displays_keep_their_names_apart(self, notebook):
        flow = Flow(screens.screen())
        for engine in (0, 1):
            flow.write(engine, engine, [display(transient={"display_id": "same"})])
            flow.write(engine, engine, [display("update_display_data", transient={"display_id": "same"})])
        assert list(notebook.shown) == ["0-same", "1-same"]
        assert notebook.updates == 2
