"""Push: a version, or nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import delete, update

from hub.db.models.accounts import Membership
from tests.builders import (
    MODULES,
    edit_manifest,
    edit_weights,
    flip_byte,
    make_archive,
    make_base,
    make_suite,
    spoil,
)
from tests.hub.harness import Hub, code_of, sha256_of, statements_given_to
from vera.archive import Archive, seal
from vera.manifest import CARD_FILE, CONFIG_FILE, DVORA, MANIFEST_FILE, WEIGHTS_FILE, AdaptedModule

NOTHING = {"adapters": 0, "versions": 0, "blobs": 0, "evaluations": 0}


def test_push_publishes_the_first_version(hub: Hub) -> None:
    fingerprint = hub.register_base()
    archive = make_archive()

    answer = hub.push(archive, "tiny", message="first try")

    assert answer.status_code == 201
    version = answer.json()
    assert version["ref"] == "demo/tiny@v1"
    assert version["version"] == 1
    assert version["digest"] == archive.manifest.digest
    assert version["message"] == "first try"
    assert version["created_by"] == "demo"
    assert version["manifest"]["base"]["fingerprint"] == fingerprint
    assert version["rank"] == 8
    assert version["parameters"] == archive.manifest.parameters
    assert version["lora_bytes"] == archive.manifest.lora_bytes()
    assert version["size_bytes"] == archive.size_bytes
    assert {file["path"]: file["sha256"] for file in version["files"]} == {
        path: sha256_of(data) for path, data in archive.files.items()
    }
    assert version["evaluations"] == []
    assert version["warnings"] == []
    assert hub.contents == {"adapters": 1, "versions": 1, "blobs": 4, "evaluations": 0}


def test_push_asks_for_an_evaluation_by_each_suite_with_the_same_labels(hub: Hub) -> None:
    hub.register_base()
    hub.worker(make_suite("demo/topics"), make_suite("demo/tone"), make_suite("demo/other", labels=("x", "y")))

    version = hub.push(make_archive()).json()

    assert sorted(each["suite"] for each in version["evaluations"]) == ["demo/tone", "demo/topics"]
    assert {each["state"] for each in version["evaluations"]} == {"waiting"}


@pytest.mark.parametrize("said", [{}, {"visibility": "private"}, {"prerelease": "true", "source_commit": "a" * 40}])
def test_what_a_push_answers_is_what_anybody_reads_afterwards(hub: Hub, said: dict[str, str]) -> None:
    hub.register_base(name="demo/called-otherwise")
    hub.worker()
    demo = hub.headers()

    for number in (1, 2):
        pushed = hub.push(make_archive(seed=number, scale=0.0), headers=demo, message="said", **said).json()
        assert pushed == hub.get(f"/adapters/demo/tiny/versions/v{number}", headers=demo).json()
        found = hub.get("/adapters?search=tiny", headers=demo).json()["items"]
        assert [(each["id"], each["size_bytes"]) for each in found] == [("demo/tiny", pushed["size_bytes"])]

    assert len(pushed["warnings"]) == 2
    assert len(pushed["evaluations"]) == 1


def test_the_same_push_again_is_the_same_version(hub: Hub) -> None:
    hub.register_base()
    hub.worker()
    first = hub.push(make_archive())
    before = hub.contents

    again = hub.push(make_archive())

    assert again.status_code == 200
    assert again.json()["commit"] == first.json()["commit"]
    assert hub.contents == before


def test_another_content_is_the_next_version_and_follows_from_the_one_before(hub: Hub) -> None:
    hub.register_base()
    first = hub.push(make_archive(seed=1)).json()

    second = hub.push(make_archive(seed=2)).json()

    assert (first["version"], second["version"]) == (1, 2)
    line = f"demo/tiny\n2\n{second['digest']}\n{first['commit']}"
    assert second["commit"] == sha256_of(line.encode())[:40]


def test_an_older_content_pushed_again_is_still_the_older_version(hub: Hub) -> None:
    hub.register_base()
    hub.push(make_archive(seed=1))
    hub.push(make_archive(seed=2))

    again = hub.push(make_archive(seed=1))

    assert (again.status_code, again.json()["version"]) == (200, 1)
    assert hub.get("/adapters/demo/tiny/versions/latest").json()["version"] == 2


def test_sixteen_pushes_at_once_get_sixteen_consecutive_numbers(hub: Hub) -> None:
    hub.register_base()
    headers = hub.headers()
    archives = [make_archive(seed=seed) for seed in range(16)]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda archive: hub.push(archive, headers=headers), archives))

    assert [answer.status_code for answer in answers] == [201] * 16
    assert sorted(answer.json()["version"] for answer in answers) == list(range(1, 17))
    versions = hub.get("/adapters/demo/tiny").json()["versions"]
    assert [version["version"] for version in versions] == list(range(16, 0, -1))


def test_one_content_pushed_by_eight_at_once_is_one_version(hub: Hub) -> None:
    hub.register_base()
    hub.worker()
    headers, archive = hub.headers(), make_archive()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: hub.push(archive, headers=headers), range(8)))

    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert hub.contents == {"adapters": 1, "versions": 1, "blobs": 4, "evaluations": 1}


def test_a_large_file_comes_back_as_it_was(hub: Hub) -> None:
    wide = [("encoder.wide", 40, 100_000)]  # λb of 400 kB: more than is kept beside the row
    base = make_base(wide)
    hub.register_base(base)
    archive = make_archive(rank=1, modules=wide, base=base, head=False)

    version = hub.push(archive).json()

    sha256 = next(file["sha256"] for file in version["files"] if file["path"] == WEIGHTS_FILE)
    assert hub.get(f"/adapters/demo/tiny/blobs/{sha256}").content == archive.files[WEIGHTS_FILE]


def test_weights_stored_as_conv1d_does_are_known_by_either_side(sqlite_hub: Hub) -> None:
    base = make_base(transposed=True)
    sqlite_hub.register_base(base)

    assert sqlite_hub.push(make_archive(base=base)).status_code == 201


def test_the_registered_name_of_the_base_is_shown_and_the_other_is_warned_of(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base(name="acme/encoder")

    version = sqlite_hub.push(make_archive(base_name="my-copy")).json()

    assert sqlite_hub.get("/adapters/demo/tiny").json()["base"]["name"] == "acme/encoder"
    assert "my-copy" in version["warnings"][0]


def test_vectors_that_change_nothing_are_warned_of(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()

    version = sqlite_hub.push(make_archive(scale=0.0)).json()

    assert "changes nothing" in version["warnings"][0]
    # Magnitudes change a model without any direction.
    assert sqlite_hub.push(make_archive(scale=0.0, method=DVORA)).json()["warnings"] == []


def test_the_card_is_shown_without_anything_that_runs(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    card = (
        "---\nlicense: mit\n---\n# Title\n\n**bold** <script>alert(1)</script> [x](javascript:alert(1))\n"
        '<img src="https://example.org/beacon.png"> ![](https://example.org/b.png)\n\n| a |\n|---|\n| 1 |\n'
    )

    html = sqlite_hub.push(make_archive(card=card)).json()["card_html"]

    assert "<h2>Title</h2>" in html
    assert "<strong>bold</strong>" in html
    assert "<table>" in html
    assert "license: mit" not in html
    for forbidden in ("<script", "<img", 'href="javascript'):
        assert forbidden not in html


def test_a_name_that_looks_like_another_is_refused(hub: Hub) -> None:
    hub.register_base()
    hub.push(make_archive(), "topic-1")

    answer = hub.push(make_archive(seed=2), "topic_l")

    assert code_of(answer) == (409, "NAME_TOO_SIMILAR")
    assert answer.json()["facts"]["similar"] == "topic-1"
    assert hub.contents["adapters"] == 1


def test_two_users_may_use_one_name(hub: Hub) -> None:
    hub.register_base()

    assert hub.push(make_archive(), user="ann").json()["ref"] == "ann/tiny@v1"
    assert hub.push(make_archive(), user="bob").json()["ref"] == "bob/tiny@v1"


def test_a_base_that_is_not_registered_is_named(sqlite_hub: Hub) -> None:
    answer = sqlite_hub.push(make_archive())

    assert code_of(answer) == (422, "BASE_UNKNOWN")
    assert make_base().value in answer.json()["detail"]
    assert "vera-hub base add" in answer.json()["detail"]
    assert sqlite_hub.contents == NOTHING


def test_an_adapter_for_another_size_of_base_is_refused_with_both_sizes(sqlite_hub: Hub) -> None:
    base = make_base()
    larger = [(name, width, height + 4) for name, width, height in MODULES]
    sqlite_hub.register_base(base)

    answer = sqlite_hub.push(make_archive(modules=larger, base=base))

    assert code_of(answer) == (422, "DIMS_MISMATCH")
    assert answer.json()["facts"]["expected"] == [12, 12]
    assert answer.json()["facts"]["got"] == [16, 12]


def test_a_module_that_the_base_has_not_is_named(sqlite_hub: Hub) -> None:
    base = make_base()
    sqlite_hub.register_base(base)

    answer = sqlite_hub.push(make_archive(modules=[("decoder.query", 12, 12)], base=base))

    assert code_of(answer) == (422, "TARGET_UNKNOWN")
    assert answer.json()["facts"]["module"] == "decoder.query"


@pytest.mark.parametrize(("tensor", "code"), [("embeddings.word_embeddings.weight", 201), ("embeddings.weight", 422)])
def test_a_head_tied_to_the_embedding_is_checked_by_the_tensor_it_shares(
    sqlite_hub: Hub, tensor: str, code: int
) -> None:
    base = make_base()
    sqlite_hub.register_base(base)
    archive = make_archive(modules=[("lm_head", 12, 32)], base=base, labels=())
    tied = replace(archive.manifest, modules=(AdaptedModule("lm_head", 12, 32, tensor),), files={})

    answer = sqlite_hub.push(seal(tied, archive.files[WEIGHTS_FILE], archive.card))

    assert answer.status_code == code, answer.text


def _set(*path: str, value: object) -> Callable[[Archive], Mapping[str, bytes]]:
    """A manifest that is canonical and says `value` at `path`."""

    def change(manifest: dict[str, Any]) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return lambda archive: edit_manifest(archive, change)


def _put_float(value: float) -> Callable[[Archive], Mapping[str, bytes]]:
    return lambda archive: edit_weights(archive, lambda data: data[:-4] + struct.pack("<f", value))


def _without(path: str) -> Callable[[Archive], Mapping[str, bytes]]:
    return lambda archive: {name: data for name, data in archive.files.items() if name != path}


def _unsealed(archive: Archive) -> Mapping[str, bytes]:
    files = edit_manifest(archive, lambda manifest: manifest["files"].clear())
    return {path: files[path] for path in (MANIFEST_FILE, WEIGHTS_FILE)}


LIES: dict[str, tuple[Callable[[Archive], Mapping[str, bytes]], str]] = {
    "a flipped byte in the weights": (lambda a: spoil(a, WEIGHTS_FILE, flip_byte), "DIGEST_INVALID"),
    "a flipped byte in the card": (lambda a: spoil(a, CARD_FILE, flip_byte), "DIGEST_INVALID"),
    "a flipped byte in the configuration": (lambda a: spoil(a, CONFIG_FILE, flip_byte), "DIGEST_INVALID"),
    "a flipped byte in the manifest": (
        lambda a: spoil(a, MANIFEST_FILE, lambda d: flip_byte(d, 0)),
        "MANIFEST_INVALID",
    ),
    "a digest of other weights": (_set("weights", "sha256", value="0" * 64), "DIGEST_INVALID"),
    "no weights": (_without(WEIGHTS_FILE), "FILE_MISSING"),
    "no manifest": (_without(MANIFEST_FILE), "FILE_MISSING"),
    "no card": (_without(CARD_FILE), "FILE_MISSING"),
    "a manifest that names no card": (_unsealed, "FILE_MISSING"),
    "NaN": (_put_float(float("nan")), "TENSOR_NONFINITE"),
    "infinity": (_put_float(float("inf")), "TENSOR_NONFINITE"),
    "a weight of a million": (_put_float(1e6), "TENSOR_RANGE"),
    "a rank of a million": (_set("projection", "rank", value=1_000_000), "RANK_INVALID"),
    "a rank that the vectors have not": (_set("projection", "rank", value=9), "MANIFEST_INVALID"),
    "a seed beyond 2^63": (_set("projection", "seed", value=-1), "SEED_INVALID"),
    "a stream of the future": (_set("projection", "stream", value="philox/9"), "STREAM_UNKNOWN"),
    "another schema": (_set("schema", value="vera-adapter/2"), "SCHEMA_UNSUPPORTED"),
    "a field that nobody knows": (_set("auto_mapping", value={}), "MANIFEST_UNKNOWN_FIELD"),
    "a manifest that is not canonical": (
        lambda a: spoil(a, MANIFEST_FILE, lambda d: d.replace(b":", b": ", 1)),
        "MANIFEST_NOT_CANONICAL",
    ),
    "nesting without end": (lambda a: spoil(a, MANIFEST_FILE, lambda _: b"[" * 100_000), "MANIFEST_INVALID"),
    "half a character in the manifest": (
        lambda a: spoil(a, MANIFEST_FILE, lambda d: d.replace(b'"apache-2.0"', b'"\\ud800"')),
        "MANIFEST_INVALID",
    ),
    "a pickle": (lambda a: spoil(a, WEIGHTS_FILE, lambda _: b"\x80\x04K\x01."), "DIGEST_INVALID"),
    "a header longer than the file": (
        lambda a: edit_weights(a, lambda d: struct.pack("<Q", 1 << 62) + d[8:]),
        "TENSOR_HEADER_LENGTH",
    ),
    "a file too many": (lambda a: {**a.files, "run.py": b"print()"}, "FILE_UNKNOWN"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_push_that_lies_is_refused_and_leaves_nothing(sqlite_hub: Hub, lie: str) -> None:
    change, code = LIES[lie]
    sqlite_hub.register_base()

    answer = sqlite_hub.push(change(make_archive()))

    assert code_of(answer) == (422, code)
    assert sqlite_hub.contents == NOTHING


def test_a_push_needs_a_token(sqlite_hub: Hub) -> None:
    answer = sqlite_hub.push(make_archive(), headers={})

    assert code_of(answer) == (401, "TOKEN_MISSING")
    assert "WWW-Authenticate" in answer.headers


@pytest.mark.parametrize("token", ["vhp_" + "0" * 46, "hunter2", "vhp_" + "é" * 46])
def test_a_push_needs_a_token_of_this_hub(sqlite_hub: Hub, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}".encode()}

    assert code_of(sqlite_hub.push(make_archive(), headers=headers)) == (401, "TOKEN_INVALID")


def test_nobody_pushes_into_the_namespace_of_another(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()

    answer = sqlite_hub.push(make_archive(), user="ann", headers=sqlite_hub.headers("bob"))

    assert code_of(answer) == (403, "FORBIDDEN")
    assert sqlite_hub.contents == NOTHING


@pytest.mark.parametrize("name", ["Upper", "a..b/c", "-x", "x" * 65, "nul%00", "ünïcode", "a b"])
def test_a_name_that_cannot_be_is_refused(sqlite_hub: Hub, name: str) -> None:
    sqlite_hub.register_base()

    assert sqlite_hub.push(make_archive(), name).status_code in (400, 404, 422)
    assert sqlite_hub.contents == NOTHING


def test_a_message_that_is_a_book_is_refused(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()

    assert code_of(sqlite_hub.push(make_archive(), message="x" * 1001)) == (422, "MESSAGE_INVALID")
    assert code_of(sqlite_hub.push(make_archive(), message="x" * 5000)) == (413, "BODY_TOO_LARGE")


def push_slowly(
    hub: Hub, archive: Archive, name: str, headers: Mapping[str, str], meanwhile: Callable[[], object]
) -> Any:
    """Pushes, and does something else before the last bytes are sent."""
    address = f"/api/v1/adapters/{name}/versions"
    ready = hub.client.build_request(
        "POST", address, files=[(path, (path, data)) for path, data in archive.files.items()]
    )
    body = ready.read()

    def pieces() -> Iterator[bytes]:
        yield body[:-1]
        meanwhile()
        yield body[-1:]

    return hub.client.post(
        address, content=pieces(), headers={**headers, "Content-Type": ready.headers["Content-Type"]}
    )


CARD_WITH_A_TAG = "---\ntags: [news]\n---\n# A tiny adapter\n"


def test_a_push_makes_no_statement_anew(hub: Hub) -> None:
    """To make one takes longer than to run it."""
    hub.register_base()
    headers, archive = hub.headers(), make_archive(card=CARD_WITH_A_TAG)
    assert hub.push(archive, "once", headers=headers).status_code == 201

    with statements_given_to(hub.database) as second:
        assert hub.push(archive, "twice", headers=headers).status_code == 201
    with statements_given_to(hub.database) as third:
        assert hub.push(archive, "three-times", headers=headers).status_code == 201

    assert [
        later.statement
        for earlier, later in zip(second, third, strict=True)
        if later.statement is not earlier.statement
    ] == []


def test_a_push_that_no_suite_can_ask_for_makes_no_entities_of_rows(sqlite_hub: Hub) -> None:
    """To make one takes several times as long as to read its columns."""
    sqlite_hub.register_base()
    headers, archive = sqlite_hub.headers(), make_archive(card=CARD_WITH_A_TAG, labels=())
    assert sqlite_hub.push(archive, "once", headers=headers).status_code == 201

    with statements_given_to(sqlite_hub.database) as second:
        assert sqlite_hub.push(archive, "twice", headers=headers).status_code == 201

    assert [each.statement for each in second if each.is_orm_statement] == []


def test_a_token_that_is_revoked_while_the_files_come_pushes_nothing(hub: Hub) -> None:
    hub.register_base()
    headers, before = hub.headers(), hub.contents

    answer = push_slowly(
        hub, make_archive(), "demo/tiny", headers, lambda: hub.change_tokens(revoked_at=datetime.now(UTC))
    )

    assert code_of(answer) == (401, "TOKEN_INVALID")
    assert hub.contents == before


def test_who_has_just_pushed_is_asked_about_again_where_the_next_push_is_kept(hub: Hub) -> None:
    """The door lets them in for what was known a second ago."""
    hub.register_base()
    hub.found("acme", pam="maintainer")
    pam, archive = hub.headers("pam"), make_archive()
    for name in ("first", "next", "last"):  # of the first use in a minute a note is made: it is known from then on
        assert hub.push(archive, name, user="acme", headers=pam).status_code == 201
    before = hub.contents

    with hub.database.writing() as session:
        session.execute(update(Membership).where(Membership.role == "maintainer").values(role="reader"))
    assert code_of(hub.push(archive, "second", user="acme", headers=pam)) == (403, "FORBIDDEN")
    assert hub.contents == before

    with hub.database.writing() as session:
        session.execute(update(Membership).where(Membership.role == "reader").values(role="maintainer"))
    assert hub.push(archive, "second", user="acme", headers=pam).status_code == 201
    hub.change_tokens(revoked_at=datetime.now(UTC))
    assert code_of(hub.push(archive, "third", user="acme", headers=pam)) == (401, "TOKEN_INVALID")


def test_who_is_given_a_role_pushes_at_once(hub: Hub) -> None:
    hub.register_base()
    hub.found("acme", pam="reader")
    pam = hub.headers("pam")
    for name in ("mine", "next", "last"):
        assert hub.push(make_archive(), name, user="pam", headers=pam).status_code == 201
    assert code_of(hub.push(make_archive(), "ours", user="acme", headers=pam)) == (403, "FORBIDDEN")

    with hub.database.writing() as session:
        session.execute(update(Membership).where(Membership.role == "reader").values(role="maintainer"))

    assert hub.push(make_archive(), "ours", user="acme", headers=pam).status_code == 201


def test_who_is_taken_out_while_the_files_come_pushes_nothing(hub: Hub) -> None:
    hub.register_base()
    hub.found("acme", pam="maintainer")
    pam, before = hub.headers("pam"), hub.contents

    def take_out() -> None:
        with hub.database.writing() as session:
            session.execute(delete(Membership).where(Membership.role == "maintainer"))

    assert code_of(push_slowly(hub, make_archive(), "acme/tiny", pam, take_out)) == (403, "FORBIDDEN")
    assert code_of(hub.push(make_archive(), "tiny", user="acme", headers=pam)) == (403, "FORBIDDEN")
    assert hub.contents == before
