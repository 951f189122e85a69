"""Export and import: nobody is locked in, and nothing is let in that a push would refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from hub.care.exporting import export
from hub.care.importing import bring_in
from hub.cli.admin import admin
from hub.errors import Conflict, Invalid, NotFound
from hub.settings import Settings
from tests.builders import make_archive
from tests.hub.harness import Hub, start
from vera import archive
from vera.errors import VeraError


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Hub]:
    hub = start(Settings(data_dir=tmp_path / "other"))
    yield hub
    hub.database.close()


@pytest.fixture
def filled(hub: Hub) -> Hub:
    """acme/topics with three versions, the second yanked and the first called prod; acme/secret; demo/tiny."""
    hub.register_base()
    hub.found("acme", max="maintainer")
    olga = hub.headers("olga")
    for seed in (1, 2, 3):
        pushed = hub.push(make_archive(seed=seed), "topics", user="acme", headers=olga, message=f"number {seed}")
        assert pushed.status_code == 201
    hub.push(make_archive(seed=4), "secret", user="acme", headers=hub.headers("max"), visibility="private")
    hub.push(make_archive(seed=5))
    path = "/api/v1/adapters/acme/topics"
    assert hub.client.put(f"{path}/versions/v2/yank", json={"reason": "bad"}, headers=olga).status_code == 200
    assert hub.client.put(f"{path}/aliases/prod", json={"version": "v1"}, headers=olga).status_code in (200, 201)
    return hub


def parts(hub: Hub) -> tuple:  # type: ignore[type-arg]
    services = hub.app.state.services
    return services.database, services.objects


def seen(hub: Hub) -> dict[str, object]:
    """All that an owner sees of the versions, but for what a hub computes itself."""
    olga, found = hub.headers("olga"), {}
    for adapter in ("acme/topics", "acme/secret"):
        shown = hub.get(f"/adapters/{adapter}", headers=olga).json()
        kept = ("ref", "digest", "commit", "message", "created_at", "created_by", "yanked", "prerelease")
        found[adapter] = (
            shown["visibility"],
            shown["latest"],
            [{name: each[name] for name in kept} for each in shown["versions"]],
            [(each["name"], each["version"]) for each in shown["aliases"]],
        )
    return found


def test_an_organisation_moves_to_another_hub_with_all_that_its_versions_say(
    filled: Hub, other: Hub, tmp_path: Path
) -> None:
    assert export(*parts(filled), tmp_path / "out", namespace="acme") == 4

    assert bring_in(*parts(other), tmp_path / "out") == 4
    assert bring_in(*parts(other), tmp_path / "out") == 0

    assert seen(other) == seen(filled)
    assert other.get("/adapters/demo/tiny").status_code == 404
    roles = other.get("/orgs/acme/members", headers=other.headers("olga")).json()["items"]
    assert {each["user"]: each["role"] for each in roles} == {"max": "maintainer", "olga": "owner"}
    recorded = other.get("/namespaces/acme/audit", headers=other.headers("olga")).json()["items"]
    assert {each["actor"] for each in recorded} == {"admin import"}
    assert other.push(make_archive(seed=9), "topics", user="acme", headers=other.headers("olga")).json()["version"] == 4


def test_what_a_version_was_made_from_is_so_elsewhere_whichever_is_brought_first(
    hub: Hub, other: Hub, tmp_path: Path
) -> None:
    hub.register_base()
    hub.push(make_archive(seed=1))
    hub.push(make_archive(seed=2), "a-fork", parent="demo/tiny@v1")
    hub.push(make_archive(seed=3), parent="demo/a-fork@v1")
    hub.push(make_archive(seed=4))
    export(*parts(hub), tmp_path / "out")

    assert bring_in(*parts(other), tmp_path / "out") == 4

    for ref in ("tiny/versions/v1", "tiny/versions/v2", "tiny/versions/v3", "a-fork/versions/v1"):
        address = f"/adapters/demo/{ref}"
        assert other.get(address).json()["parent"] == hub.get(address).json()["parent"]
    assert other.get("/adapters/demo/tiny/versions/v2").json()["parent"] == "demo/a-fork@v1"


def test_a_private_adapter_of_somebody_else_is_not_named_in_an_export(hub: Hub, tmp_path: Path) -> None:
    hub.register_base()
    hub.found("acme")
    olga = hub.headers("olga")
    hub.push(make_archive(seed=1), "secret", user="acme", headers=olga, visibility="private")
    hub.push(make_archive(seed=2), "fork", user="olga", headers=olga, parent="acme/secret@v1")

    export(*parts(hub), tmp_path / "out", namespace="olga")

    assert "secret" not in (tmp_path / "out/adapters/olga/fork/adapter.json").read_text()


def test_the_number_of_a_deleted_version_is_not_given_again_elsewhere(hub: Hub, other: Hub, tmp_path: Path) -> None:
    hub.register_base()
    for seed in (1, 2, 3):
        hub.push(make_archive(seed=seed))
    assert hub.delete("/adapters/demo/tiny/versions/v3?reason=bad", hub.headers()).status_code == 204
    export(*parts(hub), tmp_path / "out")

    for brought in (2, 0):
        assert bring_in(*parts(other), tmp_path / "out") == brought

    assert other.push(make_archive(seed=4)).json()["ref"] == "demo/tiny@v4"


def test_what_is_gated_stays_so_and_who_was_let_in_stays_in(hub: Hub, other: Hub, tmp_path: Path) -> None:
    hub.register_base()
    hub.push(make_archive(seed=1))
    hub.client.patch("/api/v1/adapters/demo/tiny", json={"gated": "manual"}, headers=hub.headers())
    for user, state in (("sam", "accepted"), ("eve", "rejected")):
        hub.post("/adapters/demo/tiny/access", {"message": "please"}, hub.headers(user))
        hub.put(f"/adapters/demo/tiny/access-requests/{user}", {"state": state}, hub.headers())
    asked = hub.get("/adapters/demo/tiny/access-requests", headers=hub.headers()).json()["items"]
    export(*parts(hub), tmp_path / "out")

    bring_in(*parts(other), tmp_path / "out")
    bring_in(*parts(other), tmp_path / "out")

    assert other.get("/adapters/demo/tiny").json()["gated"] == "manual"
    assert other.get("/adapters/demo/tiny/access-requests", headers=other.headers()).json()["items"] == asked
    weights = "/demo/tiny/resolve/v1/adapter_model.safetensors"
    given = [other.client.get(weights, headers=other.headers(user)).status_code for user in ("sam", "eve")]
    assert given == [200, 403]


def test_gated_files_are_never_brought_to_where_everybody_gets_them(hub: Hub, other: Hub, tmp_path: Path) -> None:
    for each in (hub, other):
        each.register_base()
        each.push(make_archive(seed=1))
    hub.push(make_archive(seed=2))
    hub.client.patch("/api/v1/adapters/demo/tiny", json={"gated": "auto"}, headers=hub.headers())
    export(*parts(hub), tmp_path / "out")
    told = tmp_path / "out/adapters/demo/tiny/adapter.json"

    with pytest.raises(Conflict, match="gated in the export and open here"):
        bring_in(*parts(other), tmp_path / "out")
    told.write_text(json.dumps({name: each for name, each in json.loads(told.read_text()).items() if name != "gate"}))
    with pytest.raises(Invalid, match="does not say whether the adapter is gated"):
        bring_in(*parts(other), tmp_path / "out")
    (tmp_path / "out/export.json").write_text('{"format": 1, "namespaces": []}')
    with pytest.raises(Invalid, match="an export of format 1"):
        bring_in(*parts(other), tmp_path / "out")

    assert len(other.get("/adapters/demo/tiny").json()["versions"]) == 1


def test_an_exported_version_is_an_adapter_folder(filled: Hub, tmp_path: Path) -> None:
    export(*parts(filled), tmp_path / "out")

    read = archive.read_folder(tmp_path / "out/adapters/demo/tiny/v1")

    assert read.manifest.digest == filled.get("/adapters/demo/tiny/versions/v1").json()["digest"]


def test_what_was_changed_in_an_export_is_not_brought_in(filled: Hub, other: Hub, tmp_path: Path) -> None:
    export(*parts(filled), tmp_path / "out")
    weights = tmp_path / "out/adapters/demo/tiny/v1/adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)

    with pytest.raises(VeraError):
        bring_in(*parts(other), tmp_path / "out")

    assert other.get("/adapters/demo/tiny").status_code == 404


def test_another_version_of_the_same_number_is_refused(filled: Hub, other: Hub, tmp_path: Path) -> None:
    export(*parts(filled), tmp_path / "out", namespace="demo")
    other.register_base()
    other.push(make_archive(seed=77))

    with pytest.raises(Conflict, match="another one"):
        bring_in(*parts(other), tmp_path / "out")


def test_what_is_no_export_and_no_namespace_is_said(filled: Hub, other: Hub, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is its folder an export"):
        bring_in(*parts(other), tmp_path)
    with pytest.raises(NotFound, match="no namespace nobody"):
        export(*parts(filled), tmp_path / "out", namespace="nobody")
    assert not (tmp_path / "out").exists()
    with pytest.raises(Conflict, match="name a new folder"):
        export(*parts(filled), tmp_path)


def test_an_operator_does_it_with_two_commands(sqlite_hub: Hub, other: Hub, tmp_path: Path) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive())
    here, there = (hub.app.state.services.settings.data_dir for hub in (sqlite_hub, other))

    done = CliRunner().invoke(admin, ["export", str(tmp_path / "out"), "--data", str(here)])
    assert (done.exit_code, "holds 1 version." in done.output) == (0, True), done.output
    assert json.loads((tmp_path / "out/export.json").read_bytes())["namespaces"][0]["name"] == "demo"
    done = CliRunner().invoke(admin, ["import", str(tmp_path / "out"), "--data", str(there)])
    assert done.output == "1 version is new here.\n"
