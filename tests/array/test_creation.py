"""New arrays hold what NumPy's hold, whatever the layout and the number of ranks."""

from __future__ import annotations

import array
import itertools
import math

import numpy as np
import pytest
from against_numpy import layouts, part, same

import mpicluster.array as xp
from mpicluster.errors import ArrayLost

pytestmark = pytest.mark.spmd

TYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128".split()
SHAPES = [(), (0,), (7,), (2, 9), (9, 0), (3, 4, 2)]


def test_constants_of_every_type_in_every_layout(comm):
    kinds = itertools.cycle([None, *TYPES])
    for shape in SHAPES:
        for layout in [None, *layouts(shape, comm.size)]:
            kind = next(kinds)
            same(xp.zeros(shape, dtype=kind, layout=layout), np.zeros(shape, kind))
            same(xp.ones(shape, dtype=kind, layout=layout), np.ones(shape, kind))
            same(xp.full(shape, 3, dtype="int8", layout=layout), np.full(shape, 3, "int8"))
            x = xp.empty(shape, dtype=xp.int16, layout=layout)
            assert (x.shape, x.dtype) == (shape, np.int16)
            for made, like in (
                (xp.zeros_like(x), np.zeros(shape, "int16")),
                (xp.ones_like(x, dtype=xp.float32), np.ones(shape, "float32")),
                (xp.full_like(x, 2.5), np.full(shape, 2, "int16")),
                (xp.full_like(x, 2.5, dtype=xp.complex64), np.full(shape, 2.5, "complex64")),
            ):
                same(made, like)
                assert made.layout == x.layout
            assert xp.empty_like(x).layout == x.layout
    same(xp.zeros(5), np.zeros(5))
    same(xp.zeros([np.int64(2), 3]), np.zeros((2, 3)))


def test_what_an_array_is_filled_with_gives_its_type(comm):
    for value, kind in ((True, "bool"), (2, "int64"), (2.0, "float64"), (2j, "complex128"), (np.float32(1), "float32")):
        same(xp.full((2, 5), value), np.full((2, 5), value, kind))
    same(xp.full(4, xp.asarray(2.5)), np.full(4, 2.5))
    same(xp.full_like(xp.zeros(4), xp.asarray(7)), np.full(4, 7.0))


def test_what_cannot_be_made_is_refused_on_all_ranks_also_where_nothing_lies(comm):
    for shape in (1, 0, 8):
        for make in (lambda n: xp.full(n, 300, dtype=xp.int8), lambda n: xp.full_like(xp.zeros(n, dtype=xp.int8), 300)):
            with pytest.raises(OverflowError):
                make(shape)
    with pytest.raises(OverflowError):
        xp.full(3, 2**70)
    for call in (
        lambda: xp.full(3, [1, 2, 3]),
        lambda: xp.full(3, xp.zeros(3)),
        lambda: xp.zeros(3, dtype=object),
        lambda: xp.zeros(2.5),
        lambda: xp.zeros(3, comm="world"),
        lambda: xp.asarray("text"),
        lambda: xp.asarray([None]),
        lambda: xp.from_local(np.array(["a"])),
        lambda: xp.from_local(xp.zeros(3)),
    ):
        with pytest.raises(TypeError):
            call()
    for call in (
        lambda: xp.zeros(-1),
        lambda: xp.zeros((2, -3)),
        lambda: xp.zeros(3, device="gpu"),
        lambda: xp.zeros((2, 3), layout=xp.Block(2)),
        lambda: xp.zeros(3, layout=xp.Block(0, (3,) * comm.size) if comm.size > 1 else xp.Block(0, (2,))),
        lambda: xp.zeros((), layout=xp.Block(0)),
        lambda: xp.tril(xp.zeros(3)),
        lambda: xp.meshgrid(xp.zeros(3), indexing="ji"),
        lambda: xp.asarray([[1, 2], [3]]),
    ):
        with pytest.raises(ValueError):
            call()
    same(xp.ones(3) + 1, np.full(3, 2.0))


def test_diagonals_and_triangles(comm):
    for n, m, k in itertools.product((0, 1, 5), (0, 2, 7), (-6, -1, 0, 3)):
        values = np.arange(1.0, n * m + 1).reshape(n, m)
        for layout in layouts((n, m), comm.size):
            same(xp.eye(n, m, k=k, layout=layout), np.eye(n, m, k))
            x = xp.asarray(values, layout=layout)
            same(xp.tril(x, k=k), np.tril(values, k))
            same(xp.triu(x, k=k), np.triu(values, k))
    for k, all_below in ((2**64, True), (-(2**64), False)):  # beyond what an index can be
        same(xp.eye(5, 7, k=k), np.zeros((5, 7)))
        x, none = xp.ones((5, 7)), np.zeros((5, 7))
        same(xp.tril(x, k=k), none + all_below)
        same(xp.triu(x, k=k), none + (not all_below))
    same(xp.eye(4, dtype=xp.bool), np.eye(4, dtype=bool))
    stack = np.arange(24).reshape(2, 4, 3) % 2 == 0
    for axis in range(3):
        same(xp.tril(xp.asarray(stack, layout=xp.Block(axis))), np.tril(stack))


def test_grids_of_coordinates(comm):
    one, other, third = np.arange(3), np.arange(5), np.arange(2)
    for arrays in ((one,), (one, other), (one, other, third), (one, other[:0]), (np.array(4), other), ()):
        for indexing in ("xy", "ij"):
            made = xp.meshgrid(*(xp.asarray(a) for a in arrays), indexing=indexing)
            assert isinstance(made, tuple)
            for ours, theirs in zip(made, np.meshgrid(*arrays, indexing=indexing), strict=True):
                same(ours, theirs)
    made = xp.meshgrid(xp.asarray(one, layout=xp.BlockCyclic(0, 1)), xp.asarray([0.5, 1.5]))
    same(made[0], np.meshgrid(one, [0.5, 1.5])[0])
    made[0].local[...] = 7
    same(made[1], np.meshgrid(one, [0.5, 1.5])[1])


# -- ranges ----------------------------------------------------------------------------------------------------------------------------


def ranges():
    """Ends and steps of every kind: whole, broken, tiny, huge, not dividing, the wrong way round."""
    rng = np.random.default_rng(3)
    yield from [(5,), (0,), (-3,), (2.5,), (1, 2, 0.1), (0, 1, 1 / 3), (10, 0, -3), (5, 5), (0, 10, 20), (1, 0), (True,)]
    yield from [(0.1, 1.1, 0.1), (0, 1e-320, 1e-310), (-0.0, 3.0), (1e300, 5e300, 1e300), (2**53, 2**53 + 9), (-(2**62), -(2**62) + 5, 2)]
    yield from [(0, 1e-323, 5e-324), (1e16, 1e16 + 20, 3.0), (0, -1, -0.125), (7, 2**62, 2**60), (np.float32(3),), (np.int8(3), 9)]
    yield from [(np.float32(0), np.float32(1), np.float32(0.25)), (np.uint8(3), np.uint8(9), np.uint8(2))]
    for _ in range(20):
        start, step = rng.uniform(-9, 9, 2)
        yield float(start), float(start + step * rng.uniform(-1, 30)), float(step)
    for _ in range(15):
        start, stop, step = (int(v) for v in rng.integers(-30, 30, 3))
        yield start, stop, step or 1


def test_ranges_are_numpys_to_the_last_bit_but_one(comm):
    for arguments in ranges():
        for kind in (None, "float32", "complex128", "int64", "int16", "float16"):
            with np.errstate(all="ignore"):
                try:
                    expected = np.arange(*arguments, dtype=kind)
                except OverflowError:
                    with pytest.raises(OverflowError):
                        xp.arange(*arguments, dtype=kind)
                    continue
            for layout in (None, xp.BlockCyclic(0, 3)):
                made = xp.arange(*arguments, dtype=kind, layout=layout)
                assert (made.shape, made.dtype) == (expected.shape, expected.dtype), arguments
                mine = part(made, expected)
                if mine.dtype.kind in "fc":
                    for ours, theirs in ((made.local.real, mine.real), (made.local.imag, mine.imag)):
                        with np.errstate(invalid="ignore"):
                            near = (ours == theirs) | (np.abs(ours - theirs) <= np.spacing(np.abs(theirs)))
                        assert (near | (np.isnan(ours) & np.isnan(theirs))).all(), (arguments, kind)
                else:
                    assert np.array_equal(made.local, mine), (arguments, kind)
    same(xp.arange(2, dtype=xp.bool), np.arange(2, dtype=bool))
    same(xp.arange(250, 253, dtype=xp.uint8), np.arange(250, 253, dtype="uint8"))
    same(xp.arange(5, 0, -1, dtype=xp.uint8), np.arange(5, 0, -1, dtype="uint8"))
    same(xp.arange(xp.asarray(4)), np.arange(4))


def test_ranges_that_have_no_end_or_no_type(comm):
    for error, arguments in (
        (ZeroDivisionError, (0, 5, 0)),
        (ZeroDivisionError, (0, 5, 0.0)),
        (ValueError, (0, math.inf)),
        (ValueError, (math.nan,)),
        (OverflowError, (2**63, 2**63 + 3)),
        (TypeError, (0, 3j)),
        (TypeError, (xp.zeros(3),)),
        (TypeError, ("a",)),
    ):
        with pytest.raises(error):
            xp.arange(*arguments)
    with pytest.raises(TypeError):
        xp.arange(3, dtype=xp.bool)
    for error, arguments in ((ValueError, (0, 1, -1)), (TypeError, (0, 1, 2.5)), (TypeError, (xp.zeros(2), 1, 3))):
        with pytest.raises(error):
            xp.linspace(*arguments)


def ends():
    """Ends of every kind, and how many numbers from one to the other."""
    rng = np.random.default_rng(4)
    yield from [(0, 1, 0), (0, 1, 1), (0, 1, 2), (0, 10, 11), (3, 3, 4), (5, -5, 7), (0, 5e-324, 9), (0.0, -0.0, 3), (True, 4, 5)]
    yield from [(-1e308, 1e308, 8), (0, 1, 100_003), (1 + 2j, -3 + 0.5j, 9), (0, 1j, 6), (1j, 1j, 3), (0, 1e-320, 30)]
    yield from [(np.float32(0), np.float32(1), 7), (np.float32(0), 1, 7), (np.complex64(1j), 0, 5), (np.int8(2), 100, 6)]
    for _ in range(30):
        start, stop = (float(v) for v in rng.uniform(-1e3, 1e3, 2))
        yield start, stop, int(rng.integers(0, 40))
        yield complex(start, stop), complex(stop, -1.5), int(rng.integers(0, 40))


def test_spaced_numbers_are_numpys_to_the_last_bit(comm):
    for start, stop, num in ends():
        for endpoint, kind in itertools.product((True, False), (None, "float32", "int64", "complex64")):
            if kind in ("float32", "int64") and np.iscomplexobj([start, stop]):
                continue
            with np.errstate(all="ignore"):
                expected = np.linspace(start, stop, num, endpoint=endpoint, dtype=kind)
                made = xp.linspace(start, stop, num, endpoint=endpoint, dtype=kind)
            assert (made.shape, made.dtype) == (expected.shape, expected.dtype), (start, stop, kind)
            assert made.local.tobytes() == part(made, expected).tobytes(), (start, stop, num, endpoint, kind)
    same(xp.linspace(0, 1, 20, layout=xp.BlockCyclic(0, 3)), np.linspace(0, 1, 20))
    same(xp.linspace(xp.asarray(0), xp.asarray(2), 3), np.linspace(0, 2, 3))
    same(xp.linspace(0, 2**70, 3), np.linspace(0, 2.0**70, 3))


# -- of what is there ------------------------------------------------------------------------------------------------------------------


def test_numbers_and_sequences_get_default_types(comm):
    for obj, kind in (
        (True, "bool"), (3, "int64"), (2.5, "float64"), (1j, "complex128"), ([True, False], "bool"), ([True, 2], "int64"),
        ([1, 2.5], "float64"), ([[1, 2], [3, 4j]], "complex128"), ((1, 2), "int64"), ([], "float64"), ([[], []], "float64"),
    ):  # fmt: skip
        made = xp.asarray(obj)
        same(made, np.asarray(obj, kind))
        assert isinstance(made.layout, xp.Replicated) == (made.ndim == 0)
    same(xp.asarray([1, 2], dtype=xp.float32), np.asarray([1, 2], "float32"))
    same(xp.asarray(array.array("d", [1, 2, 3])), np.array([1.0, 2, 3]))
    same(xp.asarray(memoryview(b"abc")), np.array([97, 98, 99], "uint8"))
    for obj, kind in ((300, "int8"), ([1, -1], "uint8"), (2**64, None), ([[2**70]], None), (-(2**63) - 1, None)):
        with pytest.raises(OverflowError):
            xp.asarray(obj, dtype=kind)


def test_sequences_of_arrays(comm):
    x = xp.arange(5)
    same(xp.asarray([x, x + 1]), np.stack([np.arange(5), np.arange(1, 6)]))
    same(xp.asarray([xp.sum(x), xp.max(x), 7]), np.array([10, 4, 7]))
    same(xp.asarray([[xp.asarray(1.5), 2], (3, 4)]), np.array([[1.5, 2], [3, 4]]))


def test_when_memory_is_shared(comm):
    values = np.arange(12.0).reshape(4, 3)
    for layout in layouts((4, 3), comm.size):
        x = xp.asarray(values, layout=layout)
        same(x, values)
        assert np.shares_memory(x.local, values) == (isinstance(layout, xp.Replicated))
        assert not np.shares_memory(xp.asarray(values, layout=layout, copy=True).local, values)
        assert xp.asarray(x) is x
        assert xp.asarray(x, layout=layout, dtype=xp.float64, copy=False) is x
        copied = xp.asarray(x, copy=True)
        same(copied, values)
        assert copied.layout == x.layout
        assert not np.shares_memory(copied.local, x.local)
        same(xp.asarray(x, dtype=xp.int32), values.astype("int32"))
        with pytest.raises(ValueError):
            xp.asarray(x, dtype=xp.int32, copy=False)
    for axis in (0, 1):
        x = xp.asarray(values, layout=xp.Block(axis), copy=False)
        same(x, values)
        assert np.shares_memory(x.local, values) == (x.local.size > 0)
    for obj, options in (([1, 2], {}), (3, {}), (values, {"dtype": xp.int8}), (xp.ones(9), {"layout": xp.Replicated()})):
        with pytest.raises(ValueError):
            xp.asarray(obj, copy=False, **options)
    if comm.size > 1:
        with pytest.raises(ValueError):
            xp.asarray(values, copy=False, layout=xp.BlockCyclic(0, 1))
    same(xp.replicate([1, 2, 3]), np.array([1, 2, 3]))
    assert xp.replicate(xp.arange(9)).layout == xp.Replicated()


def test_by_dlpack(comm):
    values = np.arange(9.0)
    x = xp.from_dlpack(values)
    same(x, values)
    assert np.shares_memory(x.local, values) == (x.local.size > 0)
    assert not np.shares_memory(xp.from_dlpack(values, copy=True).local, values)
    assert xp.from_dlpack(x) is x
    y = xp.from_dlpack(x, copy=True)
    y.local[...] = -1
    same(x, values)
    np.testing.assert_array_equal(np.from_dlpack(x), x.local)
    assert np.shares_memory(np.from_dlpack(x), x.local) == (x.local.size > 0)
    assert x.__dlpack_device__() == x.local.__dlpack_device__()
    with pytest.raises(ValueError):
        xp.from_dlpack(values, device="gpu")
    with pytest.raises(AttributeError):
        xp.from_dlpack([1, 2])


def test_blocks_become_an_array_along_any_axis(comm):
    for axis, kind in itertools.product((0, 1, 2, -1, -3), ("float64", "bool", "complex64", ">i4")):
        lengths = [(5 * r) % 3 for r in range(comm.size)]
        shape = tuple(sum(lengths) if i == axis % 3 else n for i, n in enumerate((2, 3, 4)))
        values = np.arange(math.prod(shape)).reshape(shape).astype(kind)
        begin = sum(lengths[: comm.rank])
        block = np.moveaxis(np.moveaxis(values, axis, 0)[begin : begin + lengths[comm.rank]], 0, axis)
        x = xp.from_local(block, axis=axis)
        assert x.local is block
        assert x.layout.axis == axis % 3
        same(x, values)
        np.testing.assert_array_equal(np.asarray(x), values)
        same(x + x, values + values)
    same(xp.from_local([comm.rank, 1]), np.array([[r, 1] for r in range(comm.size)]).ravel())


def test_blocks_that_do_not_fit_are_refused_on_all_ranks(comm):
    last = comm.rank == comm.size - 1
    alone = comm.size == 1
    for block, error in (
        (np.zeros((2, 4 if last else 3)), ValueError),
        (np.zeros((2, 3), "float32" if last else "float64"), ValueError),
        (np.zeros((2, 3, 1) if last else (2, 3)), ValueError),
        (np.zeros(() if last else 3), ValueError),
        ([[1, 2], [3]] if last else [1, 2], ValueError),
        (np.array([None]) if last else np.zeros(3), TypeError),
        ("text" if last else np.zeros(3), TypeError),
    ):
        if alone and isinstance(block, np.ndarray) and block.ndim and block.dtype.kind == "f":
            continue
        with pytest.raises(error):
            xp.from_local(block)
    for axis in (2, -3):
        with pytest.raises(np.exceptions.AxisError):
            xp.from_local(np.zeros((2, 3)), axis=axis)
    assert int(xp.sum(xp.from_local(np.ones(2)))) == 2 * comm.size


# -- on some of the ranks --------------------------------------------------------------------------------------------------------------


def test_arrays_of_a_part_of_the_ranks(comm):
    """They live in the user's own communicator, until it is freed."""
    half = comm.Split(comm.rank % 2, comm.rank)
    x = xp.arange(7.0, comm=half)
    same(x, np.arange(7.0))
    assert x.comm.size == half.size
    assert float(xp.sum(x * x + xp.ones(7, comm=half))) == 98.0
    assert xp.asarray(x) is xp.asarray(x, comm=half)
    whole = xp.ones(7)
    if comm.size > 1:
        for call in (lambda: x + whole, lambda: xp.where(whole > 0, x, 0), lambda: np.add(whole, x), lambda: xp.asarray(x, comm=comm)):
            with pytest.raises(ValueError, match="ranks"):
                call()
        with pytest.raises(ValueError, match="ranks"):
            whole += x
    again = half.Dup()
    assert xp.zeros(3, comm=again).mesh is x.mesh
    again.Free()
    same(x.replicate(), np.arange(7.0))
    several = half.size > 1
    half.Free()
    if several:
        for call in (lambda: x + 1, lambda: xp.sum(x), lambda: x.replicate(), lambda: x.comm):
            with pytest.raises(ArrayLost):
                call()
    same(whole + 1, np.full(7, 2.0))


def test_a_rank_that_is_not_in_the_communicator_is_told(comm):
    from mpicluster.array.mesh import MPI

    inside = comm.rank > 0 or comm.size == 1
    some = comm.Split(0 if inside else MPI.UNDEFINED, comm.rank)
    if inside:
        assert int(xp.sum(xp.ones(3, comm=some))) == 3
        some.Free()
    else:
        with pytest.raises(ValueError, match="not in the communicator"):
            xp.ones(3, comm=some)
