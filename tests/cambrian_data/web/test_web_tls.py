"""TLS: the name is verified, although the connection goes to an address that was checked before."""

from __future__ import annotations

import datetime
import ipaddress
import ssl

import pytest

from cambrian_data.web.answers import FetchError

x509 = pytest.importorskip("cryptography.x509")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate for `localhost` that vouches for itself."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("certificates")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.9"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "server.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    (folder / "authority.pem").write_bytes(certificate.public_bytes(pem))
    return folder


@pytest.fixture
def secure(web, certificates):
    """The server behind TLS; it notes which names it was asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem")
    web.names = []
    context.sni_callback = lambda sock, name, _: web.names.append(name)
    web.server.socket = context.wrap_socket(
        web.server.socket, server_side=True, do_handshake_on_connect=False
    )
    return web


def test_a_name_that_is_vouched_for(secure, make, routes, certificates, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "authority.pem"))
    secure.routes["/a"] = routes.reply(200, b"safe")
    client = make()
    for kind in ("service", "page"):
        answer = client.get(f"https://localhost:{secure.port}/a", kind=kind)
        assert answer.body == b"safe"
    assert set(secure.names) == {"localhost"}
    assert secure.headers("/a")["host"] == f"localhost:{secure.port}"


@pytest.mark.parametrize("kind", ["service", "page"])
@pytest.mark.parametrize("case", ["another name", "nobody vouches"])
def test_what_is_not(secure, make, routes, certificates, monkeypatch, clock, case, kind):
    host = "localhost"
    if case == "another name":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "authority.pem"))
        host = "127.0.0.1"
    else:
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    with pytest.raises(FetchError) as caught:
        make(clock=clock).get(f"https://{host}:{secure.port}/a", kind=kind)
    assert (caught.value.reason, caught.value.is_passing) == ("unreachable", False)
    assert "secure" in caught.value.detail and not secure.log


def test_no_tls_at_all(web, make, clock):
    with pytest.raises(FetchError) as caught:
        make(clock=clock).get(f"https://127.0.0.1:{web.port}/a", kind="service")
    assert (caught.value.reason, caught.value.is_passing) == ("unreachable", False)
