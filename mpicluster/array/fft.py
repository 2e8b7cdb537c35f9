"""Fourier transforms: the extension ``fft`` of the array API standard.

Along an axis that is not divided, each rank transforms its block. Along the divided one, the array is divided along its longest other axis
meanwhile, and comes back (P. Dmitruk et al., "Scalable parallel FFT for spectral simulations on a Beowulf cluster", Parallel Computing 27,
2001): two exchanges of at most size - 1 messages each way, and 4 complex blocks of memory. Where there is no other axis, or none that is
half as long as there are ranks, see `fourier.along_divided`.

Results are complex, or real, of the precision of the operand (double for integers), and lie as it does, in even blocks of the same axis;
those of a replicated operand are replicated. What lies in blocks of several axes, or in cyclic ones, is first brought to
`layout.default_layout`. ``norm`` says which transform is scaled: by 1/n the inverse (``"backward"``) or the forward one (``"forward"``),
or both by 1/sqrt(n) (``"ortho"``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.fft

from mpicluster.array import local as blocks
from mpicluster.array.darray import DistArray
from mpicluster.array.fourier import along_divided, complex_type
from mpicluster.array.layout import Block, Layout, Shape
from mpicluster.array.manipulation import roll
from mpicluster.array.mesh import as_mesh
from mpicluster.array.operands import as_dist, mesh_of, normal_axis
from mpicluster.array.placement import refuse_device
from mpicluster.array.ranges import made_of_indices
from mpicluster.array.statistics import with_block_layout

__all__ = [
    "fft",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfftn",
    "rfft",
    "rfftfreq",
    "rfftn",
]

Norm = Literal["backward", "ortho", "forward"]
#: For the transforms that are others' conjugates: which way is scaled.
_OTHER: dict[str, Norm] = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


class Step(NamedTuple):
    """A transform along one axis: its kind (the name of a function), and the number of points."""

    kind: str
    axis: int
    n: int


def _operand(x: Any, *, real: bool = False) -> DistArray:
    x = with_block_layout(as_dist(x, mesh_of(x)))
    if real and np.dtype(x.dtype).kind == "c":
        raise TypeError(f"this transform is of real arrays, and the array is of type {x.dtype}: use fft or fftn")
    return x


def _step(kind: str, x: DistArray, axis: int, n: int | None) -> Step:
    if n is None:
        n = 2 * (x.shape[axis] - 1) if kind == "irfft" else x.shape[axis]
    if n < 1:
        raise ValueError(f"Invalid number of FFT data points ({n}) specified.")
    return Step(kind, axis, int(n))


def _normal(norm: str) -> str:
    if norm not in _OTHER:
        raise ValueError(f"Invalid norm value {norm!r}; should be 'backward', 'ortho' or 'forward'.")
    return norm


def _transformed(x: DistArray, steps: Sequence[Step], norm: str) -> DistArray:
    """One transform after another."""
    divided = x.layout.axis if isinstance(x.layout, Block) and x.mesh.size > 1 else -1
    given = x
    for step in steps:
        if step.axis != divided:
            with x.mesh.preparing(x.nbytes if any(other.axis == divided for other in steps) else 0):
                x = _near(x, step, norm, overwrite=x is not given)
            continue
        other = max((i for i in range(x.ndim) if i != divided), key=lambda i: x.shape[i], default=-1)
        if other >= 0 and (2 * x.shape[other] > x.mesh.size or not x.size):
            x = x.redistribute(Block(other))
            with x.mesh.preparing(x.nbytes):
                x = _near(x, step, norm, overwrite=True)
            x = x.redistribute(Block(divided))
        else:
            x = along_divided(x, step.kind, divided, step.n, norm)
    return x.redistribute(Block(divided)) if divided >= 0 else x


def _near(x: DistArray, step: Step, norm: str, *, overwrite: bool) -> DistArray:
    """A transform along an axis that is not divided. No message."""
    kind, axis, n = step
    length = n // 2 + 1 if kind == "rfft" else n

    def resized(shape: Shape) -> Shape:
        return tuple(length if i == axis else m for i, m in enumerate(shape))

    block = x.local
    if type(block) is not np.ndarray:
        namespace = blocks.namespace(block)
        result = getattr(namespace.fft, kind)(block, n=n, axis=axis, norm=norm)
    elif not block.size:
        real = complex_type(block.dtype).type(0).real.dtype
        result = np.zeros(resized(block.shape), real if kind == "irfft" else complex_type(block.dtype))
    else:
        if kind == "irfft":
            block = block.astype(complex_type(block.dtype), copy=False)
        result = getattr(scipy.fft, kind)(block, n=n, axis=axis, norm=norm, overwrite_x=overwrite)
    return DistArray(x.mesh, x.layout, resized(x.shape), result)


def _of_one(kind: str, x: Any, n: int | None, axis: int, norm: str) -> DistArray:
    x = _operand(x, real=kind == "rfft")
    return _transformed(x, [_step(kind, x, normal_axis(axis, x.ndim), n)], _normal(norm))


def fft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> DistArray:
    """The discrete Fourier transform along an axis; of its first ``n`` elements, or of these and zeros. Costs: see this module."""
    return _of_one("fft", x, n, axis, norm)


def ifft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> DistArray:
    """The inverse of `fft`. Costs: see this module."""
    return _of_one("ifft", x, n, axis, norm)


def rfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> DistArray:
    """The first n // 2 + 1 elements of the transform of a real array, whose others mirror them. Costs: see this module.

    Raises
    ------
    TypeError
        the array is complex.
    """
    return _of_one("rfft", x, n, axis, norm)


def irfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> DistArray:
    """The inverse of `rfft`: ``n`` real elements, by default 2 (m - 1) from m. Costs: see this module."""
    return _of_one("irfft", x, n, axis, norm)


def hfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> DistArray:
    """The transform, which is real, of ``n`` elements of which the first n // 2 + 1 are given and the others mirror them, conjugated."""
    x = _operand(x)
    conjugate = DistArray(x.mesh, x.layout, x.shape, blocks.namespace(x.local).conj(x.local))
    return irfft(conjugate, n=n, axis=axis, norm=_OTHER[_normal(norm)])


def ihfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> DistArray:
    """The inverse of `hfft`: the first n // 2 + 1 elements."""
    result = rfft(x, n=n, axis=axis, norm=_OTHER[_normal(norm)])
    return DistArray(result.mesh, result.layout, result.shape, blocks.namespace(result.local).conj(result.local))


# -- several axes ----------------------------------------------------------------------------------------------------------------------


def _steps(kind: str, x: DistArray, s: Sequence[int] | None, axes: Sequence[int] | None) -> list[Step]:
    """A transform along each axis, the last of the axes first; of kind ``kind`` along all."""
    if s is not None and axes is None:
        raise ValueError("`axes` must be given with `s`: which axes are to have these lengths")
    along = range(x.ndim) if axes is None else [normal_axis(a, x.ndim) for a in axes]
    lengths = [None] * len(along) if s is None else [None if m == -1 else m for m in s]
    if len(lengths) != len(along):
        raise ValueError("Shape and axes have different lengths.")
    return [_step(kind, x, axis, n) for axis, n in reversed(list(zip(along, lengths, strict=True)))]


def _of_several(kind: str, x: Any, s: Sequence[int] | None, axes: Sequence[int] | None, norm: str) -> DistArray:
    x = _operand(x)
    steps = _steps(kind, x, s, axes)
    if not steps:
        return DistArray(x.mesh, x.layout, x.shape, blocks.namespace(x.local).astype(x.local, complex_type(x.dtype)))
    return _transformed(x, steps, _normal(norm))


def fftn(x: Any, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward") -> DistArray:
    """The transform along several axes, all by default; ``s`` are the numbers of elements. Costs: as along the divided axis alone."""
    return _of_several("fft", x, s, axes, norm)


def ifftn(x: Any, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward") -> DistArray:
    """The inverse of `fftn`."""
    return _of_several("ifft", x, s, axes, norm)


def _real_step(kind: str, x: DistArray, s: Sequence[int] | None, axes: Sequence[int] | None) -> tuple[Step, list[Step]]:
    """The transform between real and complex, along the last of the axes, and the others."""
    if not (x.ndim if axes is None else len(axes)):
        raise ValueError("there must be at least one axis to transform")
    others = _steps("fft" if kind == "rfft" else "ifft", x, None if s is None else [*s[:-1], 1], axes)[1:]
    axis = x.ndim - 1 if axes is None else normal_axis(axes[-1], x.ndim)
    return _step(kind, x, axis, None if s is None or s[-1] == -1 else s[-1]), others


def rfftn(x: Any, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward") -> DistArray:
    """`rfft` along the last of several axes, and `fft` along the others. Costs: as along the divided axis alone."""
    x = _operand(x, real=True)
    first, others = _real_step("rfft", x, s, axes)
    return _transformed(x, [first, *others], _normal(norm))


def irfftn(x: Any, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward") -> DistArray:
    """The inverse of `rfftn`; the last of ``s`` is by default 2 (m - 1) for m elements."""
    x = _operand(x)
    last, others = _real_step("irfft", x, s, axes)
    return _transformed(x, [*others, last], _normal(norm))


# -- frequencies -----------------------------------------------------------------------------------------------------------------------


def _frequencies(n: int, whole: bool, d: float, dtype: Any, device: Any, layout: Layout | None, comm: Any) -> DistArray:
    refuse_device(device)
    if n < 1:
        raise ValueError(f"Invalid number of FFT data points ({n}) specified.")
    kind = np.dtype(np.float64 if dtype is None else dtype)
    if kind.kind != "f":
        raise ValueError(f"frequencies are of a real floating type, not {kind}")
    unit = 1.0 / (n * d)

    def make(lo: int, hi: int) -> np.ndarray[Any, Any]:
        index = np.arange(lo, hi)
        if whole:
            index[index >= (n + 1) // 2] -= n
        return (index * unit).astype(kind, copy=False)

    return made_of_indices(as_mesh(comm), n if whole else n // 2 + 1, layout, make)


def fftfreq(
    n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None, layout: Layout | None = None, comm: Any = None
) -> DistArray:
    """The frequencies of the elements of `fft`, in cycles per unit of the sample spacing ``d``. No message."""
    return _frequencies(n, True, d, dtype, device, layout, comm)


def rfftfreq(
    n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None, layout: Layout | None = None, comm: Any = None
) -> DistArray:
    """The frequencies of the elements of `rfft` of n elements. No message."""
    return _frequencies(n, False, d, dtype, device, layout, comm)


def _shifted(x: Any, axes: int | Sequence[int] | None, way: int) -> DistArray:
    x = _operand(x)
    along = range(x.ndim) if axes is None else [axes] if isinstance(axes, int | np.integer) else list(axes)
    normal = [normal_axis(a, x.ndim) for a in along]
    return roll(x, [way * (x.shape[a] // 2) for a in normal], axis=normal) if normal else x.copy()


def fftshift(x: Any, /, *, axes: int | Sequence[int] | None = None) -> DistArray:
    """The array with frequency zero in the middle of the axes, all by default. Along the divided axis each element travels at most once."""
    return _shifted(x, axes, 1)


def ifftshift(x: Any, /, *, axes: int | Sequence[int] | None = None) -> DistArray:
    """The inverse of `fftshift`."""
    return _shifted(x, axes, -1)
