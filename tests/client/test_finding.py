"""What may be said to a client of the cluster that is meant, and what it says of the rest."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from mpicluster import Client, NoCluster
from mpicluster.client.finding import find_contact
from mpicluster.wire import contact as contact_file
from mpicluster.wire.contact import Contact

CONTACT = Contact(
    cluster="abc",
    profile="default",
    host="nowhere",
    hub_pid=1,
    hub_started="",
    ipc="ipc:///nowhere",
    tcp=["tcp://127.0.0.1:1"],
    server_key="s",
    client_public="p",
    client_secret="c",
    engines=1,
    mpi="none",
    survives=False,
    started=1.0,
    log_dir="/tmp",
)


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(tmp_path))
    return contact_file.write(CONTACT)


def find(contact=None, profile="default", cluster=None, timeout=None, **others):
    return find_contact(contact, profile, cluster, timeout, others)


def test_a_cluster_is_found_in_every_way(written):
    with pytest.warns(DeprecationWarning, match="first argument"):
        assert find(url_or_file=written) == CONTACT
    for found in (
        find(),
        find(CONTACT),
        find(written),
        find(str(written)),
        find(msgspec.to_builtins(CONTACT)),
        find(url_file=str(written)),
        find(cluster="abc"),
        find(cluster_id="abc"),
        find(cluster=SimpleNamespace(contact=CONTACT)),
        find(sshkey=None, debug=False, context=None, cluster_id=None),
    ):
        assert found == CONTACT


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("sshkey", "~/.ssh/config"),
        ("password", "~/.ssh/config"),
        ("paramiko", "~/.ssh/config"),
        ("context", "of its own"),
        ("debug", "mpicluster logs"),
        ("profile_dir", "profile="),
        ("ipython_dir", "profile="),
        ("packer", "no such argument"),
    ],
)
def test_nothing_is_ignored(written, argument, says):
    with pytest.raises(TypeError, match=says):
        Client(**{argument: "x"})


def test_what_leads_to_no_cluster_is_told(written):
    with pytest.raises(ValueError, match="takes keys"):
        Client("tcp://127.0.0.1:10101")
    with pytest.raises(ValueError, match="not the content"):
        Client({"url": "tcp://127.0.0.1"})
    with pytest.raises(TypeError, match="a contact file"):
        Client(5)
    with pytest.raises(TypeError, match="twice"):
        Client(CONTACT, url_file=written)
    with pytest.raises(TypeError, match="twice"):
        Client(cluster="abc", cluster_id="abc")
    with pytest.raises(NoCluster, match="start it first"):
        Client(cluster=SimpleNamespace(contact=None))
    with pytest.raises(NoCluster):
        Client(cluster_id="another")
