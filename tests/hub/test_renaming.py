"""`admin rename-base`: what a base is called, and nothing that it is known by."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from hub.care import renaming
from hub.cli.admin import admin
from hub.db.models.record import AuditEvent
from tests.builders import make_archive
from tests.hub.harness import Hub

NAME = "meta-llama/Llama-2-7b"


def run(hub: Hub, *arguments: str) -> Result:
    settings = hub.app.state.services.settings
    environment = {"VERA_HUB_DATABASE_URL": settings.resolved_database_url}
    return CliRunner().invoke(admin, ["rename-base", *arguments, "--data", str(settings.data_dir)], env=environment)


@pytest.fixture
def pushed(hub: Hub) -> Hub:
    hub.register_base()
    for seed in range(3):
        assert hub.push(make_archive(seed=seed), f"adapter-{seed}").status_code == 201
    return hub


def found(hub: Hub, **wanted: str) -> list[str]:
    return [each["id"] for each in hub.client.get("/api/v1/adapters", params=wanted).json()["items"]]


def test_a_base_and_its_adapters_are_found_by_its_new_name(pushed: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renaming, "_AT_ONCE", 2)
    (before,) = pushed.get("/bases").json()["items"]
    everything = found(pushed)
    manifest = pushed.get("/adapters/demo/adapter-0/versions/v1").json()["digest"]

    for _ in range(2):  # the second time changes nothing
        done = run(pushed, before["fingerprint"], NAME)
        assert (done.exit_code, "3 adapters listed anew" in done.output) == (0, True), done.output

    assert pushed.get("/bases").json()["items"] == [{**before, "name": NAME}]
    for wanted in ({"base": NAME}, {"family": "llama"}, {"search": "llama"}):
        assert found(pushed, **wanted) == everything, wanted
    assert found(pushed, base=before["name"]) == []
    assert pushed.get("/adapters/demo/adapter-0/versions/v1").json()["digest"] == manifest
    with pushed.database.reading() as session:
        (event,) = session.scalars(select(AuditEvent).where(AuditEvent.action == "base.renamed"))
        assert (event.actor, event.subject, event.facts["before"]) == ("admin", NAME, before["name"])


@pytest.mark.parametrize(("fingerprint", "name"), [("vbf1:00", NAME), (None, ""), (None, "a\nb")])
def test_what_is_no_base_or_no_name_changes_nothing(pushed: Hub, fingerprint: str | None, name: str) -> None:
    (before,) = pushed.get("/bases").json()["items"]

    assert run(pushed, fingerprint or before["fingerprint"], name).exit_code == 1

    assert pushed.get("/bases").json()["items"] == [before]
