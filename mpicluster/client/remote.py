"""Functions that run on engines when they are called here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mpicluster.client.view import View, check_callable

__all__ = ["ParallelFunction", "RemoteFunction", "parallel", "remote", "use_cloudpickle", "use_dill", "use_pickle"]


class RemoteFunction:
    """A function whose calls run on the engines of a view. Thread-safe.

    ``block``
        whether a call waits for its value; None to do as the view does.
    ``flags``
        flags of the view for these calls.
    """

    def __init__(self, view: View, f: Callable[..., Any], block: bool | None = None, **flags: Any) -> None:
        check_callable(f)
        with view.temp_flags(**flags):
            pass  # wrong ones are told now
        self.view, self.func, self.block, self.flags = view, f, block, flags
        functools.update_wrapper(self, f, updated=())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self, '__name__', self.func)} on {self.view!r}>"

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return self if owner is None else functools.partial(self, owner)

    def _now(self) -> Any:
        """The flags of a call that is made now."""
        return self.view._with(**self.flags, block=self.block)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it there: the value if this function blocks, else an `AsyncResult`."""
        flags = self._now()
        result = self.view._apply(self.func, args, kwargs, flags, block=flags.block)
        return result.get() if flags.block else result


class ParallelFunction(RemoteFunction):
    """A function of sequences, which are divided among the engines of a view.

    Calling it runs it once for each part, with the parts; what these calls give is put together (arrays are concatenated, lists chained,
    other values come as a list). `map` runs it once for each element.

    Parameters
    ----------
    dist
        ``"b"``: contiguous parts; ``"r"``: round robin.
    chunksize
        items in one part, for a load-balanced view; 1 by default.
    ordered
        whether iterating over a `map` gives values in the order of the elements, or as they come.
    return_exceptions
        whether failures are given as values.
    """

    def __init__(
        self,
        view: View,
        f: Callable[..., Any],
        dist: str = "b",
        block: bool | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        **flags: Any,
    ) -> None:
        if dist not in ("b", "r"):
            raise ValueError(f"dist must be 'b' (blocks) or 'r' (round robin), not {dist!r}")
        if chunksize is not None and chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, is {chunksize}")
        super().__init__(view, f, block, **flags)
        self.dist, self.chunksize, self.ordered, self.return_exceptions = dist, chunksize, ordered, return_exceptions

    def __call__(self, *sequences: Any) -> Any:
        """Run it once for each part of the sequences, which are of one length.

        Raises
        ------
        ValueError
            they are not.
        """
        if not sequences:
            raise TypeError(f"{self!r} needs at least one sequence")
        sized = [list(s) if isinstance(s, Mapping) or not hasattr(s, "__len__") else s for s in sequences]
        lengths = [len(s) for s in sized]
        if len(set(lengths)) > 1:
            raise ValueError(f"the sequences are to be of one length, but theirs are {lengths}; map() takes the shortest")
        view: Any = self.view
        return self._run(view._call_parts, sized)

    def map(self, *sequences: Iterable[Any]) -> Any:
        """Run it once for each element of the sequences, as the builtin has it: a list, or an `AsyncMapResult`."""
        view: Any = self.view
        return self._run(view._map, sequences)

    def _run(self, how: Callable[..., Any], sequences: Sequence[Any]) -> Any:
        flags, options = self._now(), {"ordered": self.ordered, "return_exceptions": self.return_exceptions, "chunksize": self.chunksize}
        return how(self.func, sequences, self.dist, flags, block=flags.block, **options)


def remote(view: View, block: bool | None = None, **flags: Any) -> Callable[[Callable[..., Any]], RemoteFunction]:
    """A decorator: calling the function runs it on ``view``."""
    return lambda f: RemoteFunction(view, f, block=block, **flags)


def parallel(
    view: View, dist: str = "b", block: bool | None = None, ordered: bool = True, **flags: Any
) -> Callable[[Callable[..., Any]], ParallelFunction]:
    """A decorator: calling the function with sequences runs it once for each part of them on ``view``, see `ParallelFunction`."""
    return lambda f: ParallelFunction(view, f, dist=dist, block=block, ordered=ordered, **flags)


def use_cloudpickle() -> None:
    """Nothing: what IPython Parallel sends so, or by ``use_dill`` or ``use_pickle``, is sent by cloudpickle here in any case."""


use_dill = use_pickle = use_cloudpickle
