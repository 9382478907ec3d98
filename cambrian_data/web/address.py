"""Addresses: which ones may be asked at all, and their one spelling.

Only http and https, without a user name, within 8 kB. The one spelling (scheme and host in lower
case, no default port, no fragment, odd characters escaped) is what is sent, cached and compared.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from cambrian_data.records import UserError
from cambrian_data.web.answers import FetchError

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_CHARACTERS = 8_192
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Address:
    """An address that may be asked, in its one spelling."""

    scheme: str
    host: str
    """Without the brackets of IPv6."""
    port: int
    target: str
    """Path and query."""

    @property
    def place(self) -> str:
        """Host, with the port where it is not the scheme's own: what rates and trust go by."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """What a robots.txt holds for."""
        return f"{self.scheme}://{self.place}"

    @property
    def url(self) -> str:
        """The whole address."""
        return self.origin + self.target

    @property
    def is_loopback(self) -> bool:
        """Whether the address names this machine by its own words."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(url: str, params: Mapping[str, str | int] | None = None) -> Address:
    """Read an address, adding parameters to its query.

    Raises:
        FetchError: bad_address; nothing of the kind is ever asked.
    """
    url = url.strip()
    if _CONTROL.search(url) or len(url) > MAX_CHARACTERS:
        raise FetchError("bad_address", f"not an address: {url[:80]!r}")
    try:
        parts = parse_url(url)
    except (LocationParseError, ValueError):
        raise FetchError("bad_address", f"not an address: {url[:80]!r}") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise FetchError("bad_address", f"only http and https are asked, not {parts.scheme!r}")
    if parts.auth is not None:
        raise FetchError("bad_address", "a user name or password stands in the address")
    port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    host = (parts.host or "").strip("[]")
    if not host.strip(".") or not 0 < port < 65_536:
        raise FetchError("bad_address", f"no host, or no port that there is: {url[:80]!r}")
    query = parts.query or ""
    if params:
        query += ("&" if query else "") + urlencode(params)
    target = (parts.path or "/") + (f"?{query}" if query else "")
    return Address(parts.scheme, host, port, target)


def follow(address: Address, location: str) -> Address:
    """Return where a redirect leads.

    Raises:
        FetchError: bad_address.
    """
    with contextlib.suppress(UnicodeError):  # read as latin-1, but meant as UTF-8
        location = location.encode("latin-1").decode("utf-8")
    try:
        joined = urljoin(address.url, location.strip())
    except ValueError:
        raise FetchError("bad_address", "a redirect to something that is no address") from None
    try:
        return parse_address(joined)
    except FetchError as error:
        raise FetchError(error.reason, f"after a redirect: {error.detail}") from None


def places(hosts: Iterable[str]) -> frozenset[str]:
    """Return hosts (`host`, `host:port` or whole addresses) as `Address.place` spells them.

    Raises:
        UserError: one is no host.
    """
    found = set()
    for host in hosts:
        try:
            known = parse_address(host if "://" in host else f"http://{host}")
        except FetchError as error:
            raise UserError(f"the address of a service cannot be used: {error.detail}") from None
        found.add(known.place if "://" in host or known.port != 443 else known.host)
    return frozenset(found)
