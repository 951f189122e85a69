"""What somebody gets who reads from this hub with huggingface_hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import ModelInfo
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.builders import BASE_NAME, make_archive
from tests.hf.conftest import Wire
from vera import tensorfile
from vera.archive import Archive
from vera.manifest import CARD_FILE, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE

FILES = {CARD_FILE, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE}
CARD = "---\nlicense: mit\ntags: [topics]\n---\n# Topics\n"


@pytest.fixture(scope="module")
def pushed(wire: Wire) -> list[Archive]:
    """The two versions of demo/read; only the card differs."""
    first, second = make_archive(card="# First\n"), make_archive(card=CARD)
    for version, message in ((first, "First"), (second, "A better card\n\nWith a licence.")):
        answer = wire.hub.push(version, "read", message=message)
        assert answer.status_code == 201, answer.text
    return [first, second]


def commit_of(wire: Wire, version: int, adapter: str = "read") -> str:
    return str(wire.hub.get(f"/adapters/demo/{adapter}/versions/v{version}").json()["commit"])


def test_whoami_says_who_the_token_speaks_for(wire: Wire) -> None:
    wire.hub.found("acme")
    me = wire.api("olga").whoami()
    assert (me["type"], me["name"], me["auth"]["accessToken"]["role"]) == ("user", "olga", "write")
    assert ("acme", "owner") in [(org["name"], org["roleInOrg"]) for org in me["orgs"]]


def test_whoami_refuses_a_token_that_is_none(wire: Wire) -> None:
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        wire.api().whoami(token="vhp_nonsense")


@pytest.mark.usefixtures("pushed")
def test_model_info_is_that_of_the_latest_version(wire: Wire) -> None:
    info = wire.api(None).model_info("demo/read", files_metadata=True)
    assert (info.id, info.author, info.sha) == ("demo/read", "demo", commit_of(wire, 2))
    assert (info.private, info.library_name, info.pipeline_tag) == (False, "peft", "text-classification")
    assert info.card_data is not None
    assert (info.card_data.license, info.card_data.tags) == ("mit", ["topics"])
    assert info.base_models == {"relation": "adapter", "models": [{"_id": BASE_NAME, "id": BASE_NAME}]}
    assert info.safetensors is not None
    assert set(info.safetensors.parameters) == {"F32"}
    assert {each.rfilename: each.size for each in info.siblings or ()}.keys() == FILES
    assert info.vera["ref"] == "demo/read@v2"


def test_every_way_to_name_a_version_is_a_revision(wire: Wire, pushed: list[Archive]) -> None:
    first, second = (commit_of(wire, number) for number in (1, 2))
    digest = pushed[0].manifest.digest
    names = {"v1": first, "v2": second, "main": second, "refs/heads/main": second, "refs/tags/v1": first,
             "latest": second, first: first, first[:7]: first, digest: first, f"v1@{digest}": first}  # fmt: skip
    api = wire.api(None)
    assert {name: api.model_info("demo/read", revision=name).sha for name in names} == names


def test_a_pin_of_another_digest_gives_nothing(wire: Wire, pushed: list[Archive]) -> None:
    with pytest.raises(HfHubHTTPError) as refused:
        wire.api(None).model_info("demo/read", revision=f"v2@{pushed[0].manifest.digest}")
    assert refused.value.response.status_code == 409


def test_a_snapshot_is_the_files_that_were_pushed(wire: Wire, pushed: list[Archive], cache: Path) -> None:
    folder = Path(wire.api(None).snapshot_download("demo/read", revision="v1", cache_dir=cache))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict(pushed[0].files)
    assert folder.name == commit_of(wire, 1)


def test_a_download_over_this_wire_counts(wire: Wire, cache: Path) -> None:
    wire.hub.push(make_archive(seed=21), "counted")
    api = wire.api("reader")
    api.snapshot_download("demo/counted", cache_dir=cache)
    wire.hub.app.state.services.downloads.flush()
    info = api.model_info("demo/counted", expand=["downloads", "downloadsAllTime"])
    assert (info.downloads, info.downloads_all_time, info.sha) == (1, 1, None)


def test_what_is_in_the_cache_needs_no_hub(wire: Wire, pushed: list[Archive], cache: Path) -> None:
    api = wire.api(None)
    file = api.hf_hub_download("demo/read", WEIGHTS_FILE, revision="v1", cache_dir=cache)
    again = api.hf_hub_download("demo/read", WEIGHTS_FILE, revision="v1", cache_dir=cache, local_files_only=True)
    assert again == file
    assert Path(file).read_bytes() == pushed[0].files[WEIGHTS_FILE]


def test_the_names_of_files_are_those_git_gives(wire: Wire, pushed: list[Archive]) -> None:
    found = {entry.path: entry for entry in wire.api(None).list_repo_tree("demo/read", recursive=True)}
    assert found.keys() == FILES
    for path, data in pushed[1].files.items():
        assert found[path].size == len(data)
        assert found[path].blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@pytest.mark.usefixtures("pushed")
def test_a_tree_says_which_version_changed_a_file(wire: Wire) -> None:
    found = wire.api(None).list_repo_tree("demo/read", expand=True)
    changed = {entry.path: entry.last_commit for entry in found}
    assert changed[WEIGHTS_FILE].oid == commit_of(wire, 1)
    assert (changed[CARD_FILE].oid, changed[CARD_FILE].title) == (commit_of(wire, 2), "A better card")


@pytest.mark.usefixtures("pushed")
def test_there_are_no_folders(wire: Wire) -> None:
    with pytest.raises(EntryNotFoundError, match="no folder"):
        list(wire.api(None).list_repo_tree("demo/read", "a/b"))


@pytest.mark.usefixtures("pushed")
def test_paths_that_are_not_there_are_left_out(wire: Wire) -> None:
    found = wire.api(None).get_paths_info("demo/read", [CARD_FILE, "nothing.txt"], expand=True)
    assert [(entry.path, entry.last_commit.title) for entry in found] == [(CARD_FILE, "A better card")]


@pytest.mark.usefixtures("pushed")
def test_refs_are_main_and_a_tag_for_each_version(wire: Wire) -> None:
    refs = wire.api(None).list_repo_refs("demo/read")
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.branches] == [
        ("main", "refs/heads/main", commit_of(wire, 2))
    ]
    assert {ref.name: ref.target_commit for ref in refs.tags} == {f"v{n}": commit_of(wire, n) for n in (1, 2)}


@pytest.mark.usefixtures("pushed")
def test_commits_are_the_versions(wire: Wire) -> None:
    api = wire.api(None)
    found = api.list_repo_commits("demo/read", formatted=True)
    assert [(each.title, each.message, each.authors) for each in found] == [
        ("A better card", "With a licence.", ["demo"]),
        ("First", "", ["demo"]),
    ]
    assert [each.commit_id for each in api.list_repo_commits("demo/read", revision="v1")] == [commit_of(wire, 1)]


def test_the_header_of_a_tensor_file_is_read_alone(wire: Wire, pushed: list[Archive]) -> None:
    found = wire.api(None).parse_safetensors_file_metadata("demo/read", WEIGHTS_FILE)
    assert found.tensors.keys() == tensorfile.parse(pushed[1].files[WEIGHTS_FILE]).keys()
    assert found.parameter_count == dict(wire.api(None).model_info("demo/read").safetensors.parameters)


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-3", 206, slice(0, 4)),
        ("bytes=4-", 206, slice(4, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=2-99999999", 206, slice(2, None)),
        ("bytes=99999999-", 416, slice(0, 0)),
        ("bytes=-0", 416, slice(0, 0)),
        ("bytes=3-1", 416, slice(0, 0)),
        ("bytes=-", 200, slice(None)),
        ("bytes=0-1,3-4", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_ranges(wire: Wire, pushed: list[Archive], wanted: str, status: int, part: slice) -> None:
    answer = wire.hub.client.get(f"/demo/read/resolve/v1/{WEIGHTS_FILE}", headers={"Range": wanted})
    data = pushed[0].files[WEIGHTS_FILE]
    assert (answer.status_code, answer.content) == (status, data[part])
    if status == 206:
        first = range(len(data))[part][0]
        assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(data)}"


def test_only_a_commit_is_cached_for_ever(wire: Wire, pushed: list[Archive]) -> None:
    def policy(revision: str) -> str:
        return str(wire.hub.client.head(f"/demo/read/resolve/{revision}/{CARD_FILE}").headers["cache-control"])

    assert "immutable" in policy(commit_of(wire, 1))
    assert policy("v1") == policy("main") == "no-cache"
    etag = wire.hub.client.head(f"/demo/read/resolve/v1/{CARD_FILE}").headers["etag"]
    assert etag == f'"{hashlib.sha256(pushed[0].files[CARD_FILE]).hexdigest()}"'
    again = wire.hub.client.get(f"/demo/read/resolve/v1/{CARD_FILE}", headers={"If-None-Match": etag})
    assert again.status_code == 304


@pytest.mark.usefixtures("pushed")
def test_what_is_not_there_is_their_exception(wire: Wire, cache: Path) -> None:
    api = wire.api(None)
    with pytest.raises(RepositoryNotFoundError, match="Repository Not Found for url"):
        api.model_info("demo/nothing")
    with pytest.raises(RevisionNotFoundError, match="no revision"):
        api.model_info("demo/read", revision="Not A Name")
    for revision in ("v9", "prod", "abcdef0", "0" * 40):
        with pytest.raises(RevisionNotFoundError):
            api.model_info("demo/read", revision=revision)
    with pytest.raises(EntryNotFoundError, match="has no file nothing"):
        api.hf_hub_download("demo/read", "nothing.bin", cache_dir=cache)
    assert (api.repo_exists("demo/nothing"), api.file_exists("demo/read", "nothing.bin")) == (False, False)
    assert (api.repo_exists("demo/read"), api.file_exists("demo/read", CARD_FILE)) == (True, True)
    assert api.revision_exists("demo/read", "v9") is False
    missing = wire.hub.client.head("/demo/read/resolve/v1/nothing.bin")  # which clients remember of this commit
    assert (missing.status_code, missing.headers["x-repo-commit"]) == (404, commit_of(wire, 1))


@pytest.mark.parametrize("repo", ["gpt2", "demo/read"])
def test_other_kinds_of_repository_are_not_kept_here(wire: Wire, repo: str) -> None:
    with pytest.raises(RepositoryNotFoundError):
        wire.api(None).repo_info(repo, repo_type="dataset" if "/" in repo else "model")
    assert wire.api(None).file_exists(repo, "config.json", repo_type="space") is False


def test_a_list_is_narrowed_down_and_goes_on(wire: Wire) -> None:
    wire.hub.register_base(name=BASE_NAME)
    for number in range(3):
        wire.hub.push(make_archive(seed=10 + number), f"listed-{number}", user="lister")
    api = wire.api(None)

    def ids(**options: object) -> list[str]:
        return [each.id for each in api.list_models(author="lister", **options)]

    everything = ["lister/listed-2", "lister/listed-1", "lister/listed-0"]
    assert ids() == ids(sort="last_modified", full=True, cardData=True) == everything
    assert ids(filter=["peft", f"base_model:adapter:{BASE_NAME}", "text-classification"]) == everything
    assert ids(search="listed-1") == ["lister/listed-1"]
    assert ids(limit=1) == everything[:1]
    assert ids(filter="base_model:another/base") == ids(pipeline_tag="image-classification") == ids(gated=True) == []
    assert ids(filter=["base_model:a", "base_model:b"]) == []
    assert [vars(each)["sha"] for each in api.list_models(author="lister", expand=["tags"])] == [None] * 3
    assert ids(filter=["peft", "nothing-of-the-kind"]) == ids(trained_dataset="no/such") == []
    pages = wire.hub.client.get("/api/models?author=lister&limit=2")
    assert len(pages.json()) == 2
    following = wire.hub.client.get(pages.links["next"]["url"])
    assert [each["id"] for each in following.json()] == ["lister/listed-0"]
    assert "next" not in following.links


@pytest.fixture(scope="module")
def varied(wire: Wire) -> str:
    """Adapters of vera's that differ: the first is pushed to last, fetched most and tagged; the second is gated."""
    card = "---\nlicense: mit\ntags: [Topics, small]\ndatasets: [acme/news]\n---\n# One\n"
    for seed, name in enumerate(("one", "two", "three")):
        wire.hub.push(make_archive(seed=30 + seed, rank=4 if name == "three" else 8), name, user="vary")
    wire.hub.push(make_archive(seed=34, card=card), "one", user="vary")
    wire.hub.client.patch("/api/v1/adapters/vary/two", json={"gated": "auto"}, headers=wire.hub.headers("vary"))
    weights = wire.hub.get("/adapters/vary/one/versions/latest").json()["files"]
    sha256 = next(each["sha256"] for each in weights if each["path"] == WEIGHTS_FILE)
    wire.hub.get(f"/adapters/vary/one/blobs/{sha256}", headers=wire.hub.headers("reader"))
    wire.hub.app.state.services.downloads.flush()
    return "vary"


def test_a_list_is_sorted_and_narrowed_down_as_asked(wire: Wire, varied: str) -> None:
    api = wire.api(None)

    def names(**options: object) -> list[str]:
        return [each.id.partition("/")[2] for each in api.list_models(author=varied, **options)]

    assert names(sort="last_modified") == ["one", "three", "two"]
    assert names(sort="created_at") == ["three", "two", "one"]
    assert names(sort="downloads", limit=1) == ["one"]
    assert (names(gated=True), names(gated=False)) == (["two"], ["one", "three"])
    assert names(filter="topics") == names(filter=["Small", "license:apache-2.0"]) == ["one"]
    assert names(trained_dataset="acme/news") == names(filter=["topics", "text-classification"]) == ["one"]
    assert names(filter=["license:mit", "license:apache-2.0"]) == names(filter="license:mit") == []
    sizes = {each.id: each.safetensors.total for each in api.list_models(author=varied, expand=["safetensors"])}
    small = sizes["vary/three"]
    assert small < sizes["vary/one"] == sizes["vary/two"]
    assert names(num_parameters=f"max:{small}") == names(num_parameters=f"min:1,max:{small}") == ["three"]
    assert names(num_parameters=f"min:{small / 1000 + 0.001}K") == ["one", "two"]
    assert names(num_parameters="min:1B") == []


def test_a_list_tells_of_each_model_what_is_asked(wire: Wire, varied: str) -> None:
    api = wire.api(None)

    def first(**options: object) -> ModelInfo:
        return next(iter(api.list_models(author=varied, **options)))

    brief, full = first(), first(full=True, cardData=True, fetch_config=True)
    assert (brief.siblings, brief.card_data, brief.downloads_all_time) == (None, None, 1)
    assert {"topics", "small", "license:apache-2.0"} <= set(brief.tags or ())
    assert {each.rfilename for each in full.siblings or ()} == FILES
    assert full.card_data is not None
    assert full.card_data.license == "mit"
    assert full.config == {"peft": {"base_model_name_or_path": BASE_NAME, "task_type": None}}
    asked = first(expand=["downloads", "evalResults", "baseModels", "usedStorage", "likes"])
    assert (asked.downloads, asked.likes, asked.sha) == (1, None, None)
    assert asked.base_models == {"relation": "adapter", "models": [{"_id": BASE_NAME, "id": BASE_NAME}]}
    assert set(api.model_info("vary/one").tags or ()) == set(brief.tags or ())


@pytest.mark.usefixtures("varied")
def test_a_list_in_full_goes_on_to_the_next_page(wire: Wire) -> None:
    page = wire.hub.client.get("/api/models?author=vary&full=true&limit=2")
    following = wire.hub.client.get(page.links["next"]["url"]).json()
    assert [each["id"] for each in page.json() + following] == ["vary/one", "vary/three", "vary/two"]
    assert [len(each["siblings"]) for each in following] == [4]
    bracketed = wire.hub.client.get("/api/models?author=vary&expand[]=sha&limit=1").json()
    assert [set(each) for each in bracketed] == [{"_id", "id", "sha"}]


@pytest.mark.parametrize(
    "asked",
    [
        "sort=likes",
        "sort=trendingScore",
        "direction=1",
        "apps=ollama",
        "inference=warm",
        "num_parameters=6B",
        "expand=x",
    ],
)
def test_what_a_list_cannot_do_it_says(wire: Wire, asked: str) -> None:
    refused = wire.hub.client.get(f"/api/models?{asked}")
    assert (refused.status_code, refused.json()["code"]) == (400, "PARAMETER_INVALID")
    assert refused.headers["x-error-message"]


def test_the_results_of_a_version_are_their_entries(wire: Wire) -> None:
    worker = wire.hub.worker()
    while (job := worker.claim()) is not None:
        worker.finish(job)
    wire.hub.push(make_archive(seed=50), "scored", user="vary2")
    worker.finish(worker.must_claim())
    entries = wire.api(None).model_info("vary2/scored").eval_results
    assert entries is not None
    assert [(each.dataset_id, each.value) for each in entries] == [("demo/topics", 0.5)]


def test_a_private_adapter_is_there_for_its_people_alone(wire: Wire, cache: Path) -> None:
    wire.hub.push(make_archive(seed=3), "closed", visibility="private")
    mine, nobody = wire.api(), wire.api(None)
    assert mine.model_info("demo/closed").private is True
    mine.auth_check("demo/closed")
    mine.auth_check("demo/closed", write=True)
    mine.snapshot_download("demo/closed", cache_dir=cache)
    for stranger in (nobody, wire.api("stranger")):
        with pytest.raises(RepositoryNotFoundError):
            stranger.model_info("demo/closed")
        with pytest.raises(RepositoryNotFoundError):
            stranger.auth_check("demo/closed")
        with pytest.raises(RepositoryNotFoundError):
            stranger.hf_hub_download("demo/closed", CARD_FILE, cache_dir=cache / "stranger")
    assert "demo/closed" not in [each.id for each in nobody.list_models()]


@pytest.mark.usefixtures("pushed")
def test_who_may_read_may_not_always_write(wire: Wire) -> None:
    stranger = wire.api("stranger")
    stranger.auth_check("demo/read")
    with pytest.raises(HfHubHTTPError, match="may not push") as refused:
        stranger.auth_check("demo/read", write=True)
    assert refused.value.response.status_code == 403


@pytest.mark.usefixtures("pushed")
def test_a_login_at_the_other_hub_keeps_nobody_from_reading(wire: Wire) -> None:
    info = wire.api(None).model_info("demo/read", token="hf_abcdefghijklmnop")
    assert isinstance(info, ModelInfo)
    with pytest.raises(HfHubHTTPError):
        wire.api(None).model_info("demo/read", token="vhp_abcdefghijklmnop")


@pytest.mark.parametrize("block", ["a: &x [1]\nb: *x", "a: [", "- 1", "a: " + "[" * 16000, "x" * 20000])
def test_a_card_that_cannot_be_read_hides_nothing_else(wire: Wire, block: str) -> None:
    name = f"card-{hashlib.sha256(block.encode()).hexdigest()[:8]}"
    wire.hub.push(make_archive(seed=5, card=f"---\n{block}\n---\n# Card\n"), name)
    info = wire.api(None).model_info(f"demo/{name}")
    assert info.sha == commit_of(wire, 1, name)
    assert info.card_data is None or info.card_data.to_dict() == {}


@pytest.mark.usefixtures("pushed")
def test_what_this_hub_does_not_tell_of_a_model_is_not_told_as_if_there_were_no_model(wire: Wire) -> None:
    for ask in (
        lambda: list(wire.api().list_repo_likers("demo/read")),
        lambda: wire.api().get_user_overview("demo"),
        lambda: list(wire.api().list_collections(owner="demo")),
    ):
        with pytest.raises(HfHubHTTPError, match="nothing at this address") as error:
            ask()
        assert not isinstance(error.value, RepositoryNotFoundError)
    for absent in ("gpt2", "gpt2/revision/main", "gpt2/tree/main"):
        assert httpx2.get(f"{wire.url}/api/models/{absent}").headers["x-error-code"] == "RepoNotFound"


@pytest.mark.usefixtures("pushed")
def test_there_are_no_discussions(wire: Wire) -> None:
    assert list(wire.api(None).get_repo_discussions("demo/read")) == []
    with pytest.raises(RepositoryNotFoundError):
        list(wire.api(None).get_repo_discussions("demo/none"))


@pytest.mark.usefixtures("pushed")
def test_a_refusal_ends_with_one_full_stop(wire: Wire) -> None:
    with pytest.raises(HfHubHTTPError, match=r"only aliases are removed\.\n"):
        wire.api().delete_tag("demo/read", tag="v1")


def test_a_folder_follows_an_alias_that_moved_and_stays_offline(wire: Wire, pushed: list[Archive], cache: Path) -> None:
    api = wire.api()
    for number, archive in ((1, pushed[0]), (2, pushed[1]), (1, pushed[0])):
        body = {"version": f"v{number}"}
        moved = wire.hub.put("/adapters/demo/read/aliases/stable", body, wire.hub.headers())
        assert moved.status_code in (200, 201), moved.text
        for offline in (False, True):
            folder = api.snapshot_download("demo/read", revision="stable", cache_dir=cache, local_files_only=offline)
            assert (Path(folder) / CARD_FILE).read_bytes() == archive.files[CARD_FILE]
