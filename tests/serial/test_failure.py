"""Exceptions of engines as they are raised at the client."""

from __future__ import annotations

from traceback import format_exception

import pytest

from mpicluster.errors import RemoteError
from mpicluster.serial.failure import capture, restore


class Coded(RuntimeError):
    """As ``MPI.Exception``: made of a number, which says whether it is true."""

    def __bool__(self) -> bool:
        return bool(int(self.args[0]))


class Counted(Exception):
    """As a group of errors that has a length."""

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("error", [Coded("not a number"), Coded(0), Counted("empty")], ids=repr)
def test_an_exception_that_is_false_can_be_shown(error):
    raised = restore(capture(error, {}))
    assert isinstance(raised, RemoteError)
    assert isinstance(raised, type(error))
    assert type(error).__name__ in "".join(format_exception(raised))
    with pytest.raises(ValueError, match="another") as told:
        raise ValueError("another") from raised
    assert "direct cause" in "".join(format_exception(told.value))  # which asks whether the cause is true
