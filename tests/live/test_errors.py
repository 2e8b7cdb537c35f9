"""Failures keep their type and place, and the next call works."""

from __future__ import annotations

import threading

import pytest

from mpicluster import Client, ClosedError, CompositeError, RemoteError, TargetError

TIMEOUT = 30


@pytest.fixture(autouse=True)
def still_works(rc):
    yield
    assert rc[:].apply_async(abs, -1).get(timeout=TIMEOUT) == [1] * len(rc)


def test_a_remote_type_is_kept(rc):
    with pytest.raises(ZeroDivisionError) as caught:
        rc[0].apply_async(divmod, 1, 0).get(timeout=TIMEOUT)
    assert isinstance(caught.value, RemoteError)
    assert caught.value.header() == "[0:apply]:"


def test_several_failures_are_one_error(rc):
    error = rc[:].apply_async(divmod, 1, 0).exception(timeout=TIMEOUT)
    assert isinstance(error, ZeroDivisionError)
    assert isinstance(error, CompositeError)
    assert error.render_traceback()[0] == f"[{','.join(map(str, rc.ids))}:apply]:"


def fail_on(engines):
    import mpicluster

    if mpicluster.comm.rank in engines:
        raise ZeroDivisionError(engines)


def test_a_call_on_several_engines_fails_with_one_type_of_error(rc4):
    """Whether one of them raised or all: what catches the one catches the other."""
    with pytest.raises(CompositeError, match=r"^1 of 4 engines raised in fail_on\n\[2:apply\]: ZeroDivisionError"):
        rc4[:].apply_sync(fail_on, [2])
    with pytest.raises(CompositeError, match=r"^all 4 engines raised in fail_on"):
        rc4[:].apply_sync(fail_on, [0, 1, 2, 3])
    with pytest.raises(ZeroDivisionError, match=r"^2 of 9 tasks raised in <lambda>"):
        rc4.load_balanced_view().map_sync(lambda x: 1 / (x % 5), range(9))
    with pytest.raises(ZeroDivisionError) as caught:
        rc4[2].apply_sync(fail_on, [2])
    assert not isinstance(caught.value, CompositeError)


class Proud(Exception):
    """Its kind wants no children."""

    def __init_subclass__(cls):
        raise ValueError("no children")


class Shy(Exception):
    """Its state cannot be set."""

    @property
    def args(self):
        raise ValueError("not for you")


def raise_a(kind):
    raise kind("text")


def write_bytes():
    import sys

    sys.stdout.write(b"bytes")


@pytest.mark.parametrize("kind", [Proud, Shy])
def test_no_exception_ends_its_engine(rc, kind):
    """However odd its class is. The fixture sees that all engines are there."""
    with pytest.raises(RemoteError, match=f"{kind.__name__}|text"):
        rc[0].apply_async(raise_a, kind).get(timeout=TIMEOUT)


def test_a_wrong_write_fails_alone(rc):
    with pytest.raises(TypeError, match="must be str, not bytes"):
        rc[0].apply_async(write_bytes).get(timeout=TIMEOUT)


def test_an_unknown_name_comes_with_a_hint(rc):
    error = rc[0].execute("nowhere", block=False).exception(timeout=TIMEOUT)
    assert isinstance(error, NameError)
    assert "hint:" in error.traceback


def test_what_cannot_travel_is_named(rc):
    with pytest.raises(TypeError, match="the arguments of abs"):
        rc[0].apply_async(abs, threading.Lock())
    with pytest.raises(TypeError, match="the result of apply"):
        rc[0].apply_async(threading.Lock).get(timeout=TIMEOUT)


def test_wrong_targets_are_refused(rc):
    for targets in (len(rc), [0, 0], [], -len(rc) - 1):
        with pytest.raises(TargetError):
            rc[targets]
    with pytest.raises(IndexError):
        rc[99]


def test_a_closed_client_says_so(rc):
    other = Client(rc.contact)
    other.close()
    with pytest.raises(ClosedError):
        other.direct_view(0)
