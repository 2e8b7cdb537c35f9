"""The history, on live clusters: each name of the contract, from the client that submitted and from others."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import mpicluster
from mpicluster import AsyncHubResult, AsyncResult, Client, NoHistory, NotKept, UnknownTask
from mpicluster.cluster import words
from mpicluster.wire.messages import Terms

TIMEOUT = 30.0


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline


def hold(folder: str, value: object) -> object:
    """Runs until the folder has a file ``go``."""
    open(f"{folder}/came", "w").close()
    deadline = time.monotonic() + TIMEOUT
    while not Path(folder, "go").exists():
        assert time.monotonic() < deadline
    return value


def heard(client: Client) -> None:
    """Wait until the hub has heard what this client has submitted: another's question goes another way, and may be faster."""
    client.queue_status()


def say(text: str, value: object = None) -> object:
    print(text)
    print(text.upper(), file=sys.stderr)
    return value


@pytest.fixture
def other(request):
    """A second client of the same cluster."""
    clients = []

    def connect(rc):
        clients.append(Client(rc.contact))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def labelled(rc, label, f, *args):
    """A balanced call with a label."""
    view = rc.load_balanced_view()
    fn, argument = view._pack_call(f, args, {}, 10**6)
    result = AsyncResult(rc, "labelled", 1, single=True)
    rc._submit(result, 0, "apply", targets=None, data=[argument.data], fn=fn, terms=Terms(label=label))
    return result


# -- history ---------------------------------------------------------------------------------------------------------


def test_history_has_the_ids_of_a_clients_tasks_in_order(rc):
    client = Client(rc.contact)
    direct, balanced = client[:], client.load_balanced_view()
    first = direct.apply(abs, -1)
    second = balanced.map(abs, range(5))
    assert client.history == first.msg_ids + second.msg_ids
    assert direct.history == first.msg_ids
    assert balanced.history == second.msg_ids
    assert client.history[-1] == second.msg_ids[-1]
    client.close()


def test_hub_history_has_those_of_all_clients(rc, other):
    rc.purge_everything()
    one, two = other(rc), other(rc)
    a = one[:].apply(abs, -1)
    a.get(timeout=TIMEOUT)
    b = two.load_balanced_view().map(abs, range(3))
    b.get(timeout=TIMEOUT)
    assert rc.hub_history() == a.msg_ids + b.msg_ids


# -- db_query --------------------------------------------------------------------------------------------------------


def test_db_query_by_several_fields_and_moments(rc4, other):
    """What IPython Parallel's own gets wrong: ``$gt`` is not ``$lt``, and two keys find something."""
    client = other(rc4)
    before = datetime.now(UTC)
    good = labelled(client, "good", abs, -3)
    bad = labelled(client, "bad", divmod, 1, 0)
    client.wait([good, bad], timeout=TIMEOUT)
    mine = {"client_uuid": client.id}
    assert [r["msg_id"] for r in client.db_query(mine | {"label": "good", "status": "ok"})] == good.msg_ids
    (record,) = client.db_query(mine | {"label": {"$glob": "b*"}})
    assert record["status"] == "error"
    assert record["result_content"]["ename"] == "ZeroDivisionError"
    assert "ZeroDivisionError" in record["error"]
    assert before <= record["submitted"] + timedelta(seconds=1)
    assert record["started"] <= record["completed"] <= record["received"]
    assert len(client.db_query(mine | {"completed": {"$gt": before}})) == 2
    assert client.db_query(mine | {"completed": {"$lt": before}}) == []
    naive = datetime.now() + timedelta(minutes=5)
    assert len(client.db_query(mine | {"completed": {"$lt": naive}}, keys="label")) == 2
    assert client.db_query(mine | {"engine_id": {"$nin": [0, 1, 2, 3]}}) == []
    assert client.db_query({"msg_id": {"$in": good.msg_ids}}, keys=["status"]) == [{"msg_id": good.msg_ids[0], "status": "ok"}]


@pytest.mark.parametrize("query", [{"nonsense": 1}, {"label": {"$near": 1}}, [], {"label": {"$in": 3}}, {"label": object()}])
def test_db_query_refuses_nonsense(rc4, query):
    with pytest.raises(ValueError, match=r"field|operator|dict|list|takes"):
        rc4.db_query(query)


def test_db_query_knows_what_a_task_wrote_and_a_cell_said(rc4):
    cell = rc4[1].execute("print('from a cell')\n1 + 1", block=True)
    call = rc4[2].apply(say, "from a call")
    call.get(timeout=TIMEOUT)
    (record,) = rc4.db_query({"msg_id": cell.msg_ids[0]})
    assert (record["stdout"], record["execute_input"], record["engine_id"]) == ("from a cell\n", "print('from a cell')\n1 + 1", 1)
    (record,) = rc4.db_query({"stdout": {"$glob": "*a call*"}, "msg_id": call.msg_ids[0]})
    assert (record["stdout"], record["stderr"], record["kind"]) == ("from a call\n", "FROM A CALL\n", "apply")


# -- result_status, get_result ---------------------------------------------------------------------------------------


def test_result_status_tells_pending_from_completed(rc4, tmp_path, other):
    done = rc4[0].apply(abs, -2)
    failed = rc4[0].apply(divmod, 1, 0)
    rc4.wait([done, failed], timeout=TIMEOUT)
    held = rc4[1].apply(hold, str(tmp_path), "held")
    ids = done.msg_ids + failed.msg_ids + held.msg_ids
    heard(rc4)
    status = other(rc4).result_status(ids)
    assert status == {"pending": held.msg_ids, "completed": done.msg_ids + failed.msg_ids}
    status = rc4.result_status(ids, status_only=False)
    assert status[done.msg_ids[0]] == 2
    assert isinstance(status[failed.msg_ids[0]], ZeroDivisionError)
    assert held.msg_ids[0] not in status
    (tmp_path / "go").touch()
    assert held.get(timeout=TIMEOUT) == "held"
    with pytest.raises(UnknownTask, match="knows no task"):
        rc4.result_status("c_1")


def test_get_result_of_another_client(rc, other):
    submitting, asking = Client(rc.contact), other(rc)
    one = submitting[0].apply(say, "words", 5)
    every = submitting[:].apply(abs, -4)
    mapped = submitting.load_balanced_view().map(abs, range(-3, 3))
    failed = submitting[0].apply(divmod, 1, 0)
    submitting.wait(timeout=TIMEOUT)
    result = asking.get_result(one.msg_ids[0])
    assert isinstance(result, AsyncHubResult)
    assert result.get(timeout=TIMEOUT) == 5
    assert (result.stdout, result.stderr, result.msg_ids) == ("words\n", "WORDS\n", one.msg_ids)
    assert (result.engine_id, result.status) == (0, "ok")
    assert result.submitted <= result.started <= result.completed
    assert asking.get_result(every.msg_ids).get(timeout=TIMEOUT) == [4] * len(rc)
    whole = asking.get_result([every.msg_ids[0].rpartition("_")[0]])  # the task, and not one engine's part of it
    assert whole.get(timeout=TIMEOUT) == [4] * len(rc)
    assert asking.get_result(mapped.msg_ids, block=True).get() == mapped.get()
    with pytest.raises(ZeroDivisionError):
        asking.get_result(failed.msg_ids[0]).get(timeout=TIMEOUT)
    submitting.close()
    assert asking.get_result(mapped.msg_ids).get(timeout=TIMEOUT) == [3, 2, 1, 0, 1, 2]


def test_get_result_of_what_is_under_way(rc4, tmp_path, other):
    """It is told when it ends, and what it has written until then."""
    asking = other(rc4)
    held = rc4[0].apply(hold, str(tmp_path), "value")
    queued = rc4[0].apply(say, "queued", 2)
    heard(rc4)
    result = asking.get_result(held.msg_ids + queued.msg_ids)
    assert not result.done()
    assert result.status == [None, None]
    assert result.cancel() is False  # only who submitted may
    (tmp_path / "go").touch()
    assert result.get(timeout=TIMEOUT) == ["value", 2]
    assert result.stdout == ["", "queued\n"]
    assert not asking._recalls


def test_get_result_of_ones_own(rc4, tmp_path):
    held = rc4[0].apply(hold, str(tmp_path), "value")
    assert rc4.get_result(held.msg_ids[0]) is held
    assert rc4.get_result() is held
    (tmp_path / "go").touch()
    held.get(timeout=TIMEOUT)
    again = rc4.get_result(-1)
    assert isinstance(again, AsyncResult)
    assert again.get(timeout=TIMEOUT) == "value"
    assert rc4.get_result(held).get(timeout=TIMEOUT) == "value"
    view = rc4[:]
    view.apply(abs, -1).get(timeout=TIMEOUT)
    rc4[0].apply(abs, -2).get(timeout=TIMEOUT)
    assert view.get_result(0).get(timeout=TIMEOUT) == 1
    assert view.get_result().get(timeout=TIMEOUT) == 1


def test_get_result_of_collectives(rc4, other):
    rc4[:].scatter("part", np.arange(10), block=True)
    gathered = rc4[:].gather("part", block=False)
    reduced = rc4[:].reduce("rank", block=False)
    rc4.wait([gathered, reduced], timeout=TIMEOUT)
    asking = other(rc4)
    np.testing.assert_array_equal(asking.get_result(gathered.msg_ids[0].rpartition("_")[0]).get(timeout=TIMEOUT), np.arange(10))
    assert asking.get_result(reduced.msg_ids[0].rpartition("_")[0]).get(timeout=TIMEOUT) == 6


def test_get_result_after_the_submitting_client_was_killed(rc4, tmp_path, other):
    """What it had submitted and what ran goes on; what had not begun was dropped, and is known to be."""
    code = f"""
import sys, mpicluster
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_remembering import hold
rc = mpicluster.Client(profile={rc4.contact.profile!r})
done = rc[1].apply(abs, -9); done.get()
held = rc[0].apply(hold, {str(tmp_path)!r}, "survived")
queued = rc[0].apply(abs, -1)
rc.queue_status()
print(*done.msg_ids, *held.msg_ids, *queued.msg_ids, flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    done, held, queued = process.stdout.readline().split()
    until((tmp_path / "came").exists)
    process.kill()
    process.communicate(timeout=TIMEOUT)
    asking = other(rc4)
    assert asking.get_result(done).get(timeout=TIMEOUT) == 9
    waiting = asking.get_result([held, queued])
    assert asking.get_result(queued).wait(timeout=TIMEOUT)  # the hub knows that its client is gone, and the engine is not free yet
    (tmp_path / "go").touch()
    assert waiting.wait(timeout=TIMEOUT)
    assert waiting.status == ["ok", "aborted"]
    assert asking.get_result(held).get(timeout=TIMEOUT) == "survived"


def test_a_large_value_is_remembered_as_not_kept(rc4, other):
    result = rc4[0].apply(np.zeros, 10**6)
    assert result.get(timeout=TIMEOUT).nbytes == 8 * 10**6
    again = other(rc4).get_result(result.msg_ids[0])
    assert again.status == "ok"
    with pytest.raises(NotKept, match=r"no value of task .* has 8000"):
        again.get(timeout=TIMEOUT)
    (record,) = rc4.db_query({"msg_id": result.msg_ids[0]}, keys=["result_metadata", "result_buffers"])
    assert record["result_metadata"]["nbytes_not_kept"] >= 8 * 10**6
    assert record["result_buffers"] is None


def test_results_of_others_fail_when_the_cluster_ends(fresh, tmp_path):
    rc = fresh(1)
    asking = Client(rc.contact)
    held = rc[0].apply(hold, str(tmp_path), 1)
    heard(rc)
    result = asking.get_result(held.msg_ids[0])
    rc.shutdown()
    with pytest.raises(mpicluster.ClusterStopped):
        result.get(timeout=TIMEOUT)
    (tmp_path / "go").touch()
    asking.close()


# -- resubmit --------------------------------------------------------------------------------------------------------


def test_resubmit_runs_tasks_again_whoever_submitted_them(rc, other, session):
    names = session(
        """
        def count(i):
            global counted
            counted = globals().get("counted", 0) + 1
            return i, counted > 0
        """
    )
    mapped = rc.load_balanced_view().map(names["count"], range(4))
    mapped.get(timeout=TIMEOUT)
    again = other(rc).resubmit([mapped.msg_ids[3], mapped.msg_ids[1]])
    assert again.get(timeout=TIMEOUT) == [(3, True), (1, True)]
    assert set(again.msg_ids).isdisjoint(mapped.msg_ids)
    (record,) = rc.db_query({"msg_id": mapped.msg_ids[3]}, keys="resubmitted")
    assert record["resubmitted"] == again.msg_ids[0]
    cell = rc[len(rc) - 1].execute("x = globals().get('x', 0) + 1", block=True)
    rc.resubmit(cell.msg_ids[0], block=True)
    assert rc[len(rc) - 1]["x"] == 2
    assert rc.resubmit().get(timeout=TIMEOUT) == 2  # the last one, which was the pull


def test_resubmit_refuses_plainly(rc4, tmp_path):
    large = rc4[0].apply(len, bytes(10**6))
    scattered = rc4[:].scatter("a", range(8), block=False)
    rc4.wait([large, scattered], timeout=TIMEOUT)
    held = rc4[0].apply(hold, str(tmp_path), 1)
    with pytest.raises(mpicluster.ClusterError, match="data are not kept"):
        rc4.resubmit(large)
    with pytest.raises(mpicluster.ClusterError, match="needs them all"):
        rc4.resubmit(scattered.msg_ids[1])
    with pytest.raises(mpicluster.ClusterError, match="under way"):
        rc4.resubmit(held)
    with pytest.raises(UnknownTask):
        rc4.resubmit("c_1")
    (tmp_path / "go").touch()
    held.get(timeout=TIMEOUT)
    rc4[:].clear(block=True)
    rc4.resubmit(scattered).get(timeout=TIMEOUT)
    assert [list(part) for part in rc4[:]["a"]] == [[0, 1], [2, 3], [4, 5], [6, 7]]


# -- queue_status ----------------------------------------------------------------------------------------------------


def test_queue_status(rc4, tmp_path):
    before = rc4.queue_status()
    held = rc4[0].apply(hold, str(tmp_path), 1)
    queued = rc4[0].apply(abs, -1)
    until(lambda: rc4.queue_status(0)["queue"] == 2)
    status = rc4.queue_status()
    assert set(status) == {0, 1, 2, 3, "unassigned"}
    assert status[1] == {"queue": 0, "tasks": 0, "completed": before[1]["completed"]}
    verbose = rc4.queue_status([0, 2], verbose=True)
    assert verbose[0]["queue"] == held.msg_ids + queued.msg_ids
    assert verbose["unassigned"] == []
    assert rc4[1:3].queue_status().keys() == {1, 2, "unassigned"}
    (tmp_path / "go").touch()
    rc4.wait([held, queued], timeout=TIMEOUT)
    assert rc4.queue_status(0)["completed"] >= before[0]["completed"] + 2
    assert set(held.msg_ids + queued.msg_ids) <= set(rc4.queue_status(0, verbose=True)["completed"])


# -- purge -----------------------------------------------------------------------------------------------------------


def test_purge_hub_results_of_jobs_and_engines(rc4, other):
    rc4.purge_everything()
    assert rc4.history == []
    mapped = rc4.load_balanced_view().map(abs, range(5))
    on_two = rc4[2].apply(abs, -1)
    every = rc4[:].apply(abs, -1)
    rc4.wait(timeout=TIMEOUT)
    rc4.purge_hub_results(mapped.msg_ids[1:])
    left = rc4.hub_history()
    assert left == [mapped.msg_ids[0], *on_two.msg_ids, *every.msg_ids]
    rc4.purge_hub_results(targets=[2])
    assert set(on_two.msg_ids).isdisjoint(rc4.hub_history())
    assert every.msg_ids[2] not in rc4.hub_history()
    assert every.msg_ids[3] in rc4.hub_history()
    with pytest.raises(UnknownTask):
        rc4.get_result(on_two)
    assert rc4.db_query({"engine_id": 2}) == []
    rc4[0].purge_results(targets="all")
    assert rc4.db_query({"engine_id": 0}) == []
    rc4.purge_results(jobs="all")
    assert rc4.hub_history() == []
    with pytest.raises(ValueError, match="name jobs or targets"):
        rc4.purge_hub_results()


def test_purge_refuses_what_is_under_way(rc4, tmp_path):
    held = rc4[1].apply(hold, str(tmp_path), 1)
    with pytest.raises(RuntimeError, match="under way"):
        rc4.purge_local_results(held)
    with pytest.raises(RuntimeError, match="under way"):
        rc4.purge_results("all")
    with pytest.raises(RuntimeError, match="under way"):
        rc4.purge_local_results(targets=[1])
    rc4.purge_local_results(targets=[0])
    with pytest.raises(mpicluster.ClusterError, match="under way"):
        rc4.purge_hub_results(held)
    (tmp_path / "go").touch()
    assert held.get(timeout=TIMEOUT) == 1
    rc4.purge_results(held)
    with pytest.raises(UnknownTask):
        rc4.get_result(held)


# -- limits and faults -----------------------------------------------------------------------------------------------


def test_a_full_disk_stops_history_and_not_the_cluster(fresh):
    """The hub may write no more: one warning, a flag, a clear error, and tasks as before."""
    rc = fresh(1)
    view = rc.load_balanced_view()
    size = 512 * 1024
    resource.prlimit(rc.contact.hub_pid, resource.RLIMIT_FSIZE, (size, size))
    result = None
    deadline = time.monotonic() + TIMEOUT
    while rc.status()["history"]["on"]:
        assert time.monotonic() < deadline
        result = view.map(len, [b"x" * 50_000] * 10)
        assert result.get(timeout=TIMEOUT) == [50_000] * 10
    assert view.map(abs, range(5)).get(timeout=TIMEOUT) == [0, 1, 2, 3, 4]
    with pytest.raises(NoHistory, match="history has stopped"):
        rc.get_result(result)
    with pytest.raises(NoHistory):
        rc.db_query({})
    log = Path(rc.contact.log_dir, "hub.log").read_text()
    assert log.count("HISTORY STOPPED") == 1
    assert "STOPPED" in words.status({**rc.status(), "hub": {**rc.status()["hub"], "host": "here"}})
    assert rc.queue_status()["unassigned"] == 0


@pytest.mark.parametrize("history", [False, {"tasks": 20}])
def test_history_can_be_off_or_small(tmp_path_factory, monkeypatch, history):
    monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(tmp_path_factory.mktemp("state")))
    with mpicluster.Cluster(n=1, history=history) as rc:
        result = rc.load_balanced_view().map(abs, range(200))
        result.get(timeout=TIMEOUT)
        last = rc[0].apply(abs, -1)
        last.get(timeout=TIMEOUT)
        there = Path(rc.contact.log_dir, "history.db").exists()
        if history:
            assert there
            until(lambda: len(rc.hub_history()) <= 20)
            assert rc.get_result(last.msg_ids[0]).get(timeout=TIMEOUT) == 1
            assert rc.status()["history"]["limits"]["tasks"] == 20
        else:
            assert not there
            assert not rc.status()["history"]["on"]
            with pytest.raises(NoHistory, match="started without"):
                rc.hub_history()


@pytest.mark.parametrize("history", [{"rows": 5}, {"tasks": 0}, {"age": -1.0}])
def test_limits_that_make_no_sense_are_refused(history):
    with pytest.raises(ValueError, match=r"no limit|must be positive"):
        mpicluster.Cluster(n=1, history=history)
