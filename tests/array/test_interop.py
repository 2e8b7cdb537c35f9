"""NumPy's functions take our arrays, and give what they give for NumPy's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from against_numpy import close, layouts, same
from scipy import special

import mpicluster.array as xp
from mpicluster.array.adapters import adapters

pytestmark = pytest.mark.spmd

RNG = np.random.default_rng(8)
A = np.round(RNG.standard_normal((6, 4)), 3)
B = np.round(RNG.standard_normal((6, 4)), 3)
S = RNG.standard_normal((5, 5)) + 5 * np.eye(5)
I = np.array([[3, 1, 4, 1], [5, 9, 2, 6]])  # noqa: E741
V = np.array([3.0, 1.0, 2.0, 3.0, 0.0, 1.0, 7.0])
Z = RNG.standard_normal((4, 6)) + 1j * RNG.standard_normal((4, 6))
N = np.array([np.nan, 1.0, np.nan, 2.0, 1.0])


class Ours:
    """Stands for an array among arguments."""

    def __init__(self, values):
        self.values = np.asarray(values)


def put(value, make):
    """With arrays in place of what stands for them."""
    if isinstance(value, Ours):
        return make(value.values)
    if isinstance(value, list | tuple):
        return type(value)(put(v, make) for v in value)
    return value


def equal(ours, theirs):
    """The same values, types and shapes, up to rounding."""
    if isinstance(theirs, tuple | list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            equal(one, other)
    elif isinstance(ours, xp.DistArray):
        close(ours, theirs, 1e-12)
    else:
        assert type(ours) in (bool, int, tuple, type(theirs)), type(ours)
        assert ours == theirs


a, b, i, v, z = (Ours(x) for x in (A, B, I, V, Z))
CASES = [
    *((name, (a,), {}) for name in "sum prod max min amax amin all any mean var std ptp argmax argmin count_nonzero".split()),
    *((name, (a, 0), {}) for name in "sum prod max min all any mean var std ptp argmax argmin cumsum cumprod count_nonzero".split()),
    *((name, (a,), {"axis": 1, "keepdims": True}) for name in "sum prod max min all any mean var std ptp argmax argmin".split()),
    ("sum", (i, 0, "float32"), {}), ("mean", (i, 1, "float32"), {}), ("std", (a, 0), {"ddof": 1}), ("var", (a,), {"correction": 1}),
    ("cumsum", (a,), {}), ("cumprod", (i, 1, "float64"), {}), ("cumulative_sum", (v,), {"include_initial": True}),
    ("cumulative_prod", (a,), {"axis": 1}), ("diff", (a,), {}), ("diff", (v, 2), {}), ("diff", (v,), {"prepend": 1}), ("sort", (a,), {}),
    ("sort", (a, 0), {}), ("sort", (a, None), {}), ("argsort", (v,), {"kind": "stable"}), ("argsort", (v,), {"stable": True}),
    ("searchsorted", (Ours(np.sort(V)), 2.5), {}), ("searchsorted", (Ours(np.sort(V)), v), {"side": "right"}), ("isin", (i, [1, 9]), {}),
    ("unique", (v,), {}), ("unique", (v, True, True, True), {}), ("unique", (Ours(N),), {}), ("unique", (Ours(N),), {"equal_nan": False}),
    ("unique", (Ours(N),), {"return_counts": True, "return_inverse": True}), ("unique_counts", (v,), {}), ("unique_values", (v,), {}),
    ("unique_all", (v,), {}), ("unique_inverse", (v,), {}), ("where", (Ours(A > 0), a, 0), {}), ("where", (Ours(A > 0), a, b), {}),
    ("where", (Ours(V > 1),), {}), ("nonzero", (a,), {}), ("argwhere", (Ours(A > 0),), {}), ("flatnonzero", (Ours(A > 0),), {}),
    ("take", (a, [1, 0, 3]), {}), ("take", (a, [1, 0], 1), {}), ("take", (a, 2, 0), {}), ("take", (a, [[1, 0], [2, 2]], 0), {}),
    ("take_along_axis", (a, Ours(np.argsort(A, 0)), 0), {}), ("clip", (a, -0.5, 0.5), {}), ("clip", (i, 2.5, None), {}),
    ("clip", (i, 2, 4), {}), ("clip", (a,), {"min": 0}), ("around", (a, 1), {}), ("round", (a,), {"decimals": 2}),
    ("angle", (z,), {"deg": True}), ("nan_to_num", (Ours(N),), {"nan": 3.0}), ("sinc", (a,), {}), ("fix", (a,), {}), ("isreal", (z,), {}),
    ("iscomplex", (z,), {}), ("isposinf", (v,), {}), ("isneginf", (v,), {}), ("i0", (v,), {}), ("real", (z,), {}), ("imag", (z,), {}),
    ("isclose", (a, b), {}), ("isclose", (a, A + 1e-7), {"atol": 1e-6}), ("allclose", (a, A + 1e-12), {}), ("allclose", (a, b), {}),
    ("array_equal", (a, A), {}), ("array_equal", (a, v), {}), ("array_equal", (Ours(N), N), {}),
    ("array_equal", (Ours(N), Ours(N)), {"equal_nan": True}), ("array_equiv", (v, [V, V]), {}), ("array_equiv", (v, a), {}),
    ("interp", (a, [-1.0, 0, 1], [3.0, 5, 2]), {}), ("interp", (v, Ours(np.arange(4.0)), Ours(np.ones(4))), {}), ("shape", (a,), {}),
    ("ndim", (a,), {}), ("size", (a,), {}), ("size", (a, 1), {}), ("reshape", (a, (4, 6)), {}), ("reshape", (a, -1), {}),
    ("ravel", (a,), {}), ("transpose", (a,), {}), ("transpose", (a, (1, 0)), {}), ("swapaxes", (a, 0, -1), {}),
    ("moveaxis", (a, 0, 1), {}), ("matrix_transpose", (a,), {}), ("expand_dims", (a, 1), {}), ("squeeze", (Ours(A[:, :1]),), {}),
    ("squeeze", (Ours(A[:1]), 0), {}), ("atleast_1d", (Ours(2.5),), {}), ("atleast_2d", (v,), {}), ("atleast_2d", (v, a), {}),
    ("concatenate", ((a, B),), {}), ("concatenate", ([a, b], 1), {}), ("concatenate", ([a, b], None), {"dtype": "float32"}),
    ("stack", ([a, B],), {}), ("stack", ([v, v], 1), {}), ("vstack", ([v, V],), {}), ("hstack", ([v, V],), {}), ("hstack", ([a, b],), {}),
    ("column_stack", ([v, V],), {}), ("append", (v, [1.0, 2.0]), {}), ("append", (a, B[:, :1], 1), {}), ("split", (a, 3), {}),
    ("split", (v, [2, 5]), {}), ("array_split", (v, 3), {}), ("hsplit", (a, 2), {}), ("vsplit", (a, 2), {}), ("unstack", (a,), {}),
    ("flip", (a,), {}), ("flip", (a, 0), {}), ("fliplr", (a,), {}), ("flipud", (a,), {}), ("roll", (v, 2), {}), ("roll", (a, 1, 0), {}),
    ("repeat", (v, 2), {}), ("repeat", (a, 2, 0), {}), ("tile", (v, 2), {}), ("broadcast_to", (v, (2, 7)), {}),
    ("broadcast_arrays", (a, A[0]), {}), ("meshgrid", (v, V[:2]), {"indexing": "ij"}), ("copy", (a,), {}),
    ("astype", (a, np.float32), {}), ("zeros_like", (a,), {}), ("ones_like", (a, "int8"), {}), ("full_like", (a, 7), {}),
    ("tril", (a, -1), {}), ("triu", (a,), {"k": 1}), ("result_type", (a, np.float32), {}), ("can_cast", (a, "float32"), {}),
    ("can_cast", (a, "float32", "same_kind"), {}), ("iscomplexobj", (z,), {}), ("isrealobj", (z,), {}), ("dot", (a, B.T), {}),
    ("dot", (v, v), {}), ("dot", (a, 2.0), {}), ("dot", (a, Ours(np.stack([B.T, B.T]))), {}), ("inner", (a, b), {}), ("vdot", (z, Z), {}),
    ("outer", (v, a), {}), ("tensordot", (a, B.T, 1), {}), ("cross", (Ours(A[:, :3]), B[:, :3]), {}), ("trace", (a,), {}),
    ("diagonal", (a,), {"offset": 1}), ("diag", (v,), {"k": -2}), ("diag", (a,), {"k": 1}), ("linalg.solve", (Ours(S), V[:5]), {}),
    ("linalg.inv", (Ours(S),), {}), ("linalg.det", (Ours(S),), {}), ("linalg.slogdet", (Ours(S),), {}),
    ("linalg.cholesky", (Ours(S @ S.T),), {}), ("linalg.matrix_power", (Ours(S), 3), {}), ("linalg.multi_dot", ([a, B.T, a],), {}),
    ("linalg.matmul", (a, B.T), {}), ("linalg.outer", (v, V), {}), ("linalg.trace", (a,), {}), ("linalg.diagonal", (a,), {"offset": -1}),
    ("linalg.cross", (Ours(A[:, :3]), B[:, :3]), {}), ("linalg.vecdot", (a, B), {}), ("linalg.tensordot", (a, B.T), {"axes": 1}),
    ("linalg.matrix_transpose", (a,), {}), ("linalg.norm", (a,), {}), ("linalg.norm", (a, 1), {}), ("linalg.norm", (a, None, 0), {}),
    ("linalg.vector_norm", (a,), {"axis": 1}), ("linalg.matrix_norm", (a,), {"ord": np.inf}), ("linalg.cond", (Ours(S),), {}),
    ("linalg.pinv", (a,), {}), ("linalg.matrix_rank", (a,), {}), ("linalg.svdvals", (a,), {}),
    ("linalg.eigvalsh", (Ours(S + S.T), "U"), {}),
    *((f"fft.{name}", (z,), {}) for name in "fft ifft hfft fftn ifftn fft2 ifft2 irfft irfftn irfft2 fftshift ifftshift".split()),
    *((f"fft.{name}", (a,), {"norm": "ortho"}) for name in "rfft ihfft rfftn rfft2".split()), ("fft.fft", (z, 5, 0), {}),
    ("fft.fftn", (z, (3, 8), (0, 1)), {}), ("fft.fftshift", (z, 1), {}),
]  # fmt: skip


def function_of(name):
    """NumPy's function of a name."""
    found = np
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("axis", [0, -1], ids=lambda n: f"axis{n}")
def test_functions_give_what_they_give_for_numpys_arrays(comm, axis):
    for name, args, options in CASES:
        function = function_of(name)
        ours = function(*put(args, lambda x: xp.asarray(x, layout=xp.Block(axis) if x.ndim else None)), **options)
        theirs = function(*put(args, lambda x: x), **options)
        try:
            equal(ours, theirs)
        except AssertionError as e:
            raise AssertionError(f"np.{name}{args}: {e}") from e


def test_every_function_that_is_taken_is_tried(comm):
    others = "empty_like copyto save linalg.qr linalg.svd linalg.eigh linalg.eig linalg.eigvals linalg.lstsq".split()
    assert set(adapters()) == {function_of(name) for name in [*others, *(case[0] for case in CASES)]}


def test_factorizations(comm):
    x = xp.asarray(A)
    for mode in ("reduced", "complete"):
        q, r = np.linalg.qr(x, mode=mode)
        close(q @ r, A, 1e-12)
        close(np.abs(r), np.abs(np.linalg.qr(A, mode).R), 1e-12)
    close(np.abs(np.linalg.qr(x, "r")), np.abs(np.linalg.qr(A, "r")), 1e-12)
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    close(u @ (s[:, None] * vh), A, 1e-12)
    close(np.linalg.svd(x, compute_uv=False), np.linalg.svd(A, compute_uv=False), 1e-12)
    for triangle, cut in (("L", np.tril), ("U", np.triu)):
        given = cut(S + S.T)
        values, vectors = np.linalg.eigh(xp.asarray(given), triangle)
        close(vectors * values, (S + S.T) @ np.asarray(vectors), 1e-10)
    values, vectors = np.linalg.eig(xp.asarray(S))
    close(vectors * values, S @ np.asarray(vectors), 1e-10)
    close(np.sort(np.abs(np.linalg.eigvals(xp.asarray(S)))), np.sort(np.abs(np.linalg.eigvals(S))), 1e-10)
    close(np.linalg.lstsq(x, B)[0], np.linalg.lstsq(A, B)[0], 1e-12)
    with pytest.raises(TypeError, match="modes"):
        np.linalg.qr(x, mode="raw")


def test_ufuncs_block_by_block(comm):
    for layout in layouts(A.shape, comm.size):
        x, y = xp.asarray(A, layout=layout), xp.asarray(B)
        x.mesh.traffic.clear()
        same(np.exp(x), np.exp(A))
        same(np.expm1(np.abs(x)), np.expm1(np.abs(A)))
        for ours, theirs in zip(
            (*np.modf(x), *np.frexp(x), *np.divmod(x, 0.5)), (*np.modf(A), *np.frexp(A), *np.divmod(A, 0.5)), strict=True
        ):
            same(ours, theirs)
        same(special.erf(x), special.erf(A))
        same(np.add(x, 1, dtype="complex64"), np.add(A, 1, dtype="complex64"))
        same(np.heaviside(x, A), np.heaviside(A, A))
        assert np.exp(x).layout == x.layout
        assert x.mesh.traffic.messages == {}
        same(np.arctan2(x, y), np.arctan2(A, B))
        same(np.arctan2(A, y[0]), np.arctan2(A, B[0]))
        same(A + x, A + A)
        same(np.float32(2) * x, np.float32(2) * A)
        same(np.power(x, 2), np.power(A, 2))
        assert isinstance(np.float64(2) * x, xp.DistArray)
    close(np.matmul(A, xp.asarray(B.T)), A @ B.T)
    close(np.vecdot(xp.asarray(Z), Z), np.vecdot(Z, Z))
    if hasattr(np, "matvec"):  # NumPy 2.2
        close(np.matvec(xp.asarray(S), V[:5]), S @ V[:5])
        close(np.vecmat(xp.asarray(Z[:, 0]), Z), np.conj(Z[:, 0]) @ Z)


def test_ufuncs_write_to_out(comm):
    for layout, other in itertools.product(layouts(A.shape, comm.size), (xp.Block(0), xp.Replicated())):
        x, out = xp.asarray(A, layout=other), xp.zeros(A.shape, layout=layout)
        block = out.local
        assert np.exp(x, out=out) is out
        assert out.local is block
        assert out.layout == layout
        same(out, np.exp(A))
        np.add(A, 1, out=out)
        same(out, A + 1)
        np.add(x[0], 1, out)
        same(out, np.broadcast_to(A[0] + 1, A.shape))
        np.multiply(out, 0, out=out)
        np.sqrt(x, out=out, where=x > 0)
        np.negative(x, out=out, where=False)
        expected = np.zeros(A.shape)
        np.sqrt(A, out=expected, where=A > 0)
        same(out, expected)
        whole, ends = np.empty(A.shape), xp.zeros(A.shape, dtype="int32", layout=layout)
        parts = np.frexp(x, out=(whole, ends))
        assert parts[0] is whole
        assert parts[1] is ends
        np.testing.assert_array_equal(whole, np.frexp(A)[0])
        same(ends, np.frexp(A)[1])
    plain = A.copy()
    plain += xp.asarray(B)
    np.testing.assert_array_equal(plain, A + B)
    x = xp.asarray(A)
    small = xp.zeros(A.shape, dtype="float32")
    same(np.add(x, x, out=small), (A + A).astype("float32"))
    for wrong, error in ((xp.zeros(A.shape, dtype=int), TypeError), (xp.zeros(3), ValueError), (np.zeros(A.shape, int), TypeError)):
        with pytest.raises(error):
            np.exp(x, out=wrong)
    total = xp.zeros(4)
    assert np.add.reduce(x, out=total) is total
    close(total, A.sum(axis=0))
    assert np.sum(x, axis=0, out=total) is total
    values = np.zeros(4)
    assert np.max(x, axis=0, out=values) is values
    np.testing.assert_array_equal(values, A.max(axis=0))
    with pytest.raises(ValueError, match="wrong shape"):
        np.sum(x, axis=1, out=total)


def test_methods_of_ufuncs(comm):
    x, n = xp.asarray(A), xp.asarray(I)
    for ufunc, options in itertools.product(
        (
            np.add,
            np.multiply,
            np.maximum,
            np.minimum,
            np.fmax,
            np.fmin,
            np.logical_and,
            np.logical_or,
            np.logical_xor,
            np.hypot,
            np.logaddexp,
        ),
        ({}, {"axis": 1}, {"axis": None}, {"axis": 0, "keepdims": True}),
    ):
        close(ufunc.reduce(x, **options), ufunc.reduce(A, **options))
    for ufunc in (np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.gcd, np.lcm):
        same(ufunc.reduce(n, axis=1), ufunc.reduce(I, axis=1))
        same(ufunc.reduce(n), ufunc.reduce(I))
    same(np.add.reduce(xp.asarray(2)), np.array(2))
    same(np.add.reduce(n, dtype="float32"), np.add.reduce(I, dtype="float32"))
    close(np.add.accumulate(x), np.add.accumulate(A))
    same(np.multiply.accumulate(n, axis=1), np.multiply.accumulate(I, axis=1))
    same(np.subtract.outer(n, V), np.subtract.outer(I, V))
    same(np.less.outer(V, n), np.less.outer(V, I))
    with pytest.raises(ValueError, match="no identity"):
        np.fmax.reduce(xp.zeros(0))


def test_what_there_is_not_is_refused_by_name(comm):
    x = xp.asarray(A)
    x.mesh.traffic.clear()
    for call, name in (
        (lambda: np.median(x), "np.median"),
        (lambda: np.einsum("ij->j", x), "np.einsum"),
        (lambda: np.linalg.tensorinv(x), "np.linalg.tensorinv"),
        (lambda: np.histogram(x), "np.histogram"),
        (lambda: np.sum(x, initial=1), "np.sum"),
        (lambda: np.max(x, where=x > 0), "np.max"),
        (lambda: np.fft.fft(x, bogus=1), "fft"),
        (lambda: np.add.at(x, 0, 1), "np.add.at"),
        (lambda: np.add.reduceat(x, [0, 1]), "np.add.reduceat"),
        (lambda: np.subtract.reduce(x), "np.subtract.reduce"),
        (lambda: np.maximum.accumulate(x), "np.maximum.accumulate"),
        (lambda: np.add.reduce(x, initial=2), "np.add.reduce"),
        (lambda: np.exp(x, where=x > 0), "np.exp"),
        (lambda: np.matmul(x, x.T, axes=[(0, 1), (0, 1), (0, 1)]), "np.matmul"),
        (lambda: np.frompyfunc(float, 1, 1)(x), "float"),
        (lambda: np.reshape(x, (4, 6), order="F"), "order"),
        (lambda: np.add(x, "text"), "text|str|hold"),
    ):
        with pytest.raises(TypeError, match=name):
            call()
    assert x.mesh.traffic.messages == {}
    same(np.negative(x), -A)


def test_copying_into(comm):
    x, y = xp.zeros(A.shape, layout=xp.Block(1)), xp.asarray(A)
    np.copyto(x, y)
    same(x, A)
    np.copyto(x, 2, where=y > 0)
    same(x, np.where(A > 0, 2, A))
    np.copyto(x, A[0])
    same(x, np.broadcast_to(A[0], A.shape))
    plain = np.zeros(A.shape)
    np.copyto(plain, y)
    np.testing.assert_array_equal(plain, A)
    with pytest.raises(TypeError):
        np.copyto(xp.zeros(A.shape, dtype=int), y)
    assert np.empty_like(y).shape == A.shape


def test_saving(comm, tmp_path):
    path = comm.bcast(str(tmp_path), root=0)
    np.save(f"{path}/array", xp.asarray(A))
    np.testing.assert_array_equal(np.load(f"{path}/array.npy"), A)
    comm.barrier()
