"""Signatures and descriptions of functions whose modules a client does not import, since they need MPI: read from their source."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Sequence
from inspect import Parameter, Signature
from typing import Any, NamedTuple

import mpicluster.array as names
from mpicluster.array.elements import BINARY, UNARY

__all__ = ["Described", "described"]

#: What only ranks have: handles lie on the engines of their view.
_NOT_HERE = frozenset({"comm"})


class Described(NamedTuple):
    """How a function is called, and what it says of itself."""

    signature: Signature
    doc: str


def described(name: str) -> Described | None:
    """Of a function of `mpicluster.array`, by its name there (``"linalg.qr"``); None for what has no source."""
    part, _, short = name.rpartition(".")
    if not part and (name in UNARY or name in BINARY):
        operands = ["x"] if name in UNARY else ["x1", "x2"]
        return Described(Signature([Parameter(x, Parameter.POSITIONAL_ONLY) for x in operands]), UNARY.get(name) or BINARY[name])
    if part == "linalg" or name in names._LINALG:
        module = f"mpicluster.linalg.{names.linalg._HOMES[short]}"
    else:
        module = f"mpicluster.array.{part or names._HOMES[name]}"
    definition = _definition(module, short)
    return None if definition is None else Described(_signature(definition.args), ast.get_docstring(definition) or "")


def _definition(module: str, name: str) -> ast.FunctionDef | None:
    """Where a name of a module is defined: there, or in the module from which it is imported."""
    for node in reversed(_statements(module)):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and node.module and any((a.asname or a.name) == name for a in node.names):
            return _definition(node.module, name)
    return None


@functools.cache
def _statements(module: str) -> Sequence[ast.stmt]:
    spec = importlib.util.find_spec(module)
    source = getattr(spec and spec.loader, "get_source", lambda _: None)(module)
    return ast.parse(source or "").body


def _signature(args: ast.arguments) -> Signature:
    """With names, kinds and defaults; without types, which are those of arrays on ranks."""
    leading = [(a, Parameter.POSITIONAL_ONLY) for a in args.posonlyargs] + [(a, Parameter.POSITIONAL_OR_KEYWORD) for a in args.args]
    without = [None] * (len(leading) - len(args.defaults))
    parameters = [_parameter(a, kind, default) for (a, kind), default in zip(leading, [*without, *args.defaults], strict=True)]
    if args.vararg is not None:
        parameters.append(_parameter(args.vararg, Parameter.VAR_POSITIONAL, None))
    parameters += [
        _parameter(a, Parameter.KEYWORD_ONLY, default)
        for a, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
        if a.arg not in _NOT_HERE
    ]
    if args.kwarg is not None:
        parameters.append(_parameter(args.kwarg, Parameter.VAR_KEYWORD, None))
    return Signature(parameters)


def _parameter(arg: ast.arg, kind: Any, default: ast.expr | None) -> Parameter:
    return Parameter(arg.arg, kind, default=Parameter.empty if default is None else ast.literal_eval(default))
