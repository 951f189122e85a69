"""huggingface_hub moves adapters, and finds them by the names they had and in whatever letters."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from tests.builders import make_archive
from tests.hf.conftest import Wire
from vera.manifest import CARD_FILE, WEIGHTS_FILE

# Of cards that say nothing to machines.
pytestmark = pytest.mark.filterwarnings("ignore:Warnings while validating metadata")


def test_a_moved_adapter_is_read_and_written_by_its_old_name(wire: Wire, cache: Path) -> None:
    archive = make_archive(seed=60)
    assert wire.hub.push(archive, "before", user="mo").status_code == 201
    api = wire.api("mo")

    api.move_repo("mo/before", "mo/after")

    assert api.model_info("mo/before").id == "mo/after"
    assert (api.repo_exists("mo/before"), api.file_exists("mo/before", CARD_FILE)) == (True, True)
    file = api.hf_hub_download("mo/before", WEIGHTS_FILE, cache_dir=cache)
    assert Path(file).read_bytes() == archive.files[WEIGHTS_FILE]
    assert Path(api.snapshot_download("mo/before", cache_dir=cache / "all")).name == api.model_info("mo/after").sha
    assert len(api.list_repo_files("mo/before")) == 4
    assert [each.path for each in api.get_paths_info("mo/before", [CARD_FILE])] == [CARD_FILE]
    api.upload_file(path_or_fileobj=b"# Better\n", path_in_repo=CARD_FILE, repo_id="mo/before")
    assert wire.hub.get("/adapters/mo/after").json()["latest"] == 2
    with pytest.raises(HfHubHTTPError, match="leads to it"):
        api.create_repo("mo/before")


def test_an_empty_adapter_moves_too(wire: Wire) -> None:
    api = wire.api("mo")
    api.create_repo("mo/empty")
    api.move_repo("mo/empty", "mo/still-empty")
    assert api.model_info("mo/still-empty").id == "mo/still-empty"
    assert api.model_info("mo/empty").id == "mo/still-empty"
    api.delete_repo("mo/still-empty")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("mo/empty")
    api.create_repo("mo/empty")  # the name is free again


def test_what_cannot_be_moved_stays(wire: Wire) -> None:
    for name in ("stays", "there"):
        wire.hub.push(make_archive(seed=61), name, user="mo")
    api = wire.api("mo")
    with pytest.raises(HfHubHTTPError, match="called mo/there already exists"):
        api.move_repo("mo/stays", "mo/there")
    with pytest.raises(HfHubHTTPError, match="nobody there"):
        api.move_repo("mo/stays", "somebody/stays")
    with pytest.raises(RepositoryNotFoundError):
        api.move_repo("mo/none", "mo/other")
    with pytest.raises(HfHubHTTPError, match="not kept here"):
        api.move_repo("mo/stays", "mo/data", repo_type="dataset")
    assert api.model_info("mo/stays").id == "mo/stays"


def test_names_are_found_in_whatever_letters_and_made_in_small_ones(wire: Wire, cache: Path) -> None:
    wire.hub.push(make_archive(seed=62), "small", user="mo")
    api = wire.api("mo")
    assert api.model_info("Mo/SMALL").id == "mo/small"
    api.hf_hub_download("Mo/Small", CARD_FILE, cache_dir=cache)
    api.upload_file(path_or_fileobj=b"# Small\n", path_in_repo=CARD_FILE, repo_id="mo/Small")
    assert wire.hub.get("/adapters/mo/small").json()["latest"] == 2
    assert api.create_repo("mo/Small", exist_ok=True).repo_id == "mo/small"
    assert api.create_repo("mo/Vacant").repo_id == "mo/vacant"
    assert api.model_info("Mo/Vacant").id == "mo/vacant"
