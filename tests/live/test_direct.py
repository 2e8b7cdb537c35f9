"""Direct views: calls, cells, names, and how functions of a session travel."""

from __future__ import annotations

import functools
import itertools
import math
import operator
import os
import time
from collections import deque

import numpy as np
import pytest

from mpicluster import RemoteError, TargetError

TIMEOUT = 30


class Counter:
    """An object with a method, of a module that the engines can import."""

    def __init__(self, start):
        self.start = start

    def plus(self, x):
        return self.start + x


# -- calls -----------------------------------------------------------------------------------------------------------------


def test_apply_obeys_the_block_flag_and_its_two_forms_do_not(rc):
    view = rc[:]
    assert view.block is False
    assert view.apply(operator.add, 1, 2).get(timeout=TIMEOUT) == [3] * len(rc)
    view.block = True
    assert view.apply(operator.add, 1, 2) == [3] * len(rc)
    assert view.apply_async(operator.add, 1, 2).get(timeout=TIMEOUT) == [3] * len(rc)
    assert rc[:].apply_sync(operator.add, 1, 2) == [3] * len(rc)


def test_views_take_the_block_flag_of_their_client(rc):
    rc.block = True
    assert rc[:].apply(abs, -1) == [1] * len(rc)
    assert rc.direct_view("all", block=False).block is False
    assert rc.load_balanced_view().apply(abs, -1) == 1


def test_a_call_takes_keywords_of_any_name(rc):
    """None of them is mistaken for an option of the call."""
    names = {"self": 1, "f": 2, "block": 3, "targets": 4, "kwargs": 5}
    assert rc[0].apply_sync(dict, **names) == names
    assert rc.load_balanced_view().apply_sync(dict, **names) == names


@pytest.mark.parametrize(
    "f",
    [functools.partial(operator.add, 2), Counter(2).plus, lambda x: x + 2, (2).__add__, operator.methodcaller("__add__", 2)],
    ids=["partial", "bound method", "lambda", "method of a builtin", "callable object"],
)
def test_anything_callable_is_applied(rc, f):
    assert rc[:].apply_async(f, 5).get(timeout=TIMEOUT) == [7] * len(rc)


def test_one_engine_gives_a_value_and_several_give_a_list(rc):
    assert rc[0].apply_sync(abs, -1) == 1
    assert rc[[0]].apply_sync(abs, -1) == [1]
    assert rc.direct_view().apply_sync(abs, -1) == [1] * len(rc)
    assert len(rc[0]) == 1
    assert len(rc.direct_view()) == len(rc)


def test_the_arguments_of_one_call_are_not_those_of_the_next(rc):
    """An engine that changes its argument changes a copy of its own."""
    values = [1, 2]
    assert rc[:].apply_sync(lambda x: x.append(3) or x, values) == [[1, 2, 3]] * len(rc)
    assert values == [1, 2]
    array = np.zeros(5)
    assert all(back.sum() == 5 for back in rc[:].apply_sync(lambda a: a.__iadd__(1), array))
    assert array.sum() == 0


# -- map -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "items",
    [
        range(9),
        list(range(9)),
        "abcdefghi",
        {i: i for i in range(9)},
        deque(range(9)),
        set(range(9)),
        np.arange(9),
        (i for i in range(9)),
        [],
    ],
    ids=lambda x: type(x).__name__,
)
def test_map_takes_what_pythons_map_takes(rc, items):
    items = items if hasattr(items, "__len__") else list(items)
    assert rc[:].map_sync(str, items) == list(map(str, items))


def test_map_stops_at_the_shortest_even_if_others_never_end(rc):
    view = rc[:]
    assert view.map_sync(pow, range(5), itertools.repeat(2)) == [0, 1, 4, 9, 16]
    assert view.map_sync(pow, itertools.count(), iter([2, 2, 2])) == [0, 1, 4]
    assert view.map_sync(max, {1: 2, 3: 4}, [2], deque([0, 0])) == [2]
    assert view.map_sync(max, [], itertools.count()) == []
    with pytest.raises(TypeError, match="at least one sequence"):
        view.map(abs)


def test_map_gives_each_engine_one_contiguous_part(rc4):
    result = rc4[:].map_async(abs, range(-7, 0))
    assert result.get(timeout=TIMEOUT) == [7, 6, 5, 4, 3, 2, 1]
    assert result.get_dict() == {0: [7, 6], 1: [5, 4], 2: [3, 2], 3: [1]}
    assert list(rc4[[3, 1]].imap(abs, range(4))) == [0, 1, 2, 3]


def test_map_of_rows(rc):
    rows = np.arange(12.0).reshape(6, 2)
    assert rc[:].map_sync(np.sum, rows) == rows.sum(axis=1).tolist()


# -- cells -----------------------------------------------------------------------------------------------------------------


def test_execute_runs_magics_loops_and_definitions(rc):
    view = rc[:]
    view.execute("%cd -q /\nimport os\nwhere = os.getcwd()", block=True)
    assert view["where"] == ["/"] * len(rc)
    view.execute("def f(n):\n    total = 0\n    for i in range(n):\n        total += i\n    return total\n\nx = f(4)", block=True)
    assert view["x"] == [6] * len(rc)
    view.execute("import asyncio\nawait asyncio.sleep(0)\ny = 1", block=True)
    assert view["y"] == [1] * len(rc)


def test_execute_gives_a_result_in_any_case(rc):
    assert all(reply.execution_count >= 1 for reply in rc[:].execute("a = 1").get(timeout=TIMEOUT))
    result = rc[:].execute("print('x')", block=True)
    assert result.done()
    assert result.stdout == ["x\n"] * len(rc)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("x = = 1", SyntaxError),
        ("if 1:\nx = 1", IndentationError),
        ("1 / 0", ZeroDivisionError),
        ("undefined", NameError),
        ("import sys; sys.exit(3)", RemoteError),
        ("exit()", RemoteError),
        ("raise KeyboardInterrupt", RemoteError),
        ("input()", EOFError),
        ("%no_such_magic", Exception),
    ],
)
def test_a_cell_that_fails_raises_what_it_raised(rc, code, kind):
    """And the engine goes on."""
    with pytest.raises(kind) as caught:
        rc[0].execute(code).get(timeout=TIMEOUT)
    assert isinstance(caught.value, Exception)
    assert rc[:].apply_async(abs, -1).get(timeout=TIMEOUT) == [1] * len(rc)


def test_a_syntax_error_says_where_it_is(rc):
    error = rc[0].execute("x = 1\ny = = 2").exception(timeout=TIMEOUT)
    assert (error.lineno, error.text) == (2, "y = = 2\n")
    assert "y = = 2" in error.traceback


def test_output_of_all_kinds_is_kept(rc):
    code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.stdout.buffer.write(b'bytes\\n')\nprint('\\ud800')"
    result = rc[0].execute(code)
    result.get(timeout=TIMEOUT)
    assert result.stdout == "out\nbytes\n\\ud800\n"
    assert result.stderr == "err\n"


def test_run_sends_a_script_and_misses_none(rc, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("# coding: utf-8\nname = 'é'\nwhole = __name__\n", encoding="utf-8")
    rc[:].run(str(script), block=True)
    assert rc[:].pull(["name", "whole"], block=True) == [["é", "__main__"]] * len(rc)
    with pytest.raises(FileNotFoundError):
        rc[:].run(str(tmp_path / "none.py"))


# -- names -----------------------------------------------------------------------------------------------------------------


def test_push_and_pull_follow_dots(rc):
    view = rc[:]
    view.block = True
    view.execute("import types\na = types.SimpleNamespace(b=types.SimpleNamespace())")
    view.push({"a.b.c": 1, "d": 2})
    assert view.pull(["a.b.c", "d", "d + 1"]) == [[1, 2, 3]] * len(rc)
    assert view.pull(("d",)) == [[2]] * len(rc)
    assert view.get("a.b.c") == view["a.b.c"] == [1] * len(rc)
    with pytest.raises(AttributeError):
        view["a.c"]
    with pytest.raises(AttributeError):
        view.push({"a.c.d": 1})
    with pytest.raises(TypeError, match="dict"):
        view.push([("a", 1)])
    with pytest.raises(TypeError, match="dict"):
        view.push({1: 1})


def test_names_are_set_and_read_like_a_dict(rc):
    view = rc[:]
    view["a"] = {"k": [1]}
    view.update({"b": 2})
    assert view["a"] == [{"k": [1]}] * len(rc)
    assert view.get("b") == [2] * len(rc)
    assert rc[0]["b"] == 2


def test_targets_of_one_call(rc4):
    view = rc4[:]
    view.push({"a": 1}, targets=[1, 3], block=True)
    assert rc4[[1, 3]]["a"] == [1, 1]
    assert view.pull("a", targets=3, block=True) == 1
    assert view.pull("a", targets=slice(1, None, 2), block=True) == [1, 1]
    with pytest.raises(NameError):
        view.pull("a", targets=0, block=True)
    assert view.pull("rank", targets=[2, 0], block=True) == [2, 0]
    assert view.pull("rank", targets=-1, block=True) == 3
    for wrong in (4, [0, 4], [1, 1], [], "some", 1.5, ["0"]):
        with pytest.raises(TargetError):
            view.pull("rank", targets=wrong)


def test_clear_leaves_the_engines_own_names(rc):
    view = rc[:]
    view.block = True
    view.execute("import numpy as np\nx = 1\ndef f(): return x\ncomm = None")
    view.clear()
    for name in ("np", "x", "f"):
        with pytest.raises(NameError):
            view[name]
    assert view["rank"] == list(range(len(rc)))
    view.execute("total = comm.allreduce(1)")
    assert view["total"] == [len(rc)] * len(rc)


def test_a_pulled_value_is_what_it_was_when_it_was_pulled(rc):
    """A later task may change the array while it is on its way."""
    view = rc[:]
    view.push({"a": np.zeros(4_000_000), "b": [np.zeros(400_000)]}, block=True)
    pulled = [view.pull("a", block=False), view.pull("b", block=False), view.apply_async(eval, "__import__('__main__').a")]
    view.execute("a += 1\nb[0] += 1", block=True)
    for result in pulled:
        for value in result.get(timeout=TIMEOUT):
            assert not np.any(value)
    assert all(np.all(a == 1) for a in view["a"])


def test_sync_imports_keep_aliases(rc, capsys):
    view = rc[:]
    with view.sync_imports():
        import collections.abc
        import json as j
        from math import e  # noqa: F401
        from math import pi as p  # noqa: F401
        from os import path  # noqa: F401
    assert j is not None
    assert collections is not None
    view.execute("x = (j.dumps([1]), round(p, 2), round(e, 2), path.sep, collections.abc.Sized.__name__)", block=True)
    assert view["x"] == [("[1]", 3.14, 2.72, "/", "Sized")] * len(rc)
    assert "importing json on engine(s)" in capsys.readouterr().out
    for name in ("json", "math", "pi"):
        with pytest.raises(NameError):
            view[name]


def test_sync_imports_of_what_is_missing_there_or_here(rc):
    view = rc[:]
    view.execute("import sys, types\nsys.modules['only_there'] = types.ModuleType('only_there')", block=True)
    with view.sync_imports(local=False, quiet=True):
        import only_there
    assert only_there is not None
    assert rc[0].apply_sync(eval, "'only_there' in vars(__import__('__main__'))")
    with pytest.raises(ModuleNotFoundError), view.sync_imports(quiet=True):
        import no_such_module  # noqa: F401
    import string  # a later import stays here

    assert string
    with pytest.raises(NameError):
        view["string"]


def test_reprs(rc4):
    assert repr(rc4[:]) == "<DirectView [0, 1, 2, 3]>"
    assert repr(rc4.direct_view()) == "<DirectView all>"
    assert repr(rc4[[2, 0]]) == "<DirectView [2, 0]>"
    assert repr(rc4[-1]) == "<DirectView 3>"
    pending = rc4[:].apply_async(math.sqrt, 4)
    assert repr(pending) in ("<AsyncResult: sqrt>", "<AsyncResult: finished>")
    pending.get(timeout=TIMEOUT)
    assert repr(pending) == "<AsyncResult: finished>"
    mapped = rc4[:].map_async(abs, [1])
    mapped.get(timeout=TIMEOUT)
    assert repr(mapped) == "<AsyncMapResult: finished>"


def test_all_follows_the_cluster_and_a_slice_does_not(fresh):
    """On an MPI that survives: a frozen view says which engine is gone."""
    rc = fresh(2)
    everyone, frozen = rc.direct_view(), rc[:]
    assert everyone.apply_sync(abs, -1) == frozen.apply_sync(abs, -1) == [1, 1]
    rc[1].apply_async(os._exit, 1).wait(TIMEOUT)
    if not rc.contact.survives:
        return
    deadline = time.monotonic() + TIMEOUT
    while rc.ids != [0]:
        assert time.monotonic() < deadline
        rc.status()
    assert everyone.apply_async(abs, -1).get(timeout=TIMEOUT) == [1]
    assert len(everyone) == 1
    with pytest.raises(TargetError, match="no engine 1"):
        frozen.apply_sync(abs, -1)


# -- functions of a session ------------------------------------------------------------------------------------------------


def test_functions_of_a_session_see_the_names_of_the_engine(rc, session):
    """Not those of the session: data do not travel with a function."""
    names = session("data = 1\ndef f(): return data\ndef store(x):\n    global stored\n    stored = x")
    with pytest.raises(NameError):
        rc[0].apply_sync(names["f"])
    rc[:].scatter("data", list(range(len(rc))), flatten=True, block=True)
    assert rc[:].apply_sync(names["f"]) == list(range(len(rc)))
    rc[:].apply_sync(names["store"], 5)
    assert rc[:]["stored"] == [5] * len(rc)
    rc[:]["data"] = 7
    assert rc[:].apply_sync(names["f"]) == [7] * len(rc)


def test_helpers_travel_and_their_newest_version_is_called(rc, session):
    names = session("def helper(x): return 2 * x\ndef outer(x): return [helper(i) for i in range(x)]\ndef top(x): return outer(x)")
    assert rc[0].apply_sync(names["top"], 3) == [0, 2, 4]
    assert rc.load_balanced_view().map_sync(names["top"], [3]) == [[0, 2, 4]]
    names = session("def helper(x): return -x")
    assert rc[0].apply_sync(names["top"], 3) == [0, -1, -2]
    assert rc.load_balanced_view().map_sync(names["top"], [3]) == [[0, -1, -2]]


def test_a_helper_does_not_replace_what_was_pushed(rc, session):
    names = session("def helper(): return 'mine'\ndef f(): return helper()")
    rc[:].push({"helper": str}, block=True)
    assert rc[:].apply_sync(names["f"]) == [""] * len(rc)
    rc[:].push({"helper": None}, block=True)
    with pytest.raises(TypeError):
        rc[:].apply_sync(names["f"])


def test_recursion_closures_and_classes_of_a_session(rc, session):
    names = session("""
        import functools
        def fact(n): return 1 if n < 2 else n * fact(n - 1)
        def even(n): return True if n == 0 else odd(n - 1)
        def odd(n): return False if n == 0 else even(n - 1)
        @functools.lru_cache(maxsize=None)
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        def uses_fib(n): return fib(n)
        def counter():
            n = 0
            def more():
                nonlocal n
                n += 1
                return n
            return more
        class Base:
            def __init__(self, x): self.x = x
            def helped(self): return fact(self.x)
        class Point(Base):
            @classmethod
            def make(cls, x): return cls(x)
            @property
            def double(self): return 2 * self.x
            def super_helped(self): return super().helped()
            def __eq__(self, other): return type(self) is type(other) and self.x == other.x
            __hash__ = None
        def defaults(a, /, b=2, *c, d=4, **e) -> int: return (a, b, c, d, e)
    """)
    call = rc[0].apply_sync
    assert call(names["fact"], 10) == math.factorial(10)
    assert call(names["even"], 10) is True
    assert call(names["fib"], 80) == call(names["uses_fib"], 80) == 23416728348467685
    assert call(names["counter"]()) == 1
    assert call(lambda more: [more(), more()], names["counter"]()) == [1, 2]
    point = names["Point"](4)
    assert call(point.super_helped) == 24
    assert call(names["Point"].make, 3) == names["Point"](3)
    assert call(lambda p: p.double, point) == 8
    assert call(names["defaults"], 1, 3, 5, d=6, z=7) == (1, 3, (5,), 6, {"z": 7})


def test_a_function_comes_back_from_an_engine(rc, session):
    names = session("def helper(x): return x + 1\ndef make(n):\n    def f(x): return helper(x) + n\n    return f")
    f = rc[0].apply_sync(names["make"], 10)
    assert f(1) == 12
    rc[:].execute("def g(x): return 3 * x", block=True)
    assert rc[0]["g"](5) == 15


def test_classes_sent_twice_stay_one_class(rc, session):
    names = session("class Point:\n    pass")
    rc[:].push({"first": names["Point"]()}, block=True)
    rc[:].push({"second": names["Point"]()}, block=True)
    assert rc[0].apply_sync(eval, "type(__import__('__main__').first) is type(__import__('__main__').second)")
    assert type(rc[0]["first"]) is names["Point"]
