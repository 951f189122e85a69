"""What somebody with huggingface_hub gets of aliases, and of versions that were taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.errors import HfHubHTTPError
from sqlalchemy import update

from hub.db.models.accounts import Account
from tests.builders import make_archive
from tests.hf.conftest import Wire
from vera.manifest import WEIGHTS_FILE

WORSE = {"reason": "It is worse than v1."}


def stock(wire: Wire, name: str) -> str:
    """The address of demo/NAME with two versions."""
    for seed in (31, 32):
        assert wire.hub.push(make_archive(seed=seed), name).status_code == 201
    return f"/adapters/demo/{name}"


def commits_of(wire: Wire, adapter: str) -> list[str]:
    """The commits of its versions, from v1 on."""
    return [version["commit"] for version in wire.hub.get(adapter).json()["versions"]][::-1]


def test_an_alias_is_a_tag_and_a_revision(wire: Wire) -> None:
    adapter = stock(wire, "aliased")
    wire.hub.put(f"{adapter}/aliases/prod", {"version": "v1"}, wire.hub.headers())
    first, second = commits_of(wire, adapter)

    refs = wire.api(None).list_repo_refs("demo/aliased")

    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first, "v2": second, "prod": first}
    assert [ref.name for ref in refs.branches] == ["main"]
    assert wire.api(None).model_info("demo/aliased", revision="prod").sha == first


def test_a_yanked_version_is_not_main_and_is_fetched_by_name_with_a_warning(wire: Wire, cache: Path) -> None:
    adapter = stock(wire, "yanked")
    wire.hub.put(f"{adapter}/versions/v2/yank", WORSE, wire.hub.headers())
    first, _ = commits_of(wire, adapter)

    assert wire.api(None).model_info("demo/yanked").sha == first
    path = f"/demo/yanked/resolve/v2/{WEIGHTS_FILE}"
    assert (
        wire.hub.client.get(path)
        .headers["x-hf-warning"]
        .startswith("yanked demo/yanked@v2; demo/yanked@v2 was yanked (It is")
    )
    assert wire.api(None).hf_hub_download("demo/yanked", WEIGHTS_FILE, revision="v2", cache_dir=cache)
    said = {"message": "Old.", "replacement": "demo/yanked@v2"}
    wire.hub.put(f"{adapter}/versions/v1/deprecation", said, wire.hub.headers())
    warned = wire.hub.client.head(f"/demo/yanked/resolve/main/{WEIGHTS_FILE}").headers["x-hf-warning"]
    assert warned == "deprecated demo/yanked@v1; demo/yanked@v1 is deprecated: Old. Use demo/yanked@v2 instead."


def test_a_version_in_quarantine_is_reached_by_none_of_its_names(wire: Wire) -> None:
    adapter = stock(wire, "withheld")
    admin = wire.hub.headers("ada")
    with wire.hub.database.writing() as session:
        session.execute(update(Account).where(Account.name == "ada").values(is_admin=True))
    _, second = commits_of(wire, adapter)

    assert wire.hub.put(f"{adapter}/versions/v2/quarantine", WORSE, admin).status_code == 200

    for name in ("v2", second, second[:7]):
        with pytest.raises(HfHubHTTPError) as refused:
            wire.api(None).model_info("demo/withheld", revision=name)
        assert refused.value.response.status_code == 403
    assert [ref.name for ref in wire.api(None).list_repo_refs("demo/withheld").tags] == ["v1"]


def test_a_fetch_over_this_wire_is_a_fetch(wire: Wire, cache: Path) -> None:
    adapter = stock(wire, "fetched")
    wire.api("reader").hf_hub_download("demo/fetched", WEIGHTS_FILE, revision="v2", cache_dir=cache)

    refused = wire.hub.delete(f"{adapter}/versions/v2?reason=Wrong.", wire.hub.headers())

    assert refused.json()["code"] == "DELETE_TOO_LATE"
