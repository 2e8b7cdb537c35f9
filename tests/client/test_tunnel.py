"""Tunnels, by a stand-in for ssh that does what ssh does: the connection drops, a forward fails, the cluster ends behind it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from mpicluster.cli import main
from mpicluster.client import tunnel as module
from mpicluster.client.tunnel import Tunnel, still_there
from mpicluster.errors import NoCluster
from mpicluster.wire import contact as contact_file

TIMEOUT = 30

SSH = """
    import os, pathlib, subprocess, sys, time

    site = pathlib.Path(os.environ["SITE"])
    words = sys.argv[1:]
    with open(site / "calls", "a") as f:
        f.write(("forward" if "-O" in words else "command" if "-S" in words else "master") + chr(10))
    if "-O" in words:  # told to forward a port, by a process that ends with the master
        fails = site / "fails"
        if fails.exists():
            fails.unlink()
            sys.exit("mux_client_forward: forwarding request failed: Port forwarding failed")
        _, port, _, there = words[words.index("-L") + 1].split(":")
        master = (site / "master").read_text()
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        subprocess.Popen([sys.executable, str(site / "forward.py"), port, there, master], **quiet)
        while not (site / f"forwards-{port}-{master}").exists():
            time.sleep(0.01)
        sys.exit()
    if "-S" not in words:
        (site / "master").write_text(str(os.getpid()))
    os.environ["MPICLUSTER_STATE_DIR"] = str(site / "state")
    os.execvp("sh", ["sh", "-c", words[-1]])
"""

FORWARD = """
    import asyncio, os, pathlib, sys

    port, there, master = map(int, sys.argv[1:])

    async def pass_on(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def accept(reader, writer):
        try:
            far = await asyncio.open_connection("127.0.0.1", there)
        except OSError:
            writer.close()  # as ssh does
            return
        await asyncio.gather(pass_on(reader, far[1]), pass_on(far[0], writer), return_exceptions=True)

    async def main():
        server = await asyncio.start_server(accept, "127.0.0.1", port)
        (pathlib.Path(os.environ["SITE"]) / f"forwards-{port}-{master}").touch()
        while os.path.exists(f"/proc/{master}") and " Z " not in open(f"/proc/{master}/stat").read():
            await asyncio.sleep(0.02)
        os._exit(0)

    asyncio.run(main())
"""


class Hub:
    """Says what a hub says first."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        try:
            while True:
                connection, _ = self._socket.accept()
                with connection:
                    connection.sendall(b"\xff")
        except OSError:
            pass

    def close(self):
        if self._socket.fileno() >= 0:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()


class Site:
    """A server with one cluster."""

    def __init__(self, path: Path, contact):
        self.path = path
        self.state = path / "state" / "default"
        self.state.mkdir(parents=True)
        self.hub = Hub()
        self.contact = contact(tcp=[f"tcp://127.0.0.1:{self.hub.port}"])
        self.file = self.state / "x.json"
        self.file.write_bytes(msgspec.json.encode(self.contact))

    def calls(self):
        return (self.path / "calls").read_text().split()

    def master(self):
        return int((self.path / "master").read_text())


def until(condition, what):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture
def site(tmp_path, monkeypatch, some_contact):
    site = Site(tmp_path / "server", some_contact)
    (tmp_path / "bin").mkdir()
    for path, text in (
        (tmp_path / "bin" / "ssh", f"#!{sys.executable}\n{textwrap.dedent(SSH)}"),
        (site.path / "forward.py", textwrap.dedent(FORWARD)),
    ):
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SITE", str(site.path))
    monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(tmp_path / "laptop"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    yield site
    site.hub.close()
    assert list((tmp_path / "tmp").iterdir()) == []
    until(lambda: not os.path.exists(f"/proc/{site.master()}"), "ssh has ended")


@pytest.fixture
def way(site):
    way = Tunnel("server")
    yield way
    way.close()


def drop(site, way):
    os.kill(site.master(), signal.SIGKILL)
    until(lambda: not way.is_open(), "it has dropped")


def test_a_tunnel_and_another_after_it_dropped(site, way):
    address = way.again()
    assert address == way.contact.tcp[0] != site.contact.tcp[0]
    assert (way.contact.through, way.contact.cluster) == ("server", "x")
    drop(site, way)
    until(lambda: way.again() == address, "it is open again")
    assert site.calls().count("master") == 2


def test_an_ssh_that_does_not_forward_is_not_kept(site, way):
    (site.path / "fails").touch()
    drop(site, way)
    assert way.again() is None
    assert not way.is_open()
    until(lambda: way.again() == way.contact.tcp[0], "it is open again")


def test_a_cluster_that_ended_in_good_order(site, way):
    """While ssh goes on."""
    site.hub.close()
    site.file.unlink()
    with pytest.raises(NoCluster, match="no cluster 'x'"):
        way.again()
    assert way.is_open()
    assert site.calls().count("master") == 1


def test_a_cluster_that_ended_without_a_word(site, way, monkeypatch):
    site.hub.close()
    assert way.again() is None
    monkeypatch.setattr(module, "_GONE_AFTER", 0.0)
    with pytest.raises(NoCluster, match="nobody listens"):
        way.again()


def test_files_of_others_are_passed_by(site, way):
    (site.state / "old.json").write_text("{}")
    (site.state / "empty.json").write_text("")
    drop(site, way)
    until(lambda: way.again() is not None, "it is open again")
    with pytest.raises(NoCluster, match=r"old\.json is not a readable contact file"):
        Tunnel("server", file=str(site.state / "old.json"))
    with pytest.raises(NoCluster, match=r"no contact file /nowhere"):
        Tunnel("server", file="/nowhere")
    with pytest.raises(NoCluster, match="no cluster 'y'"):
        Tunnel("server", cluster="y")


def test_keys_do_not_stay_in_a_file(site, way, tmp_path):
    (folder,) = (tmp_path / "tmp").iterdir()
    assert (folder / "out").read_bytes() == b""
    assert folder.stat().st_mode & 0o077 == 0


def test_the_way_that_another_process_keeps_may_move(site, way):
    """It was closed, and opened anew at another port."""
    old = way.contact
    contact_file.write(old)
    assert still_there(old) == old.tcp[0]
    other = Hub()
    contact_file.write(msgspec.structs.replace(old, tcp=[f"tcp://127.0.0.1:{other.port}"]))
    assert still_there(old) == f"tcp://127.0.0.1:{other.port}"
    other.close()
    assert still_there(old) is None


def connect(tmp_path):
    code = (
        "import sys, mpicluster.cli.connect as c; c._VISIT = 0.2; c._PAUSE = 0.1; sys.argv = ['mpicluster', 'connect', 'server']; c.main()"
    )
    with (tmp_path / "said").open("w") as out:
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    until(lambda: "Ctrl-C closes" in (tmp_path / "said").read_text() or child.poll() is not None, "it is connected")
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_connect_leaves_nothing(site, tmp_path, number):
    """Also when its terminal is closed."""
    child = connect(tmp_path)
    assert contact_file.find().through == "server"
    child.send_signal(number)
    assert child.wait(TIMEOUT) == 0
    assert (tmp_path / "said").read_text().endswith("\nClosed.\n")
    assert contact_file.contacts() == []


def test_connect_ends_with_the_cluster(site, tmp_path):
    child = connect(tmp_path)
    site.hub.close()
    site.file.unlink()
    assert child.wait(TIMEOUT) == 1
    assert (tmp_path / "said").read_text().endswith("The cluster has ended: there is no cluster 'x' under profile 'default' on server.\n")
    assert contact_file.contacts() == []


def test_a_tunnel_that_was_killed_leads_nowhere(site, tmp_path):
    child = connect(tmp_path)
    child.kill()
    child.wait(TIMEOUT)
    with pytest.raises(NoCluster, match="1 stale contact file"):
        contact_file.find()
    assert "stale" in CliRunner().invoke(main, ["list"]).output
    assert CliRunner().invoke(main, ["stop", "--all"]).exit_code == 0
    assert contact_file.contacts() == []
    (left,) = (tmp_path / "tmp").iterdir()
    for path in left.iterdir():
        path.unlink()
    left.rmdir()
