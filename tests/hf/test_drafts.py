"""What somebody gets who commits what is no adapter, or no adapter yet: drafts, and what lies beside versions."""

from __future__ import annotations

import base64
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RevisionNotFoundError

from hub.domain import drafting
from tests.builders import make_archive
from tests.hf.conftest import Wire
from tests.hub.harness import Hub
from tests.peft_folders import write_peft_folder
from vera import archive as archives
from vera.manifest import CARD_FILE, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE

# Of cards that say nothing to machines.
pytestmark = pytest.mark.filterwarnings("ignore:Warnings while validating metadata")

ATTRIBUTES = ".gitattributes"


@pytest.fixture
def repo(wire: Wire, request: pytest.FixtureRequest) -> str:
    """An adapter without a version, named after the test."""
    name = request.node.originalname.replace("_", "-")[5:60].rstrip("-")
    return wire.api().create_repo(f"demo/{name}").repo_id


def put(wire: Wire, repo: str, path: str, data: bytes = b"1", revision: str | None = None) -> str:
    """Commits one file, and gives the commit."""
    api = wire.api()
    return str(api.upload_file(path_or_fileobj=data, path_in_repo=path, repo_id=repo, revision=revision).oid)


def read(wire: Wire, repo: str, path: str, revision: str = "main", user: str | None = "demo") -> bytes:
    headers = wire.hub.headers(user) if user else {}
    answer = wire.hub.client.get(f"/{repo}/resolve/{revision}/{path}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.content


def adapter_of(wire: Wire, repo: str) -> int:
    return wire.hub.get(f"/adapters/{repo}", headers=wire.hub.headers()).status_code


# -- Before the first version ---------------------------------------------------------------------


def test_files_that_come_one_after_another_become_a_version(
    wire: Wire, repo: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_peft_folder(tmp_path / "peft")
    put(wire, repo, CARD_FILE, b"# First\n")
    put(wire, repo, WEIGHTS_FILE, (folder / WEIGHTS_FILE).read_bytes())
    assert f"it has no {CONFIG_FILE} (or {MANIFEST_FILE})" in caplog.text
    assert adapter_of(wire, repo) == 404
    assert repo not in [each.id for each in wire.api().list_models(author="demo", limit=100)]
    with pytest.raises(RevisionNotFoundError):
        wire.api().model_info(repo, revision="v1")

    last = put(wire, repo, CONFIG_FILE, (folder / CONFIG_FILE).read_bytes())

    version = wire.hub.get(f"/adapters/{repo}/versions/v1").json()
    assert (version["commit"], version["version"]) == (last, 1)
    assert "First" in version["card_html"]
    assert sorted(wire.api().list_repo_files(repo)) == sorted([CARD_FILE, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE])
    titles = [each.title.split()[1] for each in wire.api().list_repo_commits(repo)]
    assert titles == [CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, "commit"]


def test_what_is_wrong_is_refused_and_the_draft_stays(wire: Wire, repo: str, tmp_path: Path) -> None:
    folder = write_peft_folder(tmp_path / "peft")
    before = put(wire, repo, CONFIG_FILE, (folder / CONFIG_FILE).read_bytes())
    with pytest.raises(HfHubHTTPError) as refused:
        put(wire, repo, WEIGHTS_FILE, b"no tensors")
    assert refused.value.response.status_code == 422
    assert wire.api().model_info(repo).sha == before


def test_a_draft_is_read_as_any_repository(wire: Wire, repo: str) -> None:
    api = wire.api()
    first = put(wire, repo, "a/b/c.txt", b"one")
    second = put(wire, repo, "d.txt", b"two")
    assert api.list_repo_files(repo, revision=first[:7]) == [ATTRIBUTES, "a/b/c.txt"]
    tree = {each.path: each for each in api.list_repo_tree(repo, recursive=True, expand=True)}
    assert set(tree) == {ATTRIBUTES, "a", "a/b", "a/b/c.txt", "d.txt"}
    assert [tree[path].last_commit.oid for path in ("a/b/c.txt", "d.txt")] == [first, second]  # type: ignore[union-attr]
    assert [each.path for each in api.list_repo_tree(repo, "a")] == ["a/b"]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(repo, "none"))
    assert read(wire, repo, "a/b/c.txt") == b"one"
    page = wire.hub.client.get(f"/{repo}").text
    assert "A draft, not a version yet" in page
    assert f"it has no {WEIGHTS_FILE}" in page


def test_a_folder_is_taken_out_with_all_that_is_in_it(wire: Wire, repo: str) -> None:
    for path in ("1/a.txt", "1/2/b.txt", "10.txt"):
        put(wire, repo, path)
    wire.api().delete_folder("1", repo)
    assert wire.api().list_repo_files(repo) == [ATTRIBUTES, "10.txt"]
    with pytest.raises(EntryNotFoundError):
        wire.api().delete_file("1/a.txt", repo)


def test_a_private_draft_is_nobody_elses(wire: Wire) -> None:
    wire.api().create_repo("demo/secret-draft", private=True)
    commit = put(wire, "demo/secret-draft", "a.txt")
    for user in (None, "stranger"):
        headers = wire.hub.headers(user) if user else {}
        for path in (
            f"/demo/secret-draft/resolve/{commit}/a.txt",
            "/demo/secret-draft",
            f"/demo/secret-draft/commit/{commit}",
        ):
            assert wire.hub.client.get(f"/demo/secret-draft/{path}".rstrip("/"), headers=headers).status_code == 404
    with pytest.raises(HfHubHTTPError):
        wire.api("stranger").upload_file(path_or_fileobj=b"x", path_in_repo="b.txt", repo_id="demo/secret-draft")


def test_the_same_commit_again_is_that_commit(wire: Wire, repo: str) -> None:
    lines = [{"key": "header", "value": {"summary": "x"}},
             {"key": "file", "value": {"path": "a.txt", "content": base64.b64encode(b"1").decode()}}]  # fmt: skip
    body = "\n".join(map(json.dumps, lines))
    once, again = (
        wire.hub.client.post(f"/api/models/{repo}/commit/main", content=body, headers=wire.hub.headers()).json()
        for _ in range(2)
    )
    assert once["commitOid"] == again["commitOid"]


def test_what_was_committed_meanwhile_is_not_undone(wire: Wire, repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between reading the head and committing on it, somebody else commits."""
    check = drafting.check_loose

    def check_while_another_commits(loose: drafting.Loose) -> None:
        monkeypatch.setattr(drafting, "check_loose", check)
        put(wire, repo, "theirs.txt")
        check(loose)

    monkeypatch.setattr(drafting, "check_loose", check_while_another_commits)
    with pytest.raises(HfHubHTTPError, match="The branch was updated"):
        put(wire, repo, "mine.txt")
    assert wire.api().list_repo_files(repo) == [ATTRIBUTES, "theirs.txt"]


def test_a_draft_goes_with_its_adapter(wire: Wire, repo: str) -> None:
    put(wire, repo, "a.txt")
    wire.api().create_branch(repo, branch="dev")
    wire.api().delete_repo(repo)
    assert wire.api().create_repo(repo).repo_id == repo
    assert wire.api().list_repo_files(repo) == [ATTRIBUTES]


# -- Beside versions ------------------------------------------------------------------------------


def test_files_beside_an_adapter_are_on_main_and_in_no_version(wire: Wire, repo: str, tmp_path: Path) -> None:
    archive = make_archive(seed=41)
    archives.write_folder(archive, tmp_path / "adapter")
    (tmp_path / "adapter" / "tokenizer.json").write_text("{}")
    api = wire.api()

    made = api.upload_folder(repo_id=repo, folder_path=tmp_path / "adapter")

    version = wire.hub.get(f"/adapters/{repo}/versions/v1").json()
    assert version["digest"] == archive.manifest.digest
    assert (api.model_info(repo).sha, api.model_info(repo).vera["ref"]) == (made.oid, f"{repo}@v1")
    assert made.oid != version["commit"]
    assert set(api.list_repo_files(repo)) == {*archive.files, "tokenizer.json"}
    assert set(api.list_repo_files(repo, revision="v1")) == set(archive.files)
    assert read(wire, repo, "tokenizer.json") == b"{}"
    assert read(wire, repo, WEIGHTS_FILE) == archive.files[WEIGHTS_FILE]
    assert f"/{repo}/v1" in wire.hub.client.get(f"/{repo}/commit/{made.oid}").text
    assert "tokenizer.json" not in json.dumps(version)
    assert api.upload_folder(repo_id=repo, folder_path=tmp_path / "adapter").oid == made.oid
    other = put(wire, repo, "notes.txt")
    assert wire.hub.get(f"/adapters/{repo}").json()["latest"] == 1
    put(wire, repo, CARD_FILE, b"# Second\n")
    assert set(api.list_repo_files(repo)) == {*archive.files, "tokenizer.json", "notes.txt"}
    assert wire.hub.get(f"/adapters/{repo}").json()["latest"] == 2
    assert other in [each.commit_id for each in api.list_repo_commits(repo)]
    api.create_tag(repo, tag="both")  # of main, which stands on v2
    assert api.list_repo_files(repo, revision="both") == api.list_repo_files(repo)
    api.create_tag(repo, tag="prod", revision="v2")
    assert wire.hub.get(f"/adapters/{repo}/versions/prod").json()["version"] == 2


def test_a_push_by_another_door_leaves_nothing_beside_it(wire: Wire, repo: str) -> None:
    archive = make_archive(seed=42)
    adds = [CommitOperationAdd(path, data) for path, data in {**archive.files, "old.txt": b"1"}.items()]
    wire.api().create_commit(repo, adds, commit_message="Both")
    assert wire.hub.push(make_archive(seed=43), repo.partition("/")[2]).status_code == 201
    assert set(wire.api().list_repo_files(repo)) == set(archive.files)
    path = f"/api/v1/adapters/{repo}/versions/v2"
    assert wire.hub.client.put(f"{path}/yank", json={"reason": "worse"}, headers=wire.hub.headers()).status_code < 300
    assert "old.txt" in wire.api().list_repo_files(repo)  # main is what stands on v1 again


def test_what_lies_beside_a_gated_adapter_is_gated(wire: Wire, repo: str, cache: Path) -> None:
    archive = make_archive(seed=44)
    adds = [CommitOperationAdd(path, data) for path, data in {**archive.files, "a.txt": b"1"}.items()]
    wire.api().create_commit(repo, adds, commit_message="Both")
    wire.api().update_repo_settings(repo, gated="manual")
    with pytest.raises(GatedRepoError):
        wire.api("stranger").hf_hub_download(repo, "a.txt", cache_dir=cache)
    assert read(wire, repo, "a.txt") == b"1"


def test_a_deleted_version_takes_along_what_stands_on_it(wire: Wire, repo: str) -> None:
    archive = make_archive(seed=45)
    adds = [CommitOperationAdd(path, data) for path, data in {**archive.files, "a.txt": b"1"}.items()]
    commit = wire.api().create_commit(repo, adds, commit_message="Both").oid
    path = f"/api/v1/adapters/{repo}/versions/v1"
    deleted = wire.hub.client.delete(path, params={"reason": "a mistake"}, headers=wire.hub.headers())
    assert deleted.status_code < 300, deleted.text
    answer = wire.hub.client.get(f"/{repo}/resolve/{commit}/a.txt", headers=wire.hub.headers())
    assert answer.status_code == 404


# -- What is not kept -----------------------------------------------------------------------------


def test_pickles_and_large_files_are_left_out_and_that_is_said(
    wire: Wire, repo: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archives.write_folder(make_archive(seed=46), tmp_path / "adapter")
    (tmp_path / "adapter" / "training_args.bin").write_bytes(pickle.dumps({"lr": 1}))
    (tmp_path / "adapter" / "base.bin").write_bytes(bytes(drafting.MAX_FILE_BYTES + 1))
    wire.api().upload_folder(repo_id=repo, folder_path=tmp_path / "adapter")
    assert sorted(wire.api().list_repo_files(repo)) == sorted([CARD_FILE, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE])
    assert "Not kept: base.bin (larger than 16 MiB), training_args.bin (a pickle" in caplog.text
    with pytest.raises(HfHubHTTPError, match="is a pickle, which runs code when it is opened"):
        put(wire, repo, "evil.pt", pickle.dumps([1]))


@pytest.mark.parametrize(("count", "status"), [(drafting.MAX_FILES - 1, 200), (drafting.MAX_FILES, 413)])
def test_a_draft_has_so_many_files(wire: Wire, count: int, status: int) -> None:
    name = f"many-{status}"
    wire.api().create_repo(name)
    files = ({"key": "file", "value": {"path": f"{number}.txt", "content": ""}} for number in range(count))
    body = "\n".join(map(json.dumps, [{"key": "header", "value": {"summary": "x"}}, *files]))
    answer = wire.hub.client.post(f"/api/models/demo/{name}/commit/main", content=body, headers=wire.hub.headers())
    assert answer.status_code == status, answer.text


def test_drafts_count_for_the_quota(sqlite_hub: Hub) -> None:
    services = sqlite_hub.app.state.services
    settings = services.settings.model_copy(update={"max_account_bytes": 1000})
    sqlite_hub.app.state.services = replace(services, settings=settings)
    headers = sqlite_hub.headers()
    sqlite_hub.client.post("/api/repos/create", json={"name": "small"}, headers=headers)

    def commit(path: str, size: int) -> int:
        content = base64.b64encode(path.encode().ljust(size)).decode()
        lines = [
            {"key": "header", "value": {"summary": path}},
            {"key": "file", "value": {"path": path, "content": content}},
        ]
        body = "\n".join(map(json.dumps, lines))
        return sqlite_hub.client.post("/api/models/demo/small/commit/main", content=body, headers=headers).status_code

    assert [commit("a", 600), commit("b", 600), commit("c", 300)] == [200, 403, 200]


def test_what_a_gitignore_names_is_not_sent(wire: Wire, repo: str, tmp_path: Path) -> None:
    for path in ("out/x.txt", "in/out/y.txt", "in/keep.log", "in/a.log", "top.tmp", "in/top.tmp"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / ".gitignore").write_text("# comment\n/out/\n*.log\n!keep.log\n/top.tmp\n")
    wire.api().upload_folder(repo_id=repo, folder_path=tmp_path)
    there = {ATTRIBUTES, ".gitignore", "in/out/y.txt", "in/keep.log", "in/top.tmp"}
    assert set(wire.api().list_repo_files(repo)) == there


def test_a_gitignore_that_means_to_take_long_does_not(wire: Wire, repo: str) -> None:
    """With a pattern that goes back wherever it can, this would not end."""
    rules = "*a" * 60 + "*b\n" + "/".join(["**", "*a*a*a*a*a*a*a*a*b"] * 10)
    files = [{"path": "/".join(["a" * 12] * 19) + f"/{number}", "size": 1} for number in range(100)]
    answer = wire.hub.client.post(
        f"/api/models/{repo}/preupload/main", json={"files": files, "gitIgnore": rules}, headers=wire.hub.headers()
    )
    assert {file["shouldIgnore"] for file in answer.json()["files"]} == {False}


# -- Branches, tags, squashing --------------------------------------------------------------------


def test_a_branch_is_a_line_of_drafts(wire: Wire, repo: str) -> None:
    api = wire.api()
    start = put(wire, repo, "a.txt")
    api.create_branch(repo, branch="dev/one")
    mine = put(wire, repo, "b.txt", revision="dev/one")
    assert {ref.name: ref.target_commit for ref in api.list_repo_refs(repo).branches} == {
        "main": start,
        "dev/one": mine,
    }
    assert api.list_repo_files(repo) == [ATTRIBUTES, "a.txt"]
    assert api.list_repo_files(repo, revision="dev/one") == [ATTRIBUTES, "a.txt", "b.txt"]
    assert api.list_repo_commits(repo, revision="dev/one")[0].title.startswith("Upload b.txt")
    api.delete_branch(repo, branch="dev/one")
    for revision in ("dev/one", mine):
        with pytest.raises(RevisionNotFoundError):
            api.model_info(repo, revision=revision)
    with pytest.raises(RevisionNotFoundError):
        put(wire, repo, "b.txt", revision="dev/one")


def test_no_adapter_is_committed_to_a_branch(wire: Wire, repo: str) -> None:
    wire.api().create_branch(repo, branch="dev")
    adds = [CommitOperationAdd(path, data) for path, data in make_archive(seed=47).files.items()]
    with pytest.raises(HfHubHTTPError, match="An adapter is committed to main"):
        wire.api().create_commit(repo, adds, commit_message="Beside", revision="dev")


@pytest.mark.parametrize("name", ["v1", "V1", "latest", "main", "abcdef0", "sha256-x", "a..b", "refs/x", "a//b"])
def test_names_that_mean_something_already_are_no_names_of_drafts(wire: Wire, name: str) -> None:
    wire.api().create_repo("demo/draft-names", exist_ok=True)
    for make in (wire.api().create_tag, wire.api().create_branch):
        with pytest.raises(HfHubHTTPError) as refused:
            make("demo/draft-names", **{"tag" if make.__name__ == "create_tag" else "branch": name})
        assert refused.value.response.status_code in (409, 422)


def test_an_alias_and_a_branch_are_not_called_the_same(wire: Wire) -> None:
    wire.hub.push(make_archive(seed=48), "called")
    api, repo = wire.api(), "demo/called"
    api.create_tag(repo, tag="prod")
    with pytest.raises(HfHubHTTPError, match="is an alias"):
        api.create_branch(repo, branch="prod")
    api.create_branch(repo, branch="next")
    put(wire, repo, "a.txt", revision="next")
    with pytest.raises(HfHubHTTPError, match="is a branch"):
        api.create_tag(repo, tag="next", revision="v1")
    assert "a.txt" in api.list_repo_files(repo, revision="next")


def test_squashing_makes_one_draft_of_many(wire: Wire, repo: str) -> None:
    api = wire.api()
    first = put(wire, repo, "a.txt")
    api.create_tag(repo, tag="before")
    put(wire, repo, "b.txt")
    api.super_squash_history(repo)
    assert [each.title for each in api.list_repo_commits(repo)] == ["Super-squash branch 'main' using huggingface_hub"]
    assert api.list_repo_files(repo) == [ATTRIBUTES, "a.txt", "b.txt"]
    assert api.model_info(repo, revision="before").sha == first
    api.delete_tag(repo, tag="before")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(repo, revision=first)
    api.create_commit(repo, [CommitOperationDelete("a.txt")], commit_message="Less")
    assert api.list_repo_files(repo) == [ATTRIBUTES, "b.txt"]
