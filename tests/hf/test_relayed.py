"""Base models that a hub passes on: two real servers, and the clients that ask the one for what the other has."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import save

from hub.access import relay
from hub.settings import DATABASE_FILE, Settings
from tests.contract.serving import listening
from tests.hf import programs
from tests.hf.conftest import Wire
from tests.hf.model_hub import Models, git_name, serving_models
from tests.hub.harness import start
from tests.tiny import load_tiny_bert, write_tiny_bert

BASES = ("tests/*", "gpt2")
WEIGHTS = save({"w": torch.arange(800_000, dtype=torch.float32)})
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "onnx/model.onnx": b"o" * 20}


@dataclass
class Relayed(Wire):
    """A hub that passes on what `theirs` has. `data` is its folder."""

    theirs: Models = field(kw_only=True)
    data: Path = field(kw_only=True)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return httpx2.get(self.url + path, headers=headers, timeout=30)

    @property
    def kept(self) -> dict[str, Path]:
        """What lies there of files, by digest."""
        return {file.name: file for file in (self.data / "bases" / "kept" / "files").rglob("*") if file.is_file()}


@contextmanager
def relaying(folder: Path, migrated: Path, **settings: Any) -> Iterator[Relayed]:
    (folder / "hub").mkdir(mode=0o700)
    shutil.copy(migrated, folder / "hub" / DATABASE_FILE)
    with ExitStack() as stack:
        theirs = stack.enter_context(serving_models())
        theirs.add("tests/tiny", dict(FILES))
        options = {"bases": BASES, "bases_from": theirs.url, **settings}
        hub = start(Settings(data_dir=folder / "hub", **options))
        url = stack.enter_context(listening(hub.app))
        yield Relayed(hub, url, theirs=theirs, data=folder / "hub")
        hub.app.state.services.relay.close()
        hub.database.close()


@pytest.fixture
def relayed(tmp_path: Path, migrated_file: Path) -> Iterator[Relayed]:
    with relaying(tmp_path, migrated_file, upstream_fresh_s=0) as found:
        yield found


def test_transformers_opens_a_base_that_only_the_other_hub_has(relayed: Relayed, tmp_path: Path) -> None:
    base = write_tiny_bert(tmp_path / "bert")
    relayed.theirs.add("tests/tiny-bert", base)
    relayed.api().snapshot_download("tests/tiny-bert", cache_dir=tmp_path / "of another user")
    arguments = {"url": relayed.url, "token": relayed.hub.token(), "home": tmp_path / "home"}
    done = programs.run("base_user.py", "tests/tiny-bert", tmp_path / "out.pt", **arguments)
    assert done.returncode == 0, done.stderr
    ids = torch.tensor([[2, 5, 7, 11, 3]])
    with torch.no_grad():
        ours = load_tiny_bert(base)(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    torch.testing.assert_close(torch.load(tmp_path / "out.pt"), ours)
    assert relayed.theirs.fetched("model.safetensors") == 1
    assert {token for _, token in relayed.theirs.asked} == {None}


def test_what_is_known_is_given_while_the_other_hub_is_gone(tmp_path: Path, migrated_file: Path) -> None:
    with relaying(tmp_path, migrated_file, upstream_fresh_s=0) as relayed:
        commit = relayed.api().snapshot_download("tests/tiny", cache_dir=tmp_path / "first").rpartition("/")[2]
        relayed.theirs.shutdown()
        relayed.theirs.server_close()
        for number, revision in enumerate((None, "main", commit)):
            folder = relayed.api(None).snapshot_download(
                "tests/tiny", revision=revision, cache_dir=tmp_path / f"cache-{number}"
            )
            assert {path: (Path(folder) / path).read_bytes() for path in FILES} == FILES
    again = start(Settings(data_dir=tmp_path / "hub", bases=BASES, bases_from=relayed.theirs.url))
    with listening(again.app) as url:  # and after the hub was started anew
        HfApi(endpoint=url, token=False).hf_hub_download("tests/tiny", "config.json", cache_dir=tmp_path / "last")
    again.app.state.services.relay.close()
    again.database.close()


def test_a_base_is_described_as_the_other_hub_does(relayed: Relayed) -> None:
    info = relayed.api(None).model_info("tests/tiny", files_metadata=True)
    weights = next(each for each in info.siblings or () if each.rfilename == "model.safetensors")
    assert (info.id, weights.size) == ("tests/tiny", len(WEIGHTS))
    assert weights.lfs is not None
    assert weights.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    tree = {each.path for each in relayed.api(None).list_repo_tree("tests/tiny", recursive=True)}
    assert tree == {*FILES, "onnx"}
    assert [each.path for each in relayed.api(None).list_repo_tree("tests/tiny", "onnx")] == ["onnx/model.onnx"]
    found = relayed.api(None).get_paths_info("tests/tiny", ["config.json", "nowhere"])
    assert [(each.path, getattr(each, "blob_id", "")) for each in found] == [("config.json", git_name(b"{}"))]
    assert relayed.get("/api/models/tests/tiny?expand=tags").json().keys() == {"id", "tags"}
    assert relayed.api(None).file_exists("tests/tiny", "config.json")


def test_a_file_has_the_headers_that_clients_take_and_none_that_lead_elsewhere(relayed: Relayed) -> None:
    commit = relayed.api(None).model_info("tests/tiny").sha
    answer = httpx2.head(f"{relayed.url}/tests/tiny/resolve/main/model.safetensors")
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    assert (answer.status_code, answer.headers["etag"]) == (200, f'"{sha256}"')
    assert (answer.headers["x-repo-commit"], answer.headers["content-length"]) == (commit, str(len(WEIGHTS)))
    assert not [name for name in answer.headers if "xet" in name or name == "link"]
    assert relayed.theirs.fetched("model.safetensors") == 0
    part = relayed.get("/tests/tiny/resolve/main/model.safetensors", Range="bytes=100-199")
    assert (part.status_code, part.content) == (206, WEIGHTS[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(WEIGHTS)}"
    assert relayed.get("/tests/tiny/resolve/main/model.safetensors", Range="bytes=9999999-").status_code == 416
    known = relayed.get("/tests/tiny/resolve/main/config.json", **{"If-None-Match": f'"{git_name(b"{}")}"'})
    assert known.status_code == 304


def test_the_header_of_weights_is_read_by_a_range(relayed: Relayed) -> None:
    assert relayed.api(None).get_safetensors_metadata("tests/tiny").parameter_count == {"F32": 800_000}


def test_a_large_file_is_given_on_while_it_comes_and_fetched_once_for_all(relayed: Relayed) -> None:
    relayed.theirs.may_go_on.clear()
    path = f"{relayed.url}/tests/tiny/resolve/main/model.safetensors"
    half = 1 << 20  # less than what has been sent
    first = httpx2.get(path, headers={"Range": f"bytes=0-{half - 1}"}, timeout=30)
    assert first.content == WEIGHTS[:half]
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(httpx2.get, path, timeout=30) for _ in range(8)]
        relayed.theirs.may_go_on.set()
        assert {each.result().content for each in waiting} == {WEIGHTS}
    assert relayed.theirs.fetched("model.safetensors") == 1


def test_so_many_files_are_on_their_way_and_others_are_asked_for_again(
    relayed: Relayed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "MOST_COMING", 2)
    relayed.theirs.add("tests/three", {f"{letter}.bin": letter.encode() * 3_000_000 for letter in "abc"})
    relayed.theirs.may_go_on.clear()
    begun = {"Range": "bytes=0-99"}
    for letter in "ab":
        assert relayed.get(f"/tests/three/resolve/main/{letter}.bin", **begun).content == letter.encode() * 100

    refused = relayed.get("/tests/three/resolve/main/c.bin")
    along = relayed.get("/tests/three/resolve/main/a.bin", **begun)

    assert (refused.status_code, refused.json()["code"]) == (503, "UPSTREAM_BUSY")
    assert along.status_code == 206
    relayed.theirs.may_go_on.set()
    for letter in "ab":
        assert relayed.get(f"/tests/three/resolve/main/{letter}.bin").content == letter.encode() * 3_000_000
    assert relayed.get("/tests/three/resolve/main/c.bin").content == b"c" * 3_000_000


@pytest.mark.parametrize("path", ["config.json", "model.safetensors"])
def test_what_has_another_hash_is_given_to_nobody_and_not_kept(relayed: Relayed, path: str, tmp_path: Path) -> None:
    relayed.theirs.damaged = path
    with pytest.raises((HfHubHTTPError, httpx2.HTTPError, OSError)):
        relayed.api(None).hf_hub_download("tests/tiny", path, cache_dir=tmp_path / "cache")
    assert not [each for each in (tmp_path / "cache").rglob(path) if each.is_file()]
    assert relayed.kept == {}
    relayed.theirs.damaged = None
    relayed.api(None).hf_hub_download("tests/tiny", path, cache_dir=tmp_path / "cache")
    kept_copy(relayed, hashlib.sha256(WEIGHTS).hexdigest() if path == "model.safetensors" else git_name(b"{}"))


def test_a_small_file_with_another_hash_is_a_sentence(relayed: Relayed) -> None:
    relayed.theirs.damaged = "config.json"
    answer = relayed.get("/tests/tiny/resolve/main/config.json")
    assert (answer.status_code, answer.json()["code"]) == (503, "UPSTREAM_MISMATCH")


def test_a_copy_that_was_damaged_here_is_fetched_again(relayed: Relayed) -> None:
    path = "/tests/tiny/resolve/main/config.json"
    assert relayed.get(path).content == b"{}"
    kept_copy(relayed, git_name(b"{}")).write_bytes(b"[]")
    assert relayed.get(path).status_code == 503
    assert relayed.get(path).content == b"{}"


def kept_copy(relayed: Relayed, digest: str) -> Path:
    """The copy of this digest: it is on the shelf a moment after its last byte was given to who read along."""
    while digest not in relayed.kept:
        time.sleep(0.01)
    return relayed.kept[digest]


def test_a_part_of_a_copy_that_was_damaged_here_is_given_to_nobody(relayed: Relayed) -> None:
    """Neither before any part was read, wherever the damage is, nor after it, where it is."""
    path, part = "/tests/tiny/resolve/main/model.safetensors", {"range": "bytes=100-199"}
    assert relayed.get(path).content == WEIGHTS
    for damaged_at in (2_000_000, 150):
        copy = kept_copy(relayed, hashlib.sha256(WEIGHTS).hexdigest())
        was = copy.stat()
        with copy.open("r+b") as file:
            file.seek(damaged_at)
            file.write(b"damaged!")
        os.utime(copy, ns=(was.st_atime_ns, was.st_mtime_ns))
        assert relayed.get(path, **part).status_code == 503
        assert relayed.get(path, **part).content == WEIGHTS[100:200]
        assert relayed.get(path, range="bytes=1048000-2500000").content == WEIGHTS[1048000:2500001]
    assert relayed.theirs.fetched("model.safetensors") == 3


def test_a_branch_that_moved_is_followed_and_a_commit_stays(relayed: Relayed) -> None:
    before = relayed.api(None).model_info("tests/tiny").sha
    after = relayed.theirs.add("tests/tiny", {"config.json": b"[]"})
    assert relayed.api(None).model_info("tests/tiny").sha == after
    assert relayed.get("/tests/tiny/resolve/main/config.json").content == b"[]"
    assert relayed.api(None).model_info("tests/tiny", revision=before).sha == before


def test_what_nobody_has_is_told_as_everywhere(relayed: Relayed, tmp_path: Path) -> None:
    api = relayed.api(None)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("tests/none")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("tests/tiny", revision="none")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download("tests/tiny", "none", cache_dir=tmp_path)
    assert not api.file_exists("tests/tiny", "none")
    assert relayed.get("/tests/tiny/resolve/main/none").headers["x-repo-commit"]  # remembered as missing by clients


def test_only_what_the_operator_names_is_asked_for(relayed: Relayed) -> None:
    relayed.theirs.add("others/tiny", dict(FILES))
    with pytest.raises(RepositoryNotFoundError):
        relayed.api(None).model_info("others/tiny")
    assert relayed.get("/others/tiny/resolve/main/config.json").status_code == 404
    assert relayed.theirs.asked == []


def test_a_name_without_a_namespace_is_followed_to_its_model(relayed: Relayed, tmp_path: Path) -> None:
    relayed.theirs.moved["gpt2"] = "tests/tiny"
    assert Path(relayed.api(None).hf_hub_download("gpt2", "config.json", cache_dir=tmp_path)).read_bytes() == b"{}"


@pytest.mark.parametrize("told", [{"gated": "manual"}, {"private": True}])
def test_what_is_not_everybodys_is_not_passed_on(relayed: Relayed, told: dict[str, Any]) -> None:
    relayed.theirs.told = told
    with pytest.raises(GatedRepoError):
        relayed.api().model_info("tests/tiny")


def test_an_account_with_the_name_of_a_bases_owner_gives_out_nothing_in_its_place(relayed: Relayed) -> None:
    relayed.hub.found("tests")
    relayed.api("olga").create_repo("tests/tiny")
    assert relayed.get("/tests/tiny/resolve/main/config.json").content == b"{}"


@pytest.mark.parametrize(
    "told", [{"sha": "main"}, {"siblings": [{"rfilename": "../x", "size": 1, "blobId": "0" * 40}]}]
)
def test_a_description_that_lies_is_refused(relayed: Relayed, told: dict[str, Any]) -> None:
    relayed.theirs.told = told
    answer = relayed.get("/api/models/tests/tiny")
    assert (answer.status_code, answer.json()["code"]) == (503, "UPSTREAM_MISMATCH")


@pytest.mark.parametrize("place", ["http://10.0.0.1/x", "http://169.254.169.254/latest", "file:///etc/passwd"])
def test_a_redirect_into_the_hubs_network_is_not_followed(relayed: Relayed, place: str) -> None:
    relayed.theirs.redirect = place
    answer = relayed.get("/tests/tiny/resolve/main/config.json")
    assert (answer.status_code, answer.json()["code"]) == (503, "UPSTREAM_MISMATCH")


def test_copies_have_so_much_room_and_the_least_used_make_way(tmp_path: Path, migrated_file: Path) -> None:
    with relaying(tmp_path, migrated_file, upstream_fresh_s=60, max_bases_bytes=25_000) as relayed:
        files = {f"{letter}.bin": letter.encode() * 10_000 for letter in "abc"}
        relayed.theirs.add("tests/three", {**files, "too-large.bin": b"x" * 25_001})
        for letter in "abac":  # b was used least when c comes
            assert relayed.get(f"/tests/three/resolve/main/{letter}.bin").content == files[f"{letter}.bin"]
            kept_copy(relayed, hashlib.sha256(files[f"{letter}.bin"]).hexdigest())
        there = {hashlib.sha256(data).hexdigest(): name for name, data in files.items()}
        assert {there[digest] for digest in relayed.kept} == {"a.bin", "c.bin"}
        answer = relayed.get("/tests/three/resolve/main/too-large.bin")
        assert (answer.status_code, answer.json()["facts"]["limit"]) == (413, 25_000)
        assert len(relayed.kept) == 2


def test_without_the_setting_nothing_is_passed_on(wire: Wire) -> None:
    assert httpx2.get(f"{wire.url}/tests/tiny/resolve/main/config.json").status_code == 404


@pytest.mark.parametrize("name", ["*", "*/bert", "a b", "org/", "org/name/more"])
def test_a_setting_that_names_no_models_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="names no base models"):
        Settings(bases=(name,))


def test_copies_count_for_nobody_and_leave_the_database_as_it_was(relayed: Relayed) -> None:
    before = relayed.hub.contents
    relayed.get("/tests/tiny/resolve/main/model.safetensors")
    assert relayed.hub.contents == before
    assert json.loads((next((relayed.data / "bases" / "kept" / "models").rglob("*.json"))).read_bytes())["id"]
