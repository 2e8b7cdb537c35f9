"""``mpicluster connect``: a cluster that is somewhere else, for the clients here."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from mpicluster.cli.group import Interrupted, heed, main, plain_word, profile_option

if TYPE_CHECKING:
    from mpicluster.client.tunnel import Tunnel

__all__ = ["connect"]

#: Seconds between two looks at the tunnel, between two at the hub, and between two attempts when something is wrong.
_LOOK, _VISIT, _PAUSE = 0.5, 30.0, 5.0


@main.command()
@click.argument("server")
@profile_option
@click.option("--cluster", default=None, callback=plain_word, help="Id of the cluster.  [default: the newest there]")
def connect(server: str, profile: str, cluster: str | None) -> None:
    """Reach a cluster through a server, by ssh; until Ctrl-C, `mpicluster.Client()` here finds it.

    SERVER is what you would tell ssh: the login node of the machine on which the cluster runs.

    \b
    mpicluster connect me@login.example.org
    """
    from mpicluster.client.tunnel import Tunnel
    from mpicluster.errors import NoCluster
    from mpicluster.wire import contact as contact_file

    heed()
    tunnel = Tunnel(server, profile, cluster)
    try:
        contact = tunnel.contact
        path = contact_file.profile_dir(profile, create=True) / f"{contact.cluster}.json"
        if path.exists() and not contact_file.load(path).through:
            raise click.ClickException(
                f"{path} is there: this host sees the same files as {server}, so Client() finds that cluster by itself. "
                f"If it cannot be reached from here, use Client(ssh={server!r})."
            )
        contact_file.write(contact)
        try:
            click.echo(
                f"Cluster {contact.cluster}, {contact.engines} engines on {contact.host}, is reached through {server}. Connect with\n"
            )
            argument = f"profile={profile!r}, " if profile != "default" else ""
            click.echo(f"    import mpicluster\n    rc = mpicluster.Client({argument}cluster={contact.cluster!r})\n")
            click.echo("Ctrl-C closes the way; the cluster goes on.")
            _keep_open(tunnel)
        except Interrupted:
            click.echo("\nClosed.")
        except NoCluster as e:
            click.echo(f"The cluster has ended: {e}.", err=True)
            sys.exit(1)
        finally:
            contact_file.remove(contact)
    finally:
        tunnel.close()


def _keep_open(tunnel: Tunnel) -> None:
    """Until the cluster has ended, which raises `NoCluster`."""
    visit_at = time.monotonic() + _VISIT
    while True:
        time.sleep(_LOOK)
        dropped = not tunnel.is_open()
        if dropped:
            click.echo(f"The connection to {tunnel.server} dropped; trying again ...", err=True)
        elif time.monotonic() < visit_at:
            continue
        while tunnel.again() is None:
            time.sleep(_PAUSE)
        visit_at = time.monotonic() + _VISIT
        if dropped:
            click.echo("It is back.", err=True)
