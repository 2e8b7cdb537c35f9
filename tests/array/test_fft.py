"""Transforms are NumPy's, in every layout, along every axis."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import mpicluster.array as xp
from mpicluster.array import fourier

pytestmark = pytest.mark.spmd

KINDS = ("float64", "complex128", "float32", "complex64", "int32")


def values(shape, kind="float64"):
    rng = np.random.default_rng(7)
    x = rng.standard_normal(shape) * 10
    return (x + 1j * rng.standard_normal(shape)).astype(kind) if kind.startswith("complex") else x.astype(kind)


def same(name, x, layout, **options):
    """As NumPy has it, to 4 log2(n) rounding errors of the largest element."""
    want = getattr(np.fft, name)(x, **options)
    got = getattr(xp.fft, name)(xp.asarray(x, layout=layout), **options)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if isinstance(layout, xp.Block | xp.Replicated):
        assert got.layout == (layout if isinstance(layout, xp.Replicated) else xp.Block(layout.axis))
    bound = 4 * np.log2(max(4, want.size)) * np.finfo(want.dtype).eps * np.abs(want).max(initial=0)
    np.testing.assert_allclose(np.asarray(got), want, rtol=0, atol=bound, err_msg=f"{name} {x.shape} {x.dtype} {layout} {options}")


def turns(*choices):
    """One of the choices after another, for ever."""
    return itertools.cycle(itertools.product(*choices))


@pytest.mark.parametrize("gathered", [0, 1 << 20])
def test_vectors(comm, gathered):
    """By six steps (composite lengths), by Bluestein's method (primes, and what has no two factors that fit), or gathered if small."""
    limit, fourier.GATHERED_UP_TO = fourier.GATHERED_UP_TO, gathered
    try:
        options = turns((None, 3, -2, 1), ("backward", "ortho", "forward"))
        lengths = (97, 16) if gathered else (1, 2, 97, 202, 360)
        for n, kind, name in itertools.product(lengths, KINDS, ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")):
            if name in ("rfft", "ihfft") and kind.startswith("complex"):
                continue
            if kind != "float64" and (n, kind) != (97, "complex64") and (n < 360 or name not in ("fft", "rfft", "irfft")):
                continue
            more, norm = next(options)
            same(name, values(n, kind), xp.Block(0), n=None if more is None and n > 1 else max(1, n + (more or 4)), norm=norm)
        same("fft", values(90), xp.Block(0, tuple(90 if r == comm.size - 1 else 0 for r in range(comm.size))))
    finally:
        fourier.GATHERED_UP_TO = limit


def test_each_axis_of_each_layout(comm):
    limit, fourier.GATHERED_UP_TO = fourier.GATHERED_UP_TO, 0
    try:
        options = turns((None, 9), ("fft", "rfft", "irfft"))
        for shape in ((6, 5), (70, 2), (2, 3, 8), (1, 65, 1)):
            x = values(shape)
            layouts = [*(xp.Block(i) for i in range(len(shape))), xp.Replicated(), xp.BlockCyclic(0, 2)]
            for axis, layout in itertools.product(range(-1, len(shape) - 1), layouts):
                n, name = next(options)
                same(name, x, layout, axis=axis, n=n if n is not None or x.shape[axis] > 1 else 4)
    finally:
        fourier.GATHERED_UP_TO = limit


def test_nothing_at_all(comm):
    for layout in (xp.Block(0), xp.Block(1), xp.Replicated()):
        x = xp.asarray(np.empty((0, 4), np.float32), layout=layout)
        assert xp.fft.rfft(x).shape == (0, 3)
        padded = xp.fft.fft(x, n=5, axis=0)
        assert padded.dtype == xp.complex64
        np.testing.assert_array_equal(np.asarray(padded), np.zeros((5, 4)))
        assert xp.fft.irfft(x, n=2, axis=0).dtype == xp.float32


def test_several_axes(comm):
    options = turns((False, True), ("fftn", "ifftn", "rfftn", "irfftn"))
    for shape in ((6, 5), (40, 2), (4, 6, 3)):
        x = values(shape)
        for layout in [*(xp.Block(i) for i in range(len(shape))), xp.Replicated()]:
            for axes in (None, (0, 1), (1, 0), (-1,), (0, 0)):
                other, name = next(options)
                same(
                    name, x, layout, axes=axes, norm="ortho", **({"s": (5, 8)[: len(axes)]} if other and axes not in (None, (0, 0)) else {})
                )
    assert xp.fft.fftn(xp.asarray(2.0)).dtype == xp.complex128


def test_several_axes_are_two_exchanges(comm):
    x = xp.asarray(values((8, 8, 4)))
    x.mesh.traffic.clear()
    xp.fft.fftn(x)
    assert x.mesh.traffic.messages == ({} if comm.size == 1 else {"send": 2 * (comm.size - 1)})
    x.mesh.traffic.clear()
    xp.fft.fft(x)
    assert x.mesh.traffic.messages == {}


def test_a_vector_is_three_exchanges(comm):
    p = comm.size
    n = p * p << 15
    x = xp.asarray(values(n))
    x.mesh.traffic.clear()
    y = xp.fft.fft(x)
    if p == 1:
        assert x.mesh.traffic.messages == {}
        return
    assert x.mesh.traffic.messages == {"send": 3 * (p - 1), "agree": 5}
    assert x.mesh.traffic.nbytes["send"] == (8 + 16 + 16) * (n // p) * (p - 1) // p
    back = xp.fft.ifft(y)
    np.testing.assert_allclose(back.local, x.local, rtol=0, atol=1e-13)


def test_integers_and_truth_values_become_doubles(comm):
    for kind in ("bool", "int8", "uint64"):
        x = (values(12) > 0).astype(kind)
        assert xp.fft.fft(xp.asarray(x)).dtype == xp.complex128
        np.testing.assert_allclose(np.asarray(xp.fft.rfft(xp.asarray(x))), np.fft.rfft(x.astype(float)), atol=1e-14)


def test_frequencies_and_shifts(comm):
    for n in (1, 2, 7, 8):
        for name in ("fftfreq", "rfftfreq"):
            want = getattr(np.fft, name)(n, d=0.1)
            for layout in (None, xp.Replicated(), xp.BlockCyclic(0, 2)):
                np.testing.assert_array_equal(np.asarray(getattr(xp.fft, name)(n, d=0.1, layout=layout)), want)
            assert getattr(xp.fft, name)(n, dtype=xp.float32).dtype == xp.float32
    for shape in ((7,), (8,), (5, 4), (0, 3)):
        x = values(shape)
        for layout, axes in itertools.product([*(xp.Block(i) for i in range(len(shape))), xp.Replicated()], (None, 0, (-1,))):
            for name in ("fftshift", "ifftshift"):
                got = getattr(xp.fft, name)(xp.asarray(x, layout=layout), axes=axes)
                np.testing.assert_array_equal(np.asarray(got), getattr(np.fft, name)(x, axes=axes))


def test_refusals_are_everywhere_and_leave_all_well(comm):
    x = xp.asarray(values((6, 5), "complex128"))
    for error, call in (
        (ValueError, lambda: xp.fft.fft(x, n=0)),
        (ValueError, lambda: xp.fft.fft(xp.zeros((3, 0)))),
        (ValueError, lambda: xp.fft.irfft(xp.zeros((4, 1)))),
        (ValueError, lambda: xp.fft.fft(x, norm="none")),
        (IndexError, lambda: xp.fft.fft(x, axis=2)),
        (IndexError, lambda: xp.fft.fft(xp.asarray(1.0))),
        (TypeError, lambda: xp.fft.rfft(x)),
        (TypeError, lambda: xp.fft.rfftn(x)),
        (ValueError, lambda: xp.fft.fftn(x, s=(2, 3))),
        (ValueError, lambda: xp.fft.fftn(x, s=(2, 3), axes=(0,))),
        (ValueError, lambda: xp.fft.rfftn(xp.asarray(1.0))),
        (ValueError, lambda: xp.fft.fftfreq(0)),
        (ValueError, lambda: xp.fft.fftfreq(4, dtype=xp.int64)),
    ):
        with pytest.raises(error):
            call()
    assert np.asarray(xp.fft.fft(x, axis=0)).shape == (6, 5)
