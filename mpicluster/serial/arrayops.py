"""What a client asks to be done with arrays that live on engines, as values; and what it is told.

A client numbers what it holds: an array, or another object that a function gave (a random generator, say), is known by its *key*. A
function that gives several has their keys below its own: ``(7, 0)`` and ``(7, 1)`` for the two arrays of operation 7.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

__all__ = ["NO_SCALAR", "SCATTERED", "Answer", "Key", "Op", "Program", "Ref", "Told"]

Key: TypeAlias = "int | tuple[int, ...]"

#: Under this name, followed by a key, what was scattered waits to become an array.
SCATTERED = "_mpicluster_scattered_"
#: What is said of an array with dimensions that is to be a number.
NO_SCALAR = "only 0-dimensional arrays can be converted to Python scalars"


class Ref(NamedTuple):
    """Stands for what the engines hold under a key."""

    key: Key


class Op(NamedTuple):
    """One operation.

    ``name`` is that of a function of the array namespace (``"linalg.qr"``), of a method of the first argument (``".normal"``), or of
    one of the verbs of `engine.arrays` (``"=free"``).
    """

    key: int
    #: where its results go, if that is known; they get the error if it fails
    outs: tuple[Key, ...]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    #: whether the client wants to be told of the result
    tell: bool
    #: where it was called: file and line
    where: str


class Program(NamedTuple):
    """Operations, done one after another by all engines."""

    client: str
    ops: list[Op]


class Told(NamedTuple):
    """What became of an operation.

    ``kind``: ``"array"`` (``value``: key, shape and dtype), ``"object"`` (key and name of its type), ``"value"`` (itself), ``"tuple"``
    (name of its type and of its fields, if it has any, and what is told of each), ``"error"`` (bytes of the failure).
    """

    kind: str
    value: Any


class Answer(NamedTuple):
    """What the first engine says of a program, by the keys of its operations."""

    told: dict[int, Told]
