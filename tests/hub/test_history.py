"""The history's thread: questions know what came before them, whoever waits is told, and no fault of the file reaches the cluster."""

from __future__ import annotations

import logging
import select
import time
from datetime import UTC, datetime

import msgspec
import pytest
from remember import FAILURE, batch, ended, submitted, wrote

from mpicluster.config import HistoryLimits
from mpicluster.hub import history as module
from mpicluster.hub.history import History
from mpicluster.wire import messages as m

TIMEOUT = 20.0


class Bench:
    def __init__(self, path, limits=None):
        self.history = History("cluster", None if path is None else str(path), limits)
        self.said = []
        self.request = 0

    def take(self, notes):
        self.history.take(notes, time.time())

    def until(self, found):
        deadline = time.monotonic() + TIMEOUT
        while not (message := next((x for _, x in self.said if found(x)), None)):
            assert time.monotonic() < deadline
            if select.select([self.history.descriptor], [], [], 0.05)[0]:
                self.said += self.history.answers()
        return message

    def ask(self, kind, *fields, client="c"):
        self.request += 1
        number = self.request
        self.history.ask(b"listener", client, kind(number, *fields))
        return self.until(lambda x: isinstance(x, m.Answer) and x.request == number)

    def answer(self, kind, *fields, client="c"):
        answer = self.ask(kind, *fields, client=client)
        assert not answer.error
        return msgspec.msgpack.decode(answer.data)

    def records(self, query, *keys):
        """All pages."""
        found, start = [], 0
        while start >= 0:
            some, start = self.answer(m.Find, msgspec.msgpack.encode(query), list(keys), start)
            found += some
        return found

    def ids(self, query):
        return [r["msg_id"] for r in self.records(query, "msg_id")]


@pytest.fixture
def bench(tmp_path):
    benches = []

    def make(path=None, limits=None):
        benches.append(Bench(tmp_path / "history.db" if path is None else path, limits))
        return benches[-1]

    yield make
    for b in benches:
        b.history.close(TIMEOUT)


def test_a_record_says_all_that_is_known(bench):
    b = bench()
    code = b"\x00\x80\x05\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x0bprint('hi')\x94."
    b.take([submitted(1, targets=[2], kind="execute", label="cell", data=[code], retries=1), wrote(1, 0, (m.STDOUT, b"hi\n"))])
    (under_way,) = b.records({})
    assert (under_way["status"], under_way["completed"], under_way["engine_id"], under_way["stdout"]) == (None, None, 2, "hi\n")
    shown = b'{"output_type": "display_data", "data": {"text/plain": "fig"}}'
    result = b'{"output_type": "execute_result", "data": {"text/plain": "5"}}'
    b.take([ended(1, engine=2, output=[(m.STDERR, b"oh"), (m.DISPLAY, shown), (m.DISPLAY, result)], data=b"value")])
    (record,) = b.records({})
    assert record["msg_id"] == "c_1_2"
    assert record["client_uuid"] == "c"
    assert (record["label"], record["kind"], record["queue"], record["retries"]) == ("cell", "execute", "mux", 1)
    assert (record["status"], record["engine_id"], record["engine_uuid"]) == ("ok", 2, "cluster-2")
    assert record["completed"] == datetime.fromtimestamp(2.0, UTC)
    assert record["submitted"].tzinfo is not None
    assert (record["stdout"], record["stderr"]) == ("hi\n", "oh")
    assert record["outputs"][0]["data"] == {"text/plain": "fig"}
    assert record["execute_result"]["data"] == {"text/plain": "5"}
    assert (record["execute_input"], record["content"]) == ("print('hi')", {"code": "print('hi')"})
    assert record["error"] is None
    assert record["result_content"] == {"status": "ok"}
    assert record["header"]["msg_type"] == "execute_request"
    assert "buffers" not in record
    (payloads,) = b.records({}, "buffers", "result_buffers")
    assert payloads == {"msg_id": "c_1_2", "buffers": [b"f", code], "result_buffers": [b"value"]}


def test_errors_are_texts(bench):
    b = bench()
    b.take([submitted(1, tasks=4), ended(1, 0, outcome=m.FAILED, data=FAILURE), ended(1, 1, outcome=m.LOST, data=b"it died")])
    b.take([ended(1, 2, outcome=m.ABORTED, data=b""), ended(1, 3, outcome=m.FAILED, data=b"", sizes=[5])])
    failed, lost, aborted, large = b.records({})
    assert failed["error"] == "[1:apply]:\nline 1\nline 2"
    assert failed["result_content"]["ename"] == "ValueError"
    assert (lost["status"], lost["error"]) == ("lost", "EngineError: it died")
    assert (aborted["status"], aborted["error"]) == ("aborted", None)
    assert "not kept" in large["error"]


def test_queries_find_what_they_ask_for(bench):
    b = bench()
    b.take([submitted(1, first=1, tasks=3, label="a"), submitted(2, "d", first=1, targets=[1, 0], label="b"), submitted(3, first=4)])
    b.take([ended(1, 0, engine=1), ended(1, 1, engine=0, completed=5.0), ended(2, 0, engine=1), ended(2, 1, engine=0, outcome=m.FAILED)])
    at = lambda seconds: datetime.fromtimestamp(seconds, UTC)  # noqa: E731
    assert b.ids({}) == ["c_1", "c_2", "c_3", "d_1_1", "d_1_0", "c_4"]
    assert b.ids({"label": "a", "engine_id": 1}) == ["c_1"]
    assert b.ids({"engine_uuid": "cluster-1", "label": "b"}) == ["d_1_1"]
    assert b.ids({"label": None}) == ["c_4"]
    assert b.ids({"label": {"$in": ["a", None]}}) == ["c_1", "c_2", "c_3", "c_4"]
    assert b.ids({"label": {"$glob": "[ab]"}}) == ["c_1", "c_2", "c_3", "d_1_1", "d_1_0"]
    assert b.ids({"msg_id": {"$in": ["d_1_0", "c_3", "nonsense", 5]}}) == ["c_3", "d_1_0"]
    assert b.ids({"msg_id": "c_2"}) == ["c_2"]
    assert b.ids({"completed": None}) == ["c_3", "c_4"]
    assert b.ids({"completed": {"$gt": at(3)}}) == ["c_2"]
    assert b.ids({"completed": {"$lt": at(3)}, "status": "ok"}) == ["c_1", "d_1_1"]
    assert b.ids({"status": {"$nin": ["ok", None]}}) == ["d_1_0"]
    assert b.ids({"client_uuid": {"$ne": "c"}}) == ["d_1_1", "d_1_0"]
    assert b.ids({"submitted": {"$gte": at(time.time() - 60)}, "kind": "apply", "retries": {"$mod": [2, 0]}}) == b.ids({})
    assert b.ids({"submitted": {"$lt": at(time.time() - 60)}}) == []
    assert "no field 'nonsense'" in b.ask(m.Find, msgspec.msgpack.encode({"nonsense": 1}), []).error
    assert b.ask(m.Find, msgspec.msgpack.encode({}), ["nonsense"]).fault == m.NONSENSE
    assert b.ask(m.Find, b"\xc1", []).fault == m.NONSENSE


def test_answers_come_in_pages(bench, monkeypatch):
    """However a page ends: within a submission, between two, or because it is large."""
    monkeypatch.setattr("mpicluster.hub.questions._PAGE_PARTS", 7)
    monkeypatch.setattr("mpicluster.hub.questions._PAGE_BYTES", 300)
    monkeypatch.setattr("mpicluster.hub.questions.MANY", 3)
    monkeypatch.setattr("mpicluster.hub.store.MANY", 3)
    b = bench()
    expected, first = [], 1
    for job in range(1, 30):
        tasks = job % 10 + 1
        b.take([submitted(job, first=first, tasks=tasks, label=str(job % 3)), *(ended(job, i) for i in range(tasks))])
        expected += [(f"c_{first + i}", job % 3) for i in range(tasks)]
        first += tasks
    assert b.ids({}) == [i for i, _ in expected]
    assert b.ids({"label": "1"}) == [i for i, label in expected if label == 1]
    runs, start = [], 0
    while start >= 0:
        some, start = b.answer(m.History, start)
        runs += some
    assert sum(count for _, _, count, _ in runs) == len(expected)
    known, parts = b.answer(m.Recall, [i for i, _ in expected], True, False)
    assert 1 <= known == len(parts) < len(expected)
    start, forgotten = 0, 0
    while start >= 0:
        count, start = b.answer(m.Purge, [], [], True, start)
        forgotten += count
    assert forgotten == len(expected)
    assert b.ids({}) == []


def test_whoever_waits_for_a_task_is_told(bench):
    b = bench()
    b.take([submitted(1, tasks=2), ended(1, 0, data=b"first"), wrote(1, 1, (m.STDOUT, b"early "))])
    known, parts = b.answer(m.Recall, ["c_1", "c_2"], True, True)
    assert known == 2
    assert [(p[1], p[2], p[4]) for p in parts] == [("c_1", m.OK, b"first"), ("c_2", -1, b"")]
    b.take([ended(1, 1, engine=3, data=b"second", output=[(m.STDOUT, b"late")])])
    told = b.until(lambda x: isinstance(x, m.Recalled))
    assert told.request == b.request
    assert (told.part.id, told.part.engine, told.part.data) == ("c_2", 3, b"second")
    assert told.part.output == [(m.STDOUT, b"early "), (m.STDOUT, b"late")]
    assert b.history._watched == {}


def test_what_nobody_knows_is_said_to_be_unknown(bench):
    b = bench()
    b.take([submitted(1, targets=[0, 1]), ended(1, 0)])
    for name in ("c_2", "c_1_5", "x_1", "nonsense", "c_1_0_0", "c_" + "9" * 40):
        answer = b.ask(m.Recall, ["c_1_0", name], True, False)
        assert (answer.fault, name in answer.error) == (m.UNKNOWN, True)
    assert b.answer(m.Purge, ["c_1_0"], [], False) == [1, -1]
    assert b.ask(m.Recall, ["c_1_0"], True, False).fault == m.UNKNOWN
    runs, _ = b.answer(m.History)
    assert runs == [["c", 1, 1, [1]]]
    answer = b.ask(m.Purge, ["c_1_1"], [], False)
    assert (answer.fault, "under way" in answer.error) == (m.UNFIT, True)


def test_results_of_an_engine_can_be_forgotten(bench):
    b = bench()
    b.take([submitted(1, tasks=3), ended(1, 0, engine=0), ended(1, 1, engine=1), submitted(2, first=4), ended(2, engine=1)])
    assert b.answer(m.Purge, [], [1], False) == [2, -1]
    assert b.ids({}) == ["c_1", "c_3"]


def test_tasks_are_given_back_to_be_run_again(bench):
    b = bench()
    b.take([submitted(1, tasks=3, label="l"), *(ended(1, i) for i in range(3))])
    b.take([submitted(2, first=4, targets=[2, 1], data=[b"both"]), ended(2, 0), ended(2, 1)])
    b.take([submitted(3, first=5, targets=[0, 1], collective="gather"), ended(3, 0), ended(3, 1), submitted(4, first=6)])
    b.take([submitted(5, first=7, sizes=[10**6]), ended(5)])
    answer = b.ask(m.Resubmit, 100, ["c_3", "c_1", "c_4_1", "c_5"], client="d")
    again = msgspec.msgpack.decode(answer.data, type=list[m.Submit])
    assert [(s.first, s.targets, s.data, s.collective) for s in again] == [
        (100, None, [b"d2", b"d0"], ""),
        (102, [1], [b"both"], ""),
        (103, [0, 1], [b"d0"], "gather"),
    ]
    assert again[0].terms.label == "l"
    names = {r["msg_id"]: r["resubmitted"] for r in b.records({"resubmitted": {"$exists": True}}, "resubmitted")}
    assert names == {"c_3": "d_100", "c_1": "d_101", "c_4_1": "d_102_1", "c_5_0": "d_103_0", "c_5_1": "d_103_1"}
    for name, said in (("c_6", "under way"), ("c_5_0", "needs them all"), ("c_7", "not kept")):
        answer = b.ask(m.Resubmit, 200, [name])
        assert (answer.fault, said in answer.error) == (m.UNFIT, True)


def test_without_a_history_questions_are_told_so(tmp_path):
    b = Bench(None)
    b.take([submitted(1)])
    answer = b.ask(m.History)
    assert (answer.fault, "started without" in answer.error) == (m.NO_HISTORY, True)
    assert (b.history.facts()["on"], b.history.facts()["stopped"]) == (False, "")
    b.history.close(TIMEOUT)


def test_a_full_disk_stops_the_history_once_and_loudly(bench, caplog):
    b = bench()
    b.take([submitted(1), submitted(2, first=2)])
    b.answer(m.Recall, ["c_1"], True, True)
    watched = b.request
    b.history._store._db.execute("PRAGMA max_page_count = 20")
    with caplog.at_level(logging.WARNING):
        for job in range(3, 100):
            b.take([submitted(job, first=job, data=[b"x" * 5000])])
        refused = b.until(lambda x: isinstance(x, m.Answer) and x.request == watched and x.error)
    assert refused.fault == m.NO_HISTORY
    b.take([ended(1)])
    answer = b.ask(m.History)
    assert (answer.fault, "full" in answer.error) == (m.NO_HISTORY, True)
    assert sum("HISTORY STOPPED" in r.message for r in caplog.records) == 1
    assert "full" in b.history.facts()["stopped"]
    assert not b.history._batches


def test_a_file_that_cannot_be_opened_stops_it_too(bench, tmp_path, caplog):
    (tmp_path / "history.db").mkdir()
    with caplog.at_level(logging.WARNING):
        b = bench()
        assert b.ask(m.History).fault == m.NO_HISTORY
    assert sum("HISTORY STOPPED" in r.message for r in caplog.records) == 1


def test_a_slow_disk_costs_values_not_memory(bench, monkeypatch):
    """What waits is bounded: tasks are remembered without what is large."""
    monkeypatch.setattr(module, "HISTORY_PENDING", 10_000)
    b = bench()
    b.answer(m.History)  # it runs
    b.take([submitted(1, tasks=2, data=[b"x" * 4000] * 2), ended(1, 0, data=b"y" * 4000), ended(1, 1, data=b"z" * 100)])
    assert b.history.facts()["without_values"] == 3
    first, second = b.records({}, "result_metadata", "buffers")
    assert first["result_metadata"]["nbytes_not_kept"] == 4000
    assert first["buffers"] is None
    assert second["result_metadata"]["nbytes_not_kept"] == 100
    assert "not kept" in b.ask(m.Resubmit, 9, ["c_1"]).error


def test_a_fault_of_ours_is_told_and_survived(bench, monkeypatch):
    b = bench()
    b.take([submitted(1), ended(1)])
    monkeypatch.setattr("mpicluster.hub.questions.Questions.history", lambda *_: 1 / 0)
    assert "ZeroDivisionError" in b.ask(m.History).error
    assert b.ids({}) == ["c_1"]


def test_all_that_was_noted_is_written_at_the_end(tmp_path):
    b = Bench(tmp_path / "history.db", HistoryLimits())
    for job in range(1, 200):
        b.take([submitted(job, first=job), ended(job)])
    b.history.close(TIMEOUT)
    b = Bench(tmp_path / "history.db", HistoryLimits())
    assert len(b.ids({"status": "ok"})) == 199
    assert batch().notes == ()
    b.history.close(TIMEOUT)
