"""What the hub sends to strangers: only to public addresses, pinned, signed, and never for long."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

import pytest

from hub.errors import Invalid
from hub.sending import signing
from hub.sending.addresses import find_target, is_public
from hub.sending.exchange import Exchange
from hub.sending.posting import Poster
from hub.sending.upstream import connect

FORBIDDEN = [
    # this machine, in many spellings
    "https://127.0.0.1/", "https://127.1/", "https://127.0.1/", "https://2130706433/", "https://0x7f000001/",
    "https://0x7f.0.0.1/", "https://0x7f.1/", "https://0177.0.0.1/", "https://017700000001/", "https://127.0.0.1./",
    "https://127.255.255.254/", "https://localhost/", "https://LOCALHOST/", "https://0.0.0.0/", "https://0/",
    "https://[::1]/", "https://[::]/", "https://[0:0:0:0:0:0:0:1]/", "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/", "https://[0:0:0:0:0:ffff:127.0.0.1]/", "https://[::127.0.0.1]/",
    # its network
    "https://10.0.0.1/", "https://10.255.255.255/", "https://172.16.0.1/", "https://172.31.255.255/",
    "https://192.168.0.1/", "https://0xc0a80001/", "https://3232235521/", "https://[::ffff:10.0.0.1]/",
    "https://[::ffff:192.168.0.1]/", "https://[fc00::1]/", "https://[fd12:3456:789a::1]/", "https://[fec0::1]/",
    "https://100.64.0.1/", "https://100.127.255.255/",
    # the metadata of a cloud
    "https://169.254.169.254/latest/meta-data/", "https://0xa9fea9fe/", "https://2852039166/",
    "https://[::ffff:169.254.169.254]/", "https://[fe80::1]/", "https://[64:ff9b::169.254.169.254]/",
    "https://[64:ff9b:1::a00:1]/", "https://[2002:a9fe:a9fe::1]/", "https://[2002:7f00:1::]/",
    "https://[2001:0:53aa:64c:0:0:f5ff:fffe]/",
    # nobody's
    "https://224.0.0.1/", "https://239.1.1.1/", "https://240.0.0.1/", "https://255.255.255.255/",
    "https://192.0.0.1/", "https://192.0.2.1/", "https://198.18.0.1/", "https://198.51.100.1/",
    "https://203.0.113.1/", "https://192.88.99.1/", "https://[ff02::1]/", "https://[2001:db8::1]/", "https://[100::1]/",
    # no address for a webhook at all
    "http://example.org/", "ftp://example.org/", "file:///etc/passwd", "gopher://example.org/", "//example.org/",
    "https://", "https:///path", "https://user:secret@example.org/", "https://example.org@127.0.0.1/",
    "https://127.0.0.1#@example.org/", "https://example.org/#fragment", "https://example.org\\@127.0.0.1/",
    "https://exa mple.org/", "https://example.org:22/", "https://example.org:99999/", "https://example.org:x/",
    "https://ⓛocalhost/", "https://①②⑦.⓪.⓪.①/", "https://127。0。0。1/", "https://[::1/", "https://[v1.x]/",
    "https://example.org/\r\nHost: 127.0.0.1", "https://%6c%6f%63alhost/", "https://example.org/" + "a" * 500,
]  # fmt: skip


@pytest.mark.parametrize("url", FORBIDDEN)
def test_no_spelling_of_an_address_that_is_not_public_is_sent_to(url: str) -> None:
    """The system's resolver reads the numbers, as it would for the connection; it asks no name server here."""

    def resolve(host: str, port: int) -> list[str]:
        if host == "example.org":
            return ["93.184.215.14"]
        return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]

    with pytest.raises(Invalid) as refused:
        find_target(url, resolve=resolve)

    assert refused.value.code == "URL_FORBIDDEN"


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::808:808"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


def test_a_name_that_means_anything_private_is_refused() -> None:
    with pytest.raises(Invalid, match="not a public address") as refused:
        find_target("https://example.org/", resolve=lambda *_: ["93.184.215.14", "10.0.0.1"])

    assert "10.0.0.1" not in str(refused.value), "who asks is told nothing of the network the hub is in"


def test_a_name_is_resolved_once_and_the_connection_goes_to_that_address() -> None:
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    target = find_target("https://example.org:8443/in?x=1", resolve=lambda *_: next(answers))

    assert (target.address, target.host, target.port, target.path) == ("93.184.215.14", "example.org", 8443, "/in?x=1")


def test_only_a_test_setting_lets_loopback_in() -> None:
    assert find_target("http://127.0.0.1:9/", allow_loopback=True).address == "127.0.0.1"
    for url in ("https://127.0.0.1:9000/", "http://127.0.0.2/", "http://localhost/", "http://example.org/"):
        with pytest.raises(Invalid):
            find_target(url, allow_loopback=True)


# -- Posting --------------------------------------------------------------------------------------


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that does what it likes with a connection, once it has read a request. Gives its address and requests."""
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                received.append(connection.recv(65536))
                answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/hook", received
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@pytest.fixture
def poster() -> Iterator[Poster]:
    sending = Poster(allow_loopback=True, timeout_s=0.5)
    yield sending
    sending.close()


def test_a_message_arrives_as_it_was_sent(poster: Poster) -> None:
    with server(lambda connection: connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")) as (url, received):
        outcome = poster.post(url, {"webhook-id": "msg_1"}, b"{}")

    assert (outcome.status, outcome.is_delivered, outcome.error) == (204, True, None)
    assert received[0].startswith(b"POST /hook HTTP/1.1\r\n")
    assert b"webhook-id: msg_1" in received[0]


def test_an_answer_that_nobody_has_read_holds_no_line_open() -> None:
    until_closed = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n" + b"x" * 100_000
    with server(lambda connection: connection.sendall(until_closed)) as (url, _):
        with Exchange(url, connect(urlsplit(url)), "/hook", {}, max_bytes=10) as answer:
            assert answer.status == 404
        assert answer.isclosed()


def test_a_redirect_is_not_followed(poster: Poster) -> None:
    with server(lambda _: None) as (elsewhere, never):
        redirect = f"HTTP/1.1 307 Go\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n".encode()
        with server(lambda connection: connection.sendall(redirect)) as (url, received):
            outcome = poster.post(url, {}, b"{}")

    assert (outcome.status, outcome.is_delivered) == (307, False)
    assert (len(received), never) == (1, [])


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-More: 1\r\n")
        time.sleep(0.05)


def flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def be_silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.parametrize(("answer", "status"), [(drip, None), (be_silent, None), (flood, 200)])
def test_whoever_answers_slowly_or_too_much_costs_no_more_than_the_time(
    poster: Poster, answer: Callable[[socket.socket], None], status: int | None
) -> None:
    began = time.monotonic()
    with server(answer) as (url, _):
        outcome = poster.post(url, {}, b"{}")
        took = time.monotonic() - began

    assert outcome.status == status
    assert took < 2
    if status is None:
        assert outcome.error == "There was no answer within 0.5 seconds."


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000])
def test_what_is_no_answer_is_said(poster: Poster, answer: bytes) -> None:
    with server(lambda connection: connection.sendall(answer)) as (url, _):
        outcome = poster.post(url, {}, b"{}")

    assert outcome.status is None
    assert (outcome.error or "").startswith("It could not be sent")


def test_a_resolver_that_hangs_is_not_waited_for() -> None:
    is_over = threading.Event()

    def hang(*_: object) -> list[str]:
        is_over.wait(10)
        return []

    poster = Poster(resolve=hang, timeout_s=0.2)
    outcome = poster.post("https://example.org/", {}, b"{}")
    with pytest.raises(Invalid, match=r"not resolved within 0\.2 seconds"):
        poster.check("https://example.org/")
    is_over.set()
    poster.close()

    assert outcome.error == "There was no answer within 0.2 seconds."
    assert outcome.milliseconds < 2000


def test_the_name_is_checked_again_at_every_attempt() -> None:
    """It was public when the webhook was added, and means 127.0.0.1 now."""
    poster = Poster(resolve=lambda *_: ["127.0.0.1"])
    outcome = poster.post("https://rebound.example/", {}, b"{}")
    poster.close()

    assert outcome.status is None
    assert "not a public address" in (outcome.error or "")


def test_the_certificate_must_be_that_of_the_named_host() -> None:
    """The connection is pinned to an address, and the name in the handshake is the host's."""
    names: list[str | None] = []
    tls = ssl.create_default_context()
    original = tls.wrap_socket

    class Recording(ssl.SSLContext):
        def wrap_socket(self, sock, *args, server_hostname=None, **more):  # type: ignore[no-untyped-def]
            names.append(server_hostname)
            return original(sock, *args, server_hostname=server_hostname, **more)

    recording = Recording(ssl.PROTOCOL_TLS_CLIENT)
    poster = Poster(resolve=lambda *_: ["93.184.215.14"], tls=recording, timeout_s=0.2)
    created = socket.create_connection
    with server(be_silent) as (url, _):
        port = int(url.rsplit(":", 1)[1].partition("/")[0])
        socket.create_connection = lambda _address, timeout: created(("127.0.0.1", port), timeout)  # type: ignore[assignment,misc]
        try:
            outcome = poster.post("https://example.org/", {}, b"{}")
        finally:
            socket.create_connection = created
    poster.close()

    assert names == ["example.org"]
    assert outcome.status is None


def test_a_signature_is_the_one_of_the_specification() -> None:
    """The example of https://github.com/standard-webhooks/standard-webhooks (spec, "Signature scheme")."""
    headers = signing.headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
