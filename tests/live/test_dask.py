"""dask on the engines."""

from __future__ import annotations

import os
import threading
import time

import dask.array
import distributed
import psutil
import pytest

import mpicluster

TIMEOUT = 60


@pytest.fixture
def rc(fresh):
    """dask leaves modules and threads of its own in a process: engines of this file's alone."""
    return fresh(2)


def traces():
    import psutil

    # one idle thread for what takes long is dask's for the life of a process
    threads = {t.name for t in threading.enumerate() if "dask" in t.name.lower()} - {"Dask-Offload_0"}
    listening = [c.laddr.port for c in psutil.Process().net_connections("tcp") if c.status == "LISTEN"]
    return threads, listening, [p.name() for p in psutil.Process().children(recursive=True) if "dask" in " ".join(p.cmdline()).lower()]


def until(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_dask_beside_mpicluster(rc, gate):
    """Arrays and futures; the engines answer all the same; afterwards nothing is left."""
    before = rc[:].apply_sync(traces)
    pids = rc[:].apply_sync(os.getpid)
    rc[:].push({"x": [1, 2]}, block=True)
    client = rc.become_dask()
    assert isinstance(client, distributed.Client)
    assert client.scheduler.address.startswith("tls://127.0.0.1:")
    assert set(client.run(os.getpid).values()) == set(pids)
    array = dask.array.ones((1000, 1000), chunks=(100, 1000))
    assert array.sum().compute(scheduler=client) == 1_000_000
    assert client.gather(client.map(lambda i: i**2, range(20))) == [i**2 for i in range(20)]
    with pytest.raises(ZeroDivisionError):
        client.submit(divmod, 1, 0).result(timeout=TIMEOUT)
    # each sees the other's names
    assert client.submit(lambda: __import__("__main__").x).result(timeout=TIMEOUT) == [1, 2]
    assert rc[:]["dask_worker.name"] == rc.ids
    held = [client.submit(gate.pass_through, i, pure=False) for i in range(2)]
    gate.wait_until_came(2)
    assert rc[:].apply_sync(abs, -1) == [1] * len(rc)
    gate.open()
    assert client.gather(held) == [0, 1]

    rc.stop_dask()
    assert client.status == "closed"
    assert rc[:].apply_sync(traces) == before
    with pytest.raises(NameError):
        rc[0]["dask_worker"]
    rc.stop_dask()  # a second time changes nothing
    assert rc[:]["x"] == [[1, 2]] * len(rc)

    # and once more
    assert rc.become_distributed(nthreads=2).submit(abs, -1).result(timeout=TIMEOUT) == 1
    rc.stop_distributed()
    assert rc[:].apply_sync(traces) == before


def test_calling_it_twice(rc):
    first = rc.become_dask(targets=[0])
    assert first.submit(abs, -1).result(timeout=TIMEOUT) == 1
    second = rc.become_dask()
    assert second is first
    assert len(first.scheduler_info()["workers"]) == 2
    other = mpicluster.Client(rc.contact)  # another client finds the same
    third = other.become_dask()
    assert third is not first
    assert third.scheduler.address == first.scheduler.address
    third.close()
    other.close()
    rc.stop_dask(targets=[0])  # its worker; the scheduler goes on for the other
    until(lambda: len(first.scheduler_info()["workers"]) == 1)
    assert first.submit(abs, -2).result(timeout=TIMEOUT) == 2
    rc.stop_dask()
    assert first.status == "closed"


def test_a_worker_may_be_a_process_of_its_own(rc):
    client = rc.become_dask(nanny=True)
    workers = set(client.run(os.getpid).values())
    assert len(workers) == 2
    assert not workers & set(rc[:].apply_sync(os.getpid))
    rc.stop_dask()
    until(lambda: not any(psutil.pid_exists(pid) for pid in workers))


def test_a_wrong_option_leaves_nothing(rc):
    with pytest.raises(TypeError):
        rc.become_dask(no_such_option=1)
    rc.stop_dask()
    assert {tuple(threads) for threads, *_ in rc[:].apply_sync(traces)} == {()}


def test_a_cluster_that_ends_takes_dask_along(rc, recwarn):
    """The fixture sees that no process is left."""
    client = rc.become_dask()
    assert client.submit(abs, -1).result(timeout=TIMEOUT) == 1
    client.close()


def test_the_engine_of_the_scheduler_dies(rc):
    """Where the MPI goes on, dask can be started again on those that are left."""
    client = rc.become_dask()
    assert client.submit(abs, -1).result(timeout=TIMEOUT) == 1
    pid = rc[0].apply_sync(os.getpid)
    client.close()
    os.kill(pid, 9)
    if not rc.contact.survives:
        until(lambda: not rc.ids)
        with pytest.raises(mpicluster.ClusterStopped):
            rc.become_dask()
        return
    until(lambda: rc.ids == [1])
    until(lambda: not rc[1].apply_sync(works))
    again = rc.become_dask()
    assert again is not client
    assert again.submit(abs, -2).result(timeout=TIMEOUT) == 2
    rc.stop_dask()


def works():
    from mpicluster.client import dask_cluster

    return dask_cluster.state().works
