"""The contact file: private, whole or not there, and never trusted beyond what can be checked."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import threading
import time

import msgspec
import pytest

from mpicluster.errors import NoCluster
from mpicluster.wire import contact as contact_file
from mpicluster.wire.contact import Contact


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    path = tmp_path / "state"
    monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(path))
    return path


def contact(**changes) -> Contact:
    facts = {
        "cluster": "one",
        "profile": "default",
        "host": socket.gethostname(),
        "hub_pid": os.getpid(),
        "hub_started": contact_file.process_start(os.getpid()),
        "ipc": "ipc:///tmp/mpicluster-x/client",
        "tcp": ["tcp://127.0.0.1:1"],
        "server_key": "s",
        "client_public": "p",
        "client_secret": "very secret",
        "engines": 4,
        "mpi": "Open MPI 5.0.11",
        "survives": True,
        "started": 1.0,
        "log_dir": "/tmp/logs",
    }
    return Contact(**(facts | changes))


def test_what_is_written_is_read(state):
    """Every field, from the path that write returns."""
    path = contact_file.write(contact(launcher_pid=7))
    assert path == state / "default" / "one.json"
    assert contact_file.load(path) == contact(launcher_pid=7)


def test_the_secret_is_readable_by_its_owner_alone(state):
    """0600 in 0700, whatever the umask; also in a folder that was open before."""
    (state / "default").mkdir(parents=True)
    (state / "default").chmod(0o755)
    before = os.umask(0)
    try:
        path = contact_file.write(contact())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_reader_sees_a_whole_file_or_none(state):
    """While it is written over and over."""
    path = contact_file.write(contact())
    stop = threading.Event()
    seen = []

    def read():
        while not stop.is_set():
            seen.append(contact_file.load(path).started)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for i in range(200):
            contact_file.write(contact(started=float(i), log_dir="x" * (i * 50)))
    finally:
        stop.set()
        reader.join(10)
    assert seen == sorted(seen) or seen[0] == 1.0
    assert [p.name for p in path.parent.iterdir()] == ["one.json"]


def test_a_failed_write_leaves_nothing(state, monkeypatch):
    """Neither half a file nor a temporary one."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        contact_file.write(contact())
    assert list((state / "default").iterdir()) == []


@pytest.mark.parametrize("profile", ["", "..", ".hidden", "a/b", "/etc"])
def test_a_profile_is_a_plain_word(profile):
    """No way out of the state folder."""
    with pytest.raises(ValueError, match="plain word"):
        contact_file.profile_dir(profile)


def test_a_hub_that_runs_is_alive():
    """This process stands in for it."""
    assert contact_file.is_alive(contact()) is True


def test_a_hub_that_ended_is_not():
    """Also while its parent has not collected it yet."""
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        ours = contact(hub_pid=child.pid, hub_started=contact_file.process_start(child.pid))
        assert contact_file.is_alive(ours) is True
        child.kill()
        deadline = time.monotonic() + 10
        while contact_file.is_alive(ours):
            assert time.monotonic() < deadline
    finally:
        child.kill()
        child.wait()
    assert contact_file.is_alive(ours) is False


def test_a_pid_that_was_given_to_another_is_not_the_hub():
    """Same pid, another start."""
    assert contact_file.is_alive(contact(hub_started="12345")) is False


def test_a_hub_on_another_host_cannot_be_judged_from_here():
    """Neither alive nor dead."""
    assert contact_file.is_alive(contact(host="elsewhere.example")) is None


def test_a_process_is_read_past_an_odd_name(tmp_path):
    """Brackets and blanks in a program's name do not shift the fields."""
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen([odd, "60"])
    try:
        assert contact_file.process_start(child.pid).isdigit()
    finally:
        child.kill()
        child.wait()


def test_the_newest_living_cluster_is_found():
    """Dead ones are passed over."""
    contact_file.write(contact(cluster="old", started=1.0))
    contact_file.write(contact(cluster="new", started=2.0))
    contact_file.write(contact(cluster="dead", started=3.0, hub_started="0"))
    assert [c.cluster for c in contact_file.contacts()] == ["dead", "new", "old"]
    assert contact_file.find().cluster == "new"
    assert contact_file.find(cluster="old").cluster == "old"


def test_a_cluster_on_another_host_may_be_the_one():
    """Not known to be dead is enough to try."""
    contact_file.write(contact(cluster="far", host="elsewhere.example"))
    assert contact_file.find().cluster == "far"


def test_no_cluster_says_where_was_looked_and_what_to_do(state):
    """And does not wait for a stale one."""
    contact_file.write(contact(cluster="dead", hub_started="0"))
    with pytest.raises(NoCluster) as caught:
        contact_file.find()
    text = str(caught.value)
    assert "1 stale contact file" in text
    assert str(state / "default") in text
    assert "mpicluster start" in text
    with pytest.raises(NoCluster, match="'nope'"):
        contact_file.find(cluster="nope")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"version": 1}', b"\xff\xfe", b'{"cluster": 3}'],
)
def test_foreign_files_are_passed_over(state, content):
    """They are no reason to fail, and are refused when named."""
    contact_file.write(contact())
    foreign = state / "default" / "foreign.json"
    foreign.write_bytes(content)
    assert [c.cluster for c in contact_file.contacts()] == ["one"]
    with pytest.raises(NoCluster, match="not a readable contact file"):
        contact_file.load(foreign)


def test_another_versions_file_is_refused_with_the_reason(state):
    """A field more is fine, another format is not."""
    path = contact_file.write(contact())
    data = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(data | {"added_later": 1}))
    assert contact_file.load(path).cluster == "one"
    path.write_bytes(msgspec.json.encode(data | {"version": 99}))
    with pytest.raises(NoCluster, match="another version"):
        contact_file.load(path)


def test_files_beside_the_profiles_do_no_harm(state):
    """Logs, temporary files, stray files."""
    path = contact_file.write(contact())
    (state / "stray.txt").write_text("x")
    (path.parent / "logs").mkdir()
    (path.parent / ".half.tmp").write_text("{")
    assert [c.cluster for c in contact_file.contacts()] == ["one"]


def test_removing_twice_does_nothing(state):
    """Hub and launcher may both do it."""
    path = contact_file.write(contact())
    contact_file.remove(contact())
    contact_file.remove(contact())
    assert not path.exists()


def test_without_any_state_there_are_no_clusters():
    """Looking makes no folders."""
    assert contact_file.contacts() == []
    assert contact_file.contacts("default") == []
    assert not contact_file.state_dir().exists()
