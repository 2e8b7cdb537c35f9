"""Products of arrays in every layout are NumPy's, and cost what they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import mpicluster.array as xp
from mpicluster.linalg import diagonals, multiplication, products, tensors

pytestmark = pytest.mark.spmd

KINDS = ("float64", "complex128", "float32", "complex64", "int32", "uint8", "bool", "float16")


def values(shape, kind="float64", seed=1):
    rng = np.random.default_rng(seed)
    if kind == "bool":
        return rng.random(shape) < 0.4
    if np.dtype(kind).kind in "iu":
        return rng.integers(0, 5, shape).astype(kind)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(kind).kind == "c" else x).astype(kind)


def layouts(shape, size):
    """Replicated, and in blocks of each axis: even ones, and all of it on the last rank."""
    found = [xp.Replicated()]
    for axis, n in enumerate(shape):
        found += [xp.Block(axis), xp.Block(axis, (0,) * (size - 1) + (n,))]
    return found


def pairs(one, two, size):
    """Layouts of two arrays: all pairs of blocks, and some with cyclic ones."""
    found = [*itertools.product(layouts(one, size), layouts(two, size))]
    if one and two:
        found += [(xp.BlockCyclic(0, 2), xp.BlockCyclic(len(two) - 1, 1)), (xp.BlockCyclic(len(one) - 1, 1), xp.Replicated())]
    if len(one) == len(two) == 2:
        found += [(xp.BlockCyclic2D((1, size), (2, 3)), xp.Block(1)), (xp.Block(0), xp.BlockCyclic2D((size, 1), (2, 3)))]
    return found


def every(shape, size):
    """Layouts of one array."""
    return [*dict.fromkeys(a for a, _ in pairs(shape, shape, size))]


def same(result, expected, rtol=1e-12):
    expected = np.asarray(expected)
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    assert result.local.shape == result.layout.local_shape(result.shape, result.mesh.size, result.mesh.rank)
    tolerance = {"f": 1e-5, "F": 1e-5, "e": 1e-2}.get(expected.dtype.char, rtol)
    np.testing.assert_allclose(np.asarray(result), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shapes", [((7, 5), (5, 6)), ((1, 9), (9, 1)), ((13, 1), (1, 2)), ((0, 4), (4, 3)), ((4, 0), (0, 3))], ids=str)
def test_matmul_of_every_pair_of_layouts(comm, shapes):
    a, b = values(shapes[0]), values(shapes[1], seed=2)
    for one, two in pairs(a.shape, b.shape, comm.size):
        same(xp.matmul(xp.asarray(a, layout=one), xp.asarray(b, layout=two)), a @ b)


def test_matmul_of_vectors(comm):
    for m, k in ((6, 7), (1, 3), (40, 2), (2, 40)):
        a, v, w = values((m, k)), values(k, seed=2), values(m, seed=3)
        for one, two in pairs(a.shape, v.shape, comm.size):
            same(xp.matmul(xp.asarray(a, layout=one), xp.asarray(v, layout=two)), a @ v)
            same(xp.matmul(xp.asarray(v, layout=two), xp.asarray(v, layout=xp.Block(0))), v @ v)
        for one, two in pairs(a.shape, w.shape, comm.size):
            same(xp.matmul(xp.asarray(w, layout=two), xp.asarray(a, layout=one)), w @ a)


def test_matmul_of_every_type(comm):
    for kind, other in itertools.product(KINDS, ("float64", "int32", "complex64")):
        a, b = values((6, 8), kind), values((8, 5), other, seed=2)
        expected = a @ b
        for one, two in itertools.product((0, 1), (0, 1)):
            same(xp.matmul(xp.asarray(a, layout=xp.Block(one)), xp.asarray(b, layout=xp.Block(two))), expected)


def test_matmul_with_numpy_arrays_operators_and_views(comm):
    a, b = values((8, 8)), values((8, 8), seed=2)
    x, y = xp.asarray(a), xp.asarray(b)
    same(x @ b, a @ b)
    same(xp.matmul(a, y), a @ b)
    same(x.T @ y, a.T @ b)
    same(x @ y.T, a @ b.T)
    same(x.T @ y.T, a.T @ b.T)
    x @= y
    same(x, a @ b)


def test_large_blocks_go_round_a_ring(comm):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiplication, "_GATHERED_ANYWAY", 0)
        patch.setattr(multiplication, "_PIECE", 3)
        go_round_a_ring(comm)


def go_round_a_ring(comm):
    p = comm.size
    shapes = [((12, 11, 10), "float64"), ((5, 4, 3), "complex64"), ((3, 9, 2), "int32"), ((2, 3, 9), "bool")]
    for (m, k, n), kind in shapes:
        a, b = values((m, k), kind), values((k, n), kind, seed=2)
        for one, two in itertools.product(layouts(a.shape, p), layouts(b.shape, p)):
            same(xp.matmul(xp.asarray(a, layout=one), xp.asarray(b, layout=two)), a @ b)
        same(xp.asarray(a.T, layout=xp.Block(1)).T @ xp.asarray(b.T, layout=xp.Block(1)).T, a @ b)
        same(xp.asarray(a.T, layout=xp.Block(0)).T @ xp.asarray(b.T, layout=xp.Block(0)).T, a @ b)
    n = 12 * p
    a, b = xp.asarray(values((n, n))), xp.asarray(values((n, n), seed=2))
    a.mesh.traffic.clear()
    product = a @ b
    assert product.layout == xp.Block(0)
    assert a.mesh.traffic.messages == ({"agree": 2, "send": p - 1} if p > 1 else {})
    assert a.mesh.traffic.nbytes.get("send", 0) == 8 * n * n * (p - 1) // p


def test_where_a_product_lies_and_what_it_costs(comm):
    p = comm.size
    tall, wide = values((90 * p, 4)), values((4, 90 * p), seed=2)
    square, small = values((8 * p, 8 * p)), values((4, 3), seed=3)
    even = xp.Block(0), xp.Block(1)
    cases = [
        # what, how they lie, where the result lies, messages
        ((tall, even[0]), (small, xp.Replicated()), even[0], {}),
        ((small.T, xp.Replicated()), (wide, even[1]), even[1], {}),
        ((tall, even[0]), (small, even[0]), even[0], {"allgather": 1}),
        ((tall.T, even[1]), (tall, even[0]), xp.Replicated(), {"allgather": 1}),
        ((tall.T, xp.Replicated()), (tall, even[0]), xp.Replicated(), {"allgather": 1}),
        ((square.T, even[1]), (square, even[0]), even[0], {"send": p - 1}),
        ((square, even[0]), (square[0], even[0]), even[0], {"allgather": 1}),
        ((square, even[1]), (square[0], even[0]), even[0], {"send": p - 1}),
        ((square[0], even[0]), (square, even[0]), even[0], {"send": p - 1}),
        ((square[0], even[0]), (square, even[1]), even[0], {"allgather": 1}),
        ((small, xp.Replicated()), (small.T, xp.Replicated()), xp.Replicated(), {}),
    ]
    for (a, one), (b, two), layout, messages in cases:
        x, y = xp.asarray(a, layout=one), xp.asarray(b, layout=two)
        x.mesh.traffic.clear()
        product = x @ y
        spent = {kind: count for kind, count in x.mesh.traffic.messages.items() if kind != "agree"}
        assert product.layout == layout
        assert spent == (messages if p > 1 else {})
        same(product, a @ b)


def test_replicated_operands_share_much_work(comm):
    a, b = values((9, 4)), values((4, 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiplication, "_SHARED_FROM", 1)
        result = xp.matmul(a, b)
        assert result.layout == xp.Replicated()
        same(result, a @ b)
        patch.setattr(multiplication, "REPLICATED_UP_TO", 8)
        result = xp.matmul(a, b)
        assert result.layout == xp.Block(0)
        same(result, a @ b)


def test_matmul_of_stacks(comm):
    shapes = [
        ((5, 3, 4), (5, 4, 2)), ((5, 3, 4), (4, 2)), ((3, 4), (5, 4, 2)), ((2, 1, 3, 4), (7, 4, 2)), ((2, 3, 4), (2, 4, 9)),
        ((4,), (3, 4, 2)), ((3, 2, 4), (4,)), ((0, 3, 4), (0, 4, 2)), ((1, 3, 4), (1, 4, 2)), ((1, 12, 4), (4, 4, 2)),
    ]  # fmt: skip
    for first, second in shapes:
        a, b = values(first), values(second, seed=2)
        for one, two in pairs(first, second, comm.size):
            same(xp.matmul(xp.asarray(a, layout=one), xp.asarray(b, layout=two)), a @ b)
    x = xp.asarray(values((2, 50, 4)), layout=xp.Block(1))
    x.mesh.traffic.clear()
    assert (x @ values((4, 3))).layout == xp.Block(1)
    assert x.mesh.traffic.messages == {}


def test_shapes_that_do_not_fit(comm):
    x = xp.ones((4, 3))
    for a, b in ((x, x), (x, xp.ones(4)), (x, 2.0), (xp.ones(()), x), (xp.ones((2, 4, 3)), xp.ones((3, 3, 4)))):
        with pytest.raises(ValueError):
            xp.matmul(xp.asarray(a), b)
    with pytest.raises(ValueError, match="shape-mismatch"):
        xp.tensordot(x, x, axes=1)
    with pytest.raises(ValueError):
        xp.tensordot(x, x, axes=3)
    with pytest.raises(ValueError, match="one-dimensional"):
        products.outer(x, x)
    with pytest.raises(ValueError, match="size 4 is different from 3"):
        xp.vecdot(xp.ones(3), xp.ones(4))
    with pytest.raises(ValueError, match="3-dimensional vectors"):
        products.cross(xp.ones((3, 2)), xp.ones((3, 3)))
    with pytest.raises(np.linalg.LinAlgError):
        products.matrix_power(x, 2)
    with pytest.raises(TypeError):
        products.matrix_power(xp.ones((3, 3)), 1.5)
    with pytest.raises(ValueError):
        diagonals.trace(xp.ones(3))
    same(xp.ones((3, 4)) @ x, np.full((3, 3), 4.0))


def test_tensordot_of_every_pair_of_layouts(comm):
    cases = [
        ((3, 4, 5), (4, 5, 2), 2), ((3, 4), (5,), 0), ((6, 2), (2, 7), 1), ((3, 4, 5), (5, 3, 6), ((2, 0), (0, 1))),
        ((3, 4, 5), (5, 3, 6), ((0, -1), (1, 0))), ((4, 3), (3, 4), ((0, 1), (1, 0))), ((5, 2, 3), (3, 5), ([2], [0])), ((0, 3), (3, 2), 1),
        ((3, 0), (0, 2), 1), ((), (3,), 0),
    ]  # fmt: skip
    for first, second, axes in cases:
        a, b = values(first), values(second, seed=2)
        for one, two in pairs(first, second, comm.size):
            same(tensors.tensordot(xp.asarray(a, layout=one), xp.asarray(b, layout=two), axes=axes), np.tensordot(a, b, axes))


def test_vecdot(comm):
    for first, second, axis in (
        ((7,), (7,), -1),
        ((4, 5), (4, 5), 0),
        ((4, 5), (5,), -1),
        ((3, 1, 5), (4, 5), -1),
        ((0,), (0,), 0),
        ((3, 0), (3, 0), -1),
    ):
        for kind in ("float64", "complex128", "int32"):
            a, b = values(first, kind), values(second, kind, seed=2)
            for one, two in pairs(first, second, comm.size):
                same(xp.vecdot(xp.asarray(a, layout=one), xp.asarray(b, layout=two), axis=axis), np.vecdot(a, b, axis=axis))
    x = xp.ones(30)
    x.mesh.traffic.clear()
    assert float(xp.vecdot(x, x)) == 30
    assert x.mesh.traffic.messages == ({"allgather": 1} if comm.size > 1 else {})


def test_outer(comm):
    for n, m in ((6, 5), (1, 3), (0, 4)):
        a, b = values(n, "complex128"), values(m, "float32", seed=2)
        for one, two in pairs(a.shape, b.shape, comm.size):
            same(products.outer(xp.asarray(a, layout=one), xp.asarray(b, layout=two)), np.outer(a, b))
    assert products.outer(xp.ones(9), np.ones(4)).layout == xp.Block(0)
    assert products.outer(np.ones(9), xp.ones(4)).layout == xp.Block(1)


def test_cross(comm):
    for first, second, axis in (((3,), (3,), -1), ((5, 3), (5, 3), -1), ((3, 4), (3, 4), 0), ((2, 3), (4, 1, 3), -1), ((3, 3), (3, 3), 1)):
        a, b = values(first), values(second, seed=2)
        for one, two in pairs(first, second, comm.size):
            same(products.cross(xp.asarray(a, layout=one), xp.asarray(b, layout=two), axis=axis), np.cross(a, b, axis=axis))


def test_matrix_power(comm):
    a, stack = values((5, 5)) + 3 * np.eye(5), values((2, 3, 3)) + 3 * np.eye(3)
    for layout in every(a.shape, comm.size):
        for n in (0, 1, 2, 5, -1, -3):
            same(products.matrix_power(xp.asarray(a, layout=layout), n), np.linalg.matrix_power(a, n), 1e-9)
    for layout in every(stack.shape, comm.size):
        for n in (0, 3, -2):
            same(products.matrix_power(xp.asarray(stack, layout=layout), n), np.linalg.matrix_power(stack, n), 1e-9)
    integers = xp.asarray(np.array([[1, 1], [1, 0]]))
    same(products.matrix_power(integers, 10), np.array([[89, 55], [55, 34]]))
    with pytest.raises(np.linalg.LinAlgError):
        products.matrix_power(xp.zeros((4, 4)), -1)


def test_diagonal_and_trace(comm):
    for shape in ((6, 6), (3, 8), (8, 3), (0, 4), (2, 5, 4)):
        a = values(shape)
        for layout, offset in itertools.product(every(shape, comm.size), (-9, -2, 0, 1, 10**9)):
            x = xp.asarray(a, layout=layout)
            same(diagonals.diagonal(x, offset=offset), np.diagonal(a, offset, -2, -1))
            same(diagonals.trace(x, offset=offset), np.trace(a, offset, -2, -1))
    for kind in KINDS:
        a = values((5, 4), kind)
        same(diagonals.trace(xp.asarray(a)), np.trace(a))
    same(diagonals.trace(xp.asarray(values((4, 4))), dtype=xp.float32), np.trace(values((4, 4)), dtype="float32"))


def test_matrix_transpose_moves_nothing(comm):
    x = xp.asarray(values((6, 4)))
    x.mesh.traffic.clear()
    assert products.matrix_transpose(x).layout == xp.Block(1)
    assert x.mesh.traffic.messages == {}
    same(products.matrix_transpose(x), values((6, 4)).T)
