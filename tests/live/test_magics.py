"""The magics of an IPython shell, which runs in this process, on a live cluster."""

from __future__ import annotations

import atexit
import re
import signal
import threading

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from mpicluster import AlreadyDisplayedError, AsyncResult, Client
from mpicluster.client import magics as module
from mpicluster.client.magics import signal_of, targets_of

TIMEOUT = 30


@pytest.fixture
def shell(monkeypatch):
    """An IPython shell, as a person has one in a terminal, without history."""
    monkeypatch.setattr(module, "_newest", None)
    for name in ("MPICLUSTER_NONINTERACTIVE", "IPP_NONINTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    settings = Config()
    settings.HistoryManager.enabled = False
    settings.InteractiveShell.colors = "nocolor"
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=settings)
    yield shell
    shell.atexit_operations()
    atexit.unregister(shell.atexit_operations)
    InteractiveShell.clear_instance()


@pytest.fixture
def run(shell, rc4):
    """``run(cell)`` runs a cell whose magics use four engines; raises what it raises."""
    rc4.activate()

    def run(cell):
        result = shell.run_cell(cell, store_history=True)
        result.raise_error()
        return result.result

    return run


def test_px_runs_on_all_engines_and_shows_labelled_output(run, rc4, capsys):
    assert run("%px print('hi', rank)") is None
    assert sorted(capsys.readouterr().out.splitlines()) == [f"[stdout:{i}] hi {i}" for i in range(4)]


def test_values_are_shown_with_engine_and_number(run, rc4, capsys):
    run("%px rank * 10")
    numbers = [reply.execution_count for reply in module._known(module.get_ipython(), "").last_result.get()]
    assert sorted(capsys.readouterr().out.splitlines()) == [f"Out[{i}:{n}]: {i * 10}" for i, n in enumerate(numbers)]


def test_a_semicolon_silences_a_value(run, capsys):
    run("%px rank;")
    run("%%px\nrank;  # quiet")
    assert capsys.readouterr().out == ""


def test_px_does_not_expand_names_of_this_session(run, shell, rc4, capsys):
    shell.user_ns["x"] = "mine"
    rc4[:].push({"x": "theirs"}, block=True)
    run("%px print(f'{x}', '$x')")
    assert set(capsys.readouterr().out.splitlines()) == {f"[stdout:{i}] theirs $x" for i in range(4)}


@pytest.mark.parametrize(("targets", "engines"), [("1", [1]), ("0,2", [0, 2]), ("::2", [0, 2]), ("[1, 3]", [1, 3]), ("all", [0, 1, 2, 3])])
def test_targets(run, capsys, targets, engines):
    run(f"%%px --targets '{targets}'\nprint(rank)")
    assert sorted(capsys.readouterr().out.splitlines()) == [f"[stdout:{i}] {i}" for i in engines]


@pytest.mark.parametrize("text", ["", "a", "0:1,2", "__import__('os').abort()", "1;2", "[1, [2]]", "rank"])
def test_targets_are_never_evaluated(text):
    with pytest.raises(UsageError, match="--targets takes"):
        targets_of(text)


def test_words_for_targets_and_signals():
    assert targets_of("::-1") == slice(None, None, -1)
    assert targets_of("(0,)") == [0]
    assert targets_of("-1") == -1
    assert signal_of("SIGTERM") == signal_of("term") == signal_of("15") == signal.SIGTERM
    assert signal_of("0") == 0
    with pytest.raises(UsageError):
        signal_of("SIGNOPE")


def test_without_waiting_the_result_comes_back(run, capsys):
    result = run("%%px --noblock -o kept\nprint(rank)")
    assert isinstance(result, AsyncResult)
    result.get(timeout=TIMEOUT)
    assert module.get_ipython().user_ns["kept"] is result
    capsys.readouterr()
    run("%pxresult")
    assert capsys.readouterr().out.splitlines() == [f"[stdout:{i}] {i}" for i in range(4)]


SAY = "from IPython.display import display\nprint('a', rank)\ndisplay(rank)\nprint('b')\ndisplay('x')\n5"


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (
            "--group-outputs=type",
            ["a 0", "b", "a 1", "b", "[output:0] 0", "[output:0] 'x'", "[output:1] 1", "[output:1] 'x'", "Out[0]: 5", "Out[1]: 5"],
        ),
        ("-r", ["a 0", "b", "a 1", "b", "[output:0] 0", "[output:1] 1", "[output:0] 'x'", "[output:1] 'x'", "Out[0]: 5", "Out[1]: 5"]),
        ("-e", ["a 0", "[output:0] 0", "b", "[output:0] 'x'", "Out[0]: 5", "a 1", "[output:1] 1", "b", "[output:1] 'x'", "Out[1]: 5"]),
    ],
)
def test_output_is_grouped(run, capsys, option, expected):
    run(f"%%px {option} -t 0,1\n{SAY}")
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"\[stdout:\d\] |(?<=Out\[\d):\d+", "", line) for line in lines] == expected


def test_not_streamed_output_comes_at_the_end(run, capsys):
    run("%%px --no-stream\nprint(rank)")
    assert capsys.readouterr().out.splitlines() == [f"[stdout:{i}] {i}" for i in range(4)]


def test_a_cell_with_magics_inside(run, capsys):
    run("%%px -t 0\n%cd -q /\nimport os\nplace = !pwd\nprint(place[0], os.getcwd())")
    assert capsys.readouterr().out == "[stdout:0] / /\n"


def test_a_local_cell_runs_here_too(run, shell, rc4):
    run("%%px --local\nboth = 5")
    assert shell.user_ns["both"] == 5
    assert rc4[:]["both"] == [5] * 4


def test_a_streamed_failure_is_shown_once(run, capsys):
    """All engines alike: one traceback under all their numbers, then a line that says how many there were."""
    with pytest.raises(AlreadyDisplayedError) as caught:
        run("%%px\nx = 1\n1 / 0")
    shown = capsys.readouterr().out
    assert shown.count("Traceback (most recent call last)") == 1
    assert "----> 2 1 / 0" in shown
    assert shown.rstrip().endswith("4 errors")
    assert isinstance(caught.value.original_error, ZeroDivisionError)


def test_a_failure_of_one_engine_names_it(run, capsys):
    with pytest.raises(AlreadyDisplayedError):
        run("%px assert rank != 2")
    assert "[2:execute]:" in capsys.readouterr().out
    with pytest.raises(AssertionError):
        run("%pxresult")


def test_a_failing_script_is_an_error(run, tmp_path, capsys):
    """IPython's ``%run`` shows an error and goes on as if nothing was."""
    (tmp_path / "script.py").write_text("1 / 0\n")
    with pytest.raises(AlreadyDisplayedError):
        run(f"%px %run {tmp_path}/script.py")
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_autopx_sends_every_cell_away(run, shell, rc4, capsys):
    run("%autopx")
    run("here = rank\nprint('on', rank)")
    run("import asyncio\nawait asyncio.sleep(0)\nthere = 1")
    run("%px also = 2")
    run("%autopx")
    run("here_again = 1")
    assert {f"[stdout:{i}] on {i}" for i in range(4)} <= set(capsys.readouterr().out.splitlines())
    assert "here" not in shell.user_ns
    assert shell.user_ns["here_again"] == 1
    assert rc4[:]["here"] == [0, 1, 2, 3]
    assert rc4[:].pull(["there", "also"], block=True) == [[1, 2]] * 4


def test_pxconfig_sets_defaults(run, capsys):
    run("%pxconfig --targets 1 --verbose --no-stream --progress-after -1 --signal-on-interrupt TERM")
    run("%px print(rank)")
    assert capsys.readouterr().out.splitlines() == ["Parallel execution on engine(s): 1", "[stdout:1] 1"]
    run("%pxconfig --noblock --no-verbose")
    assert isinstance(run("%px print(rank)"), AsyncResult)
    magics = module._known(module.get_ipython(), "")
    assert (magics.progress_after, magics.signal_on_interrupt, magics.stream_output) == (-1, signal.SIGTERM, False)


def test_several_views_have_suffixes(run, rc4, capsys):
    rc4.activate([0, 1], "_low")
    rc4.activate(slice(2, None), "_high")
    run("%px_low print(rank)")
    run("%%px_high --no-stream\nprint(rank)")
    run("%pxresult_low")
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines[:2]) == lines[4:] == ["[stdout:0] 0", "[stdout:1] 1"]
    assert sorted(lines[2:4]) == ["[stdout:2] 2", "[stdout:3] 3"]
    with pytest.raises(ValueError, match="a suffix is made of"):
        rc4.activate(suffix="-x")


def test_views_activate_themselves(run, rc4, capsys):
    view = rc4[1:3]
    view.block = True
    view.activate("_middle")
    run("%px_middle print(rank)")
    assert sorted(capsys.readouterr().out.splitlines()) == ["[stdout:1] 1", "[stdout:2] 2"]


def test_options_have_short_and_long_names(run, shell, capsys):
    assert isinstance(run("%%px -a --out first\nprint(rank)"), AsyncResult)
    shell.user_ns["first"].get(timeout=TIMEOUT)
    capsys.readouterr()
    run("%%px -b --stream -o second -t 1\nprint(rank)")
    assert shell.user_ns["second"].get() is not None
    assert capsys.readouterr().out == "[stdout:1] 1\n"
    run("%result")
    assert capsys.readouterr().out == "[stdout:1] 1\n"
    run("%pxconfig -a")
    assert isinstance(run("%px print(rank)"), AsyncResult)
    run("%pxconfig --block --stream")
    capsys.readouterr()
    run("%%px --targets 0:2 --group-outputs engine\nrank")
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["Out[0", "Out[1"]


def test_the_first_client_activates_itself(shell, rc4):
    first, second = Client(rc4.contact), Client(rc4.contact)
    assert module._known(shell, "").view.client is first
    first.close()
    third = Client(rc4.contact)
    assert module._known(shell, "").view.client is third
    second.close()
    third.close()


def test_the_extension_uses_the_client_there_is(shell, rc4, capsys):
    with Client(rc4.contact):
        shell.run_line_magic("load_ext", "mpicluster")
        shell.run_cell("%px print(rank)").raise_error()
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize("name", ["MPICLUSTER_NONINTERACTIVE", "IPP_NONINTERACTIVE"])
def test_nobody_looks_on(shell, rc4, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    rc4.activate(suffix="_quiet")
    magics = module._known(shell, "_quiet")
    assert (magics.stream_output, magics.progress_after) == (False, -1)


def test_interrupting_a_cell_interrupts_the_engines(run, rc4, monkeypatch, capsys):
    """And what they print until they have ended is shown."""
    asked = []

    monkeypatch.setattr(AsyncResult, "interrupt", lambda result: asked.append(result), raising=False)
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run("%px import time; time.sleep(1.5); print('ended')")
    timer.join()
    assert len(asked) == 1
    out = capsys.readouterr().out
    assert "Interrupting the engines (SIGINT)" in out
    assert sorted(x for x in out.splitlines() if x.endswith("ended")) == [f"[stdout:{i}] ended" for i in range(4)]
