"""Which machines may be asked: public ones, unless the user says otherwise.

A name is resolved once; if any of its addresses is not public it is refused, and the connection
goes to the very addresses that were checked, so that a name that answers differently the next
time (DNS rebinding) gains nothing. Spellings such as 0x7f.1 are seen as the resolver reads them.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any

from cambrian_data.web.answers import FetchError
from cambrian_data.web.retry import Fault

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolved = tuple[socket.AddressFamily, socket.SocketKind, int, Any]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PLATFORM = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Public by its number, but served to the machines of one cloud from their own host."""


def is_public(ip: IPAddress) -> bool:
    """Say whether an address is one of the open internet; what lies inside an IPv6 one counts."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(ip.ipv4_mapped)
        if ip in _NAT64:
            return is_public(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        inner = [ip.sixtofour, *(ip.teredo or ())]
        if ip.is_site_local or not all(is_public(found) for found in inner if found is not None):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip in _PLATFORM)


def resolve(host: str, port: int) -> list[Resolved]:
    """Return the addresses of a host.

    Raises:
        Fault: unreachable; the name cannot be resolved (now).
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no host name"
        found, detail = [], f"the name {host} cannot be resolved: {reason}"
    else:
        detail = f"the name {host} has no address"
    if not found:
        raise Fault("unreachable", detail)
    return [(family, kind, proto, where) for family, kind, proto, _, where in found]


def check_public(host: str, found: Sequence[Resolved]) -> None:
    """Refuse a host that has an address which is not public.

    Raises:
        FetchError: private_address.
    """
    for _, _, _, where in found:
        ip = ipaddress.ip_address(str(where[0]).partition("%")[0])
        if not is_public(ip):
            named = "" if str(ip) == host else f"{host} is "
            raise FetchError(
                "private_address",
                f"{named}{ip}, which is no address of the open internet "
                "(--allow-private-hosts asks it all the same)",
            )


def check_literal(host: str, port: int) -> None:
    """Refuse a host that is itself an address which is not public; names pass.

    Raises:
        FetchError: private_address.
    """
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    check_public(host, [(socket.AF_UNSPEC, socket.SOCK_STREAM, 0, (str(ip), port))])


def connect(
    host: str,
    port: int,
    *,
    timeout_s: float | None,
    options: Sequence[tuple[int, int, int | bytes]],
    is_guarded: bool,
    watch: Callable[[socket.socket], None],
) -> socket.socket:
    """Connect to a host, trying its addresses in turn.

    Args:
        host: a name or an address.
        port: the port.
        timeout_s: for each of its addresses.
        options: of the socket.
        is_guarded: whether all its addresses must be public.
        watch: is shown each socket before it is connected.
    Raises:
        FetchError: private_address.
        Fault: unreachable.
    """
    found = resolve(host, port)
    if is_guarded:
        check_public(host, found)
    detail = ""
    for family, kind, proto, where in found:
        try:
            sock = socket.socket(family, kind, proto)
        except OSError as error:  # no IPv6 here
            detail = error.strerror or str(error)
            continue
        try:
            for option in options:
                sock.setsockopt(*option)
            sock.settimeout(timeout_s)
            watch(sock)
            sock.connect(where)
            return sock
        except OSError as error:
            sock.close()
            detail = "timed out" if isinstance(error, TimeoutError) else str(error)
        except BaseException:
            sock.close()
            raise
    raise Fault("unreachable", f"no connection to {host}:{port}: {detail}")
