"""Accounts by their commands, each with its client method, on the real hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fastapi import FastAPI
from sqlalchemy import update
from starlette.testclient import TestClient

from hub.auth.identities import Issuers
from hub.auth.tokens import TokenKind
from hub.db.models.accounts import Account
from hub.db.models.record import AuditEvent
from hub.db.session import Database
from hub.domain import accounts, users
from hub.settings import Settings
from sdk.cli.main import cli
from tests.builders import BASE_NAME, make_archive, make_base
from tests.contract.serving import listening
from tests.hub.harness import Hub, start
from tests.hub.issuer import AUDIENCE, ISSUER, Issuer
from vera import archive as archives


@dataclass
class Town:
    """A hub, and people at their keyboards."""

    url: str
    app: FastAPI
    folder: Path

    @property
    def database(self) -> Database:
        return self.app.state.services.database

    def token(self, user: str, kind: TokenKind = TokenKind.PERSONAL) -> str:
        with self.database.writing() as session:
            return accounts.issue_token(session, accounts.ensure_user(session, user), kind)

    def run(self, user: str | None, *arguments: str, stdin: str | None = None, **environment: str) -> Result:
        """The command as this user types it; without one, as somebody without a token."""
        token = self.token(user) if user else ""
        places = {"VERA_HUB_CONFIG": str(self.folder / "config"), "VERA_HUB_CACHE": str(self.folder / "cache")}
        env = {**places, "VERA_HUB_TOKEN": token, **environment}
        return CliRunner().invoke(cli, ["--url", self.url, *arguments], input=stdin, env=env)

    def must(self, user: str | None, *arguments: str, stdin: str | None = None, **environment: str) -> str:
        """What the command printed, which went well."""
        done = self.run(user, *arguments, stdin=stdin, **environment)
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    app = start(Settings(data_dir=tmp_path / "hub")).app
    with listening(app) as url:
        yield Town(url, app, tmp_path)
    app.state.services.database.close()


def test_an_organisation_from_its_founding_to_its_end(town: Town) -> None:
    town.token("ann")
    assert town.must("olga", "org", "create", "acme").startswith("acme is yours.")
    assert "ann is invited to acme as publisher" in town.must("olga", "org", "invite", "acme", "ann", "publisher")
    assert json.loads(town.must("ann", "org", "invitations", "--json"))[0]["organisation"] == "acme"
    assert town.must("ann", "org", "accept", "acme") == "You are publisher of acme.\n"
    assert town.must("olga", "org", "role", "acme", "ann", "maintainer") == "ann is maintainer of acme.\n"
    members = json.loads(town.must("ann", "org", "members", "acme", "--json"))
    assert {each["user"]: each["role"] for each in members} == {"ann": "maintainer", "olga": "owner"}
    assert "acme" in town.must("ann", "org", "list")

    refused = town.run("olga", "org", "leave", "acme")
    assert (refused.exit_code, refused.stderr.startswith("Error: olga is the last owner of acme")) == (1, True)
    assert town.must("ann", "org", "leave", "acme") == "You are no longer in acme.\n"

    town.must("olga", "org", "invite", "acme", "ann", "reader")
    assert town.must("ann", "org", "decline", "acme").startswith("Declined")
    town.must("olga", "org", "invite", "acme", "ann", "reader")
    town.must("olga", "org", "withdraw", "acme", "ann")
    assert town.must("olga", "org", "delete", "acme", "--yes") == "acme is deleted.\n"


def test_a_list_without_rows_says_so_and_what_would_fill_it(town: Town) -> None:
    def said(*arguments: str) -> str:
        printed = town.must("olga", *arguments)
        assert printed.count("\n") == 1
        return printed

    assert "`vera-hub org create NAME`" in said("org", "list")
    assert "No invitation is open." in said("org", "invitations")
    assert "`vera-hub webhook add`" in said("webhook", "list", "olga")
    assert "`vera-hub publisher add`" in said("publisher", "list", "olga")
    assert "`vera-hub base add PATH_OR_ID`" in said("base", "list", "--hub")
    assert "Nothing is on record yet." in said("audit")
    assert json.loads(said("webhook", "list", "olga", "--json")) == []


def test_a_private_adapter_is_pushed_seen_and_published(town: Town) -> None:
    from sdk.client import Hub
    from sdk.config import Config

    with Hub(Config(town.url, town.folder, town.folder, token=town.token("olga"))) as hub:
        hub.register_base(BASE_NAME, make_base().to_rows())
    folder = town.folder / "secret"
    archives.write_folder(make_archive(), folder)

    town.must("olga", "push", str(folder), "--private")

    assert "olga/secret (private)" in town.must("olga", "list")
    assert "No adapters found" in town.must(None, "list")
    assert "There is no adapter olga/secret here" in town.run(None, "pull", "olga/secret").stderr
    town.must("olga", "pull", "olga/secret", "--to", str(town.folder / "mine"))
    assert town.must("olga", "visibility", "olga/secret", "public") == "olga/secret is public.\n"
    town.must(
        None, "pull", "olga/secret@v1", "--to", str(town.folder / "theirs"), VERA_HUB_CACHE=str(town.folder / "c2")
    )
    town.app.state.services.downloads.flush()
    assert town.must(None, "downloads", "olga/secret").startswith("olga/secret: 2 downloads, 2 in 30 days.")


def test_the_first_admin_makes_a_user_who_signs_in(town: Town) -> None:
    data = town.folder / "hub"
    with town.database.writing() as session:
        code = users.offer_bootstrap(session, accounts.ensure_user(session, "local"))
    assert code is not None
    (data / "bootstrap-token").write_text(code)
    here = {"VERA_HUB_DATA_DIR": str(data), "VERA_HUB_TOKEN": ""}

    assert "as ada, an admin of it" in town.must(None, "login", "--bootstrap", "--user", "ada", **here)
    assert "There is no" in town.run(None, "login", "--bootstrap", **here).stderr
    invitation = town.must(None, "user", "create", "bob").strip()
    assert [each["name"] for each in json.loads(town.must(None, "user", "list", "--json"))] == ["ada", "bob", "local"]
    assert town.must(None, "user", "admin", "bob", "yes") == "bob is an admin.\n"

    bobs = {"VERA_HUB_CONFIG": str(town.folder / "bobs")}
    assert "as bob" in town.must(None, "login", stdin=f"{invitation}\n", **bobs)
    assert town.must(None, "whoami", **bobs).startswith("bob (user, an admin)")
    assert town.run(None, "login", stdin=f"{invitation}\n", **bobs).exit_code == 1

    set_it = town.must(None, "password", stdin="\ncorrect horse battery\ncorrect horse battery\n", **bobs)
    assert set_it == "The password of bob is changed.\n"
    town.must(None, "logout", **bobs)
    assert town.run(None, "whoami", **bobs).exit_code == 1
    assert "as bob" in town.must(None, "login", "--user", "bob", stdin="correct horse battery\n", **bobs)

    again = town.must(None, "user", "code", "bob").strip()
    assert again.startswith("vhb_")
    assert town.must(None, "user", "delete", "bob", "--yes") == "bob is deleted.\n"
    assert town.run(None, "whoami", **bobs).exit_code == 1


def test_whoami_says_that_admins_alone_may_administer(town: Town) -> None:
    def may(user: str) -> list[str]:
        return town.must(user, "whoami").splitlines()[1].removeprefix("May: ").split(", ")

    as_anybody = may("olga")
    with town.database.writing() as session:
        session.execute(update(Account).where(Account.name == "olga").values(is_admin=True))

    assert "admin" not in as_anybody
    assert sorted(may("olga")) == sorted([*as_anybody, "admin"])


def test_a_token_for_a_program_is_printed_once_and_revoked(town: Town) -> None:
    made = town.run("olga", "token", "create", "ci", "--days", "7", "--only", "olga/topics", "--scope", "repo:push")
    token = made.stdout.strip()
    assert (made.exit_code, token.startswith("vhp_")) == (0, True)
    assert token not in made.stderr

    said = town.must(None, "whoami", VERA_HUB_TOKEN=token)
    assert said.splitlines()[1:] == ["May: repo:push, repo:read", "Only in: olga/topics"]
    (listed,) = [each for each in json.loads(town.must("olga", "token", "list", "--json")) if each["name"] == "ci"]
    assert "ci" in town.must("olga", "token", "list")
    town.must("olga", "token", "revoke", listed["id"])
    assert town.run(None, "whoami", VERA_HUB_TOKEN=token).exit_code == 1


def test_a_token_for_an_adapter_that_is_not_there_is_made_with_a_warning(town: Town) -> None:
    made = town.run("olga", "token", "create", "ci", "--only", "olga", "--only", "olga/later")

    assert (made.exit_code, made.stdout.startswith("vhp_")) == (0, True)
    (warning,) = [line for line in made.stderr.splitlines() if line.startswith("Warning: ")]
    assert warning.startswith("Warning: There is no adapter olga/later here")


def test_a_publisher_is_added_with_a_warning_where_the_hub_lets_no_workflow_in(town: Town) -> None:
    named = ("--workflow", "train.yml", "--repository-id", "123", "--owner-id", "45")

    added = town.run("olga", "publisher", "add", "olga/topics", "octo/lab", *named)

    assert (added.exit_code, added.stdout) == (0, "train.yml of octo/lab may push to olga/topics.\n")
    assert added.stderr.startswith("Warning: This hub has no address that a CI system could name")
    assert "VERA_HUB_PUBLIC_URL" in added.stderr


def test_a_ci_job_pushes_without_a_secret(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = Issuer()
    parts = town.app.state.services
    settings = parts.settings.model_copy(update={"public_url": AUDIENCE, "allowed_hosts": ("127.0.0.1",)})
    town.app.state.services = replace(parts, settings=settings, issuers=Issuers({ISSUER: "github"}, fetch=issuer.fetch))
    named = ("--workflow", "train.yml", "--repository-id", "123", "--owner-id", "45", "--issuer", ISSUER)
    assert "may push to olga/topics" in town.must("olga", "publisher", "add", "olga/topics", "octo/lab", *named)
    assert "octo/lab" in town.must("olga", "publisher", "list", "olga")
    assert f"A job asks for the audience {AUDIENCE}." in town.must("olga", "publisher", "issuers")

    job = {"VERA_HUB_ID_TOKEN": issuer.identity()}
    assert "This job may push to olga/topics" in town.must(None, "login", **job)
    assert "Only in: olga/topics" in town.must(None, "whoami")
    reused = town.run(None, "login", "--oidc", **job)
    assert (reused.exit_code, "used already" in reused.stderr) == (1, True)
    assert "This is no CI job" in town.run(None, "login", "--oidc").stderr

    (made,) = json.loads(town.must("olga", "publisher", "list", "olga", "--json"))
    town.must("olga", "publisher", "remove", "olga", made["id"])
    refused = town.run(None, "login", VERA_HUB_ID_TOKEN=issuer.identity())
    assert "Nothing here trusts train.yml of octo/lab" in refused.stderr


def test_an_organisation_gets_a_token_for_its_programs(town: Town) -> None:
    town.must("olga", "org", "create", "acme")
    token = town.must("olga", "token", "create", "ci", "--org", "acme").strip()

    assert town.must(None, "whoami", VERA_HUB_TOKEN=token).startswith("acme (organisation)")
    assert "service" in town.must("olga", "token", "list", "--org", "acme")


def test_owners_read_the_record_and_prove_it(town: Town) -> None:
    town.must("olga", "org", "create", "acme")
    assert "You are owner." in town.must("olga", "org", "show", "acme")
    shown = json.loads(town.must("olga", "audit", "acme", "--json"))
    assert [(each["actor"], each["action"]) for each in shown] == [("olga", "organisation.created")]

    assert (
        "1 event, each following" in town.run("olga", "audit", "acme", "--verify", "--known", shown[0]["hash"]).stderr
    )
    assert "was rewritten" in town.run("olga", "audit", "acme", "--verify", "--known", "0123").stderr
    with town.database.writing() as session:
        session.execute(update(AuditEvent).values(actor="eve"))
    refused = town.run("olga", "audit", "acme", "--verify")
    assert refused.exit_code == 1
    assert "event 1 is not what its hash" in refused.stderr
    assert "ask one" in town.run("sam", "audit", "--hub").stderr


def test_a_webhook_is_added_watched_and_removed(town: Town) -> None:
    town.must("olga", "org", "create", "acme")
    refused = town.run("olga", "webhook", "add", "acme", "https://192.168.0.1/hook")
    assert (refused.exit_code, "not a public address" in refused.stderr) == (1, True)

    secret = town.must("olga", "webhook", "add", "acme", "https://93.184.215.14/hook", "--on", "webhook.added")
    assert secret.startswith("whsec_")

    assert "https://93.184.215.14/hook" in town.must("olga", "webhook", "list", "acme")
    (sent,) = json.loads(town.must("olga", "webhook", "deliveries", "acme", "1", "--json"))
    assert (sent["action"], sent["state"]) == ("webhook.added", "waiting")
    assert town.must("olga", "webhook", "secret", "acme", "1").strip() != secret.strip()
    assert sent["message_id"] in town.must("olga", "webhook", "replay", "acme", "1", sent["id"])
    assert "is no more" in town.must("olga", "webhook", "rm", "acme", "1")
    assert json.loads(town.must("olga", "webhook", "list", "acme", "--json")) == []


def test_a_moved_adapter_is_found_by_its_old_name(town: Town) -> None:
    hub = Hub(town.app, TestClient(town.app, base_url="http://127.0.0.1"))
    hub.register_base()
    archive = make_archive()
    assert hub.push(archive, "topics", user="ann").status_code == 201
    archives.write_folder(archive, town.folder / "next")

    assert "ann/topics is ann/news now" in town.must("ann", "move", "ann/topics", "ann/news")

    told = town.run(None, "info", "ann/topics")
    assert (told.exit_code, told.stderr.count("ann/topics is ann/news now")) == (0, 1)
    town.must(None, "pull", "ann/topics@v1", "--to", str(town.folder / "out"))
    assert {path.name for path in (town.folder / "out").iterdir()} == set(archive.files)
    refused = town.run("ann", "push", str(town.folder / "next"), "--name", "ann/topics")
    assert refused.exit_code == 1
    aliased = town.run("ann", "alias", "set", "ann/topics@v1", "prod")
    assert (aliased.exit_code, "ann/topics is ann/news now" in aliased.stderr) == (1, True)


def test_a_gated_adapter_is_asked_for_and_given(town: Town) -> None:
    hub = Hub(town.app, TestClient(town.app, base_url="http://127.0.0.1"))
    hub.register_base()
    assert hub.push(make_archive(), "topics", user="ann").status_code == 201
    town.token("bob")

    assert town.must("ann", "access", "gate", "ann/topics", "manual") == "ann/topics is gated (manual).\n"
    refused = town.run("bob", "pull", "ann/topics", "--to", str(town.folder / "out"))
    assert refused.exit_code == 1
    assert f"The page: {town.url}/ann/topics" in refused.stderr
    assert "You have not asked" in town.must("bob", "access", "status", "ann/topics")
    assert "bob waits" in town.must("bob", "access", "ask", "ann/topics", "--message", "for a course")
    assert "for a course" in town.must("ann", "access", "list", "ann/topics", "--state", "pending")
    assert town.must("ann", "access", "accept", "ann/topics", "bob") == "bob gets the files of ann/topics.\n"
    assert town.must("bob", "access", "status", "ann/topics") == "You get the files of ann/topics.\n"
    town.must("bob", "pull", "ann/topics", "--to", str(town.folder / "out"))
    assert "does not get" in town.must("ann", "access", "reject", "ann/topics", "bob", "--reason", "over")
    assert "rejected: over" in town.must("bob", "access", "status", "ann/topics")
    assert town.must("ann", "access", "gate", "ann/topics", "no") == "ann/topics is not gated.\n"
