"""The shell of an engine, without an engine: cells, what they display, and how their errors look."""

from __future__ import annotations

import atexit
import json
import re
import sys
import types
from typing import Any

import pytest

from mpicluster.engine.shell import EngineShell, make_shell
from mpicluster.wire.messages import DISPLAY


class Recorder:
    """Keeps what a task displays, in order with what it prints."""

    def __init__(self) -> None:
        self.pieces: list[Any] = []

    def write(self, channel: int, content: str | bytes) -> bool:
        assert channel == DISPLAY
        self.pieces.append(json.loads(content))
        return True


@pytest.fixture
def shell(monkeypatch):
    """A shell, whose ``kept`` is what was displayed."""
    module = types.ModuleType("engine_main")
    monkeypatch.setitem(sys.modules, "engine_main", module)
    recorder = Recorder()
    EngineShell.clear_instance()
    shell = make_shell(module, recorder)
    shell.kept = recorder.pieces
    yield shell
    shell.atexit_operations()
    atexit.unregister(shell.atexit_operations)
    EngineShell.clear_instance()


def run(shell, code, *, silent=False):
    return shell.execute(code, silent=silent)


def test_cells_are_numbered_and_kept(shell):
    assert run(shell, "x = 5") == 1
    assert run(shell, "x + 1") == 2
    run(shell, "assert _ == Out[2] == _2 == 6")
    run(shell, "assert In[1:3] == ['x = 5', 'x + 1']")
    assert shell.kept == [{"output_type": "execute_result", "data": {"text/plain": "6"}, "metadata": {}, "execution_count": 2}]


def test_a_silent_cell_leaves_no_trace(shell):
    assert run(shell, "y = 1\ny", silent=True) == 1
    assert run(shell, "y") == 1
    assert [x["execution_count"] for x in shell.kept] == [1]
    run(shell, "assert In == ['', 'y', In[2]] and list(Out) == [1]")


@pytest.mark.parametrize("code", ["5;", "5; # comment", "5;\n\n", "None", "x = 5"])
def test_what_has_no_value_to_show(shell, code):
    run(shell, code)
    assert shell.kept == []


def test_displays_of_all_kinds(shell):
    run(
        shell,
        "from IPython.display import display, clear_output, HTML, Image\n"
        "handle = display(HTML('<b>1</b>'), display_id=True)\n"
        "handle.update(HTML('<b>2</b>'))\n"
        "clear_output(wait=True)\n"
        "display({'application/json': {'a': [1]}, 'text/plain': 'a'}, raw=True)\n"
        "display({'image/png': b'\\x89PNG', 'text/plain': 'picture'}, raw=True)",
    )
    kinds = [x["output_type"] for x in shell.kept]
    assert kinds == ["display_data", "update_display_data", "clear_output", "display_data", "display_data"]
    first, second, clear, json_bundle, picture = shell.kept
    assert first["data"]["text/html"] == "<b>1</b>"
    assert second["transient"] == first["transient"] != {}
    assert clear["wait"] is True
    assert json_bundle["data"]["application/json"] == {"a": [1]}
    assert picture["data"]["image/png"] == "iVBORw=="


def test_rich_values(shell):
    run(shell, "import pandas as pd\npd.DataFrame({'a': [1, 2]})")
    (shown,) = shell.kept
    assert {"text/plain", "text/html"} <= set(shown["data"])


def test_figures_are_shown_and_closed(shell):
    """At the end of the cell, or where it says so; once in any case."""
    run(shell, "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nx = 1")
    run(shell, "plt.plot([1, 2])\nplt.show()\ndisplay('after')")
    first, second, after = shell.kept
    for figure in (first, second):
        assert figure["data"]["image/png"].startswith("iVBORw")
    assert after["data"]["text/plain"] == "'after'"
    run(shell, "assert plt.get_fignums() == []")


def test_windows_are_refused(shell):
    with pytest.raises(Exception, match="has no screen"):
        run(shell, "get_ipython().enable_gui('qt')")


def test_commands_write_to_standard_output(shell, capsys):
    run(shell, "!echo said")
    run(shell, "%%bash\necho by bash")
    assert capsys.readouterr().out.split() == ["said", "by", "bash"]


def test_errors_are_raised_and_nothing_is_printed(shell, capsys):
    for code, kind in [("1 / 0", ZeroDivisionError), ("x = = 1", SyntaxError), ("  x\ny", IndentationError), ("%nope", Exception)]:
        with pytest.raises(kind):
            run(shell, code)
    assert capsys.readouterr() == ("", "")


def test_an_error_that_a_magic_only_shows_is_raised(shell, tmp_path):
    (tmp_path / "script.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        run(shell, f"%run {tmp_path}/script.py")
    run(shell, "fine = 1")


def rendered(shell, code):
    with pytest.raises(BaseException) as caught:
        run(shell, code)
    return shell.render(caught.value)


def test_a_traceback_in_colour(shell):
    text = rendered(shell, "def f(x):\n    y = 1\n    return x / 0\n\nf(1)")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert plain != text
    assert "Cell In[1], line 5" in plain
    assert "Cell In[1], line 3, in f(x)" in plain
    assert "----> 3     return x / 0" in plain
    assert plain.endswith("ZeroDivisionError: division by zero")
    assert "interactiveshell" not in plain
    assert "mpicluster" not in plain


def test_a_syntax_error_in_colour(shell):
    plain = re.sub(r"\x1b\[[0-9;]*m", "", rendered(shell, "x = 1\ny = = 2"))
    assert "line 2" in plain
    assert "y = = 2" in plain


def test_an_awaiting_cell_has_the_same_traceback(shell):
    plain = re.sub(r"\x1b\[[0-9;]*m", "", rendered(shell, "import asyncio\nawait asyncio.sleep(0)\n1 / 0"))
    assert "----> 3 1 / 0" in plain
    assert "interactiveshell" not in plain


def test_only_the_last_cells_error_is_rendered(shell):
    """What functions raise must stay cheap."""
    with pytest.raises(ZeroDivisionError) as first:
        run(shell, "1 / 0")
    assert shell.render(ValueError("of a function")) == ""
    assert shell.render(first.value) != ""
    assert shell.render(first.value) == ""


class Awkward(Exception):
    def __str__(self):
        raise ValueError("no text")


def test_an_error_that_cannot_be_rendered(shell):
    shell.user_ns["Awkward"] = Awkward
    assert isinstance(rendered(shell, "raise Awkward()"), str)
