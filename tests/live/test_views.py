"""Views as users of IPython Parallel know them: functions that run there, references, parts of results, known arguments."""

from __future__ import annotations

import concurrent.futures
import itertools
import operator
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import mpicluster
from mpicluster import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    AsyncMapResult,
    AsyncResult,
    BroadcastView,
    Client,
    CompositeError,
    LazyMapIterator,
    PrePickled,
    Reference,
    RemoteError,
    TargetError,
    UnmetDependency,
    interactive,
    parallel,
    remote,
    require,
)

TIMEOUT = 30


def wait_for_file(path, value=None):
    deadline = time.monotonic() + 120
    while not os.path.exists(path):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return value


@pytest.fixture
def gate(tmp_path):
    path = tmp_path / "gate"
    yield path
    path.touch()


# -- functions that run there ------------------------------------------------------------------------------------------


def test_remote_functions(rc):
    view = rc[:]

    @view.remote(block=True)
    def power(x, y=2):
        """Raise it."""
        return x**y

    assert power(3) == [9] * len(rc)
    assert power(3, y=3) == [27] * len(rc)
    assert (power.__name__, power.__doc__) == ("power", "Raise it.")
    assert repr(power) == f"<RemoteFunction power on {view!r}>"
    later = remote(view, block=False, label="x")(abs)(-3)
    assert later.get(timeout=TIMEOUT) == [3] * len(rc)
    assert later.label == ["x"] * len(rc)
    view.block = True
    assert remote(view)(abs)(-4) == [4] * len(rc)
    assert rc.load_balanced_view().remote(block=True)(operator.add)(1, 2) == 3
    assert remote(view, targets=0)(abs)(-4) == 4


@pytest.mark.parametrize("dist", ["b", "r"])
@pytest.mark.parametrize("length", [0, 1, 3, 10])
def test_parallel_functions_of_arrays(rc, dist, length):
    """Called once for each part; an array of the parts comes back in order."""
    a, b = np.arange(length * 2.0).reshape(length, 2), np.ones((length, 2))

    @rc[:].parallel(dist=dist, block=True)
    def add(x, y):
        assert x.ndim == 2
        return x + y

    np.testing.assert_array_equal(add(a, b), a + b)
    assert rc[:].parallel(dist=dist, block=True)(operator.add).map(range(length), [1] * length) == list(range(1, length + 1))
    ends = rc[:].parallel(dist=dist, block=True)(lambda x: list(x))
    assert ends(range(length)) == list(range(length))


def test_parallel_functions_of_scalars_and_of_several_kinds_of_sequences(rc4):
    sums = rc4[:].parallel(block=True)(sum)
    assert sums(range(8)) == [1, 5, 9, 13]
    assert sums(i for i in range(3)) == [0, 1, 2]
    pending = parallel(rc4[:], block=False)(sorted)([4, 3, 2, 1])
    assert isinstance(pending, AsyncMapResult)
    assert pending.get(timeout=TIMEOUT) == [4, 3, 2, 1]
    assert list(pending) == [4, 3, 2, 1]
    assert (len(pending), pending.progress) == (4, 4)
    with pytest.raises(ZeroDivisionError):
        rc4[:].parallel(block=True)(lambda x: 1 / x[0])([1, 1, 0, 1])
    assert rc4[2].parallel(block=True)(sum)([1, 2, 3]) == [6]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_round_robin_map_keeps_the_order(rc, ordered):
    result = rc[:].parallel(dist="r", ordered=ordered)(abs).map(range(-7, 0))
    assert result.get(timeout=TIMEOUT) == [7, 6, 5, 4, 3, 2, 1]
    values = list(result)
    assert (values if ordered else sorted(values, reverse=True)) == [7, 6, 5, 4, 3, 2, 1]


def test_parallel_functions_of_a_balanced_view(rc):
    view = rc.load_balanced_view()
    assert view.parallel(block=True, chunksize=3)(sum)(range(8)) == [3, 12, 13]
    assert view.parallel(block=True)(sum)(range(3)) == [0, 1, 2]
    assert view.parallel(block=True, chunksize=3)(abs).map(range(-8, 0)) == list(range(8, 0, -1))
    values = view.parallel(block=True, chunksize=2, return_exceptions=True)(lambda x: 1 / x).map([1, 0, 2])
    assert values[::2] == [1.0, 0.5]
    assert isinstance(values[1], ZeroDivisionError)


# -- references, pickles, what is required ------------------------------------------------------------------------------


def test_references_are_looked_up_on_each_engine(rc):
    view = rc[:]
    view.scatter("mine", list(range(len(rc))), flatten=True, block=True)
    view.execute("class A: pass\na = A(); a.b = [rank, [7]]\ndef f(x, y=0): return x + y", block=True)
    ranks = list(range(len(rc)))
    assert view.apply_sync(operator.add, Reference("mine"), 10) == [i + 10 for i in ranks]
    assert view.apply_sync(lambda x, *, k: (x, k), [Reference("a.b[0]")], k={"d": (Reference("a.b[1]"),)}) == [
        ([i], {"d": ([7],)}) for i in ranks
    ]
    assert view.apply_sync(Reference("f"), Reference("mine"), y=Reference("rank * 2")) == [3 * i for i in ranks]
    assert view.map_sync(Reference("f"), [1, 2, 3], [4, 5, 6]) == [5, 7, 9]
    assert rc.load_balanced_view().map_sync(Reference("f"), range(20)) == list(range(20))
    view.push({"alias": Reference("a.b")}, block=True)
    view.execute("a.b[0] = 'changed'", block=True)
    assert view["alias[0]"] == ["changed"] * len(rc)


def test_a_reference_that_leads_nowhere(rc):
    view = rc[:]
    for call in (lambda: view.apply_sync(abs, Reference("nothing")), lambda: view.apply_sync(Reference("nothing"))):
        with pytest.raises(NameError, match="nothing") as caught:
            call()
        assert isinstance(caught.value, RemoteError)
    with pytest.raises(AttributeError):
        rc.load_balanced_view().apply_sync(abs, Reference("rank.nothing"))
    assert view.apply_sync(abs, -1) == [1] * len(rc)


@pytest.mark.parametrize("n", [10, 400_000])
def test_an_object_that_was_pickled_before(rc, n):
    data = PrePickled(np.arange(n))
    for view in (rc[:], rc.load_balanced_view()):
        assert {int(x) for x in np.ravel(view.apply_sync(np.sum, data))} == {n * (n - 1) // 2}
    assert rc[0].apply_sync(PrePickled(abs), -3) == 3
    rc[:].push({"data": data}, block=True)
    assert rc[-1]["len(data)"] == n


def test_required_modules_and_names(rc, session):
    """For functions of the session, closures and functions of modules; the engines had none of them."""
    view, lview = rc[:], rc.load_balanced_view()
    names = session(
        """
        from mpicluster import require
        def helper(x): return x + 1
        @require("colorsys", helper, table=[5, 6])
        def of_session(x): return colorsys.__name__, helper(x), table
        def calls(x): return of_session(x)[1]
        """
    )
    assert view.apply_sync(names["of_session"], 1) == [("colorsys", 2, [5, 6])] * len(rc)
    assert lview.map_sync(names["of_session"], [1, 2]) == [("colorsys", 2, [5, 6]), ("colorsys", 3, [5, 6])]
    assert lview.apply_sync(names["calls"], 5) == 6
    assert view["table"] == [[5, 6]] * len(rc)
    n = 4
    closure = require("wave as w")(lambda x: (w.__name__, n * x))  # noqa: F821
    assert view.apply_sync(closure, 2) == [("wave", 8)] * len(rc)
    assert view.apply_sync(require("fractions")(of_module)) == ["1/2"] * len(rc)


def of_module():
    return str(fractions.Fraction(1, 2))  # noqa: F821


def test_interactive_functions_use_the_engines_names(rc):
    rc[:].scatter("part", list(range(10)), block=True)
    n = 3
    assert sum(rc[:].apply_sync(interactive(lambda: n * sum(part)))) == 135  # noqa: F821


def test_a_direct_call_where_a_dependency_is_not_met(rc4):
    on_even = mpicluster.depend(interactive(lambda: rank % 2 == 0))(abs)  # noqa: F821
    assert rc4[::2].apply_sync(on_even, -3) == [3, 3]
    with pytest.raises(UnmetDependency, match=r"abs cannot run here.*\n\[engine 1, "):
        rc4[1].apply_sync(on_even, -3)
    result = rc4[:].apply_async(on_even, -3)
    with pytest.raises(CompositeError) as caught:
        result.get(timeout=TIMEOUT)
    assert isinstance(caught.value, UnmetDependency)
    assert result.status == ["ok", "error", "ok", "error"]
    assert [e if isinstance(e, int) else type(e) for e in result.get(return_exceptions=True)] == [3, UnmetDependency, 3, UnmetDependency]
    with pytest.raises(UnmetDependency, match="no_such_module"):
        rc4[0].apply_sync(require("no_such_module")(abs), 1)


# -- failures as values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, None])
@pytest.mark.parametrize("large", [False, True])
def test_failures_of_a_map_as_values(rc, chunksize, large):
    """The other items are worked on, wherever they are; None: on a direct view."""
    size = 300_000 if large else 1

    def invert(x):
        return (np.ones(size) / x if x != 3 else no_such_name)[0]  # noqa: F821

    view, options = (rc[:], {}) if chunksize is None else (rc.load_balanced_view(), {"chunksize": chunksize})
    items = [1, 2, 3, 4, "x", 8]
    result = view.map_async(invert, items, return_exceptions=True, **options)
    values = result.get(timeout=TIMEOUT)
    assert [v for v in values if not isinstance(v, Exception)] == [1.0, 0.5, 0.25, 0.125]
    assert isinstance(values[2], NameError)
    assert isinstance(values[4], TypeError)
    assert values[2].engine_info["engine_id"] in rc.ids
    assert "in invert(x)" in values[2].traceback
    assert "push it there" in values[2].traceback
    assert [type(v).__name__ for v in result] == [type(v).__name__ for v in values]
    assert result.exception() is None
    assert result.successful()
    assert view.map_sync(invert, items, return_exceptions=True, **options)[0] == 1.0
    with pytest.raises(CompositeError):
        view.map_sync(invert, items, **options)


def test_failures_of_a_call_as_values(rc4):
    result = rc4[:].apply_async(interactive(lambda: 1 / (rank - 1)))  # noqa: F821
    values = result.get(timeout=TIMEOUT, return_exceptions=True)
    assert (values[0], values[2], values[3]) == (-1, 1, 0.5)
    assert isinstance(values[1], ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        result.get()
    single = rc4[1].apply_async(divmod, 1, 0).get(timeout=TIMEOUT, return_exceptions=True)
    assert isinstance(single, ZeroDivisionError)
    chunks = rc4.load_balanced_view().map_async(lambda x: 1 / x, [1, 0, 2, 4], chunksize=2)
    values = chunks.get(timeout=TIMEOUT, return_exceptions=True)
    assert [type(v) for v in values[:2]] == [type(values[0])] * 2
    assert values[2:] == [0.5, 0.25]


def test_failures_of_an_endless_map_as_values(rc):
    values = rc.load_balanced_view().imap(lambda x: 1 / (x - 2), itertools.count(), return_exceptions=True)
    assert isinstance(values, LazyMapIterator)
    first = list(itertools.islice(values, 4))
    assert [v for v in first if not isinstance(v, Exception)] == [-0.5, -1, 1]
    values.close()
    direct = rc[:].imap(lambda x: 1 / (x - 2), range(4), return_exceptions=True)
    assert isinstance(list(direct)[2], ZeroDivisionError)


def test_an_endless_map_is_ended_by_another_thread(rc):
    """What was submitted comes all the same; nothing more is taken."""
    taken = itertools.count()
    values = rc.load_balanced_view().imap(abs, taken, max_outstanding=5)
    assert next(values) == 0
    threading.Thread(target=values.cancel).start()
    rest = list(values)
    assert rest == list(range(1, len(rest) + 1))
    assert next(taken) <= len(rest) + 3
    assert list(rc.load_balanced_view().imap(abs, range(30), max_outstanding=0)) == list(range(30))
    assert list(rc.load_balanced_view().imap(abs, range(30), max_outstanding="auto")) == list(range(30))


# -- parts of results --------------------------------------------------------------------------------------------------


def test_waiting_for_the_first_part(rc4, gate):
    rc4[:].execute(f"import os, time\nwhile rank != 2 and not os.path.exists({str(gate)!r}): time.sleep(0.002)", block=False)
    result = rc4[:].apply_async(interactive(lambda: rank))  # noqa: F821
    assert result.wait(timeout=0) is False
    done, pending = result.wait(timeout=TIMEOUT, return_when=FIRST_COMPLETED)
    assert [part.get() for part in done] == [2]
    assert (len(done), len(pending)) == (1, 3)
    assert result.wait(timeout=0, return_when=ALL_COMPLETED) == (done, pending)
    gate.touch()
    assert result.wait(timeout=TIMEOUT, return_when=ALL_COMPLETED) == (done | pending, set())
    assert [part.get() for part in result.split()] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="return_when is"):
        result.wait(return_when="soon")
    with pytest.raises(ValueError, match="split"):
        result.get(return_when=FIRST_COMPLETED)
    single = rc4[0].apply_async(abs, -1)
    assert single.wait(timeout=TIMEOUT, return_when=FIRST_COMPLETED) == ({single}, set())


def test_waiting_for_the_first_failure(rc4, gate):
    result = rc4[:].apply_async(interactive(in_module), str(gate))
    with pytest.raises(ZeroDivisionError) as caught:
        result.get(timeout=TIMEOUT, return_when=FIRST_EXCEPTION)
    assert isinstance(caught.value, CompositeError)
    assert not result.done()
    done, pending = result.wait(timeout=TIMEOUT, return_when=FIRST_EXCEPTION)
    assert any(part.exception() for part in done)
    assert pending
    with pytest.raises(TimeoutError):
        result.get(timeout=0, return_exceptions=True, return_when=FIRST_EXCEPTION)
    gate.touch()
    values = result.get(timeout=TIMEOUT, return_exceptions=True, return_when=FIRST_EXCEPTION)
    assert [v for v in values if not isinstance(v, Exception)] == [0, 1, 2]
    good = rc4[:].apply_async(abs, -1)
    assert good.get(timeout=TIMEOUT, return_when=FIRST_EXCEPTION) == [1] * 4


def in_module(path):
    import os
    import time

    while rank == 0 and not os.path.exists(path):  # noqa: F821
        time.sleep(0.002)
    if rank == 3:  # noqa: F821
        raise ZeroDivisionError
    return rank  # noqa: F821


def test_results_are_split_and_joined(rc4):
    result = rc4[[3, 1]].apply_async(print, "out")
    parts = result.split()
    assert result.split() is parts
    done, _ = concurrent.futures.wait(parts, timeout=TIMEOUT)
    assert len(done) == 2
    assert [p.engine_id for p in parts] == [3, 1] == result.engine_id
    assert [p.stdout for p in parts] == ["out\n"] * 2 == result.stdout
    assert [p.msg_ids for p in parts] == [[i] for i in result.msg_ids]
    again = AsyncResult.join(*parts)
    assert again.get(timeout=TIMEOUT) == [None, None]
    assert again.msg_ids == result.msg_ids
    assert again.stdout == result.stdout
    mixed = AsyncResult.join(rc4.load_balanced_view().map_async(abs, [-1, -2]), rc4[0].apply_async(abs, -3), result)
    assert mixed.get(timeout=TIMEOUT) == [1, 2, 3, None, None]
    assert len(mixed) == 5
    single = rc4[0].apply_async(abs, -3)
    assert single.split() == (single,)
    rc4[:].push({"x": [1]}, block=True)
    with pytest.raises(ValueError, match="no parts"):
        rc4[:].gather("x", block=False).split()
    with pytest.raises(ValueError, match="at least one"):
        AsyncResult.join()
    with Client(rc4.contact) as other, pytest.raises(ValueError, match="different clients"):
        AsyncResult.join(single, other[0].apply_async(abs, 1))


def test_parts_are_told_what_comes_later(rc4, gate):
    """Output, results, failures, callbacks; each part by itself, and joined ones too."""
    result = rc4.load_balanced_view().map_async(wait_for_file, [str(gate)] * 3, [1, 2, 3])
    parts = result.split()
    joined = AsyncResult.join(*parts)
    said = [concurrent.futures.Future() for _ in parts]
    for part, future in zip(parts, said, strict=True):
        part.add_done_callback(lambda p, future=future: future.set_result(p.get()))
    waiting = [ThreadPoolExecutor(1).submit(part.get, TIMEOUT) for part in parts]
    assert not any(part.done() for part in parts)
    gate.touch()
    assert joined.get(timeout=TIMEOUT) == [1, 2, 3]
    assert [future.result(timeout=TIMEOUT) for future in said] == [1, 2, 3]
    assert [future.result(timeout=TIMEOUT) for future in waiting] == [1, 2, 3]


def test_a_part_is_taken_back(rc4, gate):
    held = rc4[:].apply_async(wait_for_file, str(gate))
    result = rc4.load_balanced_view(targets=[0]).map_async(wait_for_file, [str(gate)] * 3, [1, 2, 3])
    parts = result.split()
    assert parts[1].cancel() is True
    assert parts[1].cancelled()
    gate.touch()
    held.get(timeout=TIMEOUT)
    assert (parts[0].get(timeout=TIMEOUT), parts[2].get(timeout=TIMEOUT)) == (1, 3)
    with pytest.raises(concurrent.futures.CancelledError):
        result.get(timeout=TIMEOUT)


def test_parts_fail_with_their_client(rc):
    with Client(rc.contact) as other:
        result = other[:].apply_async(abs, 1)
        result.get(timeout=TIMEOUT)
        pending = rc[:].execute("x = 1", block=False)
        held = other.load_balanced_view().map_async(time.sleep, [0.2] * 3)
        parts = held.split()
    for part in parts:
        if not part.done() or part.exception() is not None:
            with pytest.raises(mpicluster.ClosedError):
                part.get(timeout=TIMEOUT)
    pending.get(timeout=TIMEOUT)


def test_words_of_a_result(rc):
    result = rc[:].apply_async(abs, -1)
    assert result.wait_for_send(timeout=TIMEOUT)
    assert result.wait_for_output(timeout=TIMEOUT) is True
    assert (result.sent, result.owner) == (True, True)
    assert result.timedelta(result.submitted, result.completed) >= 0
    assert result.timedelta(result.started, result.started, start_key=max, end_key=min) <= 0
    assert result.timedelta(result.submitted[0], result.received[0]) >= 0


# -- what is under way -------------------------------------------------------------------------------------------------


def test_what_is_under_way_is_known_by_id(rc4, gate):
    first, second = rc4[:], rc4.load_balanced_view()
    held = first.apply_async(wait_for_file, str(gate))
    queued = second.map_async(abs, [-1, -2])
    assert first.outstanding == set(held.msg_ids)
    assert second.outstanding <= set(queued.msg_ids)
    assert rc4.outstanding >= set(held.msg_ids)
    assert rc4.wait(held.msg_ids, timeout=0) is False
    assert rc4.wait([held.msg_ids[0], held], timeout=0) is False
    assert first.wait(timeout=0) is False
    outside = concurrent.futures.Future()
    assert rc4.wait([outside], timeout=0) is False
    outside.set_result(1)
    gate.touch()
    assert rc4.wait([outside, held.msg_ids[2], *queued.msg_ids], timeout=TIMEOUT) is True
    assert first.wait(timeout=TIMEOUT) is True
    assert rc4.wait(timeout=TIMEOUT) is True
    assert rc4.wait(held.msg_ids, timeout=0) is True
    assert rc4.outstanding == first.outstanding == set()
    with pytest.raises(ValueError, match="not the id"):
        rc4.wait("nothing")
    with pytest.raises(ValueError, match="another client"):
        rc4.wait("other_1")
    with pytest.raises(TypeError, match="a job is"):
        rc4.wait(5)


def test_queued_work_is_taken_back(rc4, gate):
    held = rc4[:].apply_async(wait_for_file, str(gate))
    first, second = rc4[0], rc4[:]
    mine, other = first.apply_async(abs, -1), second.apply_async(abs, -2)
    by_id = rc4.load_balanced_view(targets=[3]).apply_async(abs, -3)
    assert rc4.abort(by_id.msg_ids[0]) is True
    assert first.abort(block=True) is True
    assert mine.cancelled()
    assert not other.done()
    on_one = rc4[3].apply_async(abs, -4)
    assert rc4.abort(targets=[3]) is True
    assert on_one.cancelled()
    assert rc4.abort([held]) is False
    assert rc4.abort(other, block=False) is True
    assert other.wait(timeout=TIMEOUT)
    assert other.cancelled()
    gate.touch()
    assert held.get(timeout=TIMEOUT) == [None] * 4
    assert rc4.abort() is True
    with pytest.raises(TypeError, match="by its result or its id"):
        rc4.abort([concurrent.futures.Future()])


def test_a_view_may_be_used_from_many_threads(rc4):
    """Each call is answered as its own thread has asked, whatever the others set."""
    direct, balanced = rc4[:], rc4.load_balanced_view()

    def work(i):
        for k in range(10):
            with direct.temp_flags(targets=[i % 4], label=str(i), block=k % 2 == 0), balanced.temp_flags(targets=[i % 4], block=True):
                answer = direct.apply(abs, -k)
                if k % 2 == 0:
                    assert answer == [k]
                else:
                    assert answer.get(timeout=TIMEOUT) == [k]
                    assert (answer.engine_id, answer.label) == ([i % 4], [str(i)])
                assert balanced.map(abs, [-i, -k]) == [i, k]
            assert direct.targets == [0, 1, 2, 3]
        return i

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))


# -- known arguments ---------------------------------------------------------------------------------------------------


def test_arguments_in_the_order_of_ipython_parallel(rc4, tmp_path):
    dv = rc4[:]
    assert dv.push({"a": 1}, [0, 1], True, True) is None
    assert dv.pull("a", [0, 1], True) == [1, 1]
    assert dv.pull(["a", "a"], 0, True) == [1, 1]
    assert dv.scatter("s", [1, 2, 3, 4], "r", True, [3, 2, 1, 0], True, False) is None
    assert dv["s"] == [4, 3, 2, 1]
    dv.scatter("s", [1, 2, 3], "b", False, [1, 3], True)
    assert dv.gather("s", "b", [1, 3], True) == [1, 2, 3]
    result = dv.execute("a = 5", True, [1, 2], True, "named")
    assert (result.label, result.engine_id) == (["named"] * 2, [1, 2])
    script = tmp_path / "script.py"
    script.write_text("a = 6")
    assert dv.run(str(script), [3], True, "ran").label == ["ran"]
    assert dv["a"] == [1, 5, 5, 6]
    dv.clear([0, 1], True)
    with pytest.raises(NameError):
        dv.pull("a", 0, True)
    rc4.clear(targets=2, block=True)
    with pytest.raises(NameError):
        dv.pull("a", 2, True)
    assert rc4.clear(block=False).get(timeout=TIMEOUT) == [None] * 4
    lv = rc4.load_balanced_view()
    assert lv.map(abs, [-1, -2, -3], block=True, chunksize=2, ordered=False, return_exceptions=False, label="x") == [1, 2, 3]
    assert dv.map(abs, [-1], block=True, track=True, return_exceptions=False, label="x") == [1]
    assert list(lv.imap(abs, [-1], ordered=True, max_outstanding="auto", return_exceptions=False)) == [1]
    assert rc4.wait([dv.apply_async(abs, 1)], -1) is True
    assert dv.apply_async(abs, -1).get(-1) == [1] * 4


def test_imports_by_a_property(rc, capsys):
    with rc[:].importer:
        import colorsys
    assert colorsys
    assert rc[:]["colorsys.__name__"] == ["colorsys"] * len(rc)
    assert "importing colorsys on engine(s)" in capsys.readouterr().out


def test_pickles_need_no_choice(rc):
    for use in (rc[:].use_dill, rc[:].use_cloudpickle, rc[:].use_pickle):
        assert use().get(timeout=TIMEOUT) == [True] * len(rc)
    mpicluster.use_dill()
    n = 3
    assert rc[0].apply_sync(lambda x: x + n, 1) == 4


def test_a_broadcast_view_is_a_direct_view(rc):
    view = rc.broadcast_view(block=True, label="b", is_coalescing=True)
    assert isinstance(view, BroadcastView)
    assert view.is_coalescing
    assert view.apply(abs, -1) == [1] * len(rc)
    assert repr(view) == "<BroadcastView all>"
    assert rc.broadcast_view([0]).targets == [0]
    with pytest.raises(TargetError):
        rc.broadcast_view([9])


def test_views_made_with_flags(rc4):
    assert rc4.direct_view([0, 1], block=True, label="x").apply(abs, -1) == [1, 1]
    view = rc4.load_balanced_view([1], block=True, retries=1)
    assert (view.apply(abs, -1), len(view), view.targets) == (1, 1, [1])
    assert len(rc4.load_balanced_view()) == 4
    for make in (rc4.direct_view, rc4.load_balanced_view):
        with pytest.raises(KeyError, match="no flag 'colour'"):
            make(colour=1)


def test_spinning_does_nothing(rc):
    for spin in (rc.spin, rc.spin_thread, rc.stop_spin_thread, rc[:].spin):
        with pytest.warns(DeprecationWarning, match="does nothing"):
            spin()


def test_waiting_for_engines_without_waiting(rc):
    future = rc.wait_for_engines(len(rc), block=False)
    assert future.result(timeout=TIMEOUT) is None
    with pytest.raises(TimeoutError):
        rc.wait_for_engines(99, timeout=0.01, block=False).result(timeout=TIMEOUT)


def test_a_part_of_the_engines_cannot_be_stopped(rc4):
    for stop in (lambda: rc4.shutdown([0]), lambda: rc4[0].shutdown(), lambda: rc4.shutdown(restart=True)):
        with pytest.raises(ValueError, match="engines are"):
            stop()
    assert rc4[:].apply_sync(abs, -1) == [1] * 4


def test_a_client_by_the_words_of_ipython_parallel(rc, tmp_path):
    import msgspec

    from mpicluster.wire import contact as contact_file

    path = contact_file.profile_dir(rc.contact.profile) / f"{rc.contact.cluster}.json"
    assert Path(path).exists()
    for arguments in (
        {"url_file": str(path)},
        {"cluster_id": rc.contact.cluster, "profile": rc.contact.profile},
        {"contact": msgspec.to_builtins(rc.contact)},
        {"contact": path, "timeout": -1},
    ):
        with Client(**arguments) as other:
            assert other.ids == rc.ids
