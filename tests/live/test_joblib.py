"""joblib and scikit-learn on the engines."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config

import mpicluster

TIMEOUT = 30


@pytest.fixture
def backend(rc4):
    """joblib uses the four engines."""
    rc4.load_balanced_view().register_joblib_backend("engines")
    with parallel_config(backend="engines"):
        yield rc4
    assert rc4[:].apply_sync(kept) == [[]] * 4  # what was shared is gone


def kept():
    from mpicluster.serial import shared

    return list(shared._kept)


def until(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_calls_run_on_the_engines(backend):
    pids = Parallel(n_jobs=-1)(delayed(os.getpid)() for _ in range(40))
    assert set(pids) <= set(backend[:].apply_sync(os.getpid))
    assert Parallel()(delayed(pow)(i, 2) for i in range(100)) == [i**2 for i in range(100)]
    assert Parallel(n_jobs=2)(()) == []


def test_n_jobs_counts_engines(backend):
    assert [joblib.effective_n_jobs(n) for n in (-1, -2, -100, None, 1, 3, 100)] == [4, 3, 1, 1, 1, 3, 4]
    with pytest.raises(ValueError, match="n_jobs == 0"):
        Parallel(n_jobs=0)(delayed(abs)(i) for i in range(3))
    assert set(Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(3))) == {os.getpid()}
    pids = backend[:].apply_sync(os.getpid)
    assert set(Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(40))) <= set(pids[:2])


def test_functions_bring_their_globals(backend, session):
    """Unlike those of `apply`: joblib's users expect it."""
    names = session("""
        import math
        table = {"a": 3}
        class Point:
            def __init__(self, x):
                self.x = x
        def f(i):
            return Point(math.sqrt(i) + table["a"])
    """)
    assert [p.x for p in Parallel()(delayed(names["f"])(i * i) for i in range(5))] == [3, 4, 5, 6, 7]


def test_quick_calls_are_put_together(backend):
    first = backend[0].apply_async(abs, 1)
    assert Parallel()(delayed(abs)(-i) for i in range(3000)) == list(range(3000))
    last = backend[0].apply_async(abs, 1)
    numbers = [int(r.msg_ids[0].split("_")[1]) for r in (first, last)]
    assert numbers[1] - numbers[0] < 1500


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_values_as_they_come(backend, return_as):
    values = Parallel(return_as=return_as)(delayed(abs)(-i) for i in range(50))
    assert sorted(values) == list(range(50))
    values = Parallel(n_jobs=2, return_as=return_as)(delayed(abs)(-i) for i in range(50))
    next(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib says that the rest was not asked for
        values.close()
        del values
        gc.collect()
    assert Parallel()(delayed(abs)(-i) for i in range(5)) == list(range(5))


def test_one_instance_for_several_calls(backend):
    with Parallel(n_jobs=4) as parallel:
        for k in range(3):
            assert parallel(delayed(pow)(i, k) for i in range(10)) == [i**k for i in range(10)]


def test_errors_have_their_types_and_leave_the_engines_ready(backend):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            Parallel()(delayed(divmod)(1, i - 5) for i in range(100))
    assert Parallel()(delayed(abs)(-i) for i in range(5)) == list(range(5))


def test_what_cannot_be_sent_is_an_error_not_a_hang(backend):
    lock = threading.Lock()
    for calls in ([lock], [*range(100), lock]):
        with pytest.raises(TypeError, match="pickle"):
            Parallel()(delayed(str)(x) for x in calls)
    with pytest.raises(mpicluster.SerializationError):
        Parallel()(delayed(threading.Lock)() for x in range(4))


def test_a_timeout(backend, gate):
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.1)(delayed(gate.pass_through)(i) for i in range(20))
    until(lambda: not backend.outstanding)  # what ran was interrupted, what was queued behind it was taken back
    assert gate.came() <= 4


def nested(i):
    inner = Parallel(n_jobs=-1)
    values = inner(delayed(deeper)(j) for j in range(3))
    return type(inner._backend).__name__, sum(v for v, _ in values), {name for _, name in values}, threading.active_count()


def deeper(j):
    inner = Parallel(n_jobs=4)
    return sum(inner(delayed(abs)(-k) for k in range(j))), type(inner._backend).__name__


def test_calls_within_calls_stay_on_their_engine(backend):
    """No deadlock, and no more threads than the engine has cores."""
    for outer, total, inner, threads in Parallel(n_jobs=4)(delayed(nested)(i) for i in range(8)):
        assert outer in ("SequentialBackend", "InnerThreads")
        assert inner == {"SequentialBackend"}
        assert total == 1
        assert threads < 10 + (os.cpu_count() or 1)


def threads_of_blas(_):
    import threadpoolctl

    return {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}


def test_threads_within_a_call(rc4):
    rc4[:].execute("import numpy", block=True)
    rc4.load_balanced_view().register_joblib_backend("engines")
    with parallel_config(backend="engines", inner_max_num_threads=1):
        for threads in Parallel()(delayed(threads_of_blas)(i) for i in range(4)):
            assert threads <= {1}


def facts(array, i):
    return float(array[i]), array.flags.writeable, id(array), type(array) is np.ndarray, os.getpid()


def test_a_large_array_is_sent_once(backend):
    array = np.arange(1_000_000.0)
    seen = Parallel()(delayed(facts)(array, i) for i in range(100))
    assert [value for value, *_ in seen] == list(range(100))
    assert {tuple(kind) for _, *kind, _, _, _ in seen} == {(False,)}
    assert len({(pid, identity) for _, _, identity, _, pid in seen}) <= 4


def test_a_large_array_that_comes_later(backend):
    """Known to be shared when it is seen again."""
    first, later = np.zeros(200_000), np.arange(300_000.0)
    inputs = [first] * 4 + [later] * 60
    seen = Parallel(batch_size=1)(delayed(facts)(array, 5) for array in inputs)
    assert [value for value, *_ in seen] == [0.0] * 4 + [5.0] * 60
    assert sum(writeable for _, writeable, *_ in seen) <= 1


def test_arrays_of_a_kind(backend):
    """Each its own, small, large, in Fortran's order, of objects; made on the fly, so that many have the same id one after another."""
    for dtype, count, order in (("f8", 10, "C"), ("i4", 400_000, "F"), ("c16", 100_000, "C"), (object, 200_000, "C")):
        arrays = (np.full((count // 2, 2), i, dtype, order=order) for i in range(30))
        sums = Parallel(batch_size=2)(delayed(np.sum)(a) for a in arrays)
        assert sums == [i * (count // 2) * 2 for i in range(30)]


def test_a_memory_mapped_array_need_not_be_on_the_engines_host(backend, tmp_path):
    path = tmp_path / "array"
    for count in (100, 300_000):
        np.arange(float(count)).tofile(path)
        mapped = np.memmap(path, mode="r", dtype=float)
        path.unlink()
        seen = Parallel()(delayed(facts)(mapped, i) for i in range(20))
        assert [value for value, *_ in seen] == list(range(20))
        assert all(plain for *_, plain, _ in seen)


def test_an_array_changed_between_calls_is_sent_again(backend):
    array = np.zeros(500_000)
    for k in range(3):
        array[:] = k
        assert Parallel()(delayed(facts)(array, 7) for _ in range(8))[-1][0] == k


def test_ctrl_c_takes_back_what_is_queued(rc4, gate, tmp_path):
    """In a process of its own, which is interrupted while its calls hold the engines."""
    code = f"""if 1:
        import os, signal, sys, threading
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import joblib, mpicluster
        from joblib import Parallel, delayed, parallel_config
        from mpicluster.client.joblib_backend import MPIClusterBackend
        from test_results import Gate
        submitted = []
        class Noting(MPIClusterBackend):
            def submit(self, *args, **kwargs):
                submitted.append(super().submit(*args, **kwargs))
                return submitted[-1]
        gate = Gate({str(tmp_path)!r})
        rc = mpicluster.Client({str(contact_path(rc4))!r})
        joblib.register_parallel_backend("engines", lambda **options: Noting(rc.load_balanced_view(), **options))
        def interrupt():
            gate.wait_until_came(4)
            while len(submitted) < 100:
                os.sched_yield()
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            with parallel_config(backend="engines"):
                Parallel(pre_dispatch="all", batch_size=1)(delayed(gate.pass_through)(i) for i in range(100))
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        while len(rc.outstanding) > 8:  # those that run, and those that forget
            os.sched_yield()
        gate.open()
        rc.wait()
        print(gate.came(), Parallel(n_jobs=1)(delayed(abs)(-i) for i in range(3)))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["interrupted", "4 [0, 1, 2]"], done.stderr
    assert gate.came() == 4
    assert rc4[:].apply_sync(abs, -1) == [1] * 4


def contact_path(rc):
    (path,) = Path(os.environ["MPICLUSTER_STATE_DIR"]).glob(f"*/{rc.contact.cluster}.json")
    return path


def test_an_engine_that_dies_takes_no_call_along(fresh, tmp_path):
    """Where the MPI goes on; else the call fails, and says why."""
    rc = fresh(3)
    marker = str(tmp_path / "died")
    rc.load_balanced_view().register_joblib_backend("engines")
    array = np.ones(300_000)
    with parallel_config(backend="engines"):
        if not rc.contact.survives:
            with pytest.raises(mpicluster.ClusterStopped, match="died"):
                Parallel(batch_size=1)(delayed(die_once)(marker, array, i) for i in range(30))
            return
        values = Parallel(batch_size=1)(delayed(die_once)(marker, array, i) for i in range(30))
    assert values == [300_000.0 + i for i in range(30)]
    assert len(rc) == 2


def die_once(marker, array, i):
    if i == 7 and not os.path.exists(marker):
        with open(marker, "w"):
            os.kill(os.getpid(), 9)
    return float(array.sum()) + i


def test_scikit_learn_gives_the_serial_numbers(backend):
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score

    x, y = make_classification(4000, 40, random_state=0)  # 1.3 MB: shared
    forest = RandomForestClassifier(4, max_depth=4, random_state=0, n_jobs=2)  # itself a user of joblib
    with parallel_config(backend="sequential"):
        serial = cross_val_score(forest, x, y, cv=4)
        search = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1.0]}, cv=3, n_jobs=1).fit(x, y)
    np.testing.assert_array_equal(cross_val_score(forest, x, y, cv=4, n_jobs=4), serial)
    parallel = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1.0]}, cv=3, n_jobs=4).fit(x, y)
    np.testing.assert_array_equal(parallel.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"])
    assert parallel.best_params_ == search.best_params_
    np.testing.assert_array_equal(parallel.best_estimator_.coef_, search.best_estimator_.coef_)


def test_the_backend_of_the_default_cluster(rc4):
    mpicluster.register_joblib_backend()
    with parallel_config(backend="mpicluster", profile=rc4.contact.profile, cluster=rc4.contact.cluster):
        pids = Parallel(n_jobs=4)(delayed(os.getpid)() for _ in range(20))
    assert set(pids) <= set(rc4[:].apply_sync(os.getpid))
    with pytest.raises(mpicluster.NoCluster), parallel_config(backend="mpicluster", cluster="no-such-cluster"):
        Parallel()(delayed(abs)(i) for i in range(3))
