"""`vera-hub serve --processes 2`: two processes on one database and one address, which are one hub to whoever asks."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from hub.db.turns import Turns
from hub.settings import Settings
from tests.builders import BASE_NAME, make_archive, make_base
from tests.hub.processes import Server, run, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# Which process a connection meets is the kernel's choice: of so many, all meet the same one once in 2 ** 39 times.
CONNECTIONS = 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, "--user", "demo", "--processes", "2") as running:
        wait_for(lambda: len(listening(running)) == 2)
        yield running


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def lines(server: Server) -> list[dict[str, object]]:
    return [json.loads(line) for line in (server.data / "hub.log").read_text().splitlines()]


def listening(server: Server) -> set[int]:
    """The processes that are there and have said that they listen."""
    said = {int(str(line["pid"])) for line in lines(server) if line["event"] == "a further process listens"}
    return {server.process.pid} | (said & set(server.pids))


def each_time(server: Server, method: str, path: str, **given: object) -> Iterator[httpx2.Response]:
    """Answers over connections of their own."""
    token = {"Authorization": f"Bearer {server.login()['token']}"}
    for _ in range(CONNECTIONS):
        yield httpx2.request(method, f"{server.url}{path}", headers=token, **given)  # type: ignore[arg-type]  # what a request takes


def test_each_process_counts_what_it_has_answered_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of-the-monitor")
    environment = {"VERA_HUB_METRICS_TOKEN_FILE": str(tmp_path / "secret")}
    with serving(tmp_path, "--processes", "2", environment=environment) as server:
        wait_for(lambda: len(listening(server)) == 2)
        for _ in each_time(server, "GET", "/healthz"):
            pass
        monitor = {"Authorization": "Bearer of-the-monitor"}
        texts = [httpx2.get(f"{server.url}/metrics", headers=monitor).text for _ in range(CONNECTIONS)]

    line = re.compile(r'_count\{method="GET",process="(\d+)",route="/healthz",status="2xx"\} (\S+)')
    counted = dict(found.groups() for found in map(line.search, texts) if found)
    assert len(counted) == 2
    assert sum(map(float, counted.values())) == CONNECTIONS


def push(server: Server, seed: int, name: str = "tiny") -> httpx2.Response:
    files = [(path, (path, data)) for path, data in make_archive(seed=seed).files.items()]
    headers = {"Authorization": f"Bearer {server.login()['token']}"}
    return httpx2.post(f"{server.url}/api/v1/adapters/demo/{name}/versions", files=files, headers=headers, timeout=30)


def a_push_that_has_begun(server: Server) -> socket.socket:
    """A line with a push whose body has not come yet."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    line = socket.create_connection((host, int(port)))
    token = server.login()["token"]
    line.sendall(
        f"POST /api/v1/adapters/demo/tiny/versions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n--x".encode()
    )
    return line


def register_base(server: Server) -> None:
    base = {"name": BASE_NAME, "revision": None, "tensors": make_base().to_rows()}
    headers = {"Authorization": f"Bearer {server.login()['token']}"}
    httpx2.post(f"{server.url}/api/v1/bases", json=base, headers=headers).raise_for_status()


def test_connections_are_spread_between_both_and_all_requests_are_in_one_log(server: Server) -> None:
    assert {answer.status_code for answer in each_time(server, "GET", "/api/v1/whoami")} == {200}

    def asked() -> list[object]:
        return [line["pid"] for line in lines(server) if line.get("path") == "/api/v1/whoami"]

    wait_for(lambda: len(asked()) == CONNECTIONS)
    assert set(asked()) == listening(server)


def test_no_answer_is_older_than_what_the_other_process_has_committed(server: Server) -> None:
    register_base(server)
    for number in range(1, 6):
        assert push(server, seed=number).json()["version"] == number
        found = [
            answer.json()["version"]
            for answer in each_time(server, "GET", "/api/v1/adapters/demo/tiny/versions/latest")
        ]
        assert set(found) == {number}

    (token,) = [each for each in next(each_time(server, "GET", "/api/v1/tokens")).json()["items"] if each["is_current"]]
    revoked = httpx2.delete(
        f"{server.url}/api/v1/tokens/{token['id']}", headers={"Authorization": f"Bearer {server.login()['token']}"}
    )
    assert revoked.is_success
    assert {
        answer.status_code for answer in each_time(server, "GET", "/api/v1/adapters/demo/tiny/versions/latest")
    } == {401}


def test_pushes_to_both_at_once_are_numbered_one_after_another(server: Server) -> None:
    register_base(server)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda seed: push(server, seed), range(24)))

    assert [answer.status_code for answer in answers] == [201] * 24
    assert sorted(answer.json()["version"] for answer in answers) == list(range(1, 25))


def test_one_that_is_killed_comes_again_and_the_other_answers_meanwhile(server: Server) -> None:
    (further,) = listening(server) - {server.process.pid}
    os.kill(further, signal.SIGKILL)
    wait_for(lambda: further not in server.pids)

    assert httpx2.get(f"{server.url}/healthz").status_code == 200
    wait_for(lambda: len(listening(server)) == 2)
    assert {answer.status_code for answer in each_time(server, "GET", "/healthz")} == {200}


def test_all_of_them_end_with_the_hub(server: Server) -> None:
    (further,) = listening(server) - {server.process.pid}

    assert server.stop(signal.SIGTERM) == 0
    assert not Path(f"/proc/{further}").exists()


def test_the_folder_is_free_when_the_last_of_a_killed_hub_has_ended(server: Server, tmp_path: Path) -> None:
    with ExitStack() as held:
        for _ in range(16):
            held.enter_context(a_push_that_has_begun(server))
        time.sleep(0.5)  # both have read what has come
        server.process.kill()
        server.process.wait()
        early = run(tmp_path, "migrate", "--data", str(server.data))
        assert (early.returncode, "Another hub is running" in early.stderr) == (4, True)
    wait_for(lambda: run(tmp_path, "migrate", "--data", str(server.data)).returncode == 0)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_address_is_shared_with_no_other_hub(server: Server, tmp_path: Path, processes: str) -> None:
    port = server.url.rpartition(":")[2]
    refused = run(
        tmp_path, "serve", "--data", str(tmp_path / "other"), "--port", port, "--processes", processes, "--no-worker"
    )

    assert (refused.returncode, f"port {port}" in refused.stderr) == (1, True)


def test_what_may_be_in_memory_is_shared_out(tmp_path: Path) -> None:
    from hub.app import open_services

    parts = open_services(Settings(data_dir=tmp_path / "data", processes=3, large_bodies_at_once=8))
    places = parts.intake._places._value
    parts.database.close()

    assert places == 2


def test_the_log_is_turned_over_by_the_first_and_the_others_go_on_in_the_new_one_a_second_later(tmp_path: Path) -> None:
    from logging import makeLogRecord
    from logging.handlers import RotatingFileHandler, WatchedFileHandler

    from hub.cli.logs import _file_handler

    file, now = tmp_path / "hub.log", [0.0]
    first, other = (_file_handler(file, rotates=rotates, clock=lambda: now[0]) for rotates in (True, False))
    assert isinstance(first, RotatingFileHandler)
    assert isinstance(other, WatchedFileHandler)
    first.maxBytes = 20
    for word in ("one", "two"):
        first.emit(makeLogRecord({"msg": f"first {word}"}))
        other.emit(makeLogRecord({"msg": f"other {word}"}))
    now[0] = 1.0
    first.emit(makeLogRecord({"msg": "first three"}))
    other.emit(makeLogRecord({"msg": "other three"}))
    first.close(), other.close()

    old, new = (tmp_path / "hub.log.1").read_text(), file.read_text()
    assert (old, new) == ("first one\nother one\nfirst two\nother two\n", "first three\nother three\n")


def test_one_of_all_processes_has_the_turn_to_write(tmp_path: Path) -> None:
    one, other = Turns(tmp_path / "turn"), Turns(tmp_path / "turn")
    with one.one(timeout_s=1), pytest.raises(TimeoutError), other.one(timeout_s=0.01):
        raise AssertionError("both have it")
    with other.one(timeout_s=1):
        pass
    one.close(), other.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_the_turn_that_root_takes_first_is_there_for_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 4321, 4321)
    turns = Turns(tmp_path / "turn")
    with turns.one(timeout_s=1):
        assert (tmp_path / "turn").stat().st_uid == 4321
    turns.close()
