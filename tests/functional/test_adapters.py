"""Push, list, info and pull, as typed into a shell, against `vera-hub serve`."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.builders import flip_byte, make_archive
from tests.functional.conftest import make_adapter
from tests.functional.machines import Done, Machine, RunningHub, StallingLine, make_machine
from vera import archive as archives
from vera import folders
from vera.fingerprint import BaseFingerprint
from vera.manifest import WEIGHTS_FILE

MakeAdapter = Callable[..., Path]


def adapters_of(machine: Machine) -> set[str]:
    return {item["id"] for item in json.loads(machine.run("list", "--limit", "1000", "--json").out)}


def assert_refused(done: Done, *words: str, status: int = 1) -> None:
    """One sentence on standard error, nothing on standard output, and no traceback."""
    assert (done.status, done.out) == (status, ""), done
    assert done.err.startswith("Error: ")
    assert len(done.err.splitlines()) == 1
    for word in words:
        assert word in done.err


def test_an_adapter_is_pushed_found_looked_at_pulled_and_pushed_again(
    machine: Machine, adapter: MakeAdapter, base: BaseFingerprint
) -> None:
    archive = make_adapter(base, 1)
    folder = adapter("whole-life")

    first = machine.run("push", folder)
    assert first.status == 0, first.err
    assert first.out.splitlines()[:2] == ["demo/whole-life@v1", f"  {archive.manifest.digest}"]
    assert "× smaller than LoRA r=8" in first.out

    listed = machine.run("list", "--search", "whole-life")
    assert [line.split()[:3] for line in listed.out.splitlines() if "whole-life" in line] == [
        ["demo/whole-life", "v1", "lab/tiny-encoder"]
    ]

    info = machine.run("info", "demo/whole-life@v1")
    for text in (f"{archive.manifest.weights.vector_bytes} bytes", base.value, archive.manifest.digest):
        assert text in info.out

    pulled = machine.run("pull", "demo/whole-life", "--to", "pulled")
    assert pulled.out.splitlines()[0].startswith("demo/whole-life@v1 → pulled")
    assert archives.read_folder(machine.folder / "pulled") == archive

    again = machine.run("push", machine.folder / "pulled", "--name", "whole-life")
    assert again.out.splitlines()[0] == "demo/whole-life@v1  (was there already: nothing changed)"

    (folder / "README.md").write_text("# A better card\n")
    second = machine.run("push", folder, "--message", "a better card")
    assert second.out.splitlines()[0] == "demo/whole-life@v2"


def test_another_machine_pulls_without_an_account(
    hub: RunningHub, machine: Machine, adapter: MakeAdapter, tmp_path: Path
) -> None:
    machine.run("push", adapter("public"))
    stranger = make_machine(tmp_path / "stranger", VERA_HUB_URL=hub.url)

    assert stranger.run("pull", "demo/public@v1").status == 0
    assert folders.is_adapter_folder(stranger.folder / "public")


def test_a_reference_with_its_host_needs_no_setting(
    hub: RunningHub, machine: Machine, adapter: MakeAdapter, tmp_path: Path
) -> None:
    machine.run("push", adapter("hosted"))
    stranger = make_machine(tmp_path / "stranger", VERA_HUB_URL="http://127.0.0.1:9")

    done = stranger.run("pull", f"vera://{urlsplit(hub.url).netloc}/demo/hosted@v1")

    assert done.status == 0, done.err


# -- What is refused ------------------------------------------------------------------------------


def test_without_a_token_nothing_is_pushed(
    hub: RunningHub, machine: Machine, adapter: MakeAdapter, tmp_path: Path
) -> None:
    stranger = make_machine(tmp_path / "stranger", VERA_HUB_URL=hub.url)

    assert_refused(stranger.run("push", adapter("no-token")), "no token", "vera-hub login")

    assert "demo/no-token" not in adapters_of(machine)


def test_with_a_token_of_nobody_nothing_is_pushed(machine: Machine, adapter: MakeAdapter) -> None:
    done = machine.run("push", adapter("bad-token"), VERA_HUB_TOKEN="vhp_" + "0" * 46)

    assert_refused(done, "token", "vera-hub login")
    assert "0" * 10 not in done.err


def test_into_the_name_of_another_nothing_is_pushed(machine: Machine, adapter: MakeAdapter) -> None:
    assert_refused(machine.run("push", adapter("mine"), "--name", "somebody/mine"), "somebody")


def test_a_dead_hub_is_named_with_how_to_start_one(machine: Machine, adapter: MakeAdapter) -> None:
    done = machine.run("push", adapter("dead"), VERA_HUB_URL="http://127.0.0.1:9", VERA_HUB_TOKEN="vhp_x")

    assert_refused(done, "http://127.0.0.1:9", "vera-hub serve")


def test_a_flipped_byte_never_leaves_the_machine(machine: Machine, adapter: MakeAdapter) -> None:
    folder = adapter("flipped")
    (folder / WEIGHTS_FILE).write_bytes(flip_byte((folder / WEIGHTS_FILE).read_bytes()))

    assert_refused(machine.run("push", folder), WEIGHTS_FILE, "changed or damaged")
    assert "demo/flipped" not in adapters_of(machine)


def test_a_rank_of_a_million_is_refused_at_once(machine: Machine, adapter: MakeAdapter) -> None:
    folder = adapter("huge")
    manifest = (folder / "vera.json").read_bytes()
    (folder / "vera.json").write_bytes(manifest.replace(b'"rank":8', b'"rank":1000000'))

    assert_refused(machine.run("push", folder), "rank must be", "1000000")


@pytest.mark.parametrize(("name", "said"), [("nothing", "There is no folder"), ("empty", "holds no adapter")])
def test_a_folder_without_an_adapter_is_told_apart(machine: Machine, name: str, said: str) -> None:
    (machine.folder / "empty").mkdir()

    assert_refused(machine.run("push", name), said, "vera-hub train")


def test_a_base_the_hub_does_not_know_says_how_to_register_it(machine: Machine) -> None:
    archives.write_folder(make_archive(), machine.folder / "unknown-base")

    assert_refused(machine.run("push", "unknown-base"), "vera-hub base add")


def test_a_pin_to_another_digest_writes_nothing(machine: Machine, adapter: MakeAdapter) -> None:
    machine.run("push", adapter("pinned"))

    done = machine.run("pull", f"demo/pinned@v1@sha256:{'0' * 64}", "--to", "out")

    assert_refused(done)
    assert not (machine.folder / "out").exists()


def test_pull_never_overwrites_what_is_not_an_adapter(machine: Machine, adapter: MakeAdapter) -> None:
    machine.run("push", adapter("careful"))
    (machine.folder / "thesis").mkdir()
    (machine.folder / "thesis" / "chapter.txt").write_text("years of work")

    assert_refused(machine.run("pull", "demo/careful", "--to", "thesis"), "not an adapter")
    assert (machine.folder / "thesis" / "chapter.txt").read_text() == "years of work"


# -- The cache ------------------------------------------------------------------------------------


def test_a_damaged_cache_heals(machine: Machine, adapter: MakeAdapter, base: BaseFingerprint) -> None:
    machine.run("push", adapter("healing"))
    machine.run("pull", "demo/healing@v1", "--to", "first")
    for blob in (path for path in (machine.cache / "blobs").rglob("*") if path.is_file()):
        blob.write_bytes(flip_byte(blob.read_bytes()))

    done = machine.run("pull", "demo/healing@v1", "--to", "second")

    assert done.status == 0, done.err
    assert "bytes fetched" in done.out
    assert archives.read_folder(machine.folder / "second") == make_adapter(base, 1)


def test_offline_what_was_pulled_is_there_and_what_was_not_is_explained(machine: Machine, adapter: MakeAdapter) -> None:
    machine.run("push", adapter("away"))
    machine.run("pull", "demo/away", "--to", "first")

    pinned = machine.run("pull", "demo/away@v1", "--to", "second", VERA_HUB_OFFLINE="1")
    moving = machine.run("pull", "demo/away", "--to", "third", VERA_HUB_OFFLINE="1")
    unknown = machine.run("pull", "demo/away@v2", VERA_HUB_OFFLINE="1")

    assert (pinned.status, pinned.err) == (0, "")
    assert "from the cache" in pinned.out
    assert moving.status == 0
    assert moving.err.startswith("Warning: VERA_HUB_OFFLINE is set: demo/away is taken to mean v1")
    assert_refused(unknown, "VERA_HUB_OFFLINE", "vera-hub pull demo/away@v2")


# -- Stopped half-way -----------------------------------------------------------------------------


# A version with such a card is too much for one answer: each of its files is a download of its own.
TOO_LONG = "A line of a long card.\n" * 20_000


@pytest.fixture
def stalling(hub: RunningHub) -> object:
    lines = []

    def make(mark: bytes, *, passed_bytes: int) -> StallingLine:
        lines.append(StallingLine(urlsplit(hub.url).port or 0, mark, passed_bytes=passed_bytes))
        return lines[-1]

    yield make
    for line in lines:
        line.close()


def stopped(hub: RunningHub, machine: Machine, line: StallingLine, *command: str | Path) -> str:
    """What a command that writes says at a Ctrl-C while `line` is stalled."""
    token = json.loads(hub.profile.read_text())["hubs"][hub.url]["token"]
    with machine.running(*command, VERA_HUB_URL=line.url, VERA_HUB_TOKEN=token) as process:
        assert line.stalled.wait(30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.startswith(f"Error: Stopped. The hub at {line.url} may have done it all the same."), err
    return err


def test_ctrl_c_in_the_middle_of_a_push_says_that_it_may_be_published_and_how_to_find_out(
    hub: RunningHub, machine: Machine, adapter: MakeAdapter, stalling
) -> None:
    folder, line = adapter("interrupted"), stalling(b"POST /api/v1/adapters", passed_bytes=1500)

    assert "The same command finds out" in stopped(hub, machine, line, "push", folder)

    assert "demo/interrupted" not in adapters_of(machine)
    assert machine.run("push", folder).out.startswith("demo/interrupted@v1\n")


def test_ctrl_c_before_the_answer_to_a_push_says_that_it_may_be_published_as_it_is(
    hub: RunningHub, machine: Machine, adapter: MakeAdapter, stalling
) -> None:
    folder, line = adapter("answered"), stalling(b"HTTP/1.1 201", passed_bytes=5)

    assert "The same command finds out" in stopped(hub, machine, line, "push", folder)

    assert machine.run("push", folder).out.startswith("demo/answered@v1  (was there already: nothing changed)\n")


def test_ctrl_c_before_the_answer_to_a_move_says_where_the_hub_has_it_recorded(
    hub: RunningHub, machine: Machine, adapter: MakeAdapter, stalling
) -> None:
    machine.run("push", adapter("here"))
    line = stalling(b"HTTP/1.1 200", passed_bytes=5)

    err = stopped(hub, machine, line, "move", "demo/here", "demo/there")

    assert "`vera-hub audit demo` shows the last that it did" in err
    assert "adapter.moved" in machine.run("audit", "demo").out


def test_ctrl_c_ends_a_pull_at_once_although_its_download_has_stalled(
    machine: Machine, adapter: MakeAdapter, base: BaseFingerprint, stalling, tmp_path: Path
) -> None:
    machine.run("push", adapter("stalled", card=TOO_LONG))
    line = stalling(make_adapter(base, 1).files[WEIGHTS_FILE][:200], passed_bytes=150)
    other = make_machine(tmp_path / "other", VERA_HUB_URL=line.url)

    with other.running("pull", "demo/stalled@v1") as pull:
        assert line.stalled.wait(30)
        pull.send_signal(signal.SIGINT)
        out, err = pull.communicate(timeout=15)  # and not after the minute that an answer may take

    assert (pull.returncode, out, err) == (130, "", "Error: Stopped.\n")
    assert not (other.folder / "stalled").exists()


def test_a_pull_that_is_killed_leaves_nothing_that_is_ever_used(
    machine: Machine, adapter: MakeAdapter, base: BaseFingerprint, stalling, tmp_path: Path
) -> None:
    machine.run("push", adapter("killed", card=TOO_LONG))
    weights = make_adapter(base, 1).files[WEIGHTS_FILE]
    line = stalling(weights[:200], passed_bytes=150)
    other = make_machine(tmp_path / "other", VERA_HUB_URL=line.url)

    with other.running("pull", "demo/killed@v1") as pull:
        assert line.stalled.wait(30)
        pull.kill()

    assert not (other.folder / "killed").exists()
    kept = [path for path in other.cache.rglob("*") if path.is_file()]
    assert not [path for path in kept if path.name.startswith(".tmp-") or weights[:150] in path.read_bytes()]
    done = other.run("pull", "demo/killed@v1", VERA_HUB_URL=machine_url(machine))
    assert done.status == 0, done.err
    assert archives.read_folder(other.folder / "killed") == make_adapter(base, 1, card=TOO_LONG)


def machine_url(machine: Machine) -> str:
    return str(json.loads((machine.folder / "config" / "profile.json").read_text())["default_url"])
