"""Functions that say what they need: checked where they are called, wherever they come from."""

from __future__ import annotations

import json
import math
import sys
import types

import pytest

import mpicluster
from mpicluster import UnmetDependency, depend, dependent, interactive, require
from mpicluster.serial import functions
from mpicluster.serial.payload import decode, encode_inline


@pytest.fixture
def namespace(monkeypatch):
    names = {"__builtins__": __builtins__}
    monkeypatch.setattr(functions, "_namespace", names)
    return names


def travelled(value):
    return decode(encode_inline(value))


def uses_json():
    return json_of_the_engine.dumps(1)  # noqa: F821


@pytest.mark.parametrize(("answer", "runs"), [(True, True), (None, True), (0, True), ("", True), (False, False)])
def test_only_false_is_unmet(answer, runs):
    function = depend(lambda x: x, answer)(abs)
    if runs:
        assert function(-3) == 3
    else:
        with pytest.raises(UnmetDependency, match="abs cannot run here"):
            function(-3)


def test_a_dependency_may_raise_what_it_wants():
    def refuse():
        raise UnmetDependency("no camera")

    with pytest.raises(UnmetDependency, match="no camera"):
        dependent(abs, refuse)(1)
    with pytest.raises(ZeroDivisionError):
        dependent(abs, divmod, 1, 0)(1)


def test_a_dependent_function_is_still_that_function():
    @depend(divmod, 7, 2)
    def documented(x, y=1):
        """What it is for."""
        return x + y

    assert documented.__name__ == documented.func_name == "documented"
    assert documented.__doc__ == "What it is for."
    assert documented(1, y=5) == 6
    assert repr(documented) == "<dependent documented>"
    assert travelled(documented)(1, y=5) == 6
    assert documented.check_dependency()
    for wrong in (5, "f"):
        with pytest.raises(TypeError, match=r"callable|to be called"):
            dependent(wrong, abs)
        with pytest.raises(TypeError, match=r"callable|to be called"):
            depend(wrong)


def test_a_dependent_method_knows_its_object():
    class Counter:
        @depend(bool, True)
        def twice(self, x):
            return self, 2 * x

    counter = Counter()
    assert counter.twice(4) == (counter, 8)


def test_required_names_are_there_for_functions_by_value(namespace):
    """Of a closure, of a module that only the client has, of a module both have: as ``json`` and as something else."""
    factor = 3

    def closure(x):
        return json.dumps(factor * helper(x)), aliased.sqrt(4)  # noqa: F821

    required = travelled(require("json", "math as aliased", helper=lambda x: x + 1)(closure))
    assert required(1) == ("6", 2.0)
    assert namespace["json"] is json
    assert namespace["aliased"] is math
    assert travelled(require("json as json_of_the_engine")(uses_json))() == "1"
    module = types.ModuleType("only_here")
    exec("def f(): return xml.__name__", module.__dict__)
    assert travelled(require("xml.dom")(module.f))() == "xml"
    assert sys.modules["xml"] is namespace["xml"]


def test_required_functions_and_modules_by_themselves(namespace):
    def helper(x):
        return x * 10

    def uses(x):
        return helper_of_engine(x), math.floor(x)  # noqa: F821

    required = travelled(require(math, helper, helper_of_engine=helper)(uses))
    assert required(2) == (20, 2)
    assert namespace["helper"](1) == 10


def test_required_names_replace_older_ones(namespace):
    namespace["value"] = 1
    function = travelled(require(value=2)(interactive(lambda_of_value)))
    assert function() == 2


def lambda_of_value():
    return value  # noqa: F821


def test_a_module_that_is_not_there_is_unmet(namespace):
    with pytest.raises(UnmetDependency, match="no_such_module"):
        travelled(require("no_such_module.part")(abs))(1)


@pytest.mark.parametrize("wrong", [5, [1], lambda: 1, "not a name", "os; import sys", "a as b as c"])
def test_what_has_no_name_cannot_be_required(wrong):
    with pytest.raises(TypeError, match=r"needs a name|not the name of a module"):
        require(wrong)


def test_dependencies_stack(namespace):
    @require("json")
    @depend(bool, False)
    def never():
        return json.dumps(1)

    with pytest.raises(UnmetDependency, match="bool is not met"):
        travelled(never)()

    @depend(bool, True)
    @require("math as engine_math")
    def both():
        return engine_math.floor(2.5)  # noqa: F821

    assert travelled(both)() == 2


def make(n):
    def closure(x, *, y=5):
        """Text."""
        return n, x, y, pushed  # noqa: F821

    return closure


def test_an_interactive_function_sees_the_namespace_even_as_a_closure(namespace):
    namespace["pushed"] = "there"
    function = travelled(interactive(make(7)))
    assert function(1) == (7, 1, 5, "there")
    assert function.__doc__ == "Text."
    assert interactive(make(1)).__module__ == "__main__"
    for wrong in (abs, 5):
        with pytest.raises(TypeError, match="Python function"):
            interactive(wrong)


def test_names_of_the_package():
    assert mpicluster.require is require
    assert mpicluster.dependent is dependent
