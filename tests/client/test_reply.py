"""What the hub says of a task becomes the right error."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mpicluster import (
    DependencyTimeout,
    EngineError,
    ImpossibleDependency,
    InvalidDependency,
    RemoteError,
    TaskAborted,
    TaskTimeout,
    UnmetDependency,
)
from mpicluster.client.reply import Reply
from mpicluster.client.result import AsyncResult
from mpicluster.serial.failure import capture
from mpicluster.wire import messages as m

INFO = {"engine_id": 2, "rank": 2, "host": "h", "pid": 1, "method": "apply"}


def error_of(outcome, data, *, started=0.0, engines=None):
    made = AsyncResult(
        SimpleNamespace(id="c1", contact=SimpleNamespace(cluster="c"), _connection=None, _wait_until=lambda done, *_: done()),
        "f",
        1,
        single=True,
    )
    made._number(0, 1, engines)
    made._deliver(0, Reply(m.Result(1, 2, outcome, data, [], started, 2.0), (), 3.0))
    assert made.status == ("aborted" if outcome == m.ABORTED else "lost" if outcome == m.LOST else "error")
    with pytest.raises(Exception) as caught:
        made.result(0)
    return caught.value


@pytest.mark.parametrize(
    ("outcome", "data", "started", "kind"),
    [
        (m.REFUSED, b"unknown task c9_1", 0.0, InvalidDependency),
        (m.REFUSED, b"a task that it waits for failed", 0.0, ImpossibleDependency),
        (m.LATE, b"it had not begun after 2 s", 0.0, DependencyTimeout),
        (m.LATE, b"it ran longer than 2 s", 1.0, TaskTimeout),
        (m.LATE, b"it ran longer than its time limit of 2 s on engine 2, and does not end", 0.0, TaskTimeout),
        (m.LOST, b"engine 2 died", 0.0, EngineError),
        (m.ABORTED, b"", 0.0, TaskAborted),
    ],
)
def test_an_outcome_has_its_error(outcome, data, started, kind):
    error = error_of(outcome, data, started=started)
    assert type(error) is kind
    assert outcome == m.ABORTED or data.decode() in str(error)


def test_what_is_unmet_says_where_and_keeps_the_cause():
    data = capture(UnmetDependency("no camera"), INFO)
    direct = error_of(m.UNMET, data, engines=[2])
    assert type(direct) is UnmetDependency
    assert str(direct) == "no camera\n[engine 2, rank 2 on h, pid 1]"
    balanced = error_of(m.UNMET, data)
    assert type(balanced) is ImpossibleDependency
    assert "no engine has what f needs" in str(balanced)
    assert "no camera" in str(balanced)
    for error in (direct, balanced):
        assert isinstance(error.__cause__, RemoteError)
        assert isinstance(error.__cause__, UnmetDependency)


def test_an_error_of_time_is_no_reason_to_wait_again():
    """A loop of `except TimeoutError: continue` would never end."""
    for kind in (TaskTimeout, DependencyTimeout):
        assert not issubclass(kind, TimeoutError)
    assert issubclass(DependencyTimeout, ImpossibleDependency)
    assert issubclass(DependencyTimeout, TaskTimeout)
    assert issubclass(InvalidDependency, ImpossibleDependency)
    assert issubclass(ImpossibleDependency, UnmetDependency)
