"""Random arrays whose values depend on the seed alone: not on how many ranks there are, nor on how the array is divided.

The values of an array, in C order, are cut into *streams* of 65,536. They come from one bit generator that counts, Philox (Salmon, Moraes,
Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11), whose key is made of the seed by NumPy's ``SeedSequence``; the number of
the call and that of the stream are the upper half of the counter: so any rank can make any part. Each makes the streams of which it holds
something, straight into its block; no message is sent. Where a rank holds many short stretches (blocks of columns), the array is made in
`layout.default_layout` and redistributed.

::

    key = numpy.random.SeedSequence(seed).generate_state(2, numpy.uint64)
    stream = numpy.random.Generator(numpy.random.Philox(key=key, counter=[0, 0, number, call]))      # number and call count from 0

All ranks make the same calls, as ever.
"""

from __future__ import annotations

import math
import operator
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpicluster.array.darray import DistArray
from mpicluster.array.indexing import take
from mpicluster.array.layout import Block, Layout, block_sizes, starts
from mpicluster.array.manipulation import reshape
from mpicluster.array.mesh import Mesh, as_mesh
from mpicluster.array.operands import as_dist, mesh_of, normal_axis
from mpicluster.array.placement import as_shape, place
from mpicluster.array.redistribute import redistribute
from mpicluster.array.stretches import in_stretches, stretches

__all__ = ["Generator", "default_rng"]

#: How many values a stream has.
_STREAM = 1 << 16
#: Checks of parameters, the same on every rank, are left to NumPy: this draws no values.
_PROBE = np.random.default_rng(0)
#: The most parts into which a permutation is cut: their numbers are sorted by digits, being of 16 bits.
_MOST_PARTS = 1 << 16

Size = int | Sequence[int] | None
Host = np.ndarray[Any, Any]
#: Fills a vector with the next values of a stream.
Draw = Callable[[np.random.Generator, Host], Any]


class Generator:
    """Makes random arrays; see `default_rng`.

    Methods have the names and parameters of ``numpy.random.Generator``, and the same distributions, but parameters are numbers. Each takes
    also ``layout`` (how the array is divided) and ``comm`` (the ranks that hold it), as the functions that make arrays do. Without ``size``
    they give an array of no dimensions, which is replicated. Successive calls give different values. A generator can be pickled, and goes
    on where it was.
    """

    def __init__(self, sequence: np.random.SeedSequence) -> None:
        self._sequence = sequence
        self._key = sequence.generate_state(2, np.uint64)
        #: how many calls were made
        self._calls = 0

    def __repr__(self) -> str:
        key = f", spawn_key={self._sequence.spawn_key}" if self._sequence.spawn_key else ""
        return f"<Generator of entropy {self._sequence.entropy}{key} after {self._calls} calls>"

    def spawn(self, n_children: int) -> list[Generator]:
        """Generators whose values are independent of this one's, and of each other's."""
        return [Generator(child) for child in self._sequence.spawn(n_children)]

    # -- streams -------------------------------------------------------------------------------------------------------------------

    def _stream(self, call: int, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=self._key, counter=np.array([0, 0, number, call], np.uint64)))

    def _next(self) -> int:
        self._calls += 1
        return self._calls - 1

    def _drawn(self, size: Size, dtype: Any, layout: Layout | None, comm: Any, draw: Draw) -> DistArray:
        mesh, shape = as_mesh(comm), as_shape(() if size is None else size)
        target, _ = place(mesh, shape, layout)
        draw(_PROBE, np.empty(0, dtype))
        call = self._next()
        source = in_stretches(shape, target, mesh.size, _STREAM)
        moved = 0 if source == target else math.prod(shape) * np.dtype(dtype).itemsize
        with mesh.preparing(moved):
            block = np.empty(source.local_shape(shape, mesh.size, mesh.rank), dtype)
            for start, _, where in stretches(shape, source, mesh.size, mesh.rank):
                self._fill(block[where].reshape(-1), start, call, draw)
        return DistArray(mesh, target, shape, redistribute(mesh, block, shape, source, target))

    def _fill(self, out: Host, start: int, call: int, draw: Draw) -> None:
        """Values number ``start`` and after of a call."""
        at, end = start, start + out.size
        while at < end:
            number, skipped = divmod(at, _STREAM)
            stop = min(end, at - skipped + _STREAM)
            stream, part = self._stream(call, number), out[at - start : stop - start]
            if skipped:
                values = np.empty(skipped + part.size, part.dtype)
                draw(stream, values)
                part[...] = values[skipped:]
            else:
                draw(stream, part)
            at = stop

    # -- distributions -------------------------------------------------------------------------------------------------------------

    def random(self, size: Size = None, dtype: Any = np.float64, *, layout: Layout | None = None, comm: Any = None) -> DistArray:
        """Uniform from 0 to below 1."""
        return self._drawn(size, dtype, layout, comm, lambda stream, out: stream.random(out=out, dtype=out.dtype))

    def uniform(
        self, low: float = 0.0, high: float = 1.0, size: Size = None, *, layout: Layout | None = None, comm: Any = None
    ) -> DistArray:
        """Uniform from ``low`` to below ``high``."""
        low, width = float(low), float(high) - float(low)
        _PROBE.uniform(low, high, 0)

        def draw(stream: np.random.Generator, out: Host) -> None:
            stream.random(out=out)
            np.multiply(out, width, out=out)
            np.add(out, low, out=out)

        return self._drawn(size, np.float64, layout, comm, draw)

    def standard_normal(self, size: Size = None, dtype: Any = np.float64, *, layout: Layout | None = None, comm: Any = None) -> DistArray:
        """Normal, of mean 0 and deviation 1."""
        return self._drawn(size, dtype, layout, comm, lambda stream, out: stream.standard_normal(out=out, dtype=out.dtype))

    def normal(
        self, loc: float = 0.0, scale: float = 1.0, size: Size = None, *, layout: Layout | None = None, comm: Any = None
    ) -> DistArray:
        """Normal, of mean ``loc`` and deviation ``scale``."""
        loc, scale = float(loc), float(scale)
        _PROBE.normal(loc, scale, 0)

        def draw(stream: np.random.Generator, out: Host) -> None:
            stream.standard_normal(out=out)
            np.multiply(out, scale, out=out)
            np.add(out, loc, out=out)

        return self._drawn(size, np.float64, layout, comm, draw)

    def standard_exponential(
        self, size: Size = None, dtype: Any = np.float64, *, layout: Layout | None = None, comm: Any = None
    ) -> DistArray:
        """Exponential, of mean 1."""
        return self._drawn(size, dtype, layout, comm, lambda stream, out: stream.standard_exponential(out=out, dtype=out.dtype))

    def exponential(self, scale: float = 1.0, size: Size = None, *, layout: Layout | None = None, comm: Any = None) -> DistArray:
        """Exponential, of mean ``scale``."""
        scale = float(scale)
        _PROBE.exponential(scale, 0)

        def draw(stream: np.random.Generator, out: Host) -> None:
            stream.standard_exponential(out=out)
            np.multiply(out, scale, out=out)

        return self._drawn(size, np.float64, layout, comm, draw)

    def integers(
        self,
        low: int,
        high: int | None = None,
        size: Size = None,
        dtype: Any = np.int64,
        endpoint: bool = False,
        *,
        layout: Layout | None = None,
        comm: Any = None,
    ) -> DistArray:
        """Integers from ``low`` to below ``high`` (or up to it: ``endpoint``), each as likely; from 0 to below the only number given."""

        def draw(stream: np.random.Generator, out: Host) -> None:
            out[...] = stream.integers(low, high, out.size, dtype=out.dtype, endpoint=endpoint)

        _PROBE.integers(low, high, dtype=np.dtype(dtype), endpoint=endpoint)
        return self._drawn(size, dtype, layout, comm, draw)

    # -- choosing ------------------------------------------------------------------------------------------------------------------

    def choice(
        self, a: Any, size: Size = None, replace: bool = True, p: Any = None, *, layout: Layout | None = None, comm: Any = None
    ) -> DistArray:
        """Elements of ``a`` (along axis 0), or integers from 0 to below it.

        With replacement, each as likely, or with the probabilities ``p``, which are replicated: no message but those of `take`. Without
        replacement, the first of a `permutation`.
        """
        mesh = mesh_of(a, p) if isinstance(a, DistArray) or isinstance(p, DistArray) else as_mesh(comm)
        population = as_dist(a, mesh) if isinstance(a, DistArray) or np.ndim(a) else None
        n = operator.index(a) if population is None else population.shape[0]
        shape = as_shape(() if size is None else size)
        number = math.prod(shape)
        if n < 1 and number:
            raise ValueError("there is nothing to choose from")
        if p is not None:
            index = self._weighted(mesh, n, shape, replace, p, layout)
        elif replace:
            index = self.integers(0, max(n, 1), shape, layout=layout, comm=mesh)
        else:
            if number > n:
                raise ValueError(f"cannot choose {number} of {n} without replacement")
            index = reshape(self.permutation(n, comm=mesh)[:number], shape)
            index = index.redistribute(layout) if layout is not None else index
        return index if population is None else take(population, index, axis=0)

    def _weighted(self, mesh: Mesh, n: int, shape: tuple[int, ...], replace: bool, p: Any, layout: Layout | None) -> DistArray:
        weights = np.asarray(p, np.float64)
        if not replace:
            raise ValueError("choosing with probabilities is offered with replacement only")
        if weights.shape != (n,) or not (weights >= 0).all():
            raise ValueError(f"there must be {n} probabilities, none of them negative")
        bounds = weights.cumsum()
        if abs(bounds[-1] - 1) > 1e-8:
            raise ValueError(f"probabilities must sum to 1, not {bounds[-1]}")
        bounds /= bounds[-1]

        def draw(stream: np.random.Generator, out: Host) -> None:
            out[...] = bounds.searchsorted(stream.random(out.size), side="right")

        return self._drawn(shape, np.int64, layout, mesh, draw)

    def permutation(self, x: Any, axis: int = 0, *, layout: Layout | None = None, comm: Any = None) -> DistArray:
        """The integers from 0 to below ``x`` in a random order, each order as likely; or an array with an axis in such an order.

        Every integer is given to one of the parts of about 65,536 by lot, and the parts are shuffled, each by one rank (C. R. Rao,
        Sankhya A 23, 1961; M. Sandelius, J. Royal Statistical Society B 24, 1962). One Allgather of the sizes of parts, and one exchange of
        at most size - 1 messages. Memory: 6 times the integers of this rank. An array is then moved as `take` does.
        """
        if not isinstance(x, DistArray) and not np.ndim(x):
            result = self._permuted(as_mesh(comm), operator.index(x))
            return result.redistribute(layout) if layout is not None else result
        array = as_dist(x, mesh_of(x))
        along = normal_axis(axis, array.ndim)
        result = take(array, self._permuted(array.mesh, array.shape[along]), axis=along)
        return result.redistribute(layout) if layout is not None else result

    def shuffle(self, x: DistArray, axis: int = 0) -> None:
        """Put an axis of an array into a random order, in place; see `permutation`."""
        x.local[...] = self.permutation(x, axis, layout=x.layout).local

    def _permuted(self, mesh: Mesh, n: int) -> DistArray:
        if n < 0:
            raise ValueError("negative dimensions are not allowed")
        number = min(_MOST_PARTS, -(-n // _STREAM))
        if number < 2:
            bounds = Block(0).bounds((n,), mesh.size)
            order = self._stream(self._next(), 0).permutation(n)
            return DistArray(mesh, Block(0), (n,), order[bounds[mesh.rank] : bounds[mesh.rank + 1]].copy())
        with mesh.preparing(2 * n):
            lots = self.integers(0, number, n, np.uint16, layout=Block(0), comm=mesh).local
            found = np.bincount(lots, minlength=number)[np.newaxis]
        counts = mesh.allgather(found, [1] * mesh.size)
        total, before = counts.sum(axis=0), counts.cumsum(axis=0) - counts
        first, call = total.cumsum() - total, self._next()
        owned = starts(block_sizes(number, mesh.size))
        mine = range(owned[mesh.rank], owned[mesh.rank + 1])
        due: list[list[Host]] = [[] for _ in range(mesh.size)]
        at = np.concatenate([[0], counts[mesh.rank].cumsum()])[list(owned)]
        with mesh.preparing(n * counts.itemsize):
            for part in mine:
                order = self._stream(call, part).permutation(total[part]) + first[part]
                for peer in range(mesh.size):
                    due[peer].append(order[before[peer, part] : before[peer, part] + counts[peer, part]])
            come, result = np.empty(len(lots), np.int64), np.empty(len(lots), np.int64)
            places = np.argsort(lots, kind="stable")
            sends = [(peer, np.concatenate(due[peer])) for peer in range(mesh.size) if due[peer]]
        receives = [(peer, come[at[peer] : at[peer + 1]]) for peer in range(mesh.size) if at[peer + 1] > at[peer]]
        for peer, values in sends:
            if peer == mesh.rank:
                come[at[peer] : at[peer + 1]] = values
        others = [(peer, values) for peer, values in sends if peer != mesh.rank and values.size]
        mesh.exchange(others, [(peer, values) for peer, values in receives if peer != mesh.rank])
        result[places] = come
        return DistArray(mesh, Block(0), (n,), result)


# -- other distributions, a stream at a time -------------------------------------------------------------------------------------------

_CONTINUOUS = (
    "beta chisquare f gamma gumbel laplace logistic lognormal noncentral_chisquare noncentral_f pareto power rayleigh standard_cauchy "
    "standard_gamma standard_t triangular vonmises wald weibull"
)
_DISCRETE = "binomial geometric hypergeometric logseries negative_binomial poisson zipf"


def _distribution(name: str, kind: Any) -> Callable[..., DistArray]:
    def method(
        self: Generator, *parameters: float, size: Size = None, layout: Layout | None = None, comm: Any = None, **named: float
    ) -> DistArray:
        if any(np.ndim(p) or isinstance(p, DistArray) for p in (*parameters, *named.values())):
            raise TypeError(f"the parameters of {name} are numbers; size is given by its name")

        def draw(stream: np.random.Generator, out: Host) -> None:
            out[...] = getattr(stream, name)(*parameters, size=out.size, **named)

        return self._drawn(size, kind, layout, comm, draw)

    method.__name__, method.__qualname__ = name, f"Generator.{name}"
    method.__doc__ = f"As ``numpy.random.Generator.{name}``; ``size`` is given by its name."
    return method


for _name in _CONTINUOUS.split():
    setattr(Generator, _name, _distribution(_name, np.float64))
for _name in _DISCRETE.split():
    setattr(Generator, _name, _distribution(_name, np.int64))


def default_rng(seed: Any = None, *, comm: Any = None) -> Generator:
    """A generator of random arrays.

    ``seed``
        a number, a sequence of numbers, or a ``SeedSequence``, the same on all ranks: its values are then the same on any number of ranks;
        a generator, which is returned; None: rank 0 asks the system for one, and tells the others (one Bcast).
    """
    if isinstance(seed, Generator):
        return seed
    if isinstance(seed, np.random.SeedSequence):
        return Generator(seed)
    if seed is None:
        mesh = as_mesh(comm)
        drawn = np.frombuffer(secrets.token_bytes(16), np.uint32).copy()
        return Generator(np.random.SeedSequence(mesh.bcast(drawn, 0).tolist()))
    return Generator(np.random.SeedSequence(seed))
