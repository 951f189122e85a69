"""Lines on which half a request comes and no more, against a real server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI, Request

from hub.cli.deadlines import PromptProtocol

PROMPT_S = 0.3
GET = b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n"


class Impatient(PromptProtocol):
    headers_s = PROMPT_S


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    app = FastAPI()

    @app.api_route("/", methods=["GET", "POST"])
    async def counted(request: Request) -> int:
        return len(await request.body())

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=Impatient, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join(30)
    listener.close()


def everything(line: socket.socket) -> bytes:
    """What comes until the other end closes."""
    line.settimeout(30)
    found = b""
    while data := line.recv(4096):
        found += data
    return found


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: h", b"\r\n"])
def test_half_a_request_is_closed(address: tuple[str, int], said: bytes) -> None:
    with socket.create_connection(address) as line:
        line.sendall(said)
        assert everything(line).startswith(b"HTTP/1.1 408 ")


def test_a_byte_now_and_then_does_not_help(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as line:
        closed = threading.Event()

        def trickle() -> None:
            for byte in b"GET / HTTP/1.1\r\n" + b"X-Slow: 1\r\n" * 1000:
                try:
                    line.sendall(bytes([byte]))
                except OSError:
                    break
                if closed.wait(PROMPT_S / 10):
                    break

        slow = threading.Thread(target=trickle)
        slow.start()
        try:
            assert everything(line).startswith(b"HTTP/1.1 408 ")
        except ConnectionResetError:
            pass  # a byte came after the end
        finally:
            closed.set()
            slow.join()


def test_a_line_that_is_used_again_has_as_long_for_each_request(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as line:
        line.settimeout(30)
        for _ in range(3):
            line.sendall(GET)
            assert line.recv(4096).startswith(b"HTTP/1.1 200 ")
            time.sleep(PROMPT_S * 1.5)  # it waits between two requests, and says nothing
        line.sendall(GET[:10])
        assert everything(line).startswith(b"HTTP/1.1 408 ")


def test_a_body_may_take_longer(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as line:
        line.sendall(b"POST / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nContent-Length: 4\r\n\r\nab")
        time.sleep(PROMPT_S * 2)
        line.sendall(b"cd")
        answer = everything(line)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"4")
