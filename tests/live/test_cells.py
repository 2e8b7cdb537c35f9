"""Cells and functions on engines: what they write, display and publish, and how it is shown while they run."""

from __future__ import annotations

import contextlib
import io
import os
import time

import pytest

from mpicluster import RemoteError, StdinNotImplementedError
from mpicluster.client import progress
from mpicluster.datapub import publish_data

TIMEOUT = 30


def until(condition, timeout=TIMEOUT):
    """Wait for a condition."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_reply_for_each_engine(rc):
    result = rc[:].execute("rank * 2", silent=False, block=True)
    for i, reply in enumerate(result.get()):
        assert repr(reply) == f"<ExecuteReply[{reply.execution_count}]: {i * 2}>"
        assert reply.data == {"text/plain": str(i * 2)}
        assert (reply.engine_id, reply.status, reply.execute_input) == (i, "ok", "rank * 2")
        assert reply["msg_id"] == result.msg_ids[i]
    assert [x["execution_count"] for x in result.execute_result] == [reply.execution_count for reply in result]


def test_a_silent_cell_is_not_counted(rc):
    before = rc[0].execute("1", silent=False).get(timeout=TIMEOUT)
    silent = rc[0].execute("print('said')\n5").get(timeout=TIMEOUT)
    after = rc[0].execute("1", silent=False).get(timeout=TIMEOUT)
    assert after.execution_count == before.execution_count + 1
    assert (silent.data, silent.stdout, silent.execute_input) == ({}, "said\n", None)


def test_a_reply_displays_itself(rc, capsys):
    reply = rc[0].execute("display('shown')\n'a' + \\\n'b'", silent=False).get(timeout=TIMEOUT)
    reply.display()
    assert capsys.readouterr().out == f"[output:0] 'shown'\nOut[0:{reply.execution_count}]: 'ab'\n"


def show_a_figure():
    import matplotlib.pyplot as plt

    plt.plot([1, 2])
    plt.show()
    return plt.get_fignums()


def display_something():
    display("without an import")  # noqa: F821 - a builtin, as in a notebook
    print("after")


def test_functions_show_figures_and_displays(rc):
    figures = rc[:].apply_async(show_a_figure)
    assert figures.get(timeout=4 * TIMEOUT) == [[]] * len(rc)
    assert all("image/png" in x["data"] for (x,) in figures.outputs)
    displays = rc[:].apply_async(display_something)
    displays.get(timeout=TIMEOUT)
    assert all(x["data"]["text/plain"] == "'without an import'" for (x,) in displays.outputs)
    assert displays.stdout == ["after\n"] * len(rc)


def test_nobody_types_on_an_engine(rc):
    for code in ("input('how many? ')", "import getpass; getpass.getpass()", "from getpass import getpass; getpass('how many? ')"):
        with pytest.raises(StdinNotImplementedError, match="called on an engine, where nobody can type"):
            rc[0].execute(code).get(timeout=TIMEOUT)
    with pytest.raises(NotImplementedError):
        rc[0].apply_sync(input)


def test_updates_and_clearing_are_as_in_a_notebook(rc):
    code = (
        "from IPython.display import display, clear_output\n"
        "display('gone')\nclear_output()\nhandle = display('old', display_id=True)\nhandle.update('new')\nclear_output(wait=True)"
    )
    result = rc[0].execute(code)
    result.get(timeout=TIMEOUT)
    assert [x["data"]["text/plain"] for x in result.outputs] == ["'new'"]


def publish(last):
    for i in range(last + 1):
        publish_data({"i": i, "square": i * i})


def test_the_newest_published_values_are_seen(rc):
    result = rc[:].apply_async(publish, 1000)
    result.get(timeout=TIMEOUT)
    assert result.data == [{"i": 1000, "square": 1_000_000}] * len(rc)
    with pytest.raises(TypeError, match="publish_data takes a dict"):
        rc[0].apply_sync(publish_data, [1])


def publish_and_wait(path):
    publish_data({"here": True})
    deadline = time.monotonic() + TIMEOUT
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.01)


def test_published_values_and_output_are_seen_while_it_runs(rc, tmp_path):
    result = rc[:].apply_async(publish_and_wait, str(tmp_path / "go"))
    until(lambda: result.data == [{"here": True}] * len(rc))
    assert not result.done()
    (tmp_path / "go").touch()
    result.get(timeout=TIMEOUT)


def streamed(result):
    """What is shown of a result while it is waited for."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err, result.stream_output():
        result.wait(TIMEOUT)
    return out.getvalue(), err.getvalue()


def test_nothing_of_a_stream_is_lost_or_shown_twice(rc):
    """However short the tasks are, whatever was before, and with all that comes last."""
    for _ in range(50):
        out, _ = streamed(rc[:].execute("print('one')\nprint('two', end='')"))
        assert sorted(out.splitlines()) == sorted(f"[stdout:{i}] {word}" for i in rc.ids for word in ("one", "two"))


def test_a_hundred_thousand_lines_come_whole_and_in_order(rc4):
    result = rc4[:].execute("for i in range(25_000): print(i, 'x' * 20)")
    out, _ = streamed(result)
    lines = out.splitlines()
    assert len(lines) == 100_000
    for i in range(4):
        label = f"[stdout:{i}] "
        assert [int(x[len(label) :].split()[0]) for x in lines if x.startswith(label)] == list(range(25_000))


def test_what_was_written_before_is_streamed_too(rc, tmp_path):
    code = f"import os, time\nprint('before')\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\nprint('after')"
    result = rc[0].execute(code)
    until(lambda: result.stdout == "before\n")
    (tmp_path / "go").touch()
    assert streamed(result)[0] == "[stdout:0] before\n[stdout:0] after\n"


def test_an_unfinished_line_is_shown_while_its_task_runs(rc, tmp_path):
    code = f"import os, time\nprint('half', end='')\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\nprint(' whole')"
    result = rc[0].execute(code)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        with result.stream_output():
            until(lambda: out.getvalue() == "[stdout:0] half")
            (tmp_path / "go").touch()
            result.get(timeout=TIMEOUT)
        assert out.getvalue() == "[stdout:0] half whole\n"


def test_output_of_threads_is_in_order(rc):
    code = (
        "import sys, threading\n"
        "def say(k):\n    for i in range(100): sys.stdout.write(f'{k} {i}\\n')\n"
        "threads = [threading.Thread(target=say, args=(k,)) for k in range(4)]\n"
        "for t in threads: t.start()\nfor t in threads: t.join()"
    )
    out, _ = streamed(rc[0].execute(code))
    lines = [tuple(map(int, x.removeprefix("[stdout:0] ").split())) for x in out.splitlines()]
    for k in range(4):
        assert [i for thread, i in lines if thread == k] == list(range(100))


def test_errors_are_streamed_once_for_all_that_fail_alike(rc4):
    _, err = streamed(rc4[:].execute("print('x')\nassert rank % 2, 'even'"))
    assert err.count("Traceback (most recent call last)") == 1
    assert "AssertionError: even" in err
    _, err = streamed(rc4.load_balanced_view().map_async(lambda x: 1 / x, [0, 1, 0]))
    assert err.count("Traceback (most recent call last)") == 1


def test_nested_streams_show_everything_once(rc):
    result = rc[0].execute("print('once')")
    with contextlib.redirect_stdout(io.StringIO()) as out, result.stream_output():
        with result.stream_output():
            result.get(timeout=TIMEOUT)
        result.get(timeout=TIMEOUT)
    assert out.getvalue() == "[stdout:0] once\n"


def test_balanced_tasks_are_labelled_with_their_engine(rc4):
    result = rc4.load_balanced_view().map_async(lambda x: print("task", x), range(20))
    out, _ = streamed(result)
    assert sorted(x.split("] ")[1] for x in out.splitlines()) == sorted(f"task {i}" for i in range(20))
    assert {x.split("] ")[0] for x in out.splitlines()} <= {f"[stdout:{i}" for i in range(4)}


def test_grouping_must_be_known(rc):
    with pytest.raises(ValueError, match="groupby must be"):
        rc[0].execute("1").display_outputs("size")


def test_results_alone(rc, capsys):
    rc[:].execute("print('x')\nrank", silent=False).display_outputs(result_only=True)
    assert [x.split(": ")[1] for x in capsys.readouterr().out.splitlines()] == [str(i) for i in range(len(rc))]


@pytest.fixture
def watched(monkeypatch, capsys):
    """A person looks on; ``watched()`` is what was written on standard error so far."""
    monkeypatch.setattr(progress, "interactive", lambda: True)
    seen = []

    def watched():
        seen.append(capsys.readouterr().err)
        return "".join(seen)

    return watched


def test_a_bar_counts_items(rc, watched):
    result = rc.load_balanced_view().map_async(abs, range(100), chunksize=7)
    assert result.wait_interactive(timeout=TIMEOUT)
    assert "abs: 100%" in watched()
    assert "100/100" in watched()
    assert watched().endswith("\n")


def test_a_bar_that_was_asked_for_is_shown_of_what_is_done_too(rc, watched):
    result = rc.load_balanced_view().map_async(abs, range(10))
    result.get(timeout=TIMEOUT)
    assert result.wait_interactive()
    assert "10/10" in watched()


def test_bars_of_several_results(rc, watched):
    jobs = [rc[:].apply_async(abs, -1), rc.load_balanced_view().map_async(abs, range(10))]
    assert rc.wait_interactive(jobs, interval=0.05, timeout=TIMEOUT)
    assert f"{len(rc) + 10}/{len(rc) + 10}" in watched()


def test_a_bar_without_an_end_in_time(rc, watched, tmp_path):
    result = rc[0].apply_async(publish_and_wait, str(tmp_path / "go"))
    assert not result.wait_interactive(timeout=0.2)
    assert watched().endswith("\n")
    (tmp_path / "go").touch()
    assert result.wait_interactive(timeout=TIMEOUT)


def test_a_bar_ends_at_the_first_error(rc4, watched, tmp_path):
    lview = rc4.load_balanced_view()
    waits = lview.map_async(lambda path: publish_and_wait(path) if path else 1 / 0, [str(tmp_path / "go"), ""])
    assert waits.wait_interactive(return_when="FIRST_EXCEPTION", timeout=TIMEOUT) is False
    (tmp_path / "go").touch()
    with pytest.raises(RemoteError):
        waits.get(timeout=TIMEOUT)
    with pytest.raises(ValueError, match="return_when"):
        waits.wait_interactive(return_when="SOMETIME")


def test_a_long_map_shows_a_bar_and_a_short_one_does_not(rc, watched, monkeypatch):
    rc.load_balanced_view().map_sync(abs, range(10))
    assert watched() == ""
    monkeypatch.setattr(progress, "LONG", 0.0)
    assert rc.load_balanced_view().map_sync(slowly, range(10)) == list(range(10))
    assert "slowly: 100%" in watched()


def slowly(x):
    time.sleep(0.05)
    return x


def test_waiting_for_engines_that_are_there_shows_nothing(rc, watched):
    rc.wait_for_engines(len(rc), interactive=True)
    assert watched() == ""
    with pytest.raises(TimeoutError, match=f"{len(rc)} of 99 engines"):
        rc.wait_for_engines(99, interactive=True, timeout=0.2)
    assert f"{len(rc)}/99" in watched()


def test_reprs_for_notebooks(rc):
    assert rc.contact.cluster in rc._repr_html_()
    assert "engine 0" in rc[0]._repr_html_()
    assert "all engines" in rc.direct_view()._repr_html_()
    assert "all engines" in rc.load_balanced_view()._repr_html_()
    failed = rc[:].execute("raise ValueError('<b>&')")
    failed.wait(TIMEOUT)
    assert "ValueError: &lt;b&gt;&amp;" in failed._repr_html_()
    cancelled = rc[0].apply_async(abs, 1)
    assert "AsyncResult: abs" in cancelled._repr_html_()
