"""``import mpicluster as ipp``: the names are there, or say why they are not."""

from __future__ import annotations

import builtins
import concurrent.futures
import importlib
import subprocess
import sys

import pytest

import mpicluster
from mpicluster.gone import GONE

#: all that `ipyparallel` 9.2 exports
KNOWN = [
    "ALL_COMPLETED",
    "AsyncMapResult",
    "AsyncResult",
    "BroadcastView",
    "Client",
    "Cluster",
    "Dependency",
    "DirectView",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "LoadBalancedView",
    "ParallelFunction",
    "PrePickled",
    "Reference",
    "RemoteFunction",
    "ViewExecutor",
    "__version__",
    "depend",
    "dependent",
    "interactive",
    "parallel",
    "register_joblib_backend",
    "remote",
    "require",
    "use_cloudpickle",
    "use_dill",
    "use_pickle",
    "version_info",
    "AlreadyDisplayedError",
    "CompositeError",
    "DependencyTimeout",
    "EngineError",
    "IPythonError",
    "ImpossibleDependency",
    "InvalidDependency",
    "KernelError",
    "NoEnginesRegistered",
    "RemoteError",
    "TaskAborted",
    "TaskRejectError",
    "TaskTimeout",
    "TimeoutError",
    "UnmetDependency",
    "error",
]


@pytest.mark.parametrize("name", KNOWN)
def test_a_name_of_ipython_parallel_is_here(name):
    assert getattr(mpicluster, name) is not None
    assert name in dir(mpicluster)


@pytest.mark.parametrize("name", sorted(GONE))
def test_a_name_that_is_gone_says_why(name):
    with pytest.raises(AttributeError, match=f"no attribute '{name}': {GONE[name][:20]}"):
        getattr(mpicluster, name)


def test_a_name_that_never_was_is_no_attribute():
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'$"):
        _ = mpicluster.nothing


def test_every_name_that_is_exported_is_there():
    for name in mpicluster.__all__:
        assert getattr(mpicluster, name) is not None


def test_errors_by_both_of_their_modules():
    error = importlib.import_module("mpicluster.error")
    assert mpicluster.error is error
    assert mpicluster.error.RemoteError is mpicluster.errors.RemoteError is mpicluster.RemoteError
    assert mpicluster.error.TimeoutError is mpicluster.TimeoutError is builtins.TimeoutError
    assert mpicluster.IPythonError is mpicluster.KernelError is mpicluster.ClusterError
    assert mpicluster.FIRST_EXCEPTION is concurrent.futures.FIRST_EXCEPTION


def test_error_is_there_without_being_imported():
    code = "import mpicluster as ipp; print(ipp.error.UnmetDependency.__name__, ipp.version_info)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split(maxsplit=1) == ["UnmetDependency", "(0, 1, 0)\n"]
    assert ".".join(map(str, mpicluster.version_info)) == mpicluster.__version__


def test_an_error_that_was_shown_is_shown_in_one_line():
    original = mpicluster.RemoteError("x")
    original.ename, original.evalue, original.traceback = "ValueError", "first\nsecond", "a\nlong\ntraceback"
    error = mpicluster.AlreadyDisplayedError(original)
    assert error.render_traceback() == ["1 error"]
    assert error.original_error is original


def test_the_base_of_errors():
    for name in mpicluster.errors.__all__:
        if name != "TimeoutError" and name[0].isupper():
            assert issubclass(getattr(mpicluster.errors, name), mpicluster.ClusterError)
