"""A hub that gives out another hub's adapters: two real servers, and a wire between them that counts and damages."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner

from hub.cli.admin import admin
from hub.settings import DATABASE_FILE, Settings
from sdk.client import Hub
from sdk.config import Config
from sdk.fetching import fetch
from tests.builders import BASE_NAME, make_archive, make_base, make_stored
from tests.hub.processes import Server, serving
from vera.archive import Archive
from vera.projection import bytes_of_pair
from vera.ref import AdapterRef


class Wire(ThreadingHTTPServer):
    """What lies between two hubs. `asked` are the addresses that went over it; bodies at `damaged` arrive changed, all
    bodies have the second text of `lie` for the first, and who asks for what `instead` begins with gets its end."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.upstream = upstream
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.damaged: str | None = None
        self.lie: tuple[str, str] | None = None
        self.instead: tuple[str, str] | None = None
        self.redirect: str | None = None
        self.moved_to: str | None = None
        # While it is clear nothing is answered; each request that waits has let `waiting` be taken once more.
        self.answers = threading.Event()
        self.answers.set()
        self.waiting = threading.Semaphore(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Passing(BaseHTTPRequestHandler):
    server: Wire

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.tokens.add(self.headers.get("authorization"))
        if not self.server.answers.is_set():
            self.server.waiting.release()
            self.server.answers.wait(60)
        if self.server.moved_to is not None:
            return self._say_moved(self.server.moved_to)
        sent = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        path = self.path.replace(*self.server.instead) if self.server.instead else self.path
        try:
            answer = httpx2.get(self.server.upstream + path, headers=sent)
        except httpx2.ConnectError:
            return self.send_error(502)
        body, status = answer.content, answer.status_code
        if self.server.lie is not None:
            false, true = (each.encode() for each in self.server.lie)
            body = body.replace(false, true)
        if self.server.damaged is not None and re.search(self.server.damaged, self.path):
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(status if self.server.redirect is None else 302)
        if self.server.redirect is not None:
            self.send_header("Location", self.server.redirect)
        self.send_header("ETag", answer.headers.get("etag", ""))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _say_moved(self, new: str) -> None:
        body = json.dumps({"code": "ADAPTER_MOVED", "facts": {"new": new}}).encode()
        self.send_response(307)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def wired(upstream: str) -> Iterator[Wire]:
    wire = Wire(upstream)
    thread = threading.Thread(target=wire.serve_forever, daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        wire.shutdown()
        wire.server_close()
        thread.join()


@dataclass
class Two:
    """An upstream and its mirror. `their` and `our` send what its user may send there and here."""

    upstream: Server
    mirror: Server
    wire: Wire
    their: httpx2.Client
    our: httpx2.Client
    anybody: httpx2.Client

    def push(self, files: Archive, name: str = "tiny", **said: str) -> dict[str, Any]:
        """A version in the organisation acme of the upstream."""
        parts = [(path, (path, data)) for path, data in files.files.items()]
        answer = self.their.post(f"/api/v1/adapters/acme/{name}/versions", files=parts, data=said)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def get(self, path: str, **options: Any) -> httpx2.Response:
        """From the mirror, as anybody."""
        return self.anybody.get(path, **options)

    def version(self, selector: str, name: str = "tiny") -> httpx2.Response:
        return self.get(f"/api/v1/adapters/acme/{name}/versions/{selector}")


@contextmanager
def two_hubs(
    folder: Path, migrated: Path, *, fresh_s: float = 0, with_token: bool = False, database_url: str | None = None
) -> Iterator[Two]:
    """Two hubs that run, of which the second mirrors the first over a wire, on PostgreSQL where there is a URL of a migrated database."""
    with ExitStack() as stack:
        for each in ("upstream", "mirror"):
            (folder / each / "data").mkdir(parents=True, mode=0o700)
            shutil.copy(migrated, folder / each / "data" / DATABASE_FILE)
        upstream = stack.enter_context(serving(folder / "upstream"))
        wire = stack.enter_context(wired(upstream.url))
        environment = {"VERA_HUB_UPSTREAM": wire.url, "VERA_HUB_UPSTREAM_FRESH_S": str(fresh_s)}
        if database_url is not None:
            environment["VERA_HUB_DATABASE_URL"] = database_url
        their_token = upstream.login()["token"]
        if with_token:
            (folder / "token").write_text(their_token + "\n")
            environment["VERA_HUB_UPSTREAM_TOKEN_FILE"] = str(folder / "token")
        mirror = stack.enter_context(serving(folder / "mirror", environment=environment))

        def client(url: str, token: str | None) -> httpx2.Client:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return stack.enter_context(httpx2.Client(base_url=url, headers=headers, timeout=30))

        two = Two(
            upstream,
            mirror,
            wire,
            client(upstream.url, their_token),
            client(mirror.url, mirror.login()["token"]),
            client(mirror.url, None),
        )
        base = {"name": BASE_NAME, "revision": None, "tensors": make_base().to_rows()}
        with closing(sqlite3.connect(upstream.data / DATABASE_FILE)) as theirs:
            theirs.execute("UPDATE accounts SET is_admin = 1")
            theirs.commit()
        assert two.their.post("/api/v1/bases", json=base).status_code == 201
        assert two.their.post("/api/v1/orgs", json={"name": "acme"}).status_code == 201
        yield two


@pytest.fixture
def two(tmp_path: Path, migrated_file: Path) -> Iterator[Two]:
    with two_hubs(tmp_path, migrated_file) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgres"])
def on_both(request: pytest.FixtureRequest, tmp_path: Path, migrated_file: Path) -> Iterator[Two]:
    """`two`, and again with the mirror on PostgreSQL."""
    url = None
    if request.param == "postgres":
        url = request.getfixturevalue("postgres")(request.getfixturevalue("postgres_template"))
    with two_hubs(tmp_path, migrated_file, database_url=url) as found:
        yield found


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_version_of_another_hub_is_given_as_it_is_there_and_stays_when_that_hub_dies(on_both: Two) -> None:
    two = on_both
    archive = make_archive(seed=1)
    pushed = two.push(archive, message="the first")
    found = two.version("v1")
    assert found.status_code == 200, found.text
    same = ("digest", "commit", "version", "id", "message", "created_at", "files", "manifest")
    assert {each: found.json()[each] for each in same} == {each: pushed[each] for each in same}
    assert found.headers["vera-mirrored-from"] == two.wire.url
    assert "vera-mirror-stale" not in found.headers

    two.upstream.stop()
    two.wire.asked.clear()
    for selector in ("v1", "latest", pushed["commit"], pushed["digest"]):
        again = two.version(selector)
        assert (again.status_code, again.json()["digest"]) == (200, pushed["digest"])
        assert again.headers["vera-mirror-stale"]
    for file in pushed["files"]:
        data = two.get(f"/api/v1/adapters/acme/tiny/blobs/{file['sha256']}").content
        assert data == archive.files[file["path"]]
    table = two.get(f"/api/v1/bases/{pushed['manifest']['base']['fingerprint']}").json()
    assert [tuple(row) for row in table["tensors"]] == [tuple(row) for row in make_base().to_rows()]
    page = two.get("/acme/tiny").text
    assert two.wire.url in page
    assert "does not answer now" in page
    assert two.get("/api/v1/adapters/acme/tiny").json()["mirrored_from"] == two.wire.url


def test_what_was_never_fetched_cannot_be_given_while_the_other_hub_is_down(two: Two) -> None:
    two.push(make_archive(seed=1))
    two.push(make_archive(seed=2))
    assert two.version("latest").json()["version"] == 2
    two.upstream.stop()
    assert refusal(two.version("v1")) == (503, "UPSTREAM_SILENT")
    assert refusal(two.version("v1", "other")) == (503, "UPSTREAM_SILENT")
    assert two.version("v2").status_code == 200


def test_what_moves_there_moves_here(on_both: Two) -> None:
    two = on_both
    for seed in (1, 2):
        two.push(make_archive(seed=seed))
    address = "/api/v1/adapters/acme/tiny/aliases/prod"
    assert two.their.put(address, json={"version": "v1"}).status_code in (200, 201)
    assert two.version("prod").json()["version"] == 1
    assert two.their.put(address, json={"version": "v2"}).status_code == 200
    assert two.version("prod").json()["version"] == 2
    two.push(make_archive(seed=3))
    assert two.version("latest").json()["version"] == 3
    assert two.their.delete(address).status_code == 204
    assert two.version("prod").status_code == 404


def test_what_is_taken_back_there_is_taken_back_here(on_both: Two) -> None:
    two = on_both
    for seed in (1, 2, 3):
        two.push(make_archive(seed=seed))
        assert two.version("latest").json()["version"] == seed
    versions = "/api/v1/adapters/acme/tiny/versions"
    assert two.their.put(f"{versions}/v3/yank", json={"reason": "wrong data"}).status_code == 200
    assert two.version("latest").json()["version"] == 2
    assert two.version("v3").json()["yanked"] == "wrong data"
    assert two.their.put(f"{versions}/v2/quarantine", json={"reason": "looked at"}).status_code == 200
    assert refusal(two.version("v2")) == (403, "VERSION_QUARANTINED")
    assert two.their.delete(f"{versions}/v2/quarantine").status_code == 200
    assert two.version("v2").status_code == 200
    assert two.their.delete(f"{versions}/v1", params={"reason": "by law"}).status_code == 204
    gone = two.version("v1")
    assert refusal(gone) == (410, "VERSION_DELETED")
    two.upstream.stop()
    assert refusal(two.version("v1")) == (410, "VERSION_DELETED")


def test_an_adapter_that_nobody_may_see_there_any_more_is_not_given_here(two: Two) -> None:
    two.push(make_archive(seed=1))
    assert two.version("v1").status_code == 200
    assert two.their.patch("/api/v1/adapters/acme/tiny", json={"visibility": "private"}).status_code == 200
    assert refusal(two.version("v1")) == (403, "VERSION_QUARANTINED")
    assert two.their.patch("/api/v1/adapters/acme/tiny", json={"visibility": "public"}).status_code == 200
    assert two.version("v1").status_code == 200


@pytest.mark.parametrize("damaged", ["/blobs/", "/bases/", "/projections/"])
def test_bytes_that_are_not_what_they_should_be_are_refused_and_not_kept(two: Two, damaged: str) -> None:
    archive = make_stored() if damaged == "/projections/" else make_archive(seed=1)
    if damaged == "/projections/":
        send_pair(two, archive)
    two.push(archive)
    two.wire.damaged = damaged
    assert refusal(two.version("v1")) == (503, "UPSTREAM_MISMATCH")
    two.wire.damaged = None
    assert two.version("v1").status_code == 200


@pytest.mark.parametrize("instead", [("versions/v1", "versions/v2"), ("/acme/tiny", "/acme/other")])
def test_what_was_not_asked_for_is_refused_and_not_kept(two: Two, instead: tuple[str, str]) -> None:
    for name, seed in (("tiny", 1), ("tiny", 2), ("other", 3)):
        two.push(make_archive(seed=seed), name)
    two.wire.instead = instead
    assert refusal(two.version("v1")) == (503, "UPSTREAM_MISMATCH")
    two.wire.instead = None
    assert two.version("v1").status_code == 200


def test_a_version_whose_manifest_is_not_what_the_other_hub_says_is_refused(two: Two) -> None:
    digest = two.push(make_archive(seed=1))["digest"]
    two.wire.lie = digest, f"sha256:{'0' * 64}"
    assert refusal(two.version("v1")) == (503, "UPSTREAM_MISMATCH")
    two.wire.lie = None
    assert two.version("v1").json()["digest"] == digest


def test_what_our_own_admin_withholds_stays_so_whatever_the_other_hub_says(two: Two) -> None:
    two.push(make_archive(seed=1))
    assert two.version("v1").status_code == 200
    with closing(sqlite3.connect(two.mirror.data / DATABASE_FILE)) as ours:
        ours.execute("UPDATE accounts SET is_admin = 1")
        ours.commit()
    address = "/api/v1/adapters/acme/tiny/versions/v1/quarantine"
    assert two.our.put(address, json={"reason": "looked at here"}).status_code == 200
    two.push(make_archive(seed=2))
    assert two.version("latest").json()["version"] == 2
    assert refusal(two.version("v1")) == (403, "VERSION_QUARANTINED")


def test_a_version_with_a_stored_pair_comes_with_it(on_both: Two) -> None:
    two = on_both
    archive = make_stored()
    digest, data = send_pair(two, archive)
    two.push(archive)
    assert two.version("v1").json()["stored_projection"]["digest"] == digest
    two.upstream.stop()
    assert two.get(f"/api/v1/projections/{digest}").content == data


def test_a_pair_that_is_here_is_not_fetched_again(two: Two) -> None:
    archives = [make_stored(seed=seed) for seed in (1, 2)]
    digest, data = send_pair(two, archives[0])
    assert archives[1].manifest.projection_digest == digest
    for each in archives:
        two.push(each)
    assert [two.version(each).status_code for each in ("v1", "v2")] == [200, 200]
    assert two.wire.asked.count(f"/api/v1/projections/{digest}") == 1
    assert two.get(f"/api/v1/projections/{digest}").content == data


def test_a_pair_that_somebody_else_has_sent_here_is_not_given_for_one_that_does_not_come(two: Two) -> None:
    archive = make_stored()
    digest, data = send_pair(two, archive)
    assert two.our.put(f"/api/v1/projections/{digest}", content=data).status_code == 201
    two.push(archive)
    two.wire.damaged = "/projections/"
    assert refusal(two.version("v1")) == (503, "UPSTREAM_MISMATCH")
    assert two.get(f"/api/v1/projections/{digest}").status_code == 404


def test_twenty_who_want_one_cold_version_make_one_fetch(tmp_path: Path, migrated_file: Path) -> None:
    with two_hubs(tmp_path, migrated_file, fresh_s=60) as two:
        pushed = two.push(make_archive(seed=1))
        address = f"{two.mirror.url}/api/v1/adapters/acme/tiny/versions/v1"
        with ThreadPoolExecutor(20) as readers:  # each from an address of its own: none gets the answer to another
            headers = ({"X-Forwarded-For": f"192.0.2.{reader}"} for reader in range(20))
            found = list(readers.map(lambda each: httpx2.get(address, headers=each), headers))
        assert {(each.status_code, each.json()["digest"]) for each in found} == {(200, pushed["digest"])}
        assert len(two.wire.asked) == len(set(two.wire.asked)) == 3 + len(pushed["files"])
        two.wire.asked.clear()
        assert two.version("v1").status_code == 200
        assert two.wire.asked == []


def test_a_namespace_of_our_own_is_never_looked_for_elsewhere(two: Two) -> None:
    two.push(make_archive(seed=1))
    assert two.our.post("/api/v1/orgs", json={"name": "acme"}).status_code == 201
    two.wire.asked.clear()
    assert refusal(two.version("v1")) == (404, "ADAPTER_UNKNOWN")
    assert two.our.get("/api/v1/adapters/acme/tiny").status_code == 404
    assert two.wire.asked == []


def test_nothing_is_pushed_to_a_copy_nor_changed_in_it(two: Two) -> None:
    archive = make_archive(seed=1)
    two.push(archive)
    assert two.version("v1").status_code == 200
    parts = [(path, (path, data)) for path, data in archive.files.items()]
    pushed = two.our.post("/api/v1/adapters/acme/tiny/versions", files=parts)
    assert refusal(pushed) == (403, "NAMESPACE_MIRRORED")
    assert two.wire.url in pushed.json()["detail"]
    yanked = two.our.put("/api/v1/adapters/acme/tiny/versions/v1/yank", json={"reason": "no"})
    assert refusal(yanked) == (403, "NAMESPACE_MIRRORED")
    assert refusal(two.our.post("/api/v1/orgs", json={"name": "acme"}))[0] == 409


def test_no_adapter_is_made_in_a_namespace_that_is_a_copy(two: Two) -> None:
    two.push(make_archive(seed=1))
    assert two.version("v1").status_code == 200

    made = two.our.post("/api/repos/create", json={"name": "other", "organization": "acme"})

    assert made.status_code == 403
    assert f"acme is a copy of the namespace at {two.wire.url}" in made.headers["x-error-message"]
    assert two.get("/api/v1/adapters/acme/other").status_code == 404


def test_another_version_under_a_number_that_is_here_is_never_given_for_it(
    on_both: Two, tmp_path: Path, migrated_file: Path
) -> None:
    """The other hub was set up anew, and counts its versions from one again."""
    two = on_both
    kept = two.push(make_archive(seed=1))
    assert two.version("v1").json()["digest"] == kept["digest"]
    with two_hubs(tmp_path / "anew", migrated_file) as anew:
        another = anew.push(make_archive(seed=2))
        two.wire.upstream = anew.upstream.url

        for selector in ("v1", kept["digest"], kept["commit"]):
            refused = two.version(selector)
            assert refusal(refused) == (403, "VERSION_QUARANTINED"), selector
            assert "it is another version there now" in refused.json()["detail"]
        assert another["digest"] not in {
            each["digest"] for each in two.get("/api/v1/adapters/acme/tiny").json()["versions"]
        }

    two.wire.upstream = two.upstream.url
    assert two.version("v1").json()["digest"] == kept["digest"]


def test_an_adapter_that_has_moved_there_is_found_by_its_new_name(two: Two) -> None:
    pushed = two.push(make_archive(seed=1))
    assert two.version("v1").status_code == 200
    moved = two.their.post("/api/v1/adapters/acme/tiny/move", json={"to": "acme/topics"})
    assert moved.status_code == 200, moved.text

    assert two.version("v1", "topics").json()["digest"] == pushed["digest"]
    old = two.version("v1")
    assert (refusal(old), old.headers["location"]) == (
        (307, "ADAPTER_MOVED"),
        "/api/v1/adapters/acme/topics/versions/v1",
    )


def test_an_export_of_a_mirror_brings_copies_in_as_copies(two: Two, tmp_path: Path) -> None:
    pushed = two.push(make_archive(seed=1))
    assert two.version("v1").status_code == 200
    copy, other = tmp_path / "export", tmp_path / "other"

    done = CliRunner().invoke(admin, ["export", str(copy), "--data", str(two.mirror.data)])
    assert done.exit_code == 0, done.output
    with serving(other) as hub, httpx2.Client(base_url=hub.url) as anybody:
        done = CliRunner().invoke(admin, ["import", str(copy), "--data", str(hub.data)])
        assert done.exit_code == 0, done.output
        found = anybody.get("/api/v1/adapters/acme/tiny/versions/v1").json()
        assert [found[each] for each in ("digest", "commit")] == [pushed[each] for each in ("digest", "commit")]
        assert anybody.get("/api/v1/adapters/acme/tiny").json()["mirrored_from"] == two.wire.url
    own = tmp_path / "own"
    with serving(own) as hub:
        theirs = {"Authorization": f"Bearer {hub.login()['token']}"}
        assert httpx2.post(f"{hub.url}/api/v1/orgs", json={"name": "acme"}, headers=theirs).status_code == 201
        refused = CliRunner().invoke(admin, ["import", str(copy), "--data", str(hub.data)])
    assert (refused.exit_code, "something else here than a copy" in refused.output) == (1, True)


def test_a_redirect_is_not_followed(two: Two) -> None:
    two.push(make_archive(seed=1))
    two.wire.redirect = two.upstream.url + "/api/v1/adapters/acme/tiny"
    assert refusal(two.version("v1")) == (503, "UPSTREAM_SILENT")


def test_a_gated_adapter_is_not_copied(two: Two) -> None:
    two.push(make_archive(seed=1))
    assert two.their.patch("/api/v1/adapters/acme/tiny", json={"gated": "manual"}).status_code == 200
    assert refusal(two.version("v1")) == (403, "ADAPTER_GATED")


def test_a_copy_of_what_is_gated_now_is_given_to_nobody_until_it_is_open_again(on_both: Two) -> None:
    two = on_both
    archive = make_stored()
    pair = f"/api/v1/projections/{send_pair(two, archive)[0]}"
    two.push(archive)
    files = {each["path"]: each["sha256"] for each in two.version("v1").json()["files"]}
    weights = f"/api/v1/adapters/acme/tiny/blobs/{files['adapter_model.safetensors']}"
    assert (two.get(weights).status_code, two.get(pair).status_code) == (200, 200)
    assert two.their.patch("/api/v1/adapters/acme/tiny", json={"gated": "manual"}).status_code == 200
    assert refusal(two.get(weights)) == (403, "ADAPTER_GATED")
    assert two.get("/api/v1/adapters").json()["items"] == []
    two.wire.upstream = "http://127.0.0.1:1"
    assert refusal(two.get(weights)) == (503, "UPSTREAM_SILENT")
    assert refusal(two.version("v1")) == (403, "VERSION_QUARANTINED")
    assert two.get(pair).status_code == 404
    two.wire.upstream = two.upstream.url
    assert two.their.patch("/api/v1/adapters/acme/tiny", json={"gated": None}).status_code == 200
    assert (two.get(weights).status_code, two.get(pair).status_code) == (200, 200)


def test_what_the_token_opens_is_for_those_who_have_signed_in_here(tmp_path: Path, migrated_file: Path) -> None:
    with two_hubs(tmp_path, migrated_file, with_token=True) as two:
        two.push(make_archive(seed=1), visibility="private")
        assert two.our.get("/api/v1/adapters/acme/tiny/versions/v1").status_code == 200
        assert refusal(two.version("v1")) == (404, "ADAPTER_UNKNOWN")
        assert two.wire.tokens == {f"Bearer {two.upstream.login()['token']}"}


@pytest.mark.parametrize("new", ["/evil.example", "acme/a\u2028b", "acme", "acme/Tiny"])
def test_a_new_name_that_is_none_leads_nobody_anywhere(two: Two, new: str) -> None:
    two.wire.moved_to = new
    for address in ("/api/v1/adapters/acme/tiny", "/acme/tiny"):
        answer = two.get(address)
        assert (answer.status_code, answer.headers.get("location")) == (503, None)
    assert refusal(two.get("/api/v1/adapters/acme/tiny")) == (503, "UPSTREAM_MISMATCH")


def test_clients_of_the_other_wire_are_served_too(two: Two) -> None:
    pushed = two.push(make_archive(seed=1))
    model = two.get("/api/models/acme/tiny/revision/main")
    assert model.json()["sha"] == pushed["commit"]
    two.upstream.stop()
    file = pushed["files"][0]
    found = two.get(f"/acme/tiny/resolve/{pushed['commit']}/{file['path']}")
    assert (found.status_code, found.headers["etag"]) == (200, f'"{file["sha256"]}"')


def test_the_client_takes_a_copy_for_what_it_is_a_copy_of(two: Two, tmp_path: Path) -> None:
    pushed = two.push(make_archive(seed=1))
    with Hub(Config(two.mirror.url, tmp_path / "config", tmp_path / "cache")) as hub:
        fetched = fetch("acme/tiny", hub=hub)
        assert fetched.archive.manifest.digest == pushed["digest"]
        assert hub.get_adapter(AdapterRef("acme", "tiny")).mirrored_from == two.wire.url


@pytest.mark.parametrize(
    "upstream", ["http://hub.example.org", "https://user@hub.example.org", "https://hub.example.org/hub", "ftp://x"]
)
def test_an_upstream_that_is_no_origin_over_tls_is_refused(upstream: str) -> None:
    with pytest.raises(ValueError, match="is no hub to fetch from"):
        Settings(upstream=upstream)


def send_pair(two: Two, archive: Archive) -> tuple[str, bytes]:
    assert archive.projection is not None
    data = b"".join(bytes_of_pair(archive.projection))
    digest = archive.manifest.projection_digest
    assert two.their.put(f"/api/v1/projections/{digest}", content=data).status_code == 201
    return digest, data
