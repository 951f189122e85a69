"""Stored projections: taken in once, given out bit for bit, and no version without the pair it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import obstore
import pytest
from httpx2 import Response
from sqlalchemy import func, select, update

from hub.auth.tokens import TokenKind
from hub.db.models.objects import Blob, Projection, ProjectionPiece
from hub.domain.projections import PIECE_BYTES
from hub.settings import Settings
from tests.builders import make_archive, make_stored
from tests.hub.harness import Hub, code_of, sha256_of, start
from vera.archive import Archive, seal
from vera.manifest import WEIGHTS_FILE
from vera.projection import Projection as Pair
from vera.projection import canonical_bytes


def bytes_of(archive: Archive) -> bytes:
    assert isinstance(archive.projection, Pair)
    return b"".join(canonical_bytes(archive.projection))


ADAPTER = make_stored()
PAIR = bytes_of(ADAPTER)
DIGEST = ADAPTER.manifest.projection_digest


def put(hub: Hub, data: bytes, digest: str | None = None, **headers: str) -> Response:
    address = f"/api/v1/projections/{digest or f'sha256:{sha256_of(data)}'}"
    return hub.client.put(address, content=data, headers=headers or hub.headers())


def kept(hub: Hub) -> dict[str, int]:
    with hub.database.reading() as session:
        return {
            table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0
            for table in (Projection, ProjectionPiece, Blob)
        }


def test_a_pair_comes_back_bit_for_bit_whatever_its_size(hub: Hub) -> None:
    data = np.random.default_rng(0).standard_normal(2 * PIECE_BYTES // 4 + 10, np.float32).tobytes()
    digest = f"sha256:{sha256_of(data)}"

    first, second = put(hub, data), put(hub, data)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert (first.json()["digest"], first.json()["size_bytes"], first.json()["adapter_count"]) == (digest, len(data), 0)
    assert kept(hub) == {"projections": 1, "projection_pieces": 3, "blobs": 3}
    mine = hub.headers()
    found = hub.get(f"/projections/{digest}", headers=mine)
    there = hub.client.head(f"/api/v1/projections/{digest}", headers=mine)
    assert found.content == data
    for answer in (found, there):
        assert answer.status_code == 200
        assert answer.headers["content-length"] == str(len(data))
        assert answer.headers["cache-control"] == "private, no-store"  # nothing public uses it
    assert there.content == b""
    known = {**mine, "If-None-Match": found.headers["etag"]}
    assert hub.get(f"/projections/{digest}", headers=known).status_code == 304


def test_a_pair_is_reached_by_who_has_it_or_sees_an_adapter_of_it(hub: Hub) -> None:
    hub.register_base()
    mine, theirs, address = hub.headers("ann"), hub.headers("eve"), f"/projections/{DIGEST}"
    assert put(hub, PAIR, **mine).status_code == 201
    assert hub.push(ADAPTER, user="ann", headers=mine, visibility="private").status_code == 201

    assert hub.get(address, headers=mine).content == PAIR
    for headers in ({}, theirs):  # knowing a digest opens nothing, and is not confirmed
        assert code_of(hub.get(address, headers=headers)) == (404, "PROJECTION_UNKNOWN")
        assert hub.client.head(f"/api/v1{address}", headers=headers).status_code == 404
    assert code_of(hub.push(ADAPTER, user="eve", headers=theirs)) == (422, "PROJECTION_MISSING")
    assert put(hub, PAIR, **theirs).status_code == 201
    assert hub.get(address, headers=theirs).content == PAIR

    hub.client.patch("/api/v1/adapters/ann/tiny", json={"visibility": "public"}, headers=mine)
    public = hub.get(address)
    assert (public.content, "immutable" in public.headers["cache-control"]) == (PAIR, True)


def test_a_pair_that_is_not_here_is_not_found(sqlite_hub: Hub) -> None:
    assert code_of(sqlite_hub.get(f"/projections/{DIGEST}")) == (404, "PROJECTION_UNKNOWN")
    assert sqlite_hub.client.head(f"/api/v1/projections/{DIGEST}").status_code == 404
    for address in ("sha256:abc", DIGEST.removeprefix("sha256:"), "sha256:" + "A" * 64):
        assert code_of(sqlite_hub.get(f"/projections/{address}")) == (422, "PARAMETER_INVALID")


@pytest.mark.parametrize(
    ("data", "digest", "code"),
    [
        (PAIR[:-1] + b"\x01", DIGEST, "DIGEST_INVALID"),
        (b"", None, "PROJECTION_INVALID"),
        (PAIR + b"\0", None, "PROJECTION_INVALID"),
        (PAIR[:-4] + np.float32("nan").tobytes(), None, "TENSOR_NONFINITE"),
        (PAIR[:-4] + np.float32(1e6).tobytes(), None, "TENSOR_RANGE"),
    ],
)
def test_what_is_no_pair_is_refused_and_leaves_nothing(
    sqlite_hub: Hub, data: bytes, digest: str | None, code: str
) -> None:
    assert code_of(put(sqlite_hub, data, digest)) == (422, code)
    assert kept(sqlite_hub) == {"projections": 0, "projection_pieces": 0, "blobs": 0}


def test_only_those_who_may_push_may_store_a_pair(sqlite_hub: Hub) -> None:
    assert code_of(put(sqlite_hub, PAIR, **{"X-Nobody": "1"})) == (401, "TOKEN_MISSING")
    worker = sqlite_hub.headers("w", TokenKind.WORKER)
    assert code_of(put(sqlite_hub, PAIR, **worker)) == (403, "SCOPE_INSUFFICIENT")
    assert kept(sqlite_hub)["projections"] == 0


def test_a_pair_has_a_largest_size(embedded: Settings) -> None:
    hub = start(embedded.model_copy(update={"max_projection_bytes": len(PAIR) - 1}))
    assert code_of(put(hub, PAIR)) == (413, "BODY_TOO_LARGE")
    hub.database.close()


def test_a_version_needs_its_pair_first(hub: Hub) -> None:
    hub.register_base()

    refused = hub.push(ADAPTER)

    assert code_of(refused) == (422, "PROJECTION_MISSING")
    assert DIGEST in refused.json()["detail"]
    assert hub.contents["versions"] == hub.contents["adapters"] == hub.contents["blobs"] == 0
    assert put(hub, PAIR).status_code == 201
    assert hub.push(ADAPTER).status_code == 201


def test_the_page_and_the_answer_say_who_shares_the_pair(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    put(sqlite_hub, PAIR)
    sqlite_hub.push(ADAPTER, "one")
    sqlite_hub.push(make_stored(seed=1), "one")
    answer = sqlite_hub.push(make_stored(seed=2), "two", user="ann")

    assert answer.json()["stored_projection"]["adapter_count"] == 2
    assert answer.json()["stored_projection"]["size_bytes"] == len(PAIR)
    page = sqlite_hub.client.get("/ann/two", headers={"Accept": "text/html"}).text
    assert "shared by 2 adapters" in " ".join(page.split())


def test_an_adapter_whose_pair_is_drawn_has_none_stored(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    assert sqlite_hub.push(make_archive()).json()["stored_projection"] is None


def test_a_pair_of_another_size_than_the_recipe_says_is_refused(sqlite_hub: Hub) -> None:
    """Its digest is right, so it is kept; but no loader could use it for this adapter."""
    sqlite_hub.register_base()
    longer = PAIR + PAIR
    put(sqlite_hub, longer)
    manifest = replace(ADAPTER.manifest, projection_digest=f"sha256:{sha256_of(longer)}")

    answer = sqlite_hub.push(seal(manifest, ADAPTER.files[WEIGHTS_FILE], "# Mine\n"))

    assert code_of(answer) == (422, "PROJECTION_MISMATCH")


@pytest.mark.parametrize("piece", [0, 1])
def test_a_pair_that_was_damaged_in_storage_is_never_given_out_whole(sqlite_hub: Hub, piece: int) -> None:
    data = np.arange(PIECE_BYTES // 4 + 10, dtype=np.float32) / PIECE_BYTES
    put(sqlite_hub, data.tobytes())
    digest = f"sha256:{sha256_of(data.tobytes())}"
    with sqlite_hub.database.writing() as session:
        large = Blob.size_bytes == PIECE_BYTES
        damaged = update(Blob).where(large if piece == 0 else ~large)
        session.execute(damaged.values(data=func.zeroblob(Blob.size_bytes)))

    if piece == 0:
        assert code_of(sqlite_hub.get(f"/projections/{digest}", headers=sqlite_hub.headers())) == (503, "BLOB_CORRUPT")
    else:
        with pytest.raises(RuntimeError, match="already started"):  # the server breaks the answer off
            sqlite_hub.get(f"/projections/{digest}", headers=sqlite_hub.headers())


def test_large_pairs_are_objects_where_there_is_an_object_store(embedded: Settings) -> None:
    data = np.ones(100_000, np.float32).tobytes()
    hub = start(embedded.model_copy(update={"blob_url": "memory:///"}))
    put(hub, data)

    store: Any = hub.app.state.services.objects
    assert [len(obstore.get(store._store, key["path"]).bytes()) for key in obstore.list(store._store).collect()] == [
        len(data)
    ]
    assert hub.get(f"/projections/sha256:{sha256_of(data)}", headers=hub.headers()).content == data
    hub.database.close()
