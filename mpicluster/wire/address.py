"""Addresses of this host, and which of a hub's addresses can be reached from here. Plain sockets only."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterable
from urllib.parse import urlsplit

__all__ = ["host_addresses", "knock", "reachable"]

_SIOCGIFADDR = 0x8915


def host_addresses(interface: str | None = None) -> list[str]:
    """IPv4 addresses of this host's interfaces, loopback last; or that of one of them.

    Raises
    ------
    ValueError
        there is no such interface, or it has no address.
    """
    found = []
    names = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for _, name in socket.if_nameindex():
            try:
                packed = fcntl.ioctl(s.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            names[name] = socket.inet_ntoa(packed[20:24])
            found.append(names[name])
    if interface is not None:
        if interface not in names:
            raise ValueError(f"there is no interface {interface!r} with an address on {socket.gethostname()}; there are {', '.join(names)}")
        return [names[interface]]
    return sorted(set(found), key=lambda a: (a.startswith("127."), a))


def reachable(addresses: Iterable[str], timeout: float = 2.0) -> str | None:
    """The first of some ``tcp://host:port`` at which something listens; None if there is none."""
    for address in addresses:
        parts = urlsplit(address)
        try:
            with socket.create_connection((parts.hostname or "", parts.port or 0), timeout):
                return address
        except OSError:
            continue
    return None


def knock(port: int, timeout: float = 5.0) -> bool | None:
    """Whether there is a hub at the other end of a tunnel that begins at a port of this host: tunnels take all calls, a hub says a word.

    False when the tunnel hangs up, which is what it does when nobody listens there; None when it says nothing in time, or is not there.
    """
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as s:
            return s.recv(1) == b"\xff"  # the signature of https://rfc.zeromq.org/spec/23
    except OSError:
        return None
