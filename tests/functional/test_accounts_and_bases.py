from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

import httpx2

from tests.functional.conftest import BASE_NAME
from tests.functional.machines import Machine, RunningHub, make_machine
from vera.fingerprint import BaseFingerprint


def test_a_hub_logs_its_own_user_in(hub: RunningHub, machine: Machine) -> None:
    assert stat.S_IMODE(hub.profile.stat().st_mode) == 0o600
    assert machine.run("whoami").out.splitlines()[0] == f"demo (user) at {hub.url}"


def test_login_on_another_machine_takes_the_token_from_standard_input(hub: RunningHub, tmp_path: Path) -> None:
    token = json.loads(hub.profile.read_text())["hubs"][hub.url]["token"]
    other = make_machine(tmp_path / "other")

    done = other.run("login", "--url", hub.url, stdin=f"{token}\n")

    assert done.status == 0, done.err
    assert token not in done.out + done.err
    assert other.run("whoami").out.startswith("demo (user)")


def test_login_by_a_browser_pastes_nothing(hub: RunningHub, tmp_path: Path) -> None:
    token = json.loads(hub.profile.read_text())["hubs"][hub.url]["token"]
    other = make_machine(tmp_path / "other")

    with (
        other.running("login", "--url", hub.url, "--browser") as login,
        httpx2.Client(base_url=hub.url, headers={"Sec-Fetch-Site": "same-origin"}) as browser,
    ):
        assert login.stdout is not None
        page = login.stdout.readline().split()[-1].removeprefix(hub.url)
        assert browser.post("/signin", data={"token": token}).status_code == 303
        assert f"vera-hub on {socket.gethostname()}" in browser.get(page).text
        assert browser.post(f"{page}/allow").status_code == 200
        out, err = login.communicate(timeout=30)

    assert login.returncode == 0, err
    assert "Logged in to" in out
    assert other.run("whoami").out.startswith("demo (user)")
    refused = other.run("token", "create", "more")
    assert refused.status == 1
    assert "token:manage" in refused.err


def test_a_token_for_some_adapters_alone_says_which_when_it_is_made(machine: Machine) -> None:
    made = machine.run("token", "create", "ci", "--only", "demo/tiny")

    assert made.status == 0, made.err
    assert "in demo/tiny alone" in made.err


def test_the_doctor_finds_a_fresh_hub_healthy(machine: Machine) -> None:
    done = machine.run("doctor", "--json")

    checks = {check["what"]: check["health"] for check in json.loads(done.out)}
    assert done.status == 0
    assert {checks[what] for what in ("python", "packages", "profile", "cache", "hub", "token", "clock")} == {"ok"}


def test_a_base_is_added_once_and_known_ever_after(machine: Machine, base_folder: Path, base: BaseFingerprint) -> None:
    first = machine.run("base", "add", base_folder, "--name", BASE_NAME)
    again = machine.run("base", "add", base_folder, "--name", BASE_NAME)

    assert first.status == again.status == 0
    assert first.out == again.out
    assert first.out.splitlines()[0] == f"{BASE_NAME}  {base.value}"
    (known,) = json.loads(machine.run("base", "list", "--json").out)
    assert (known["name"], known["path"], known["fingerprint"]) == (BASE_NAME, str(base_folder), base.value)
    assert base.value in machine.run("base", "list", "--hub").out


def test_what_is_no_base_is_refused_in_one_sentence(machine: Machine) -> None:
    (machine.folder / "pickles").mkdir()
    (machine.folder / "pickles" / "pytorch_model.bin").write_bytes(b"\x80")

    done = machine.run("base", "add", "pickles")

    assert (done.status, done.out) == (1, "")
    assert "pickle" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_misspelt_command_and_a_misspelt_option_are_usage(machine: Machine) -> None:
    assert machine.run("psuh").status == 2
    assert machine.run("push", "--nmae", "x", ".").status == 2
    assert machine.run("eval", "demo/a").status == 4
