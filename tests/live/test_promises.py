"""What users of IPython Parallel call by these names, and no other test of this folder tries by them."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from datetime import datetime

import joblib
import msgspec
import pytest
from joblib import Parallel, delayed, parallel_config

import mpicluster
from mpicluster import (
    AsyncHubResult,
    AsyncMapResult,
    AsyncResult,
    BroadcastView,
    Client,
    CompositeError,
    DirectView,
    LazyMapIterator,
    LoadBalancedView,
    ParallelFunction,
    RemoteError,
    RemoteFunction,
    ViewExecutor,
)
from mpicluster.client.executed import ExecuteReply
from mpicluster.client.metadata import Metadata
from mpicluster.wire import contact as contact_file

TIMEOUT = 30
#: of a result's record in IPython Parallel 9.2
KEYS = """msg_id submitted started completed received engine_uuid engine_id follow after status execute_input execute_result error
    stdout stderr outputs data label""".split()


def test_what_calls_and_views_are(rc):
    direct, balanced = rc.direct_view(), rc.load_balanced_view()
    assert type(direct) is type(rc[:]) is DirectView
    assert type(balanced) is LoadBalancedView
    assert type(rc.broadcast_view()) is BroadcastView
    assert type(rc.executor()) is type(direct.executor) is ViewExecutor
    assert type(direct.remote()(abs)) is RemoteFunction
    assert type(balanced.parallel()(abs)) is ParallelFunction
    called, mapped = direct.apply_async(abs, -1), balanced.map_async(abs, [-1, 2])
    assert type(called) is AsyncResult
    assert type(mapped) is AsyncMapResult
    assert called.get(timeout=TIMEOUT) == [1] * len(rc)
    assert mapped.get(timeout=TIMEOUT) == [1, 2]
    with Client(rc.contact) as other:
        assert type(other.get_result(mapped.msg_ids)) is AsyncHubResult


def test_a_client_of_a_file_or_its_content(rc):
    path = contact_file.profile_dir(rc.contact.profile) / f"{rc.contact.cluster}.json"
    for connection_info in (path, str(path), msgspec.json.decode(path.read_bytes())):
        with Client(connection_info) as other:
            assert other.ids == rc.ids


def test_a_client_is_a_container(rc):
    assert len(rc) == len(rc.ids)
    assert [view.targets for view in rc] == rc.ids
    assert rc[-1].targets == rc.ids[-1]
    assert rc[::2].targets == rc[rc.ids[::2]].targets == rc.ids[::2]
    with pytest.raises(TypeError):
        rc["all"]
    with pytest.raises(IndexError):
        rc[len(rc)]
    rc.block = True
    assert rc[0].apply(abs, -1) == 1
    with Client(rc.contact) as other:
        assert not other.block
    with pytest.raises(mpicluster.ClosedError):
        other[0].apply(abs, -1)


def test_results_and_metadata_by_id(rc):
    result = rc[0].apply_async(abs, -1)
    result.get(timeout=TIMEOUT)
    (task,) = result.msg_ids
    assert rc.history[-1] == task
    assert rc.results[task] == 1
    assert rc.metadata[task].status == rc.metadata[task]["status"] == "ok"
    assert task not in rc.outstanding


def test_abort_of_a_client(rc, gate):
    rc[0].push({"kept": 1}, block=True)
    running = rc[0].apply_async(gate.pass_through, 1)
    gate.wait_until_came(1)
    queued = rc[0].apply_async(gate.pass_through, 2)
    assert rc.abort(jobs=[queued], block=True) is True
    assert rc.abort(jobs=running, targets=0, block=True) is False
    gate.open()
    assert running.get(timeout=TIMEOUT) == 1
    assert queued.status == "aborted"
    rc.clear(block=True)
    with pytest.raises(NameError):
        rc[0]["kept"]


def test_shutdown_ends_all(fresh):
    rc = fresh(2)
    rc.shutdown(targets="all", hub=True, block=True)
    with pytest.raises(mpicluster.ClusterStopped):
        rc[0].apply_sync(abs, -1)


def test_metadata_by_key_and_by_attribute(rc):
    result = rc[0].execute("print('said'); 2 + 3", silent=False)
    reply = result.get(timeout=TIMEOUT)
    record = result.metadata
    assert type(record) is Metadata
    assert set(KEYS) <= set(record)
    assert all(record[key] == getattr(record, key) for key in KEYS)
    assert type(reply) is ExecuteReply
    assert reply.stdout == record.stdout == "said\n"
    assert repr(reply) == f"<ExecuteReply[{reply.execution_count}]: 5>"


def test_every_kind_of_map(rc):
    for view in (rc[:], rc.load_balanced_view()):
        assert view.map(abs, [-1, 2, -3], block=True) == view.map_sync(abs, [-1, 2, -3]) == [1, 2, 3]
        assert view.map_async(abs, [-1, 2]).get(timeout=TIMEOUT) == [1, 2]
        lazy = view.imap(abs, [-1, 2])
        assert type(lazy) is LazyMapIterator
        assert list(lazy) == [1, 2]
    balanced = rc.load_balanced_view()
    assert balanced.map_async(abs, range(9)).ordered
    result = balanced.map_async(abs, range(9), ordered=False)
    assert not result.ordered
    assert sorted(result) == list(range(9))


def test_a_view_asks_for_its_own(rc, gate):
    view, other = rc[:], rc[0]
    assert view.client is rc
    assert len(view) == len(rc)
    other.apply_async(abs, -1).get(timeout=TIMEOUT)
    result = view.apply_async(gate.pass_through, 1)
    assert view.wait(timeout=0) is False
    assert view.outstanding == set(result.msg_ids)
    assert view.queue_status()[0]["queue"] + view.queue_status()[0]["tasks"] == 1
    gate.open()
    assert view.wait(timeout=TIMEOUT) is True
    assert view.history == result.msg_ids
    assert view.get_result(result.msg_ids).get(timeout=TIMEOUT) == [1] * len(rc)
    assert view.results[result.msg_ids[0]] == 1
    view.purge_results(jobs=result)
    assert rc.db_query({"msg_id": {"$in": result.msg_ids}}) == []


def test_names_of_engines(rc):
    view = rc[:]
    view.push({"a": 1}, block=True)
    view.update({"b": 2})
    view["c"] = 3
    view.block = True
    assert view.pull("a") == view.get("a") == view["a"] == [1] * len(rc)
    assert view.pull(["b", "c"]) == [[2, 3]] * len(rc)
    assert view.apply_async(abs, -1).result_dict == dict.fromkeys(rc.ids, 1)


def test_labels_and_data_of_a_broadcast_view(rc):
    view = rc.broadcast_view()
    result = view.execute("a = 1", label="named")
    result.get(timeout=TIMEOUT)
    assert result.label == ["named"] * len(rc)
    assert view.map(abs, [-1, 2, -3], block=True) == [1, 2, 3]
    view.scatter("part", list(range(7)), block=True)
    assert view.gather("part", block=True) == list(range(7))


def test_a_result_in_every_way(rc, gate):
    result = rc[0].apply_async(gate.pass_through, 1)
    called = []
    result.add_done_callback(lambda done: called.append(done.result()))
    assert not result.done()
    assert (len(result), result.progress) == (1, 0)
    with pytest.raises(TimeoutError):
        result.get(timeout=0.01)
    assert not result.wait_interactive(timeout=0.01)
    gate.open()
    assert result.get(timeout=TIMEOUT) == result.r == result.result() == 1
    assert result.exception() is None
    assert result.done()
    assert result.progress == 1
    assert result.wait_interactive()
    assert result.wait(timeout=TIMEOUT)
    for _ in range(1000):
        if called:
            break
        rc[0].apply_sync(abs, 0)
    assert called == [1]


def test_running_and_cancelled(rc4, gate):
    running = rc4[0].apply_async(gate.pass_through, 1)
    gate.wait_until_came(1)
    queued = rc4[0].apply_async(abs, 1)
    assert running.running()
    assert not running.cancel()
    assert queued.cancel()
    assert queued.cancelled()
    assert not running.cancelled()
    gate.open()
    running.get(timeout=TIMEOUT)
    assert not running.running()


def test_all_that_is_known_of_a_result(rc):
    first = rc.load_balanced_view().apply_async(abs, 1)
    first.get(timeout=TIMEOUT)
    view = rc.load_balanced_view(label="named", after=first, follow=first)
    result = view.apply_async(exec, "import sys; print('out'); print('err', file=sys.stderr)")
    result.get(timeout=TIMEOUT)
    assert (result.stdout, result.stderr, result["stdout"]) == ("out\n", "err\n", "out\n")
    assert (result.status, result.label, result.error) == ("ok", "named", None)
    assert result.engine_id in rc.ids
    assert str(result.engine_id) in result.engine_uuid
    assert list(result.after) == list(result.follow) == first.msg_ids
    assert result.submitted <= result.received
    assert result.started <= result.completed
    assert isinstance(result.started, datetime)
    assert result.metadata.msg_id == result.msg_ids[0]
    cell = rc[0].execute("from mpicluster.datapub import publish_data\npublish_data({'x': 1})\ndisplay('shown')\n7", silent=False)
    cell.get(timeout=TIMEOUT)
    assert cell.data == {"x": 1}
    assert [output["data"]["text/plain"] for output in cell.outputs] == ["'shown'"]
    assert cell.execute_result["data"]["text/plain"] == "7"
    assert cell.execute_input.endswith("7")
    with pytest.raises(AttributeError):
        _ = result.no_such_word


@pytest.mark.parametrize("scope", [mpicluster, "view"], ids=["mpicluster", "view"])
def test_joblibs_default_backend(rc4, scope):
    view = rc4.load_balanced_view()
    before = joblib.parallel.DEFAULT_BACKEND
    try:
        (view if scope == "view" else scope).register_joblib_backend(name="tried", make_default=True)
        assert joblib.parallel.DEFAULT_BACKEND == "tried"
    finally:
        joblib.parallel.DEFAULT_BACKEND = before
    options = {} if scope == "view" else {"profile": rc4.contact.profile, "cluster": rc4.contact.cluster}
    with parallel_config(backend="tried", **options):
        assert Parallel(n_jobs=4)(delayed(pow)(i, 2) for i in range(8)) == [i**2 for i in range(8)]


def test_an_engines_id_is_its_rank(rc):
    assert rc[:].apply_sync(lambda: __import__("mpicluster").comm.rank) == rc.ids == list(range(len(rc)))


def printed(print_it):
    with redirect_stdout(io.StringIO()) as out:
        print_it()
    return out.getvalue()


def test_a_remote_error_by_its_parts(rc):
    error = rc[0].apply_async(divmod, 1, 0).exception(timeout=TIMEOUT)
    assert isinstance(error, RemoteError)
    assert isinstance(error, ZeroDivisionError)
    assert error.ename == "ZeroDivisionError"
    assert "division" in error.evalue or "modulo" in error.evalue
    assert error.traceback.rstrip().endswith(error.evalue)
    assert error.engine_info["engine_id"] == 0
    assert printed(error.print_traceback) == "\n".join(error.render_traceback()) + "\n"


def test_a_composite_error_by_its_parts(rc4):
    error = rc4[:].apply_async(divmod, 1, 0).exception(timeout=TIMEOUT)
    assert isinstance(error, CompositeError)
    assert [(ename, info["engine_id"]) for ename, _, _, info in error.elist] == [("ZeroDivisionError", i) for i in range(4)]
    assert error.tb_limit == 4
    with pytest.raises(ZeroDivisionError) as alone:
        error.raise_exception(2)
    assert alone.value.engine_info["engine_id"] == 2
    assert "[2:apply]:" in printed(lambda: error.print_traceback(2))
    assert "[0,1,2,3:apply]:" in printed(error.print_traceback)
    with pytest.raises(IndexError):
        error.raise_exception(4)
