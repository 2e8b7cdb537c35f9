"""Python's operators of arrays, by the functions of the same meaning: of this namespace, or of a client's. Knows no MPI."""

from __future__ import annotations

from typing import Any

import numpy as np

import mpicluster.array as xp

__all__ = ["Operators"]

_BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide", "mod": "remainder", "pow": "pow",
    "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}  # fmt: skip
_COMPARING = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}
_UNARY = {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}


def _operand(value: Any) -> bool:
    return isinstance(value, Operators | bool | int | float | complex | np.ndarray | np.generic | list | tuple) or (
        hasattr(value, "__array_namespace__")
    )


class Operators:
    """What `DistArray` inherits."""

    __slots__ = ()
    #: the namespace whose functions are meant
    _functions: Any = xp

    @property
    def T(self) -> Any:  # noqa: N802 - its name in the standard
        """The transpose of an array of two dimensions. No data moves: blocks of rows become blocks of columns."""
        ndim: int = self.ndim  # type: ignore[attr-defined]
        if ndim != 2:
            raise ValueError(f"x.T needs two dimensions, and there are {ndim}: use x.mT or permute_dims(x, axes)")
        return self._functions.matrix_transpose(self)

    @property
    def mT(self) -> Any:  # noqa: N802 - its name in the standard
        """The transposes of the last two dimensions. No data moves."""
        return self._functions.matrix_transpose(self)

    @property
    def real(self) -> Any:
        """The real part."""
        return self._functions.real(self)

    @property
    def imag(self) -> Any:
        """The imaginary part."""
        return self._functions.imag(self)

    def __getitem__(self, key: Any) -> Any:
        return self._functions.get_item(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._functions.set_item(self, key, value)

    def __divmod__(self, other: Any) -> Any:
        return (self // other, self % other) if _operand(other) else NotImplemented

    def __rdivmod__(self, other: Any) -> Any:
        return (other // self, other % self) if _operand(other) else NotImplemented

    def __format__(self, spec: str) -> str:
        """Of an array without dimensions, as of its element."""
        return format(self.item(), spec) if spec and not self.ndim else format(str(self), spec)  # type: ignore[attr-defined]

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """NumPy's ufuncs, block by block."""
        return self._functions.call_ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's other functions, by those of the same name here."""
        return self._functions.call_function(function, args, kwargs)


def _forward(name: str) -> Any:
    def method(self: Any, other: Any, /) -> Any:
        return getattr(self._functions, name)(self, other) if _operand(other) else NotImplemented

    return method


def _reflected(name: str) -> Any:
    def method(self: Any, other: Any, /) -> Any:
        return getattr(self._functions, name)(other, self) if _operand(other) else NotImplemented

    return method


def _in_place(name: str) -> Any:
    def method(self: Any, other: Any, /) -> Any:
        return self._functions.in_place(getattr(self._functions, name), self, other) if _operand(other) else NotImplemented

    return method


def _unary(name: str) -> Any:
    def method(self: Any) -> Any:
        return getattr(self._functions, name)(self)

    return method


for _short, _name in _BINARY.items():
    setattr(Operators, f"__{_short}__", _forward(_name))
    setattr(Operators, f"__r{_short}__", _reflected(_name))
    setattr(Operators, f"__i{_short}__", _in_place(_name))
for _short, _name in _COMPARING.items():
    setattr(Operators, f"__{_short}__", _forward(_name))
for _short, _name in _UNARY.items():
    setattr(Operators, f"__{_short}__", _unary(_name))
