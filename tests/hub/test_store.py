"""The file of the history: what was written is there, the limits hold, and the file does not grow beyond them."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from remember import batch, ended, file_size, submitted, wrote

from mpicluster.config import HISTORY_OUTPUT, HistoryLimits
from mpicluster.hub.notes import newest
from mpicluster.hub.store import PURGED, Store, StoreError
from mpicluster.wire import messages as m

LIMITS = HistoryLimits(tasks=1000, nbytes=10**9, age=10**9)


@pytest.fixture
def opened(tmp_path):
    stores = []

    def make(limits=LIMITS, name="history.db"):
        stores.append(Store(str(tmp_path / name), limits))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def test_what_was_noted_is_there(opened):
    store = opened()
    store.write([batch(submitted(1, first=5, tasks=3, label="fit", retries=2), submitted(2, "other", first=1, targets=[3, 0]))])
    store.write([batch(ended(1, 1, engine=2), ended(2, 0, engine=3, outcome=m.LOST, data=b"died"), when=101.0)])
    one, two = store.requests(0)
    assert (one.job, one.client, one.first, one.parts, one.submitted, one.kind, one.label, one.retries) == (
        1,
        "c",
        5,
        3,
        100.0,
        "apply",
        "fit",
        2,
    )
    assert (two.client, two.targets, two.parts) == ("other", [3, 0], 2)
    rows = store.results([1, 2])
    assert set(rows[1]) == {1}
    assert (rows[1][1].engine, rows[1][1].data, rows[1][1].received) == (2, b"v", 101.0)
    assert (rows[2][0].outcome, rows[2][0].data) == (m.LOST, b"died")
    assert store.submit_of(1).data == [b"d0", b"d1", b"d2"]
    assert store.find("c", 7) == one
    assert store.find("other", 1) == two
    for client, task in (("c", 8), ("c", 4), ("other", 2), ("nobody", 1), ("c", 10**30)):
        assert store.find(client, task) is None
    assert store.unfinished(one, 0) is None
    assert store.tasks == 5


def test_nobody_else_can_read_it(opened, tmp_path):
    opened().write([batch(submitted(1))])
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in tmp_path.glob("history.db*"))


def test_output_is_put_together_and_bounded(opened):
    store = opened()
    store.write([batch(submitted(1, tasks=2), wrote(1, 0, (m.STDOUT, b"a")), wrote(1, 1, (m.STDOUT, b"x" * HISTORY_OUTPUT)))])
    assert store.output_of(1, 0) == [(m.STDOUT, b"a")]
    store.write(
        [batch(wrote(1, 0, (m.STDERR, b"b")), wrote(1, 1, (m.STDOUT, b"end")), ended(1, 0, output=[(m.STDOUT, b"c")]), ended(1, 1))]
    )
    rows = store.results([1])[1]
    assert rows[0].output == [(m.STDOUT, b"a"), (m.STDERR, b"b"), (m.STDOUT, b"c")]
    text = b"".join(content for _, content in rows[1].output)
    assert len(text) == HISTORY_OUTPUT
    assert text.endswith(b"xend")
    assert store._written == {}


@given(
    st.lists(st.tuples(st.sampled_from([m.STDOUT, m.STDERR, m.DISPLAY]), st.text(max_size=9).map(str.encode)), max_size=6),
    st.integers(0, 20),
)
def test_the_newest_output_stays(pieces, limit):
    kept = newest(pieces, limit)
    assert sum(len(content) for _, content in kept) <= limit or kept == pieces
    assert all(content.decode() is not None for _, content in kept)
    whole = [c for _, c in pieces]
    assert all(any(original.endswith(content) for original in whole) for _, content in kept)
    assert all((kind, content) in pieces for kind, content in kept if kind == m.DISPLAY)


def test_a_value_that_did_not_pass_the_hub_is_noted_as_such(opened):
    store = opened()
    store.write([batch(submitted(1), ended(1, data=b"", sizes=[300_000, 5]))])
    assert store.results([1])[1][0].dropped == 300_005


def test_the_oldest_that_have_ended_are_forgotten(opened):
    """By number: a job under way stays, however old."""
    store = opened(HistoryLimits(tasks=10, nbytes=10**9, age=10**9))
    store.write([batch(submitted(1, first=1, tasks=4))])
    for job in range(2, 40):
        store.write([batch(submitted(job, first=job * 10, tasks=2), ended(job, 0), ended(job, 1))])
        assert store.tasks <= 11
    assert [r.job for r in store.requests(0)] == [1, 37, 38, 39]
    assert set(store.results(list(range(40)))) == {37, 38, 39}
    store.write([batch(*(ended(1, i) for i in range(4)))])
    assert [r.job for r in store.requests(0)] == [1, 37, 38, 39]
    store.write([batch(submitted(40, first=400), ended(40))])
    assert [r.job for r in store.requests(0)] == [37, 38, 39, 40]


def test_the_old_are_forgotten(opened):
    store = opened(HistoryLimits(tasks=1000, nbytes=10**9, age=60.0))
    for job in range(1, 6):
        store.write([batch(submitted(job, first=job), ended(job), when=100.0 + 20 * job)])
    assert [r.job for r in store.requests(0)] == [2, 3, 4, 5]


def test_many_jobs_under_way_do_not_keep_others(opened):
    """Those behind them are reached in a while."""
    store = opened(HistoryLimits(tasks=100, nbytes=10**9, age=10**9))
    store.write([batch(*(submitted(job, first=job) for job in range(1, 12_001)))])
    store.write([batch(*(n for job in range(12_001, 13_001) for n in (submitted(job, first=job), ended(job))))])
    for _ in range(3):
        store.write([batch()])
    assert store.tasks == 12_000


def test_the_file_stays_bounded(opened, tmp_path):
    """Ten times as much as it may hold passes through, of values, inputs and output: used pages are used again."""
    limit = 2 * 1024 * 1024
    store = opened(HistoryLimits(tasks=10**9, nbytes=limit, age=10**9))
    path = str(tmp_path / "history.db")
    largest = 0
    for job in range(1, 400):
        store.write([batch(submitted(job, first=job, data=[b"x" * 20_000]), ended(job, data=b"y" * 30_000, output=[(1, b"z" * 5000)]))])
        largest = max(largest, file_size(path))
        assert store.nbytes <= limit
    assert largest < 2 * limit + 4 * 1024 * 1024  # with the log that it writes ahead
    assert 0 < store.tasks < 60
    assert not store.crowded


def test_what_is_under_way_does_not_make_it_grow_either(opened, tmp_path):
    """When nothing can be forgotten, values are not kept; when there is room again, they are."""
    limit = 1024 * 1024
    store = opened(HistoryLimits(tasks=10**9, nbytes=limit, age=10**9))
    for job in range(1, 200):
        store.write([batch(submitted(job, first=job, tasks=2, data=[b"x" * 10_000] * 2), ended(job, 0, data=b"y" * 10_000))])
    assert store.crowded
    assert file_size(str(tmp_path / "history.db")) < 2 * limit + 4 * 1024 * 1024
    assert store.submit_of(199) is None
    assert store.results([199])[199][0].dropped == 10_000
    store.write([batch(*(ended(job, 1) for job in range(1, 200)))])
    store.write([batch(submitted(300, first=300), ended(300, data=b"y" * 10_000))])
    assert not store.crowded
    assert store.results([300])[300][0].dropped == 0


def test_some_results_can_be_forgotten(opened):
    store = opened()
    store.write([batch(submitted(1, tasks=3), *(ended(1, i) for i in range(3)), submitted(2, first=9))])
    one, two = store.requests(0)
    assert store.forget([(one, 0), (one, 2), (two, 0)]) == 2
    assert {i: r.outcome for i, r in store.results([1])[1].items()} == {0: PURGED, 1: m.OK, 2: PURGED}
    assert store.requests(0)[0].gone == 2
    assert store.forget([(one, 0)]) == 0
    assert store.forget([(one, 1)]) == 1
    assert store.requests(0) == [two]
    assert store.forget_ended([two]) == 0
    assert store.tasks == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3), st.booleans()), max_size=40), st.integers(1, 4))
def test_the_last_word_on_a_part_counts(tmp_path_factory, ends, per_batch):
    """Whatever batches they came in, and also after some were forgotten."""
    store = Store(str(tmp_path_factory.mktemp("store") / "h.db"), LIMITS)
    store.write([batch(*(submitted(job, first=job * 10, tasks=4) for job in range(1, 7)))])
    expected = {}
    for i in range(0, len(ends), per_batch):
        some = ends[i : i + per_batch]
        store.write([batch(*(ended(job, part, data=b"%d" % (i + k)) for k, (job, part, _) in enumerate(some)))])
        expected |= {(job, part): b"%d" % (i + k) for k, (job, part, _) in enumerate(some)}
        requests = {r.job: r for r in store.requests(0)}
        going = {(job, part) for job, part, goes in some if goes}
        store.forget([(requests[job], part) for job, part in going if job in requests])
        for key in going:
            expected[key] = None
    rows = store.results(list(range(1, 7)))
    for (job, part), data in expected.items():
        row = rows.get(job, {}).get(part)
        assert (row is None or row.outcome == PURGED) if data is None else row is None or row.data == data
    store.close()


def test_a_file_of_a_hub_before_is_continued(opened):
    """Numbers of jobs do not meet, and what was under way is known to be lost."""
    store = opened()
    store.write([batch(submitted(1, first=1, tasks=2), ended(1, 0))])
    store.close()
    store = opened()
    assert (store.base, store.tasks) == (1, 2)
    store.write([batch(submitted(1, "d", first=1), ended(1, data=b"new"))])
    old, new = store.requests(0)
    assert (old.client, new.client, new.job) == ("c", "d", 2)
    assert store.results([1, 2])[2][0].data == b"new"
    assert store.unfinished(old, 1).outcome == m.LOST
    assert store.unfinished(new, 0) is None


def test_a_full_disk_is_an_error_and_nothing_is_half_written(opened):
    store = opened()
    store.write([batch(submitted(1), ended(1))])
    store._db.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StoreError, match="full"):
        store.write([batch(*(submitted(job, first=job, data=[b"x" * 5000]) for job in range(2, 100)))])
    assert [r.job for r in store.requests(0)] == [1]
    store.close()
    with pytest.raises(StoreError):
        store.write([batch(submitted(200, first=200))])


def test_a_file_that_cannot_be_used_says_why(opened, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="folder"):
        opened(name="folder")
    (tmp_path / "text").write_text("this is no database, and long enough to be seen as none " * 100)
    with pytest.raises(StoreError, match="not a database"):
        opened(name="text")
    with pytest.raises(StoreError, match="No such file"):
        opened(name="nowhere/history.db")
    opened()
    with pytest.raises(StoreError, match="locked"):
        opened()


def test_another_version_is_refused(opened):
    store = opened()
    store._db.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StoreError, match="another version"):
        opened()
