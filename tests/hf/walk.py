"""What people do with huggingface_hub, step by step, against the hub that HF_ENDPOINT names.

Runs on any release of the client from 0.36 on: `python walk.py ADAPTER_FOLDER REPO`, with HF_TOKEN set. It ends with
the first step that does not do what it should.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import huggingface_hub
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

CARD = "README.md"


def publish(api: HfApi, folder: Path, repo: str) -> None:
    """Create, upload, change the card, upload again."""
    assert repo.startswith(api.whoami()["name"] + "/")
    api.create_repo(repo, exist_ok=True)
    api.create_repo(repo, exist_ok=True)
    made = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="First")
    assert made.oid == api.model_info(repo).sha
    api.upload_file(path_or_fileobj=b"# A better card\n", path_in_repo=CARD, repo_id=repo)
    assert api.model_info(repo).sha != made.oid
    assert [each.title for each in api.list_repo_commits(repo)][-2:] == ["First", "initial commit"]
    assert [ref.name for ref in api.list_repo_refs(repo).tags] == ["v2", "v1"]


def read(api: HfApi, folder: Path, repo: str, cache: Path) -> None:
    """Look at it from all sides, and download it."""
    names = {path.name for path in folder.iterdir()}
    info = api.model_info(repo, revision="v1", files_metadata=True)
    assert {file.rfilename: file.size for file in info.siblings} == {n: (folder / n).stat().st_size for n in names}
    assert set(api.list_repo_files(repo)) == names
    assert {entry.path for entry in api.list_repo_tree(repo, recursive=True, expand=True)} == names
    assert [entry.path for entry in api.get_paths_info(repo, [CARD, "none"], revision="v1")] == [CARD]
    assert repo in [each.id for each in api.list_models(author=repo.partition("/")[0], limit=3)]
    for revision in ("v1", info.sha, "refs/tags/v1"):
        got = Path(snapshot_download(repo, revision=revision, cache_dir=cache))
        assert {path.name: path.read_bytes() for path in got.iterdir()} == {n: (folder / n).read_bytes() for n in names}
    assert Path(api.hf_hub_download(repo, CARD, cache_dir=cache)).read_text() == "# A better card\n"
    assert snapshot_download(repo, revision=info.sha, cache_dir=cache, local_files_only=True)
    api.auth_check(repo)


def stumble(api: HfApi, repo: str, cache: Path) -> None:
    """Ask for what is not there, and do what cannot be done."""
    for wrong, error in (
        (lambda: api.model_info(repo + "-not"), RepositoryNotFoundError),
        (lambda: api.model_info(repo, revision="v99"), RevisionNotFoundError),
        (lambda: api.hf_hub_download(repo, "none.bin", cache_dir=cache), EntryNotFoundError),
        (lambda: api.delete_file("none.bin", repo), EntryNotFoundError),
        (lambda: api.create_tag(repo, tag="v7"), HfHubHTTPError),
        (lambda: api.create_branch(repo, branch="v7"), HfHubHTTPError),
        (lambda: api.delete_file("adapter_model.safetensors", repo), HfHubHTTPError),
    ):
        try:
            wrong()
        except error:
            continue
        raise AssertionError(f"{error.__name__} was expected")
    assert not api.file_exists(repo, "none.bin")
    assert not api.repo_exists(repo + "-not")


def lay_beside(api: HfApi, repo: str) -> None:
    """Put a file beside the adapter, which is no other version for it, and take it away; on `main`, and on a branch."""
    api.create_branch(repo, branch="dev")
    for branch in ("main", "dev"):
        api.upload_file(path_or_fileobj=b"1", path_in_repo="notes/x.txt", repo_id=repo, revision=branch)
        assert api.file_exists(repo, "notes/x.txt", revision=branch)
        assert not api.file_exists(repo, "notes/x.txt", revision="v2")
    api.delete_folder("notes", repo)
    assert not api.file_exists(repo, "notes/x.txt")
    api.delete_branch(repo, branch="dev")
    assert [ref.name for ref in api.list_repo_refs(repo).tags] == ["v2", "v1"]


def tag(api: HfApi, repo: str) -> None:
    """Give a version a name, and take it back."""
    api.create_tag(repo, tag="prod", revision="v1")
    assert api.model_info(repo, revision="prod").sha == api.model_info(repo, revision="v1").sha
    api.delete_tag(repo, tag="prod")


def main(folder: str, repo: str) -> None:
    api = HfApi()
    with tempfile.TemporaryDirectory() as cache:
        publish(api, Path(folder), repo)
        read(api, Path(folder), repo, Path(cache))
        stumble(api, repo, Path(cache))
        lay_beside(api, repo)
        tag(api, repo)
    print(f"huggingface_hub {huggingface_hub.__version__}: all steps")


if __name__ == "__main__":
    main(*sys.argv[1:])
