"""What somebody gets who publishes here with huggingface_hub: a commit is a push."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from httpx2 import ASGITransport, AsyncClient
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from pydantic_core import from_json
from starlette.types import Receive, Scope, Send

from hub.hf import commit_lines
from tests.builders import BASE_NAME, MODULES, make_archive, make_base
from tests.contract.serving import listening
from tests.hf.conftest import Wire
from tests.hub.harness import URL, Hub
from tests.peft_folders import write_peft_folder
from vera import archive as archives
from vera.archive import Archive
from vera.manifest import CARD_FILE, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE
from vera.peft_checkpoint import SAVED_A

HEADER = {"key": "header", "value": {"summary": "x"}}
CARD = {
    "key": "file",
    "value": {"path": CARD_FILE, "content": base64.b64encode(b"# x\n").decode(), "encoding": "base64"},
}

# Of cards that say nothing to machines.
pytestmark = pytest.mark.filterwarnings("ignore:Warnings while validating metadata")


def version_of(wire: Wire, name: str, selector: str = "latest") -> dict:
    return dict(wire.hub.get(f"/adapters/demo/{name}/versions/{selector}", headers=wire.hub.headers()).json())


def adds(archive: Archive, *paths: str) -> list[CommitOperationAdd]:
    return [CommitOperationAdd(path, archive.files[path]) for path in paths or archive.files]


@pytest.fixture
def published(wire: Wire, request: pytest.FixtureRequest) -> str:
    """An adapter with one version, named after the test."""
    name = request.node.originalname.replace("_", "-")[5:60]
    assert wire.hub.push(make_archive(seed=1, card="# First\n"), name).status_code == 201
    return str(name)


# -- Making the place -----------------------------------------------------------------------------


def test_an_adapter_is_made_before_it_has_a_version(wire: Wire) -> None:
    api = wire.api()
    url = api.create_repo("demo/made", private=True)
    assert (str(url), url.repo_id) == (f"{wire.url}/demo/made", "demo/made")
    assert api.create_repo("made", exist_ok=True).repo_id == "demo/made"
    with pytest.raises(HfHubHTTPError, match="exists already") as refused:
        api.create_repo("demo/made")
    assert refused.value.response.status_code == 409

    info = api.model_info("demo/made")
    assert (info.private, info.sha) == (True, api.list_repo_refs("demo/made").branches[0].target_commit)
    assert [each.title for each in api.list_repo_commits("demo/made")] == ["initial commit"]
    assert api.list_repo_files("demo/made") == [each.rfilename for each in info.siblings or ()] == [".gitattributes"]
    assert api.file_exists("demo/made", CARD_FILE) is False
    assert wire.hub.get("/adapters/demo/made", headers=wire.hub.headers()).status_code == 404
    with pytest.raises(RepositoryNotFoundError):
        wire.api(None).model_info("demo/made")

    with pytest.raises(RevisionNotFoundError):
        api.delete_tag("demo/made", tag="prod")

    api.update_repo_settings("demo/made", visibility="public")
    assert wire.api(None).model_info("demo/made").private is False
    api.delete_repo("demo/made")
    assert api.repo_exists("demo/made") is False
    api.delete_repo("demo/made", missing_ok=True)


def test_names_that_cannot_be_had(wire: Wire) -> None:
    api = wire.api()
    api.create_repo("demo/look-alike")
    for name, status in (("demo/look_alike", 422), ("someone/else", 403)):
        with pytest.raises(HfHubHTTPError) as refused:
            api.create_repo(name, exist_ok=True)
        assert refused.value.response.status_code == status
    with pytest.raises(HfHubHTTPError, match="not kept here"):
        api.create_repo("demo/data", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="needs a token"):
        wire.api(None).create_repo("demo/nobody")


def test_whoever_cannot_make_an_adapter_can_say_that_it_exists(wire: Wire) -> None:
    wire.hub.found("lab", pia="publisher")
    wire.api("olga").create_repo("lab/there", private=True)
    assert wire.api("pia").create_repo("lab/there", exist_ok=True).repo_id == "lab/there"
    with pytest.raises(HfHubHTTPError) as refused:
        wire.api("pia").create_repo("lab/another")
    assert refused.value.response.status_code == 403
    made = wire.api("pia").create_commit("lab/there", adds(make_archive(seed=9)), commit_message="First")
    assert made.repo_url.repo_id == "lab/there"
    assert wire.api("pia").model_info("lab/there").private is True


@pytest.mark.parametrize("limit", [0, 1])
def test_places_count_for_the_quota(sqlite_hub: Hub, limit: int) -> None:
    services = sqlite_hub.app.state.services
    settings = services.settings.model_copy(update={"max_account_adapters": limit})
    sqlite_hub.app.state.services = replace(services, settings=settings)
    answers = [
        sqlite_hub.client.post("/api/repos/create", json={"name": name}, headers=sqlite_hub.headers())
        for name in ("one", "two")
    ]
    assert [answer.status_code for answer in answers] == [200, 403][1 - limit :] + [403] * (1 - limit)


# -- Commits of adapters --------------------------------------------------------------------------


def test_a_folder_becomes_a_version(wire: Wire, tmp_path: Path) -> None:
    archive = make_archive(seed=2)
    archives.write_folder(archive, tmp_path / "adapter")
    api = wire.api()
    api.create_repo("demo/folder")

    info = api.upload_folder(repo_id="demo/folder", folder_path=tmp_path / "adapter", commit_message="Mine")

    version = version_of(wire, "folder")
    assert (version["version"], version["digest"], version["message"]) == (1, archive.manifest.digest, "Mine")
    assert info.oid == version["commit"]
    assert info.commit_url == f"{wire.url}/demo/folder/commit/{version['commit']}"
    assert "demo/folder" in wire.hub.client.get(info.commit_url.removeprefix(wire.url)).text
    again = api.upload_folder(repo_id="demo/folder", folder_path=tmp_path / "adapter")
    assert again.oid == info.oid
    assert version_of(wire, "folder")["version"] == 1


def test_the_answer_is_that_of_the_same_push_through_the_api(wire: Wire) -> None:
    archive = make_archive(seed=3)
    wire.api().create_repo("demo/committed")
    wire.api().create_commit("demo/committed", adds(archive), commit_message="Same")
    wire.hub.push(archive, "pushed", message="Same")
    through_each = [version_of(wire, name) for name in ("committed", "pushed")]
    for version in through_each:
        for its_own in ("ref", "id", "commit", "created_at", "evaluations"):
            version.pop(its_own)
    assert through_each[0] == through_each[1]


def test_a_card_alone_makes_a_version_with_the_same_weights(wire: Wire, published: str) -> None:
    before = version_of(wire, published)
    wire.api().upload_file(path_or_fileobj=b"# Better\n", path_in_repo=CARD_FILE, repo_id=f"demo/{published}")
    after = version_of(wire, published)
    assert (after["version"], after["weights_digest"]) == (2, before["weights_digest"])
    assert after["digest"] != before["digest"]
    assert "Better" in after["card_html"]
    assert after["parent"] == f"demo/{published}@v1"


def test_a_folder_whose_card_was_edited_is_sealed_anew(wire: Wire, tmp_path: Path, published: str) -> None:
    archives.write_folder(make_archive(seed=1, card="# First\n"), tmp_path / "adapter")
    (tmp_path / "adapter" / CARD_FILE).write_text("# Edited\n")
    wire.api().upload_folder(repo_id=f"demo/{published}", folder_path=tmp_path / "adapter")
    assert "Edited" in version_of(wire, published)["card_html"]
    assert version_of(wire, published)["version"] == 2


def test_taking_the_card_out_leaves_an_empty_one(wire: Wire, published: str) -> None:
    wire.api().delete_file(CARD_FILE, f"demo/{published}")
    assert version_of(wire, published)["card_html"] == ""


def test_what_is_not_there_is_not_taken_out(wire: Wire, published: str) -> None:
    with pytest.raises(RemoteEntryNotFoundError, match="A file with this name doesn't exist"):
        wire.api().delete_file("notes.txt", f"demo/{published}")
    with pytest.raises(HfHubHTTPError, match="cannot be taken out"):
        wire.api().delete_file(WEIGHTS_FILE, f"demo/{published}")
    assert version_of(wire, published)["version"] == 1


def test_a_commit_that_builds_on_an_older_version_changes_nothing(wire: Wire, published: str) -> None:
    api, repo = wire.api(), f"demo/{published}"
    first = api.model_info(repo).sha
    card = [CommitOperationAdd(CARD_FILE, b"# x\n")]
    second = api.create_commit(repo, card, commit_message="Second", parent_commit=first[:10]).oid
    header = {"key": "header", "value": {"summary": "Second", "parentCommit": first}}
    body = "\n".join(json.dumps(line) for line in (header, CARD))
    again = wire.hub.client.post(f"/api/models/{repo}/commit/main", content=body, headers=wire.hub.headers())
    assert again.json()["commitOid"] == second  # sent again, as clients do whose answer was lost

    other = [CommitOperationAdd(CARD_FILE, b"# Third\n")]
    with pytest.raises(HfHubHTTPError, match="The branch was updated since you opened this page") as refused:
        api.create_commit(repo, other, commit_message="Third", parent_commit=first)
    assert refused.value.response.status_code == 412
    assert version_of(wire, published)["version"] == 2


def test_what_was_published_meanwhile_is_not_undone(
    wire: Wire, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading the head and publishing on it, somebody else publishes."""
    from hub.hf import commits

    prepare = commits.committing.prepare

    def prepare_while_another_pushes(*arguments: object) -> object:
        assert wire.hub.push(make_archive(seed=77), published).status_code == 201
        return prepare(*arguments)

    monkeypatch.setattr(commits.committing, "prepare", prepare_while_another_pushes)
    with pytest.raises(HfHubHTTPError, match="The branch was updated"):
        wire.api().upload_file(path_or_fileobj=b"# Late\n", path_in_repo=CARD_FILE, repo_id=f"demo/{published}")
    assert version_of(wire, published)["version"] == 2


def test_an_earlier_version_is_not_published_again(wire: Wire, published: str) -> None:
    api, repo = wire.api(), f"demo/{published}"
    api.upload_file(path_or_fileobj=b"# Second\n", path_in_repo=CARD_FILE, repo_id=repo)
    with pytest.raises(HfHubHTTPError, match=f"These files are demo/{published}@v1 already"):
        api.upload_file(path_or_fileobj=b"# First\n", path_in_repo=CARD_FILE, repo_id=repo)


def test_what_is_wrong_is_told_in_the_words_of_a_push(wire: Wire) -> None:
    archive, api = make_archive(seed=4), wire.api()
    api.create_repo("demo/wrong")
    spoiled = bytearray(archive.files[WEIGHTS_FILE])
    spoiled[-1] ^= 1
    changed = [CommitOperationAdd(WEIGHTS_FILE, bytes(spoiled)), *adds(archive, MANIFEST_FILE)]
    with pytest.raises(HfHubHTTPError, match=r"is not the file vera\.json promises") as refused:
        api.create_commit("demo/wrong", changed, commit_message="Spoiled")
    assert refused.value.response.status_code == 422
    other = make_archive(seed=4, base=make_base(salt="another"))
    with pytest.raises(HfHubHTTPError, match="is not registered here"):
        api.create_commit("demo/wrong", adds(other), commit_message="Another base")
    assert api.list_repo_files("demo/wrong") == [".gitattributes"]


def test_strangers_and_readers_commit_nothing(wire: Wire, published: str) -> None:
    for api in (wire.api("stranger"), wire.api(None)):
        with pytest.raises(HfHubHTTPError) as refused:
            api.upload_file(path_or_fileobj=b"# Mine\n", path_in_repo=CARD_FILE, repo_id=f"demo/{published}")
        assert refused.value.response.status_code in (401, 403)
    assert version_of(wire, published)["version"] == 1


def test_a_card_that_cannot_be_read_is_refused_before_it_is_sent(wire: Wire, published: str) -> None:
    with pytest.raises(ValueError, match="not YAML that can be read"):
        wire.api().upload_file(path_or_fileobj=b"---\na: [\n---\n", path_in_repo=CARD_FILE, repo_id=f"demo/{published}")


def test_an_upload_takes_three_requests(sqlite_hub: Hub, tmp_path: Path) -> None:
    """The card is checked, the files are announced and committed, whatever lies beside them."""
    sqlite_hub.register_base()
    archives.write_folder(make_archive(seed=9), tmp_path / "adapter")
    (tmp_path / "adapter" / "tokenizer.json").write_text("{}")
    asked: list[str] = []

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked.append(scope["path"].rpartition("demo/")[2])
        await sqlite_hub.app(scope, receive, send)

    with listening(counting) as url:
        api = HfApi(endpoint=url, token=sqlite_hub.token())
        api.create_repo("demo/counted")
        asked.clear()
        api.upload_folder(repo_id="demo/counted", folder_path=tmp_path / "adapter")
    assert asked == ["/api/validate-yaml", "counted/preupload/main", "counted/commit/main"]


# -- Checkpoints of PEFT --------------------------------------------------------------------------


def test_a_folder_of_peft_is_adopted(wire: Wire, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_peft_folder(tmp_path / "peft")
    (folder / CARD_FILE).write_text("# By PEFT\n")
    api = wire.api()
    api.create_repo("demo/adopted")

    first = api.upload_folder(repo_id="demo/adopted", folder_path=folder)

    version = version_of(wire, "adopted")
    assert (version["manifest"]["base"]["name"], version["manifest"]["projection"]["seed"]) == (BASE_NAME, 7)
    assert version["stored_projection"] is None
    assert "By PEFT" in version["card_html"]
    assert [warning.partition(":")[0] for warning in version["warnings"]] == [
        "Base not proven",
        "Settings not recorded",
    ]
    assert "bytes of saved matrices" in caplog.text
    config = json.loads(Path(api.hf_hub_download("demo/adopted", CONFIG_FILE, cache_dir=tmp_path)).read_bytes())
    assert (config["peft_type"], config["projection_prng_key"], config["save_projection"]) == ("VERA", 7, False)
    assert api.upload_folder(repo_id="demo/adopted", folder_path=folder).oid == first.oid
    assert version_of(wire, "adopted")["version"] == 1


def test_matrices_that_follow_no_recipe_are_kept_whole(wire: Wire, tmp_path: Path) -> None:
    matrix = np.random.default_rng(1).standard_normal((8, 12), np.float32)
    folder = write_peft_folder(tmp_path / "peft", tensors={SAVED_A: matrix})
    api = wire.api()
    api.create_repo("demo/stored")
    api.upload_folder(repo_id="demo/stored", folder_path=folder)
    version = version_of(wire, "stored")
    assert version["stored_projection"]["size_bytes"] == 4 * 8 * (12 + 20)
    pair = wire.hub.get(f"/projections/{version['stored_projection']['digest']}", headers=wire.hub.headers())
    assert pair.content[: matrix.nbytes] == matrix.tobytes()
    assert any("matrices that PEFT does not draw" in warning for warning in version["warnings"])


def test_whoever_commits_what_peft_cannot_load_back_is_told_what_can(wire: Wire, tmp_path: Path) -> None:
    """PEFT's own error is "manual_seed expected a long", and PEFT on the bare model (the advice of "Renamed") ends in it too."""
    head = {
        "base_model.model.classifier.weight": np.ones((2, 12), np.float32),
        "base_model.model.classifier.bias": np.zeros(2, np.float32),
    }
    modules = tuple((f"bert.{name}", *size) for name, *size in MODULES)
    folder = write_peft_folder(
        tmp_path / "peft", modules=modules, tensors=head, modules_to_save=["classifier"], task_type="SEQ_CLS"
    )
    api = wire.api()
    api.create_repo("demo/with-head")
    api.upload_folder(repo_id="demo/with-head", folder_path=folder)
    said = " ".join(version_of(wire, "with-head")["warnings"])
    assert "Not for PEFT as it is: it has a head in the model" in said
    assert "--peft OUT" in said
    assert "Renamed" not in said


def test_a_seed_that_nothing_proves_is_a_warning(wire: Wire, tmp_path: Path) -> None:
    api = wire.api()
    api.create_repo("demo/seed")
    api.upload_folder(repo_id="demo/seed", folder_path=write_peft_folder(tmp_path / "peft", saved=False))
    warnings = [warning.partition(":")[0] for warning in version_of(wire, "seed")["warnings"]]
    assert warnings == ["Base not proven", "Settings not recorded", "Matrices not proven"]


def test_names_of_a_model_with_a_part_in_front_are_a_warning_of_what_peft_does(wire: Wire, tmp_path: Path) -> None:
    modules = tuple((f"bert.{name}", *size) for name, *size in MODULES)
    api = wire.api()
    api.create_repo("demo/prefixed")
    api.upload_folder(repo_id="demo/prefixed", folder_path=write_peft_folder(tmp_path / "peft", modules=modules))
    version = version_of(wire, "prefixed")
    assert {module["name"] for module in version["manifest"]["modules"]} == {name for name, *_ in MODULES}
    (said,) = [warning for warning in version["warnings"] if warning.startswith("Renamed")]
    assert f"bert.{MODULES[0][0]}" in said
    assert "AutoModel" in said


def test_several_adapters_in_folders_are_a_draft_that_says_where_they_belong(
    wire: Wire, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two"):
        write_peft_folder(tmp_path / "peft" / name)
    api = wire.api()
    api.create_repo("demo/several")
    api.upload_folder(repo_id="demo/several", folder_path=tmp_path / "peft")
    assert "Kept as a draft" in caplog.text
    assert "Each of one, two is an adapter in a folder" in caplog.text


@pytest.mark.parametrize("name", ["/home/me/models/bert", "nobody/knows", None])
def test_a_base_that_nobody_has_registered_is_an_error(wire: Wire, tmp_path: Path, name: str | None) -> None:
    api = wire.api()
    api.create_repo("demo/unknown-base", exist_ok=True)
    folder = write_peft_folder(tmp_path / "peft", base_model_name_or_path=name)
    with pytest.raises(HfHubHTTPError, match="no base of that name is registered") as refused:
        api.upload_folder(repo_id="demo/unknown-base", folder_path=folder)
    assert "vera-hub import FOLDER OUT --base PATH" in str(refused.value)


def test_an_adapter_of_another_method_is_refused_with_what_to_do_instead(wire: Wire, tmp_path: Path) -> None:
    api = wire.api()
    api.create_repo("demo/lora")
    folder = write_peft_folder(tmp_path / "peft", peft_type="LORA")
    with pytest.raises(
        HfHubHTTPError, match=r"it is a LORA adapter of PEFT.* `vera-hub train --method vera` makes one"
    ):
        api.upload_folder(repo_id="demo/lora", folder_path=folder)


def test_of_two_bases_of_one_name_the_one_that_fits_is_taken(wire: Wire, tmp_path: Path) -> None:
    register = {"name": "two/bases", "revision": "one", "tensors": make_base(salt="one").to_rows()}
    assert wire.hub.post("/bases", register, wire.hub.headers()).status_code == 201
    other = {"name": "two/bases", "revision": "small", "tensors": make_base((("other", 4, 4),)).to_rows()}
    assert wire.hub.post("/bases", other, wire.hub.headers()).status_code == 201
    api = wire.api()
    api.create_repo("demo/two-bases")
    folder = write_peft_folder(tmp_path / "peft", base_model_name_or_path="two/bases")
    api.upload_folder(repo_id="demo/two-bases", folder_path=folder)
    assert version_of(wire, "two-bases")["manifest"]["base"]["revision"] == "one"

    third = {"name": "two/bases", "revision": "three", "tensors": make_base(salt="three").to_rows()}
    assert wire.hub.post("/bases", third, wire.hub.headers()).status_code == 201
    again = write_peft_folder(tmp_path / "again", base_model_name_or_path="two/bases", saved=False)
    with pytest.raises(HfHubHTTPError, match="fits them all"):
        api.upload_folder(repo_id="demo/two-bases", folder_path=again)
    pinned = write_peft_folder(tmp_path / "again", base_model_name_or_path="two/bases", saved=False, revision="three")
    api.upload_folder(repo_id="demo/two-bases", folder_path=pinned)
    assert version_of(wire, "two-bases")["manifest"]["base"]["revision"] == "three"


def test_a_new_checkpoint_replaces_the_old_one_whole(wire: Wire, tmp_path: Path, published: str) -> None:
    folder = write_peft_folder(tmp_path / "peft")
    wire.api().upload_folder(repo_id=f"demo/{published}", folder_path=folder, delete_patterns="*")
    version = version_of(wire, published)
    assert (version["version"], version["manifest"]["projection"]["seed"]) == (2, 7)
    assert version["manifest"]["head"] == []


def test_half_of_a_new_checkpoint_does_not_replace_the_old_one(wire: Wire, tmp_path: Path, published: str) -> None:
    folder = write_peft_folder(tmp_path / "peft")
    (folder / CONFIG_FILE).unlink()
    with pytest.raises(HfHubHTTPError, match=f"There is no {CONFIG_FILE}"):
        wire.api().upload_folder(repo_id=f"demo/{published}", folder_path=folder, delete_patterns="*")
    assert version_of(wire, published)["version"] == 1


# -- Tags and branches ----------------------------------------------------------------------------


def test_a_tag_is_an_alias(wire: Wire, published: str) -> None:
    api, repo = wire.api(), f"demo/{published}"
    api.create_tag(repo, tag="prod", revision="v1")
    assert api.model_info(repo, revision="prod").sha == version_of(wire, published, "v1")["commit"]
    assert version_of(wire, published, "prod")["version"] == 1
    assert {ref.name for ref in api.list_repo_refs(repo).tags} == {"v1", "prod"}
    api.create_tag(repo, tag="prod", exist_ok=True)
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_tag(repo, tag="prod")
    assert refused.value.response.status_code == 409
    api.delete_tag(repo, tag="prod")
    with pytest.raises(HfHubHTTPError):
        api.delete_tag(repo, tag="prod")


@pytest.mark.parametrize("name", ["v7", "latest", "main", "abcdef0", "sha256-x", "Prod", "a/b"])
def test_names_that_mean_something_already_are_no_tags(wire: Wire, name: str) -> None:
    wire.hub.push(make_archive(seed=6), "tagged")
    with pytest.raises(HfHubHTTPError) as refused:
        wire.api().create_tag("demo/tagged", tag=name)
    assert refused.value.response.status_code == 422


def test_the_tags_of_versions_stay(wire: Wire, published: str) -> None:
    with pytest.raises(HfHubHTTPError, match="whose name stays"):
        wire.api().delete_tag(f"demo/{published}", tag="v1")


def test_versions_are_made_on_main_and_stay(wire: Wire, published: str) -> None:
    api, repo = wire.api(), f"demo/{published}"
    api.create_branch(repo, branch="dev")
    card = {"path_or_fileobj": b"# x\n", "path_in_repo": CARD_FILE, "repo_id": repo}
    for refused, status in (
        (lambda: api.create_branch(repo, branch="v9"), 422),
        (lambda: api.delete_branch(repo, branch="main"), 403),
        (lambda: api.super_squash_history(repo), 403),
        (lambda: api.upload_file(**card, revision="dev"), 422),
        (lambda: api.upload_file(**card, revision="v1"), 404),
        (lambda: api.upload_file(**card, create_pr=True), 422),
    ):
        with pytest.raises(HfHubHTTPError) as error:
            refused()
        assert error.value.response.status_code == status
    with pytest.raises(HfHubHTTPError, match="has versions, which others may rely on"):
        api.delete_repo(repo)
    assert version_of(wire, published)["version"] == 1


def test_a_version_that_was_taken_back_says_so(wire: Wire, published: str, caplog: pytest.LogCaptureFixture) -> None:
    wire.api().upload_file(path_or_fileobj=b"# Second\n", path_in_repo=CARD_FILE, repo_id=f"demo/{published}")
    path = f"/api/v1/adapters/demo/{published}/versions/v1"
    assert wire.hub.client.put(f"{path}/yank", json={"reason": "worse"}, headers=wire.hub.headers()).status_code < 300
    wire.api(None).model_info(f"demo/{published}", revision="v1")
    assert f"demo/{published}@v1 was yanked (worse)" in caplog.text


# -- Bodies that no client sends ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 400),
        ([CARD], 400),
        ([HEADER, HEADER], 400),
        ([HEADER, CARD, CARD], 400),
        ([{"key": "header", "value": {"summary": "x", "parentCommit": "main"}}, CARD], 400),
        ([HEADER, {"key": "file", "value": {"path": CARD_FILE, "content": "!"}}], 400),
        ([HEADER, {"key": "file", "value": {"path": CARD_FILE, "content": "IyB4\nCg=="}}], 400),
        ([HEADER, {"key": "file", "value": {"path": CARD_FILE, "content": "IyB4C"}}], 400),
        ([HEADER, {"key": "file", "value": {"path": CARD_FILE, "content": None}}], 400),
        ([HEADER, {"key": "file", "value": {"path": CARD_FILE, "content": "", "encoding": "utf-8"}}], 400),
        ([HEADER, {"key": "file", "value": {"path": "../x", "content": ""}}], 422),
        ([HEADER, {"key": "file", "value": {"path": ".git/config", "content": ""}}], 422),
        ([HEADER, {"key": "file", "value": {"path": "a\\b", "content": ""}}], 422),
        ([HEADER, {"key": "file", "value": {"path": "a//b", "content": ""}}], 422),
        ([HEADER, {"key": "file", "value": {"path": f"{CARD_FILE}/b", "content": ""}}], 422),
        ([HEADER, {"key": "file", "value": {"path": "a.pkl", "content": "gAQu"}}], 422),
        ([HEADER, {"key": "lfsFile", "value": {"path": CARD_FILE, "oid": "0", "size": 1}}], 422),
        ([HEADER, {"key": "copyFile", "value": {"path": CARD_FILE}}], 400),
        ([HEADER, {"key": 1, "value": {}}], 400),
        ([HEADER, []], 400),
        ([{"key": "header", "value": {"summary": "x" * 2000}}, CARD], 422),
    ],
)
def test_a_commit_that_is_none(wire: Wire, lines: list[object], status: int) -> None:
    wire.hub.push(make_archive(seed=8), "lines")
    body = "\n".join(json.dumps(line) for line in lines)
    answer = wire.hub.client.post("/api/models/demo/lines/commit/main", content=body, headers=wire.hub.headers())
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "code", "facts"}
    assert version_of(wire, "lines")["version"] == 1


def test_a_commit_in_pieces_is_the_same_commit(wire: Wire) -> None:
    wire.hub.push(make_archive(seed=8), "pieces")
    body = "\n".join(json.dumps(line) for line in (HEADER, CARD)).encode() + b"\n\n"
    pieces = iter([body[at : at + 7] for at in range(0, len(body), 7)])
    answer = wire.hub.client.post("/api/models/demo/pieces/commit/main", content=pieces, headers=wire.hub.headers())
    assert answer.status_code == 200, answer.text
    assert version_of(wire, "pieces")["version"] == 2


def test_more_than_a_push_may_hold_is_refused_before_it_is_sent(wire: Wire, published: str) -> None:
    body = {"files": [{"path": WEIGHTS_FILE, "size": 1 << 40}]}
    answer = wire.hub.client.post(f"/api/models/demo/{published}/preupload/main", json=body, headers=wire.hub.headers())
    assert answer.status_code == 413


def test_while_a_large_line_is_decoded_others_are_answered(sqlite_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive(seed=8), "large")
    content = base64.b64encode(b"# x\n" * 50_000).decode()
    lines = [HEADER, {"key": "file", "value": {"path": CARD_FILE, "content": content, "encoding": "base64"}}]
    answered = threading.Event()

    async def scenario() -> tuple[int, int]:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def decode(line: bytearray) -> object:
            if len(line) > len(content):
                loop.call_soon_threadsafe(begun.set)
                assert answered.wait(10), "nobody was answered meanwhile"
            return from_json(line)

        monkeypatch.setattr(commit_lines, "from_json", decode)
        async with AsyncClient(transport=ASGITransport(sqlite_hub.app), base_url=URL) as client:
            body = "\n".join(json.dumps(line) for line in lines)
            commit = client.post("/api/models/demo/large/commit/main", content=body, headers=sqlite_hub.headers())
            committing = asyncio.create_task(commit)
            await begun.wait()
            health = await client.get("/healthz")
            answered.set()
            return health.status_code, (await committing).status_code

    assert asyncio.run(asyncio.wait_for(scenario(), 30)) == (200, 200)
