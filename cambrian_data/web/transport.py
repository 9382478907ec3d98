"""One request and its answer over urllib3: connections, TLS, proxies, sizes, unpacking.

urllib3 is used without a requests.Session: that would keep cookies, take passwords from .netrc and
read the whole body of a redirect. requests still says which proxy and which certificates the
user's environment asks for. Nothing is tried again here, and nothing is followed.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import requests
import requests.utils
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from cambrian_data.records import UserError
from cambrian_data.web.address import Address
from cambrian_data.web.answers import FetchError
from cambrian_data.web.flights import Flight, Flights
from cambrian_data.web.guard import check_literal, check_public, connect, resolve
from cambrian_data.web.optout import join_tags
from cambrian_data.web.rates import Turn, closed
from cambrian_data.web.retry import Fault, fault_of_error
from cambrian_data.web.unpack import unpack

MAX_ERROR_BYTES = 4_096
_MAX_IDLE_HOSTS, _MAX_CONNECTIONS = 64, 64
_CHUNK = 65_536
_NOT_KEPT = frozenset(
    {"set-cookie", "set-cookie2", "authorization", "proxy-authenticate", "www-authenticate"}
    | {"connection", "keep-alive", "transfer-encoding", "trailer", "upgrade", "te"}
    | {"content-encoding", "content-length"}  # of the packed body; kept is the unpacked one
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back for one request."""

    status: int
    headers: dict[str, str]
    """Names in lower case; without cookies and what concerns the connection alone."""
    body: bytes
    """Unpacked. Of anything but a 200 or 203 at most the first 4 kB."""
    num_bytes: int
    """Bytes of the body as it was sent."""


class _Watched:
    """A connection that goes to a checked address and sends when its turn has come."""

    flights: ClassVar[Flights]
    is_guarded: ClassVar[bool]

    def _new_conn(self: Any) -> socket.socket:
        flight = self.flights.current()
        return connect(
            self._dns_host,
            self.port,
            timeout_s=self.timeout,
            options=self.socket_options or (),
            is_guarded=self.is_guarded,
            # A copy, since the original is given up to TLS before the handshake.
            watch=lambda sock: flight.watch(sock.dup(), is_ours=True),
        )

    def request(self: Any, *args: Any, **keywords: Any) -> None:
        if self.sock is None:
            self.connect()
        with self.flights.current().sending(self.sock):
            super().request(*args, **keywords)  # type: ignore[misc]


def _pools(flights: Flights, is_guarded: bool) -> dict[str, Any]:
    """Return pools whose connections belong to these flights."""
    own = {"flights": flights, "is_guarded": is_guarded}
    plain = type("Plain", (_Watched, HTTPConnection), own)
    secure = type("Secure", (_Watched, HTTPSConnection), own)
    return {
        "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


class Transport:
    """Sends requests, over connections that are kept open."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout = urllib3.Timeout(connect=timeout_s, read=timeout_s)
        self._limit_s = 4 * timeout_s
        self._flights = Flights()
        self._lock = threading.Lock()
        self._managers: dict[tuple[str, bool, str], urllib3.PoolManager] = {}
        self._routes: dict[str, tuple[str, str]] = {}

    def close(self) -> None:
        """Cut all requests off and close the connections."""
        self._flights.close()
        with self._lock:
            managers, self._managers = self._managers, {}
        for manager in managers.values():
            manager.clear()

    def exchange(
        self,
        address: Address,
        headers: Mapping[str, str],
        turn: Turn,
        *,
        is_guarded: bool,
        max_bytes: int,
    ) -> Reply:
        """Ask an address once.

        Args:
            address: what is asked, with its secret parameters.
            headers: sent as they are.
            turn: waited for right before sending.
            is_guarded: whether only public addresses may be connected to.
            max_bytes: of the body, sent and unpacked.
        Raises:
            FetchError: private_address, too_large, unreachable (no TLS).
            Fault: unreachable; may be had at another try.
        """
        manager = self._manager(address, is_guarded)
        fault: FetchError | None = None
        with self._flights.flight(turn, self._limit_s) as flight:
            try:
                with self._open(manager, address, headers) as response:
                    reply = _read(response, max_bytes)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                fault = fault_of_error(error, address.place)
            except FetchError as error:
                fault = error
            if flight.was_cut:  # what the reader saw then may look like a whole answer
                fault = self._cut(flight, address)
        if fault is not None:
            raise fault  # outside of `except`: the error of urllib3 holds the whole address
        return reply

    def _cut(self, flight: Flight, address: Address) -> FetchError:
        if self._flights.is_closed:
            return closed()
        return Fault("unreachable", f"{address.place} was not done within {flight.limit_s:g} s")

    @contextlib.contextmanager
    def _open(
        self, manager: urllib3.PoolManager, address: Address, headers: Mapping[str, str]
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        response = manager.urlopen(
            "GET",
            address.url,
            headers=headers,
            redirect=False,
            retries=False,
            preload_content=False,
            timeout=self._timeout,
        )
        try:
            yield response
        finally:
            if not response.closed:  # not read to its end: the connection is of no more use
                response.close()
            response.release_conn()

    def _manager(self, address: Address, is_guarded: bool) -> urllib3.PoolManager:
        proxy, certificates = self._route(address)
        if proxy and is_guarded:
            # The proxy resolves the name anew, out of our sight, so this cannot be as strict as a
            # connection of our own: what is plainly private is refused, the proxy has to see to
            # the rest. A name that only the proxy can resolve passes.
            check_literal(address.host, address.port)
            with contextlib.suppress(Fault):
                check_public(address.host, resolve(address.host, address.port))
        with self._lock:
            key = (proxy, is_guarded and not proxy, certificates)
            if key not in self._managers:
                self._managers[key] = self._new_manager(*key)
            return self._managers[key]

    def _new_manager(self, proxy: str, is_guarded: bool, certificates: str) -> urllib3.PoolManager:
        context = create_urllib3_context()
        if Path(certificates).is_dir():
            context.load_verify_locations(capath=certificates)
        else:
            context.load_verify_locations(cafile=certificates)
        options: dict[str, Any] = {
            "num_pools": _MAX_IDLE_HOSTS,
            "maxsize": _MAX_CONNECTIONS,
            "ssl_context": context,
            "cert_reqs": "CERT_REQUIRED",
        }
        manager: urllib3.PoolManager
        if proxy:
            user, password = requests.utils.get_auth_from_url(proxy)
            if user:
                options["proxy_headers"] = urllib3.make_headers(
                    proxy_basic_auth=f"{user}:{password}"
                )
            manager = urllib3.ProxyManager(proxy, **options)
        else:
            manager = urllib3.PoolManager(**options)
        manager.pool_classes_by_scheme = _pools(self._flights, is_guarded)
        return manager

    def _route(self, address: Address) -> tuple[str, str]:
        """Return the proxy ("" for none) and the certificates that the user's environment names."""
        route = self._routes.get(address.origin)
        if route is None:
            with requests.Session() as session:
                found = session.merge_environment_settings(address.url, {}, None, None, None)
            proxy = requests.utils.select_proxy(address.url, found["proxies"]) or ""
            if address.is_loopback:  # a proxy's own loopback is never what is meant
                proxy = ""
            if proxy and "://" not in proxy:
                proxy = f"http://{proxy}"
            if proxy and not proxy.lower().startswith(("http://", "https://")):
                raise UserError(
                    f"the proxy for {address.scheme} is of a kind that is not known here "
                    f"({proxy.partition('://')[0]}): set http_proxy and https_proxy to an "
                    "http:// address"
                )
            verify = found["verify"]
            route = (
                proxy,
                verify if isinstance(verify, str) else requests.utils.DEFAULT_CA_BUNDLE_PATH,
            )
            self._routes[address.origin] = route
        return route


def _read(response: urllib3.BaseHTTPResponse, max_bytes: int) -> Reply:
    headers = {
        name.lower(): join_tags(response.headers.getlist(name))
        if name.lower() == "x-robots-tag"
        else response.headers[name]
        for name in response.headers
        if name.lower() not in _NOT_KEPT
    }
    is_answer = response.status in (200, 203)
    length = response.headers.get("content-length", "")
    if is_answer and length.isascii() and length.isdigit() and int(length) > max_bytes:
        raise FetchError("too_large", f"{int(length)} bytes are announced, the cap is {max_bytes}")
    packed = bytearray()
    limit = max_bytes if is_answer else _CHUNK  # read to its end, a connection can be used again
    while chunk := response.read(_CHUNK, decode_content=False):
        packed += chunk
        if len(packed) > limit:
            break
    if is_answer and len(packed) > max_bytes:
        raise FetchError("too_large", f"more than {max_bytes} bytes")
    encoding = response.headers.get("content-encoding", "")
    try:
        body = unpack(bytes(packed), encoding, max_bytes if is_answer else _CHUNK)
    except FetchError:
        if is_answer:
            raise
        body = b""
    return Reply(
        status=response.status,
        headers=headers,
        body=body if is_answer else body[:MAX_ERROR_BYTES],
        num_bytes=len(packed),
    )
