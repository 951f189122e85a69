"""Hubs over HTTPS whose certificate, or whose lack of one, keeps them from being asked."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sdk.client import Hub
from sdk.config import Config
from sdk.errors import Unavailable

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"status": "ok", "version": "1"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextmanager
def serving(certificate: Path | None) -> Iterator[str]:
    """The address, over HTTPS, of a hub with this certificate; None is one that speaks plain HTTP."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # a handshake that the client ends
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def certificate(folder: Path, *, begins: datetime = NOW - DAY, ends: datetime = NOW + DAY) -> Path:
    """A certificate for this machine that signs itself, with its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begins, ends)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    data = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(pem)
    (folder / "hub.pem").write_bytes(data)
    return folder / "hub.pem"


def health(url: str, config: Config) -> str:
    with Hub(Config(url, config.folder, config.cache, token="vhp_secret")) as hub:
        return hub.health().status


def test_an_authority_of_ones_own_is_named_by_the_environment(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(own))

    with serving(own) as url:
        assert health(url, config) == "ok"


def test_a_certificate_nobody_vouches_for_is_not_asked_and_says_what_to_do(
    config: Config, tmp_path: Path, pauses: list[float]
) -> None:
    with (
        serving(certificate(tmp_path)) as url,
        pytest.raises(Unavailable, match=r"self-signed .* SSL_CERT_FILE") as refused,
    ):
        health(url, config)

    assert (refused.value.code, pauses) == ("HUB_UNTRUSTED", [])
    assert url in str(refused.value)


def test_a_certificate_of_another_time_points_to_the_clock(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = certificate(tmp_path, begins=NOW + DAY, ends=NOW + 2 * DAY)
    monkeypatch.setenv("SSL_CERT_FILE", str(early))

    with serving(early) as url, pytest.raises(Unavailable, match=r"not yet valid.* this machine's clock"):
        health(url, config)


def test_a_hub_without_https_says_how_to_write_it(config: Config, pauses: list[float]) -> None:
    with serving(None) as url, pytest.raises(Unavailable, match="plain HTTP") as refused:
        health(url, config)

    assert f"write {url.replace('https', 'http')}" in str(refused.value)
    assert pauses == []
