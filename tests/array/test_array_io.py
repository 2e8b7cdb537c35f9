"""What is written can be read: by NumPy, h5py and zarr, and back, in every layout; what fails fails on all ranks, and leaves nothing."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import resource
import sys

import numpy as np
import pytest

import mpicluster.array as xp
from mpicluster.array import files

pytestmark = pytest.mark.spmd

KINDS = ("float64", "float32", "complex128", "int8", "uint64", "bool", ">i4")


def values(shape, kind="float64"):
    n = int(np.prod(shape))
    return (np.arange(n) % 120).reshape(shape).astype(kind)


def layouts(shape, size):
    if not shape:
        return [xp.Replicated()]
    found = [xp.Replicated(), *(xp.Block(i) for i in range(len(shape))), xp.BlockCyclic(len(shape) - 1, 2)]
    return [*found, xp.Block(0, tuple(shape[0] if r == size - 1 else 0 for r in range(size)))]


@contextlib.contextmanager
def in_turn(comm):
    """Rank 0 does what is in the block while the others wait."""
    comm.Barrier()
    try:
        yield comm.rank == 0
    finally:
        comm.Barrier()


@contextlib.contextmanager
def short_stretches():
    """Small arrays take the way of large ones: what lies in one piece in a file is not redistributed."""
    files._STRETCH, before = 1, files._STRETCH
    try:
        yield
    finally:
        files._STRETCH = before


def raises(comm, error, text, call, *, alike=True):
    """All ranks raise the same (where several fail, each its own); afterwards they still agree."""
    with pytest.raises(error, match=text) as caught:
        call()
    said = comm.allgather((str(caught.value), getattr(caught.value, "errno", None)))
    assert not alike or len(set(said)) == 1


def whole(x):
    return np.asarray(x)


# -- .npy ------------------------------------------------------------------------------------------------------------------------------


def cases(size, kinds=KINDS):
    """Every layout of every shape, with one type after another."""
    kind = itertools.cycle(kinds)
    for shape in ((), (7,), (5, 3), (3, 2, 4), (0, 3), (1, 9)):
        for i, layout in enumerate(layouts(shape, size)):
            yield values(shape, next(kind)), layout, short_stretches() if i % 2 else contextlib.nullcontext()


def test_npy_files_are_those_of_numpy(comm, tmp_path):
    """The same bytes as ``numpy.save``, whatever the layout; and read in any other, also where nothing is redistributed."""
    for i, (x, layout, stretches) in enumerate(cases(comm.size)):
        known = io.BytesIO()
        np.save(known, x)
        path = tmp_path / f"{i}.npy"
        with stretches:
            xp.save(path, xp.asarray(x, layout=layout))
            assert path.read_bytes() == known.getvalue()
            got = xp.load(str(path), layout=layout)
        assert got.layout == layout.settled(x.shape, comm.size)
        assert got.dtype == x.dtype
        np.testing.assert_array_equal(whole(got), x)
    np.testing.assert_array_equal(whole(xp.load(path)), x)


def test_npy_files_of_every_version_and_order(comm, tmp_path):
    x = values((6, 5, 4))
    with in_turn(comm) as first:
        if first:
            np.save(tmp_path / "fortran.npy", np.asfortranarray(x))
            for version in ((1, 0), (2, 0), (3, 0)):
                with open(tmp_path / f"v{version[0]}.npy", "wb") as stream:
                    np.lib.format.write_array(stream, x, version)
    grid = [xp.BlockCyclic2D((1, comm.size), (2, 1))]
    for layout in (*layouts(x.shape, comm.size), None):
        for stretches in (contextlib.nullcontext(), short_stretches()):
            with stretches:
                got = xp.load(tmp_path / "fortran.npy", layout=layout)
                assert layout is None or got.layout == layout.settled(x.shape, comm.size)
                np.testing.assert_array_equal(whole(got), x)
    for version in (1, 2, 3):
        np.testing.assert_array_equal(whole(xp.load(tmp_path / f"v{version}.npy")), x)
    with in_turn(comm) as first:
        if first:
            np.save(tmp_path / "fortran.npy", np.asfortranarray(x[0]))
    np.testing.assert_array_equal(whole(xp.load(tmp_path / "fortran.npy", layout=grid[0])), x[0])


def test_blocks_that_do_not_lie_in_order_are_written_in_order(comm, tmp_path):
    """Transposed blocks, in pieces; and more bytes than go in one call of MPI."""
    x = values((40, 6))
    files._PIECE, files._GIB, before = 100, 64, (files._PIECE, files._GIB)
    try:
        xp.save(tmp_path / "x.npy", xp.asarray(np.ascontiguousarray(x.T), layout=xp.Block(1)).T)
        got = xp.load(tmp_path / "x.npy")
    finally:
        files._PIECE, files._GIB = before
    np.testing.assert_array_equal(whole(got), x)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), x)


def test_a_block_of_rows_is_written_and_read_without_moving(comm, tmp_path):
    x = xp.zeros((comm.size * 4, 100))
    x.mesh.traffic.clear()
    xp.save(tmp_path / "x.npy", x)
    xp.load(tmp_path / "x.npy")
    assert "send" not in x.mesh.traffic.messages
    assert "allgather" not in x.mesh.traffic.messages


def test_what_is_no_such_file_is_refused_by_all(comm, tmp_path):
    with in_turn(comm) as first:
        if first:
            (tmp_path / "text.npy").write_text("no array")
            (tmp_path / "folder.npy").mkdir()
            np.save(tmp_path / "cut.npy", values((9, 9)))
            os.truncate(tmp_path / "cut.npy", 200)
            np.save(tmp_path / "pairs.npy", np.zeros(3, [("a", int), ("b", float)]))
            np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
            np.save(tmp_path / "good.npy", values(5))
            (tmp_path / "new.npy").write_bytes(b"\x93NUMPY\x09\x00v\x00")
    for error, text, name in (
        (FileNotFoundError, "missing.npy", "missing.npy"),
        (FileNotFoundError, "none", "none/x.npy"),
        (IsADirectoryError, "folder.npy", "folder.npy"),
        (ValueError, "text.npy is no .npy file", "text.npy"),
        (ValueError, "version 9.0", "new.npy"),
        (ValueError, "cut off: it has 200 bytes", "cut.npy"),
        (TypeError, "only numbers", "pairs.npy"),
        (TypeError, "only numbers", "objects.npy"),
        (ValueError, "known", "x.mat"),
        (ValueError, "known", "noending"),
    ):
        raises(comm, error, text, lambda name=name: xp.load(tmp_path / name))
    raises(comm, ValueError, "axis 1", lambda: xp.load(tmp_path / "good.npy", layout=xp.Block(1)))
    raises(comm, TypeError, "no option 'name'", lambda: xp.load(tmp_path / "good.npy", name="x"))
    np.testing.assert_array_equal(whole(xp.load(tmp_path / "good.npy")), values(5))


def test_what_cannot_be_written_leaves_what_was_there(comm, tmp_path):
    """No folder, a folder in its place, and no space (a limit on the size of files, as a full disk, is met in the midst of writing)."""
    x, small = xp.asarray(values((comm.size * 100, 100))), xp.asarray(values(5))
    with in_turn(comm) as first:
        if first:
            (tmp_path / "folder.npy").mkdir()
    raises(comm, FileNotFoundError, "none", lambda: xp.save(tmp_path / "none" / "x.npy", x))
    raises(comm, IsADirectoryError, "folder.npy", lambda: xp.save(tmp_path / "folder.npy", x))
    with in_turn(comm) as first:
        if first:
            os.mkfifo(tmp_path / "pipe.npy")
    raises(comm, OSError, "not a regular file", lambda: xp.save(tmp_path / "pipe.npy", x))
    raises(comm, TypeError, "numbers and truth values", lambda: xp.save(tmp_path / "x.npy", np.zeros(3, "datetime64[s]")))
    names = ["x.npy", "x.h5", "x.csv"]
    for name in names:
        xp.save(tmp_path / name, small)
    before = {name: (tmp_path / name).read_bytes() for name in names}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    comm.Barrier()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        for name in (*names, "new.h5"):
            call = functools.partial(xp.save, tmp_path / name, x)
            raises(comm, OSError, "could not be written|File too large", call, alike=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    comm.Barrier()
    assert (tmp_path / "x.npy").read_bytes() == before["x.npy"]
    assert (tmp_path / "x.csv").read_bytes() == before["x.csv"]
    assert not (tmp_path / "new.h5").exists()
    np.testing.assert_array_equal(whole(xp.load(tmp_path / "x.h5", name="data")), values(5))
    assert not [item for item in tmp_path.iterdir() if item.name.startswith(".")]
    comm.Barrier()
    xp.save(tmp_path / "x.npy", x)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), whole(x))


def test_links_and_permissions_stay(comm, tmp_path):
    x = xp.asarray(values(6))
    xp.save(tmp_path / "x.npy", x)
    with in_turn(comm) as first:
        if first:
            (tmp_path / "x.npy").chmod(0o640)
            (tmp_path / "link.npy").symlink_to("x.npy")
    xp.save(tmp_path / "link.npy", x * 2)
    assert (tmp_path / "link.npy").is_symlink()
    assert (tmp_path / "x.npy").stat().st_mode & 0o777 == 0o640
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), values(6) * 2)


# -- HDF5 and Zarr ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_datasets_in_every_layout(comm, tmp_path, suffix):
    for i, (x, layout, stretches) in enumerate(cases(comm.size, KINDS[:-1])):
        path = tmp_path / f"{i}.{suffix}"
        with stretches:
            xp.save(path, xp.asarray(x, layout=layout))
            got = xp.load(path, layout=layout)
        assert got.layout == layout.settled(x.shape, comm.size)
        assert got.dtype == x.dtype
        np.testing.assert_array_equal(whole(got), x)
        np.testing.assert_array_equal(_read(path), x)


def _read(path):
    if path.suffix == ".zarr":
        import zarr

        return zarr.open_array(path, mode="r")[...]
    import h5py

    with h5py.File(path, "r") as file:
        return file["data"][()]


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_several_arrays_in_one_file(comm, tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    a, b, c = values((8, 3)), values(9, "int16"), values((2, 2), "complex64")
    xp.save(path, xp.asarray(a), name="a")
    xp.save(path, xp.asarray(c), name="b")
    xp.save(path, xp.asarray(b), name="b")
    xp.save(path, xp.asarray(c), name="deep/er/c")
    for name, x in (("a", a), ("b", b), ("deep/er/c", c)):
        np.testing.assert_array_equal(whole(xp.load(path, name=name)), x)
    raises(comm, ValueError, "a, b", lambda: xp.load(path))
    raises(comm, (KeyError, FileNotFoundError), "none", lambda: xp.load(path, name="none"))
    raises(comm, (ValueError, FileExistsError), "deep", lambda: xp.save(path, xp.asarray(a), name="deep"))
    np.testing.assert_array_equal(whole(xp.load(path, name="deep/er/c")), c)
    assert not [item for item in tmp_path.iterdir() if item.name.startswith(".")]


def test_datasets_of_others(comm, tmp_path):
    """Chunked and compressed ones; what holds no numbers; what is no such file."""
    import h5py
    import zarr

    x = values((30, 7))
    with in_turn(comm) as first:
        if first:
            with h5py.File(tmp_path / "x.h5", "w") as file:
                file.create_dataset("chunked", data=x, chunks=(4, 3), compression="gzip")
                file.create_dataset("text", data=["a", "b"])
            zarr.create_array(tmp_path / "x.zarr", data=x, chunks=(4, 3), zarr_format=2)
            (tmp_path / "folder.zarr").mkdir()
            (tmp_path / "folder.zarr" / "mine").write_text("keep")
            (tmp_path / "text.h5").write_text("none")
    for layout in layouts(x.shape, comm.size):
        np.testing.assert_array_equal(whole(xp.load(tmp_path / "x.h5", name="chunked", layout=layout)), x)
        np.testing.assert_array_equal(whole(xp.load(tmp_path / "x.zarr", layout=layout)), x)
    raises(comm, TypeError, "only numbers", lambda: xp.load(tmp_path / "x.h5", name="text"))
    raises(comm, OSError, "", lambda: xp.load(tmp_path / "text.h5"))
    raises(comm, OSError, "", lambda: xp.save(tmp_path / "text.h5", x))
    for suffix in ("h5", "zarr"):
        raises(comm, FileNotFoundError, "missing", lambda suffix=suffix: xp.load(tmp_path / f"missing.{suffix}"))
        raises(comm, FileNotFoundError, "none", lambda suffix=suffix: xp.save(tmp_path / "none" / f"x.{suffix}", x))
    raises(comm, FileExistsError, "no array", lambda: xp.save(tmp_path / "folder.zarr", x))
    raises(comm, FileExistsError, "no group", lambda: xp.save(tmp_path / "x.zarr", x, name="a"))
    assert (tmp_path / "folder.zarr" / "mine").read_text() == "keep"
    xp.save(tmp_path / "x.zarr", xp.asarray(x * 2))
    np.testing.assert_array_equal(_read(tmp_path / "x.zarr"), x * 2)


def test_chunks_are_blocks_cut_into_equal_parts():
    from mpicluster.array.zarr import _chunked

    for shape, layout, size, want in (
        ((10, 4), xp.Block(0), 4, ((3, 4), xp.Block(0, (3, 3, 3, 1)))),
        ((8,), xp.Block(0), 4, ((2,), xp.Block(0))),
        ((2, 9), xp.Block(1), 3, ((2, 3), xp.Block(1))),
        ((1, 3), xp.Block(0), 3, ((1, 3), xp.Block(0))),
        ((0, 3), xp.Block(0), 2, ((1, 3), xp.Block(0))),
        ((1 << 20, 64), xp.Block(0), 2, ((1 << 17, 64), xp.Block(0))),
        ((3, 1 << 24), xp.Block(0), 3, ((1, 1 << 23), xp.Block(0))),
        ((), xp.Replicated(), 3, ((), xp.Replicated())),
    ):
        assert _chunked(shape, layout, 8, size) == want


def test_without_the_library_all_are_told_what_to_install(comm, tmp_path):
    """Also where just one rank lacks it."""
    for library, suffix in (("h5py", "h5"), ("zarr", "zarr")):
        xp.save(tmp_path / f"x.{suffix}", 1.0)
        for lacking in (True, comm.rank == comm.size - 1):
            kept = {name: sys.modules.get(name) for name in [library] if lacking}
            for name in kept:
                sys.modules[name] = None
            try:
                raises(
                    comm,
                    ImportError,
                    rf'{library}.*pip install "mpicluster\[io\]"',
                    lambda suffix=suffix: xp.save(tmp_path / f"x.{suffix}", 1.0),
                )
                raises(
                    comm,
                    ImportError,
                    rf'{library}.*pip install "mpicluster\[io\]"',
                    lambda suffix=suffix: xp.load(tmp_path / f"x.{suffix}"),
                )
            finally:
                for name, module in kept.items():
                    sys.modules.pop(name)
                    if module is not None:
                        sys.modules[name] = module


# -- tables ----------------------------------------------------------------------------------------------------------------------------


def test_tables(comm, tmp_path):
    """Written such that each number comes back; read by all ranks, whatever line begins in whose part."""
    rng = np.random.default_rng(3)
    for x in (rng.standard_normal((23, 3)), rng.standard_normal(7).astype("float32"), values((4, 2), "int64"), values((1, 5), "bool")):
        for layout in layouts(x.shape, comm.size):
            xp.save(tmp_path / "x.csv", xp.asarray(x, layout=layout), header="a,b,c")
            got = xp.load(tmp_path / "x.csv", skiprows=1, dtype=x.dtype, layout=xp.Block(0))
            assert got.dtype == x.dtype
            np.testing.assert_array_equal(whole(got), x.reshape(len(x), -1))
        assert (tmp_path / "x.csv").read_text().startswith("a,b,c\n")
    cases = {
        "plain.csv": ("1,2\n3,4\n5,6\n", {}),
        "no_end.csv": ("1,2\n3,4", {}),
        "windows.csv": ("\ufeffx,y\r\n1,2\r\n\r\n3,4\r\n", {"skiprows": 1}),
        "blank.csv": ("\n\n# note\n1,2 # more\n\n3,4\n\n\n", {}),
        "spaces.txt": ("1  2\t3\n4 5 6\n", {"delimiter": None}),
        "columns.txt": ("1;x;3\n4;y;6\n", {"delimiter": ";", "usecols": (2, 0)}),
        "long.csv": (",".join(map(str, range(500))) + "\n" + ",".join("1" * 500) + "\n", {}),
        "one.csv": ("7\n", {"dtype": "int32"}),
        "none.csv": ("", {}),
        "header.csv": ("a,b\n", {"skiprows": 1}),
    }
    wanted = {
        "blank.csv": [[1, 2], [3, 4]],
        "windows.csv": [[1, 2], [3, 4]],
        "columns.txt": [[3, 1], [6, 4]],
        "none.csv": np.empty((0, 0)),
        "header.csv": np.empty((0, 0)),
    }
    for name, (text, options) in cases.items():
        with in_turn(comm) as first:
            if first:
                (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        got = xp.load(tmp_path / name, **options)
        want = wanted[name] if name in wanted else np.loadtxt(tmp_path / name, ndmin=2, **{"delimiter": ",", **options})
        np.testing.assert_array_equal(whole(got), want)
        assert got.dtype == options.get("dtype", "float64")


def test_tables_in_small_pieces(comm, tmp_path):
    """A piece of text ends anywhere: within a line, within its end, after an empty one."""
    from mpicluster.array import csv

    text = "".join(f"{i},{i * i}\r\n\n" for i in range(60))
    with in_turn(comm) as first:
        if first:
            (tmp_path / "x.csv").write_text(text, newline="")
            (tmp_path / "bad.csv").write_text(text + "60,x\n", newline="")
    csv._PIECE, csv._LOOK, before = 50, 7, (csv._PIECE, csv._LOOK)
    try:
        got = xp.load(tmp_path / "x.csv")
        raises(comm, ValueError, "line 121: could not convert string 'x'", lambda: xp.load(tmp_path / "bad.csv"))
    finally:
        csv._PIECE, csv._LOOK = before
    np.testing.assert_array_equal(whole(got), [[i, i * i] for i in range(60)])


def test_a_malformed_line_is_named_by_all(comm, tmp_path):
    good = [f"{i},{i},{i}" for i in range(40)]
    for name, line, text, options in (
        ("word", "1,x,3", "line 31: could not convert string 'x' to float64, column 2", {}),
        ("empty", "1,,3", "line 31: could not convert string '' to float64, column 2", {}),
        ("short", "1,2", "line 31: 2 columns, where the first row has 3", {}),
        ("long", "1,2,3,4", "line 31: 4 columns, where the first row has 3", {}),
        ("fraction", "1,2.5,3", "line 31: could not convert string '2.5' to int64", {"dtype": "int64"}),
        ("usecols", "1,2", "line 31: invalid column index 2 with 2 columns", {"usecols": [2]}),
    ):
        with in_turn(comm) as first:
            if first:
                (tmp_path / f"{name}.csv").write_text("\n".join(["a,b,c", *good[:29], line, *good[29:]]) + "\n")
        raises(
            comm,
            ValueError,
            f"{name}.csv, {text}",
            lambda name=name, options=options: xp.load(tmp_path / f"{name}.csv", skiprows=1, **options),
        )
    with in_turn(comm) as first:
        if first:
            (tmp_path / "halves.csv").write_text("1,2,3\n" * 20 + "1,2\n" * 40)
    raises(comm, ValueError, "halves.csv, line 2[0-9]: 2 columns|line 3[0-9]: 2 columns", lambda: xp.load(tmp_path / "halves.csv"))
    raises(comm, ValueError, "one dimension or two", lambda: xp.save(tmp_path / "x.csv", values((2, 2, 2))))
    raises(comm, TypeError, "complex64", lambda: xp.save(tmp_path / "x.csv", values(3, "complex64")))
    raises(comm, FileNotFoundError, "missing", lambda: xp.load(tmp_path / "missing.csv"))
    raises(comm, TypeError, "only numbers", lambda: xp.load(tmp_path / "word.csv", dtype="U3"))
    assert xp.load(tmp_path / "word.csv", skiprows=32).shape == (10, 3)
