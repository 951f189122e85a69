"""`vera-hub serve`: one command, no questions, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from hub import cli
from hub.auth.tokens import is_well_formed
from hub.cli import profile
from hub.cli.profile import Login
from hub.cli.supervising import Supervised
from hub.errors import StartRefused
from tests.builders import BASE_NAME, make_archive, make_base
from tests.hub.processes import Server, run, serving

MIB = 1 << 20
AT = {"VERA_HUB_URL": "http://127.0.0.1:1", "VERA_HUB_TOKEN": "vhw_x"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One hub for the tests that leave it as it is."""
    with serving(tmp_path_factory.mktemp("serve"), "--user", "demo") as running:
        yield running


def _get(server: Server, path: str) -> httpx2.Response:
    return httpx2.get(f"{server.url}{path}", headers={"Authorization": f"Bearer {server.login()['token']}"})


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _push(server: Server, seed: int = 0) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {server.login()['token']}"}
    base = {"name": BASE_NAME, "revision": None, "tensors": make_base().to_rows()}
    httpx2.post(f"{server.url}/api/v1/bases", json=base, headers=headers).raise_for_status()
    files = [(path, (path, data)) for path, data in make_archive(seed=seed).files.items()]
    return httpx2.post(f"{server.url}/api/v1/adapters/demo/tiny/versions", files=files, headers=headers)


def test_the_first_start_leaves_a_login_that_works_and_that_nobody_else_can_read(server: Server) -> None:
    login = server.login()

    assert login["user"] == "demo"
    assert is_well_formed(login["token"])
    assert _get(server, "/api/v1/whoami").json()["name"] == "demo"
    written = json.loads((server.profile / "profile.json").read_text())
    assert written["default_url"] == server.url
    assert _mode(server.profile / "profile.json") == 0o600
    assert _mode(server.profile) == 0o700


def test_what_the_hub_keeps_is_its_owners_alone(server: Server) -> None:
    assert _mode(server.data) == 0o700
    assert {file.name for file in server.data.iterdir()} >= {"hub.db", "hub.log", "hub.lock", "worker-token"}
    for file in server.data.iterdir():
        assert _mode(file) == 0o600, file


def test_the_log_holds_requests_and_no_token(server: Server) -> None:
    token = server.login()["token"]
    httpx2.get(f"{server.url}/api/v1/adapters?search={token}")
    httpx2.get(f"{server.url}/api/v1/adapters/{token}/x", headers={"X-Request-Id": "look-for-me"})

    log_file = server.data / "hub.log"
    _wait_for(lambda: "look-for-me" in log_file.read_text())  # the line is written after the answer
    log = log_file.read_text()
    line = next(json.loads(line) for line in log.splitlines() if "look-for-me" in line)
    assert (line["method"], line["status"], line["path"]) == ("GET", 400, "/api/v1/adapters/vhp_…/x")
    assert token not in log


def test_a_second_hub_in_the_same_folder_is_refused(server: Server, tmp_path: Path) -> None:
    second = run(tmp_path, "serve", "--data", str(server.data), "--port", "0", "--no-worker")

    assert second.returncode == 4
    assert "Another hub is running" in second.stderr
    assert second.stderr.count("\n") == 1
    assert _get(server, "/healthz").status_code == 200


def test_the_folder_of_a_running_hub_is_not_migrated(server: Server, tmp_path: Path) -> None:
    assert run(tmp_path, "migrate", "--data", str(server.data)).returncode == 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_hub_is_small_and_has_no_torch(tmp_path: Path) -> None:
    with serving(tmp_path, "--user", "demo") as idle:  # one that others have asked for things is not
        status = Path(f"/proc/{idle.process.pid}/status").read_text()
        libraries = Path(f"/proc/{idle.process.pid}/maps").read_text()
    resident = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024

    assert resident < 130 * MIB
    assert "torch" not in libraries
    assert "obstore" not in libraries  # 4 MB for those who keep their files in an object store


def test_a_taken_port_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = run(tmp_path, "serve", "--port", port, "--no-worker")

    assert refused.returncode == 1
    assert f"port {port}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_address_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    refused = run(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0", "--no-worker")

    assert refused.returncode == 5
    assert "--allow-remote" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_a_setting_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    refused = run(tmp_path, "serve", environment={"VERA_HUB_MAX_JSON_BYTES": "many"})

    assert refused.returncode == 2
    assert "VERA_HUB_MAX_JSON_BYTES" in refused.stderr


@pytest.mark.parametrize("url", ["ftp://x", "s3:/bucket", "s3://", "", "/srv/files", "file://files", "s3//bucket"])
def test_a_store_that_is_none_is_refused_with_those_that_are_understood(url: str) -> None:
    done = CliRunner().invoke(cli.serve, [], env={"VERA_HUB_BLOB_URL": url})

    assert done.exit_code == 2
    assert f"VERA_HUB_BLOB_URL: '{url}' names no object store" in done.output
    assert "s3://bucket/prefix" in done.output


@pytest.mark.parametrize("url", ["mysql://u:secret@db/hub", "", "db/hub", "host=db password=secret"])
def test_a_database_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    done = CliRunner().invoke(cli.migrate, [], env={"VERA_HUB_DATABASE_URL": url})

    assert done.exit_code == 2
    assert "VERA_HUB_DATABASE_URL: that names no database: write postgresql://" in done.output
    assert "secret" not in done.output


def test_ctrl_c_ends_the_hub_well(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.stop(signal.SIGINT) == 0


def test_a_stopped_hub_ends_well_and_keeps_what_it_answered(tmp_path: Path) -> None:
    with serving(tmp_path, "--user", "demo") as first:
        version = _push(first).json()
        token = first.login()["token"]
        assert first.stop(signal.SIGTERM) == 0

    with serving(tmp_path, "--user", "demo") as second:
        found = httpx2.get(f"{second.url}/api/v1/adapters/demo/tiny/versions/latest").json()
        assert found["commit"] == version["commit"]
        # The same hub at a new address: the same login, and no entry for the old one.
        assert second.login()["token"] == token
        assert list(json.loads((second.profile / "profile.json").read_text())["hubs"]) == [second.url]


def test_a_killed_hub_keeps_what_it_answered(tmp_path: Path) -> None:
    with serving(tmp_path, "--user", "demo") as first:
        version = _push(first).json()
        first.process.kill()
        first.process.wait()

    with serving(tmp_path, "--user", "demo") as second:
        found = httpx2.get(f"{second.url}/api/v1/adapters/demo/tiny/versions/v1").json()
        assert found["commit"] == version["commit"]
        assert _push(second).status_code == 200
    connection = sqlite3.connect(tmp_path / "data" / "hub.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_the_commands_are_found_without_loading_the_server() -> None:
    """`vera-hub --help` lists them: it must not import what only `serve` needs."""
    code = (
        "import sys, hub.cli; heavy = {'fastapi', 'sqlalchemy', 'torch', 'uvicorn', 'pydantic'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_server_does_not_load_torch() -> None:
    code = "import sys, hub.app, hub.cli.serving; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the profile ----------------------------------------------------------------------------------


def test_the_hub_of_another_machine_stays_the_default(tmp_path: Path) -> None:
    profile.remember(tmp_path, "https://hub.example.org", Login("ann", "vhp_far"))
    profile.remember(tmp_path, "http://127.0.0.1:8000", Login("ann", "vhp_near"))

    known = profile.read(tmp_path)
    assert known.default_url == "https://hub.example.org"
    assert set(known.logins) == {"https://hub.example.org", "http://127.0.0.1:8000"}


def test_a_hub_that_becomes_the_default_says_so_and_which_was_before(tmp_path: Path) -> None:
    def said(data: Path) -> tuple[str, str]:
        with serving(tmp_path, "--data", str(data)) as server:
            server.stop()
            assert server.process.stdout is not None
            return server.url, server.process.stdout.read()

    first, said_first = said(tmp_path / "mine")
    _, said_second = said(tmp_path / "other")

    assert said_first == "It is the default hub now.\n"
    assert f"It is the default hub now, and {first} was: VERA_HUB_URL={first} means that one." in said_second


def test_a_hub_that_is_the_default_already_does_not_say_so(tmp_path: Path) -> None:
    assert profile.remember(tmp_path, "http://127.0.0.1:8000", Login("ann", "vhp_near")) is not None
    assert profile.remember(tmp_path, "http://127.0.0.1:8000", Login("ann", "vhp_new")) is None


def test_a_hub_that_moved_has_one_entry(tmp_path: Path) -> None:
    profile.remember(tmp_path, "http://127.0.0.1:4001", Login("ann", "vhp_same"))
    profile.remember(tmp_path, "http://127.0.0.1:4002", Login("ann", "vhp_same"))

    known = profile.read(tmp_path)
    assert list(known.logins) == ["http://127.0.0.1:4002"]
    assert known.default_url == "http://127.0.0.1:4002"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hubs": 1}', '{"default_url": "x", "hubs": {"x": {}}}'])
def test_a_broken_profile_is_named_and_not_written_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "profile.json").write_text(text)

    with pytest.raises(StartRefused, match=r"profile\.json"):
        profile.remember(tmp_path, "http://127.0.0.1:8000", Login("ann", "vhp_x"))
    assert (tmp_path / "profile.json").read_text() == text


def test_a_token_is_in_no_repr() -> None:
    assert "vhp_secret" not in repr(Login("ann", "vhp_secret"))


# -- the worker -----------------------------------------------------------------------------------


def test_a_worker_of_this_machine_needs_no_token_from_anybody(server: Server, tmp_path: Path) -> None:
    code = "import sys; from hub.cli import worker; from sdk.cli.terminal import App; worker(obj=App(sys.argv.pop()))"
    environment = {**os.environ, "VERA_HUB_CONFIG": str(tmp_path), "VERA_HUB_CACHE": str(tmp_path)}
    environment.pop("VERA_HUB_TOKEN", None)
    worker = subprocess.Popen(
        [sys.executable, "-c", code, "--data", str(server.data), server.url],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _wait_for(lambda: bool(_get(server, "/api/v1/suites").json()["items"]))
    finally:
        worker.terminate()
        _, said = worker.communicate(timeout=30)
    assert worker.returncode == 0, said


def _wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def _worker(note: Path, then: str) -> tuple[str, ...]:
    code = (
        f"import os, signal, sys, time\n"
        f"note = open({str(note)!r}, 'a')\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (note.write('ended\\n'), note.close(), os._exit(0)))\n"
        f'note.write(f\'{{os.getpid()}} {{os.environ["VERA_HUB_URL"]}} {{os.environ["VERA_HUB_TOKEN"]}}\\n\')\n'
        f"note.flush()\n{then}"
    )
    return (sys.executable, "-c", code)


def test_the_worker_runs_beside_the_hub_and_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "note"
    with Supervised("worker", tmp_path / "worker.log") as worker:
        worker.start(_worker(note, "time.sleep(60)"), AT)
        _wait_for(lambda: note.exists() and note.read_text().endswith("\n"))

    started, ended = note.read_text().splitlines()
    assert started.split()[1:] == ["http://127.0.0.1:1", "vhw_x"]
    assert ended == "ended"
    assert not Path(f"/proc/{started.split()[0]}").exists()


def test_a_worker_that_dies_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.cli.supervising.FIRST_PAUSE_S", 0.01)
    note = tmp_path / "note"
    with Supervised("worker", tmp_path / "worker.log") as worker:
        worker.start(_worker(note, "sys.exit(1)"), AT)
        _wait_for(lambda: note.exists() and note.read_text().count("\n") >= 3)

    pids = {line.split()[0] for line in note.read_text().splitlines()}
    assert len(pids) >= 3


def test_a_worker_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.cli.supervising.STOP_TIMEOUT_S", 0.1)
    note = tmp_path / "note"
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nnote.write('stubborn\\n'); note.flush()\ntime.sleep(60)"
    with Supervised("worker", tmp_path / "worker.log") as worker:
        worker.start(_worker(note, stubborn), AT)
        _wait_for(lambda: note.exists() and "stubborn" in note.read_text())

    pid = note.read_text().split()[0]
    _wait_for(lambda: not Path(f"/proc/{pid}").exists())
