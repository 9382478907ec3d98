"""Private addresses: none is asked, in whatever dress it comes."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from cambrian_data.records import UserError
from cambrian_data.web.answers import FetchError
from cambrian_data.web.guard import is_public

PRIVATE = """
0.0.0.0 10.0.0.1 100.64.0.1 127.0.0.1 127.8.8.8 169.254.169.254 172.16.0.1 192.0.0.1 192.168.1.1
198.18.0.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 168.63.129.16
:: ::1 fc00::1 fd12::1 fe80::1 fec0::1 ff02::1 2001:db8::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1
::127.0.0.1 2002:7f00:1:: 2002:a00:1:: 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::a00:1
2001:0:4136:e378:8000:63bf:f5ff:fffe
"""
PUBLIC = "8.8.8.8 93.184.216.34 2606:4700::1111 ::ffff:8.8.8.8 2002:808:808:: 64:ff9b::808:808"


@pytest.mark.parametrize("address", PRIVATE.split())
def test_not_of_the_open_internet(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC.split())
def test_of_the_open_internet(address):
    assert is_public(ipaddress.ip_address(address))


def refused(client, url: str, kind: str = "page") -> str:
    with pytest.raises(FetchError) as caught:
        client.get(url, kind=kind)
    assert caught.value.reason == "private_address" and not caught.value.is_passing
    assert "--allow-private-hosts" in caught.value.detail
    return caught.value.detail


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "0177.0.0.1", "127.1", "[::1]"]
)
@pytest.mark.parametrize("kind", ["page", "picture", "service"])
def test_spellings_of_this_machine(web, make, host, kind):
    client = make(allow_private=False, contact="me@example.org")
    detail = refused(client, f"http://{host}:{web.port}/", kind)
    assert "127.0.0.1" in detail or "::1" in detail
    assert not web.log


def test_a_redirect_to_a_private_address(web, make, routes):
    """A service that the user named may be private; where it leads may not."""
    place = f"127.0.0.1:{web.port}"
    for number, url in enumerate(["http://10.0.0.1/", f"http://localhost:{web.port}/api"]):
        web.routes[f"/{number}"] = routes.reply(302, headers={"Location": url})
        client = make(allow_private=False, trusted_hosts=(place,), contact="me@example.org")
        refused(client, f"{web.url}/{number}", "service")
    assert web.asked() == ["/0", "/1"]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "http://127.0.0.1:{}/w/api.php"])
def test_a_trusted_host_is_trusted_for_services_alone(web, make, routes, form):
    web.routes["/api"] = routes.reply(200, b"x")
    client = make(allow_private=False, trusted_hosts=(form.format(web.port),))
    assert client.get(f"{web.url}/api", kind="service").body == b"x"
    refused(client, f"{web.url}/api")
    refused(client, f"http://127.0.0.1:{web.port + 1}/api", "service")


def answers(monkeypatch, *addresses: list[str]) -> list[str]:
    """Let the resolver give these answers in turn, the last one for ever."""
    real, left, asked = socket.getaddrinfo, list(addresses), []

    def resolve(host, port, *args, **more):
        if not str(host).endswith("rebind.test"):
            return real(host, port, *args, **more)
        asked.append(host)
        found = left.pop(0) if len(left) > 1 else left[0]
        return [row for ip in found for row in real(ip, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def test_one_private_address_among_public_ones(make, monkeypatch):
    answers(monkeypatch, ["93.184.216.34", "10.1.2.3"])
    client = make(allow_private=False, contact="me@example.org")
    assert "rebind.test is 10.1.2.3" in refused(client, "http://rebind.test/")


def test_the_connection_goes_to_the_address_that_was_checked(web, make, monkeypatch):
    """A name that is public when it is checked, and this machine a moment later."""
    asked = answers(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
    tried = []

    def connect(self, where):
        tried.append(where[0])
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", connect)
    client = make(allow_private=False, contact="me@example.org", max_tries=1)
    with pytest.raises(FetchError) as caught:
        client.get(f"http://rebind.test:{web.port}/", kind="service")
    assert caught.value.reason == "unreachable"
    assert (asked, tried) == (["rebind.test"], ["93.184.216.34"])
    refused(client, f"http://rebind.test:{web.port}/", "service")
    assert tried == ["93.184.216.34"] and not web.log


def test_a_name_goes_where_it_points(web, make, routes, monkeypatch):
    answers(monkeypatch, ["127.0.0.1"])
    web.routes["/a"] = routes.reply(200, b"x")
    client = make(contact="me@example.org")
    client.get(f"http://rebind.test:{web.port}/a", kind="page")
    assert web.headers("/a")["host"] == f"rebind.test:{web.port}"


def test_behind_a_proxy_private_hosts_are_refused_too(web, make, routes, monkeypatch):
    """The proxy itself may be private; names that only it can resolve pass."""
    answers(monkeypatch, ["10.0.0.1"])
    monkeypatch.setenv("http_proxy", web.url)
    web.routes["http://only-the-proxy.invalid/a"] = routes.reply(200, b"through")
    client = make(allow_private=False, contact="me@example.org")
    assert client.get("http://only-the-proxy.invalid/a", kind="page").body == b"through"
    asked = len(web.log)
    refused(client, "http://192.168.0.1/")
    refused(client, "http://rebind.test/")
    assert len(web.log) == asked


def test_this_machine_is_not_reached_over_a_proxy(web, make, routes, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    web.routes["/a"] = routes.reply(200, b"x")
    assert make().get(f"{web.url}/a", kind="page").body == b"x"


def test_a_proxy_of_an_unknown_kind(make, monkeypatch):
    monkeypatch.setenv("http_proxy", "socks5://me:hush@proxy.test")
    client = make(contact="me@example.org")
    with pytest.raises(UserError, match="socks5") as caught:
        client.get("http://93.184.216.34/", kind="service")
    assert "hush" not in str(caught.value)


def test_a_proxy_is_given_its_password(web, make, routes, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://me:hush@127.0.0.1:{web.port}")
    web.routes["http://93.184.216.34/a"] = routes.reply(200, b"through")
    client = make(contact="me@example.org")
    assert client.get("http://93.184.216.34/a", kind="service").body == b"through"
    assert web.headers("http://93.184.216.34/a")["proxy-authorization"].startswith("Basic ")


def test_a_kept_answer_of_a_private_host_is_refused_too(web, make, routes):
    web.routes["/a"] = routes.reply(200, b"x")
    make().get(f"{web.url}/a", kind="page")
    refused(make(allow_private=False), f"{web.url}/a")
