"""Gated access as huggingface_hub asks for it and gives it."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from tests.builders import make_archive
from tests.hf.conftest import Wire
from vera.manifest import CARD_FILE, WEIGHTS_FILE


@pytest.fixture
def gated(wire: Wire) -> str:
    """An adapter of gil's that is gated, and of which nobody has asked for access."""
    name = f"gated{wire.hub.contents['adapters']}"
    assert wire.hub.push(make_archive(), name, user="gil").status_code == 201
    wire.api("gil").update_repo_settings(f"gil/{name}", gated="manual")
    return f"gil/{name}"


def names(requests: object) -> list[tuple[str | None, str]]:
    return [(each.username, each.status) for each in requests]  # type: ignore[attr-defined]  # theirs


def test_its_files_are_refused_and_what_it_is_is_not(wire: Wire, gated: str, cache: Path) -> None:
    for user in (None, "sam"):
        api = wire.api(user)
        info = api.model_info(gated)
        assert (info.gated, bool(info.siblings)) == ("manual", True)
        with pytest.raises(GatedRepoError, match="vera-hub access ask"):
            api.hf_hub_download(gated, WEIGHTS_FILE, cache_dir=cache)
        with pytest.raises(GatedRepoError):
            api.auth_check(gated)
        api.hf_hub_download(gated, CARD_FILE, cache_dir=cache)
    wire.api("gil").auth_check(gated)
    with pytest.raises(RepositoryNotFoundError):
        wire.api("sam").auth_check("gil/none")


def test_who_asks_is_let_in_and_refused_by_who_owns_it(wire: Wire, gated: str, cache: Path) -> None:
    owner, sam = wire.api("gil"), wire.api("sam")
    asked = wire.hub.client.post(f"/{gated}/ask-access", headers=wire.hub.headers("sam"))
    assert asked.status_code == 200, asked.text
    assert names(owner.list_pending_access_requests(gated)) == [("sam", "pending")]

    owner.accept_access_request(gated, "sam")
    assert names(owner.list_pending_access_requests(gated)) == []
    assert names(owner.list_accepted_access_requests(gated)) == [("sam", "accepted")]
    sam.auth_check(gated)
    sam.hf_hub_download(gated, WEIGHTS_FILE, cache_dir=cache)

    owner.cancel_access_request(gated, "sam")
    owner.reject_access_request(gated, "sam", rejection_reason="No more.")
    assert names(owner.list_rejected_access_requests(gated)) == [("sam", "rejected")]
    with pytest.raises(GatedRepoError):
        sam.auth_check(gated)


def test_who_has_not_asked_is_let_in(wire: Wire, gated: str) -> None:
    wire.hub.token("sue")
    wire.api("gil").grant_access(gated, "sue")
    wire.api("sue").auth_check(gated)


def test_what_makes_no_sense_is_refused(wire: Wire, gated: str) -> None:
    owner = wire.api("gil")
    with pytest.raises(HfHubHTTPError, match="no user"):
        owner.grant_access(gated, "nobody-here")
    wire.hub.token("sam")
    with pytest.raises(HfHubHTTPError, match="has not asked"):
        owner.accept_access_request(gated, "sam")
    with pytest.raises(HfHubHTTPError, match="maintainer"):
        list(wire.api("sam").list_pending_access_requests(gated))
    owner.update_repo_settings(gated, gated=False)
    assert owner.model_info(gated).gated is False
    with pytest.raises(HfHubHTTPError, match="not gated"):
        owner.grant_access(gated, "sam")


def test_an_adapter_is_gated_before_its_first_version(wire: Wire) -> None:
    owner = wire.api("gil")
    owner.create_repo("gil/soon")
    owner.update_repo_settings("gil/soon", gated="auto")
    assert owner.model_info("gil/soon").gated == "auto"
    with pytest.raises(GatedRepoError):
        wire.api("sam").auth_check("gil/soon")
    owner.auth_check("gil/soon")
    assert wire.hub.push(make_archive(seed=5), "soon", user="gil").status_code == 201
    assert owner.model_info("gil/soon").gated == "auto"
    with pytest.raises(GatedRepoError):
        wire.api("sam").auth_check("gil/soon")
