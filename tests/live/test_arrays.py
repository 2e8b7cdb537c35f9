"""Arrays that live on engines, from a client: handles, order, errors, and what is freed."""

from __future__ import annotations

import gc
import inspect
import os
import signal
import subprocess
import sys
import time

import msgspec
import numpy as np
import pytest

import mpicluster


def counts(rc) -> list[int]:
    """How many objects each engine holds for clients."""
    return rc[:].apply_sync(held)


def held() -> int:
    """On an engine."""
    from mpicluster.array.darray import DistArray

    gc.collect()
    return sum(1 for x in gc.get_objects() if isinstance(x, DistArray))


def settles(rc, wanted) -> None:
    """Wait until the engines hold so many arrays."""
    gc.collect()  # errors of other tests refer to handles
    deadline = time.monotonic() + 10
    while (now := counts(rc)) != [wanted] * len(rc):
        assert time.monotonic() < deadline, (now, wanted)


def test_there_and_back(rc):
    """Small and large arrays, of any type, in any shape."""
    for shape in [(), (1,), (7, 3), (0, 4), (2, 50_000), (100_003,)]:
        for dtype in ("float64", "complex64", "int8", "bool"):
            values = (np.arange(int(np.prod(shape))) % 100).reshape(shape).astype(dtype)
            back = np.asarray(rc.xp.asarray(values))
            assert back.dtype == values.dtype
            np.testing.assert_array_equal(back, values)


def test_shape_and_type_are_known_without_asking(rc4, gate):
    """While engines are busy, they need not be asked."""
    busy = rc4[:].apply_async(gate.pass_through)
    x = rc4.xp.ones((8, 5), dtype="float32")
    y = (x + 1).T @ x
    assert y.shape == (5, 5)
    assert y.dtype == np.float32
    assert rc4.xp.sum(y, axis=0).shape == (5,)
    assert (x > 0).dtype == bool
    assert rc4.xp.reshape(x, (-1, 2)).shape == (20, 2)
    assert x[1:, None, ::2].shape == (7, 1, 3)
    assert rc4.xp.vecdot(x, x[:, :1, None], axis=0).shape == (1, 5)
    assert rc4.xp.linalg.cross(x[:3], x[:3, :1], axis=0).shape == (3, 5)
    assert not x.wait(0.01)
    gate.open()
    busy.get(30)


def test_an_array_of_which_nothing_is_known_is_not_taken_for_none(rc4):
    """Neither for a new axis, nor for a bound that there is not."""
    x = rc4.xp.arange(5) * 10
    assert x._meta is not None
    some = rc4.xp.take(rc4.xp.arange(5), rc4.xp.asarray([1, 2]))
    assert some._meta is None
    assert x[some].shape == (2,)
    assert rc4.xp.clip(x[0], min=rc4.xp.take(x, rc4.xp.asarray([1, 2]))).shape == (2,)
    assert rc4.xp.sum([1, 2]).shape == ()


def test_what_depends_on_values_is_not_waited_for(rc4, gate):
    """Nor is what is made of it, until a value is used: then one answer brings shape and value."""
    x = rc4.xp.asarray([3, 1, 3, 2])
    busy = rc4[:].apply_async(gate.pass_through)
    kinds = rc4.xp.unique_values(x)
    total = rc4.xp.sum(kinds * 2)
    assert total._meta is None
    gate.open()
    busy.get(30)
    assert int(total) == 12
    assert complex(total) == 12
    assert [total][total - 12] is total
    with pytest.raises(TypeError, match="only 0-dimensional") as e:
        float(kinds)
    assert any("test_arrays.py" in note for note in e.value.__notes__)
    assert kinds.shape == (3,)


@pytest.mark.parametrize("ends", [(5,), (2, 9), (9, 2), (9, 2, -2), (0, 1, 0.3), (5.0,), (np.float32(3),), (np.int8(3), 7)], ids=str)
def test_ranges_are_known_without_asking(rc4, ends):
    x, expected = rc4.xp.arange(*ends), np.arange(*ends)
    assert x._meta is not None
    assert x.shape == expected.shape
    assert rc4.xp.arange(*ends, dtype="complex64").dtype == "complex64"
    values = np.asarray(x)
    assert (values.shape, values.dtype) == (x.shape, x.dtype)
    np.testing.assert_allclose(values, expected)


def test_what_numpy_refuses_is_refused_at_once(rc4, gate):
    busy = rc4[:].apply_async(gate.pass_through)
    x = rc4.xp.ones((8, 5))
    with pytest.raises(ValueError, match="broadcast"):
        _ = x + rc4.xp.ones(7)
    with pytest.raises(ValueError, match="inner dimensions"):
        _ = x @ x
    with pytest.raises(IndexError):
        _ = x[9]
    with pytest.raises(ValueError, match="cannot reshape array of size 40"):
        rc4.xp.reshape(x, (3, 3))
    for mask in (x[:, 0] > 1, x[:, :4] > 1, x[..., None] > 1):
        with pytest.raises(IndexError):
            _ = x[1:][mask]
    for product in (rc4.xp.vecdot, rc4.xp.linalg.cross):
        with pytest.raises(ValueError, match="of length"):
            product(x, rc4.xp.ones(7))
    with pytest.raises(TypeError, match="cannot cast"):
        x += 1j
    gate.open()
    busy.get(30)


def test_operations_are_done_in_the_order_in_which_they_were_asked_for(rc):
    x = rc.xp.zeros(10)
    for i in range(300):
        x = x * 2 + i % 3
        x -= x
        x += i
    assert np.asarray(x).tolist() == [299.0] * 10


def test_in_order_with_everything_else(rc):
    """Names that are pushed, cells and operations come to the engines as they were written down."""
    view = rc[:]
    view.scatter("a", np.arange(10.0))
    x = rc.xp.from_engines("a")
    view.execute("a = a * 0")
    y = x + 1
    y.name = "y"
    y += 1
    view.execute("import mpicluster.array as xp; total = float(xp.sum(y))")
    assert view["total"] == [sum(range(10)) + 20.0] * len(rc)
    rc.xp.to_engines(y * 2, "b")
    np.testing.assert_array_equal(view.gather("b", block=True), (np.arange(10.0) + 2) * 2)
    again = rc.xp.from_engines("y")
    np.testing.assert_array_equal(np.asarray(again), np.arange(10.0) + 2)
    assert y.name == "y"


def test_an_error_comes_where_the_value_is_used(rc):
    """... says where the operation was asked for, and passes on to what needs it. What comes after works."""
    indefinite = rc.xp.asarray(np.array([[1.0, 2.0], [2.0, 1.0]]))
    factor = rc.xp.linalg.cholesky(indefinite)
    x = factor + 1
    for handle in (factor, x):
        with pytest.raises(np.linalg.LinAlgError, match="not positive definite") as e:
            np.asarray(handle)
        assert any("test_arrays.py" in note for note in e.value.__notes__)
        assert "failed" in repr(handle)
    np.testing.assert_allclose(np.asarray(rc.xp.linalg.cholesky(indefinite + 3 * rc.xp.eye(2)))[0], [2.0, 0.0])


def test_what_nobody_refers_to_is_freed(rc4):
    settles(rc4, 0)
    x = rc4.xp.ones(1000)
    for _ in range(50):
        x = x + 1
    assert float(rc4.xp.max(x)) == 51.0
    settles(rc4, 1)
    q, r = rc4.xp.linalg.qr(rc4.xp.ones((9, 2)))
    del q
    settles(rc4, 2)
    del x, r
    settles(rc4, 0)


def test_what_a_client_held_that_left_is_freed(rc4):
    settles(rc4, 0)
    with mpicluster.Client(rc4.contact) as other:
        x = other.xp.ones(10)
        assert x.wait(30)
        assert counts(rc4) == [1] * 4
    settles(rc4, 0)


def test_what_a_client_held_that_was_killed_is_freed(rc4, tmp_path):
    code = (
        f"import mpicluster, sys, time; rc = mpicluster.Client({str(tmp_path / 'contact.json')!r})\n"
        "x = rc.xp.ones(10); assert x.wait(30); print('held', flush=True); time.sleep(60)"
    )
    (tmp_path / "contact.json").write_bytes(msgspec.json.encode(rc4.contact))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert counts(rc4) == [1] * 4
        other.kill()
    settles(rc4, 0)


def test_some_engines(rc4):
    """A view's arrays live on its engines; those of different engines do not meet."""
    two = rc4[:2].xp
    assert two is rc4[:2].xp
    assert rc4.xp is rc4[:].xp
    x = two.ones(5)
    assert x.engines == [0, 1]
    assert float(two.sum(x)) == 5.0
    with pytest.raises(ValueError, match="engines 0, 1"):
        _ = rc4.xp.ones(5) + x
    assert float(rc4[2].xp.sum(rc4[2].xp.ones(3))) == 3.0


def test_a_repr_says_what_it_is(rc4, gate):
    x = rc4.xp.asarray(np.arange(12.0).reshape(4, 3))
    assert repr(x).startswith("RemoteArray(shape=(4, 3), dtype=float64, Block(0) on 4 engines)\n[[ 0.,  1.,  2.]")
    large = rc4.xp.zeros((1000, 1000))
    assert "..." in repr(large)
    assert len(repr(large)) < 1000
    assert "4 engines" in repr(rc4.xp.linalg)
    assert "[0, 1, 2" in repr(rc4.xp.asarray(np.arange(5), layout=rc4.xp.Replicated()))


def test_as_python_and_numpy_see_it(rc):
    xp = rc.xp
    x = xp.asarray([3])
    assert int(x[0]) == 3
    assert float(x[0]) == 3.0
    assert complex(x[0]) == 3
    assert bool(x[0])
    assert [10, 20, 30, 40][x[0]] == 40
    assert x.item() == 3
    assert x.tolist() == [3]
    assert len(xp.ones(7)) == 7
    assert [float(v) for v in xp.ones(3)] == [1.0] * 3
    with pytest.raises(ValueError, match="ambiguous"):
        bool(xp.ones(2))
    with pytest.raises(TypeError, match="index"):
        [1][xp.ones(())]
    with pytest.raises(TypeError, match="pickle"):
        rc[0].push({"x": x})
    assert isinstance(np.exp(x), type(x))


def test_as_other_libraries_see_it(rc4):
    """They ask what the standard has: the namespace's name, types and limits; signatures; and values by DLPack."""
    xp = rc4.xp
    x = xp.asarray(np.arange(6.0).reshape(2, 3))
    assert x.__array_namespace__(api_version="2025.12") is xp
    assert (xp.__name__, xp.linalg.__name__) == ("rc.xp", "rc.xp.linalg")
    info = xp.__array_namespace_info__()
    assert info.devices() == (x.device,)
    assert info.dtypes(kind="real floating") == {"float32": np.float32, "float64": np.float64}
    limits = xp.finfo(xp.asarray(1, dtype="float32"))
    assert (type(limits.eps), limits.eps, limits.dtype) == (float, 2.0**-23, np.float32)
    assert (xp.iinfo(np.int8).max, xp.isdtype(x.dtype, "integral")) == (127, False)
    assert str(inspect.signature(xp.zeros)) == "(shape, *, dtype=None, device=None, layout=None)"
    assert xp.linalg.qr.__doc__.startswith("`mpicluster.array.linalg.qr`, for arrays on engines.\n\n")
    np.testing.assert_array_equal(np.from_dlpack(x), np.arange(6.0).reshape(2, 3))
    with pytest.raises(BufferError, match="copy"):
        np.from_dlpack(x, copy=False)
    with pytest.raises(xp.linalg.LinAlgError):
        xp.linalg.inv(x)


def test_random_generators_live_there_too(rc):
    """Values do not depend on the number of engines."""
    rng = rc.xp.random.default_rng(7)
    a, b = rng.standard_normal((1000,)), rng.standard_normal((1000,))
    assert a.shape == (1000,)
    assert abs(float(rc.xp.mean(a))) < 0.2
    assert float(rc.xp.sum(rc.xp.abs(a - b))) > 1


def test_files_that_the_engines_write_and_read(rc, tmp_path):
    """In every format, as other programs have them; an error of theirs is raised here."""
    import h5py
    import zarr

    values = np.arange(21.0).reshape(7, 3)
    x = rc.xp.asarray(values)
    for name in ("x.npy", "x.h5", "x.zarr", "x.csv"):
        rc.xp.save(tmp_path / name, x)
        np.testing.assert_array_equal(np.asarray(rc.xp.load(tmp_path / name)), values)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), values)
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["data"][...], values)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "x.zarr", mode="r")[...], values)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "x.csv", delimiter=","), values)
    with pytest.raises(FileNotFoundError):
        np.asarray(rc.xp.load(tmp_path / "none.npy"))
    with pytest.raises(OSError):
        rc.xp.save(tmp_path / "no" / "such" / "folder.npy", x)
    assert float(rc.xp.sum(x)) == values.sum()


def test_aborted_operations_are_lost_and_say_so(rc4, gate):
    busy = rc4[:].apply_async(gate.pass_through)
    x = rc4.xp.ones(5)
    assert not x.wait(0.05)
    rc4.abort(x._batch.result)
    gate.open()
    busy.get(30)
    with pytest.raises(mpicluster.ArrayLost) as e:
        np.asarray(x + 1)
    assert isinstance(e.value.__cause__, mpicluster.TaskAborted)
    assert float(rc4.xp.sum(rc4.xp.ones(5))) == 5.0


def test_a_client_needs_no_mpi():
    code = (
        "import sys; sys.modules['mpi4py'] = None; import mpicluster, mpicluster.client.arrays.namespace as n; "
        "import mpicluster.client.arrays.infer, mpicluster.array.part; print('scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["False"]


def dies_in_a_factorization(comm):
    """Rank 1 is killed when it is about to send, or receive, its fifth panel."""
    import mpicluster.array as xp

    x = xp.random.default_rng(1).standard_normal((600, 600))
    if comm.rank == 1:
        begin, panels = x.mesh.ibcast, iter(range(5, -1, -1))

        def counting(array, root):
            if not next(panels):
                os.kill(os.getpid(), signal.SIGKILL)
            return begin(array, root)

        x.mesh.ibcast = counting
    return xp.linalg.lu_factor(x)


def test_an_engine_that_dies_in_a_factorization(fresh):
    """All that need it get a clear error; arrays that had a part on it are lost, and the next operation works."""
    rc = fresh(3)
    if not rc.contact.survives:
        pytest.skip("with this MPI one death ends the cluster: test_faults")
    xp = rc.xp
    x = xp.ones((600, 600))
    assert x.wait(60)
    with pytest.raises(mpicluster.EngineError):
        rc[:].spmd_async(dies_in_a_factorization).get(60)
    deadline = time.monotonic() + 30
    while rc.ids != [0, 2]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(mpicluster.EngineError, match="engine 1"):
        np.asarray(x)
    y = rc.xp.random.default_rng(1).standard_normal((300, 300))
    assert y.engines == [0, 2]
    np.testing.assert_allclose(np.asarray(y @ rc.xp.linalg.inv(y)), np.eye(300), atol=1e-9)
