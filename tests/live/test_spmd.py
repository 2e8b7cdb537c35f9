"""Gangs: code that runs on several engines at once, with a communicator of exactly these, and what happens when one fails."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

import mpicluster
from mpicluster.errors import CompositeError, EngineError, RemoteError

TIMEOUT = 60


def ranks(comm):
    return comm.rank, comm.size, comm.allreduce(comm.rank)


def everything():
    from mpi4py import MPI

    import __main__ as here

    return mpicluster.comm.size, MPI.COMM_WORLD.size, here.comm.size, here.rank, here.size


def raises(how, comm, culprit=1):
    """One rank raises, and the others wait for it, each in its own way."""
    if comm.rank == culprit:
        raise ZeroDivisionError("the culprit")
    if how == "Allreduce":
        comm.Allreduce(np.ones(1000), np.empty(1000))
    elif how == "Barrier":
        comm.Barrier()
    elif how == "recv":
        comm.recv(source=culprit)
    elif how == "Irecv":
        comm.Irecv(np.empty(10), source=culprit).Wait()
    elif how == "allgather":
        comm.allgather({"some": "object"})
    elif how == "bcast":
        comm.bcast(None, root=culprit)
    elif how == "Split":
        comm.Split(0)
    elif how == "Dup":
        comm.Dup()


def waits(how):
    raises(how, mpicluster.comm)


HOWS = ["Allreduce", "Barrier", "recv", "Irecv", "allgather", "bcast", "Split", "Dup"]


# -- what a gang is ------------------------------------------------------------------------------------------------------


def test_a_gang_has_a_communicator_of_exactly_its_engines(rc):
    n = len(rc)
    assert rc[:].spmd_sync(ranks) == [(r, n, n * (n - 1) // 2) for r in range(n)]
    assert rc[-1].spmd_sync(ranks) == (0, 1, 0)


def test_results_come_in_the_order_of_the_targets(rc4):
    assert rc4[[3, 0, 2]].spmd_sync(lambda engines, comm: engines[comm.rank], [3, 0, 2]) == [3, 0, 2]
    rc4[:].execute("me = rank", block=True)
    assert rc4[[3, 0, 2]].spmd_sync(ranks) == [(r, 3, 3) for r in range(3)]


def test_all_names_of_the_communicator_mean_the_gang(rc4):
    assert rc4[1:3].spmd_sync(everything) == [(2, 2, 2, r, 2) for r in range(2)]
    assert rc4[:].apply_sync(everything) == [(4, 4, 4, r, 4) for r in range(4)], "and afterwards all engines"


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_arguments_of_any_size(rc4, size):
    data = np.arange(size, dtype=np.float64)
    assert rc4[:].spmd_sync(lambda x, comm: (x.sum(), comm.size), data) == [(data.sum(), 4)] * 4
    assert rc4[2].spmd_sync(lambda x, comm: x.sum(), data) == data.sum()


def test_large_results(rc4):
    parts = rc4[:].spmd_sync(lambda comm: np.full(200_000, comm.rank))
    assert [p[0] for p in parts] == [0, 1, 2, 3]
    assert {p.size for p in parts} == {200_000}


def test_a_parameter_named_comm_is_filled_in_only_when_it_is_free(rc4):
    assert rc4[:].spmd_sync(lambda comm: comm, 5) == [5] * 4
    assert rc4[:].spmd_sync(lambda comm: comm, comm=6) == [6] * 4
    assert rc4[:].spmd_sync(lambda x, *, comm: (x, comm.size), 7) == [(7, 4)] * 4
    assert rc4[:].spmd_sync(lambda x: x, 8) == [8] * 4
    assert rc4[:].spmd_sync(divmod, 7, 2) == [(3, 1)] * 4, "a builtin has no signature to look at"


def test_as_a_decorator(rc4):
    view = rc4[:]
    view.block = True

    @view.spmd
    def at_once(comm):
        return comm.allreduce(1)

    assert at_once == [4] * 4

    @view.spmd
    def later(x, comm):
        """Adds up."""
        return comm.allreduce(x)

    assert later(2) == [8] * 4
    assert later.__name__ == "later"
    assert later.__doc__ == "Adds up."


def test_a_view_that_does_not_block_gives_a_result(rc4):
    result = rc4[:].spmd(ranks)
    assert result.get(timeout=TIMEOUT) == [(r, 4, 6) for r in range(4)]


def test_gangs_on_different_engines_run_at_the_same_time(rc4, tmp_path):
    """Each waits for a file that the other makes."""

    def meets(mine, other, comm):
        if comm.rank == 0:
            open(mine, "w").close()
            deadline = time.monotonic() + TIMEOUT
            while not os.path.exists(other):
                assert time.monotonic() < deadline
                time.sleep(0.001)
        return comm.allreduce(1)

    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    first, second = rc4[0:2].spmd_async(meets, a, b), rc4[2:4].spmd_async(meets, b, a)
    assert first.get(timeout=TIMEOUT) == second.get(timeout=TIMEOUT) == [2, 2]


def test_many_gangs_in_any_order(rc4):
    results = [rc4[[i % 4, (i + 1 + i % 3) % 4]].spmd_async(lambda i, comm: comm.allreduce(i), i) for i in range(60)]
    assert [r.get(timeout=TIMEOUT) for r in results] == [[2 * i, 2 * i] for i in range(60)]


def test_a_function_that_does_not_arrive_hangs_nobody(rc4):
    class Poison:
        def __reduce__(self):
            return os.listdir, ("/nowhere/at/all",)

    with pytest.raises(RemoteError):
        rc4[:].spmd_async(ranks, Poison()).get(timeout=TIMEOUT)
    assert rc4[:].spmd_async(ranks).get(timeout=TIMEOUT)[3] == (3, 4, 6)


# -- when one fails ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
def test_one_raises_and_the_others_are_freed(rc4, how):
    """Wherever they wait: the error is that of the one that raised, and the next gang works, with all namespaces as they were."""
    if not rc4.contact.survives:
        pytest.skip("this MPI cannot free them: see the next test")
    rc4[:].push({"kept": 5}, block=True)
    for targets in ([0, 1, 2, 3], [0, 1], [2, 1, 3]):
        with pytest.raises(ZeroDivisionError, match="the culprit") as caught:
            rc4[targets].spmd_async(raises, how).get(timeout=TIMEOUT)
        assert isinstance(caught.value, CompositeError)
        assert len(caught.value.errors) == 1, "only the cause is told"
        n = len(targets)
        assert rc4[targets].spmd_async(ranks).get(timeout=TIMEOUT) == [(r, n, n * (n - 1) // 2) for r in range(n)]
    assert rc4[:].pull("kept", block=True) == [5] * 4


def fails_alone(comm):
    raise ZeroDivisionError(comm.size)


def sums(comm):
    return comm.allreduce(comm.rank + 1)


def test_a_gang_of_one_is_sound_after_a_failure(rc4):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            rc4[[2]].spmd_async(fails_alone).get(timeout=TIMEOUT)
        assert rc4[[2]].spmd_async(sums).get(timeout=TIMEOUT) == [1]


@pytest.mark.parametrize("how", ["Allreduce", "Barrier", "recv", "Irecv", "bcast"])
@pytest.mark.parametrize("verb", ["apply", "execute"])
def test_the_same_for_apply_and_execute(rc4, how, verb):
    """Who waits in ``comm`` for an engine of the same call that raised is freed, and ``comm`` is sound again in the next task."""
    if not rc4.contact.survives:
        pytest.skip("this MPI cannot free them: see the next test")
    view = rc4[:]
    if verb == "apply":
        result = view.apply_async(waits, how)
    else:
        view.execute("from test_spmd import waits", block=True)
        result = view.execute(f"waits({how!r})", block=False)
    with pytest.raises(ZeroDivisionError) as caught:
        result.get(timeout=TIMEOUT)
    assert len(caught.value.errors) == 1
    assert view.apply_async(lambda: mpicluster.comm.allreduce(1)).get(timeout=TIMEOUT) == [4] * 4


def test_a_communicator_that_user_code_has_kept_is_sound_again(rc4):
    if not rc4.contact.survives:
        pytest.skip("this MPI cannot free them: see the next test")
    rc4[:].execute("from mpi4py import MPI\nkept = MPI.COMM_WORLD", block=True)
    with pytest.raises(ZeroDivisionError):
        rc4[:].execute("1 / (rank - 2)\nkept.Barrier()", block=False).get(timeout=TIMEOUT)
    result = rc4[:].execute("total = kept.allreduce(rank)", block=False)
    assert result.wait(timeout=TIMEOUT)
    result.get()
    assert rc4[:].pull("total", block=True) == [6] * 4


def test_who_does_not_wait_goes_on(rc4):
    """An engine's failure is nobody's business who does not wait for it."""

    def works():
        if mpicluster.comm.rank == 1:
            raise ZeroDivisionError
        time.sleep(0.3)
        return "done"

    result = rc4[:].apply_async(works)
    with pytest.raises(ZeroDivisionError) as caught:
        result.get(timeout=TIMEOUT)
    assert len(caught.value.errors) == 1
    assert [record["status"] for record in result.metadata] == ["ok", "error", "ok", "ok"]


def test_a_gang_does_not_disturb_another(rc4, tmp_path):
    """The failure of one gang is not felt by one that works at the same time on other engines."""
    if not rc4.contact.survives:
        pytest.skip("this MPI cannot free them: see the next test")
    go = str(tmp_path / "go")

    def waits_for_go(path, comm):
        deadline = time.monotonic() + TIMEOUT
        while not comm.bcast(os.path.exists(path) if comm.rank == 0 else None):
            assert time.monotonic() < deadline
        return comm.allreduce(1)

    steady = rc4[0:2].spmd_async(waits_for_go, go)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            rc4[2:4].spmd_async(raises, "Barrier").get(timeout=TIMEOUT)
    open(go, "w").close()
    assert steady.get(timeout=TIMEOUT) == [2, 2]


def test_failures_by_the_dozen(rc4):
    if not rc4.contact.survives:
        pytest.skip("this MPI cannot free them: see the next test")
    for i in range(40):
        with pytest.raises(ZeroDivisionError):
            rc4[:].spmd_async(raises, HOWS[i % len(HOWS)], culprit=i % 4).get(timeout=TIMEOUT)
    assert rc4[:].spmd_async(ranks).get(timeout=TIMEOUT)[3] == (3, 4, 6)


def test_an_mpi_that_cannot_free_them_says_so(fresh):
    """The client hears the cause and what is lost; nothing hangs; other engines go on working."""
    rc = fresh(4)
    if rc.contact.survives:
        pytest.skip("this MPI can: see above")
    with pytest.raises(ZeroDivisionError) as caught:
        rc[0:3].spmd_async(raises, "Barrier").get(timeout=TIMEOUT)
    notes = "\n".join(caught.value.__notes__)
    assert "engine 0 still waits in MPI" in notes
    assert "engine 2 still waits in MPI" in notes
    assert "MPICH" in notes
    with pytest.raises(EngineError, match="cannot take work") as caught:
        rc[:].spmd_async(ranks).get(timeout=TIMEOUT)
    assert rc[[1, 3]].spmd_async(ranks).get(timeout=TIMEOUT) == [(0, 2, 1), (1, 2, 1)]
    assert rc.load_balanced_view().map_async(abs, range(-5, 5)).get(timeout=TIMEOUT) == [*range(5, 0, -1), *range(5)]
    result = rc[[1, 3]].apply_async(lambda: print("begun") or mpicluster.comm.recv(source=0))
    until_begun(result)
    assert result.interrupt()
    with pytest.raises(EngineError, match="interrupted"):
        result.get(timeout=TIMEOUT)
    with pytest.raises(EngineError, match="no engine"):
        rc.load_balanced_view().apply_async(abs, 1).get(timeout=TIMEOUT)


def until_begun(result):
    deadline = time.monotonic() + TIMEOUT
    while not all(result.stdout):
        assert time.monotonic() < deadline
        time.sleep(0.005)
