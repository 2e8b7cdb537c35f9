"""``with view.sync_imports():`` imports on the engines what is imported here."""

from __future__ import annotations

import builtins
import dis
import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpicluster.client.direct import DirectView

__all__ = ["sync_imports"]


@contextmanager
def sync_imports(view: DirectView, *, local: bool = True, quiet: bool = False) -> Iterator[None]:
    """Imports of this thread, written in the ``with`` block itself, happen on the engines of ``view`` too."""
    original = builtins.__import__
    me = threading.get_ident()
    block = sys._getframe(2)  # past contextlib
    done: set[str] = set()

    def importing(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:  # noqa: A002
        frame = sys._getframe(1)
        if threading.get_ident() != me or frame.f_code is not block.f_code or level:
            return original(name, globals, locals, fromlist, level)
        for statement, what in _statements(frame, name, tuple(fromlist or ())):
            if statement not in done:
                done.add(statement)
                if not quiet:
                    print(f"importing {what} on engine(s)")
                view.execute(statement, block=True)
        if not local:
            return _Anything()
        return original(name, globals, locals, fromlist, level)

    builtins.__import__ = importing
    try:
        yield
    finally:
        builtins.__import__ = original


class _Anything:
    """Stands for a module that is imported on the engines only."""

    def __getattr__(self, name: str) -> Any:
        return _Anything()


def _statements(frame: FrameType, name: str, fromlist: tuple[str, ...]) -> list[tuple[str, str]]:
    """The import statement that a frame is executing, and what it imports; aliases are read from its bytecode."""
    following = [i for i in dis.get_instructions(frame.f_code) if i.offset > frame.f_lasti]
    if not fromlist:
        for instruction in following:
            if instruction.opname.startswith("STORE_"):
                alias = instruction.argval
                plain = alias == name.partition(".")[0] and not any(
                    i.opname == "IMPORT_FROM" for i in following[: following.index(instruction)]
                )
                return [(f"import {name}" if plain else f"import {name} as {alias}", name)]
        return [(f"import {name}", name)]
    if fromlist == ("*",):
        return [(f"from {name} import *", f"* from {name}")]
    aliases = {}
    for first, second in itertools.pairwise(following):
        if first.opname == "IMPORT_NAME":
            break
        if first.opname == "IMPORT_FROM" and second.opname.startswith("STORE_"):
            aliases[first.argval] = second.argval
    return [(f"from {name} import {n}" + (f" as {aliases[n]}" if aliases.get(n, n) != n else ""), f"{n} from {name}") for n in fromlist]
