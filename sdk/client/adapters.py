"""Bases and adapters: found, listed, moved, and who may see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sdk.client.addresses import segment
from sdk.client.wire import Asked, Wire
from vera.ref import AdapterRef

if TYPE_CHECKING:
    from sdk.models.adapters import Access, AccessRequest, Adapter, AdapterDetail, Facets, FoundAdapter
    from sdk.models.bases import Base, BaseDetail


class Adapters(Wire):
    """Bases and adapters: found, listed, moved, and who may see them."""

    def register_base(self, name: str, rows: Sequence[Sequence[object]], *, revision: str | None = None) -> Base:
        """The base with these rows of (name, dtype, shape, sha256), made known to the hub. Twice is the same as once."""
        from sdk.models.bases import Base

        body = {"name": name, "revision": revision, "tensors": rows}
        return Base.from_json(self._post("/api/v1/bases", body, is_idempotent=True).json())

    def list_bases(self, *, name: str | None = None) -> Iterator[Base]:
        from sdk.models.bases import Base

        return self._pages("/api/v1/bases", {"name": name}, Base)

    def get_base(self, fingerprint: str) -> BaseDetail:
        from sdk.models.bases import BaseDetail

        return BaseDetail.from_json(self._get(f"/api/v1/bases/{segment(fingerprint)}").json())

    def search(
        self,
        text: str | None = None,
        *,
        base: str | None = None,
        family: str | None = None,
        owner: str | None = None,
        task: str | None = None,
        license: str | None = None,
        tags: Sequence[str] = (),
        dataset: str | None = None,
        projection: str | None = None,
        min_rank: int | None = None,
        max_rank: int | None = None,
        max_bytes: int | None = None,
        suite: str | None = None,
        min_score: float | None = None,
        sort: str | None = None,
    ) -> Iterator[FoundAdapter]:
        """Adapters that have a word beginning with each word of `text`, and are all of the rest.

        `base` is a name or a fingerprint, `dataset` a name or a digest, and `projection` the digest of the matrices.
        `sort` is updated, downloads, name or, with a `suite`, score or bytes-per-point.
        """
        from sdk.models.adapters import FoundAdapter

        query: dict[str, Asked] = {
            "search": text,
            "base": base,
            "family": family,
            "owner": owner,
            "task": task,
            "license": license,
            "tag": list(tags),
            "dataset": dataset,
            "projection": projection,
            "min_rank": min_rank,
            "max_rank": max_rank,
            "max_bytes": max_bytes,
            "suite": suite,
            "min_score": min_score,
            "sort": sort,
        }
        return self._pages("/api/v1/adapters", query, FoundAdapter)

    def facets(self, text: str | None = None, **narrowed: Asked) -> Facets:
        """What the adapters that `search` finds with the same arguments can be narrowed down to."""
        from sdk.models.adapters import Facets

        query = {**narrowed, "search": text}
        if "tags" in query:
            query["tag"] = query.pop("tags")
        return Facets.from_json(self._get("/api/v1/adapters/facets", query).json())

    def list_adapters(
        self,
        *,
        search: str | None = None,
        base: str | None = None,
        owner: str | None = None,
        task: str | None = None,
        sort: str | None = None,
    ) -> Iterator[Adapter]:
        """`search`, with what every hub has known from the first."""
        from sdk.models.adapters import Adapter

        query: dict[str, Asked] = {"search": search, "base": base, "owner": owner, "task": task, "sort": sort}
        return self._pages("/api/v1/adapters", query, Adapter)

    def get_adapter(self, ref: AdapterRef) -> AdapterDetail:
        from sdk.models.adapters import AdapterDetail

        return AdapterDetail.from_json(self._get(self._path_of(ref)).json())

    def move(self, ref: AdapterRef, to: AdapterRef) -> Adapter:
        """Gives the adapter another name, or another owner; the old name leads to it."""
        from sdk.models.adapters import Adapter

        body = {"to": self._here(to).adapter_id}
        return Adapter.from_json(self._post(f"{self._path_of(ref)}/move", body).json())

    def set_gate(self, ref: AdapterRef, gated: str | None) -> Adapter:
        """Gives the files of the adapter to everybody (None), to whoever asks ("auto"), or to whom you let in ("manual")."""
        from sdk.models.adapters import Adapter

        return Adapter.from_json(self._write("PATCH", self._path_of(ref), {"gated": gated}).json())

    def get_access(self, ref: AdapterRef) -> Access:
        """Whether the files of a gated adapter are given to you."""
        from sdk.models.adapters import Access

        return Access.from_json(self._get(f"{self._path_of(ref)}/access").json())

    def request_access(self, ref: AdapterRef, *, message: str | None = None) -> AccessRequest:
        """Asks for the files of a gated adapter; asking twice is asking once."""
        from sdk.models.adapters import AccessRequest

        path = f"{self._path_of(ref)}/access"
        return AccessRequest.from_json(self._post(path, {"message": message}, is_idempotent=True).json())

    def list_access_requests(self, ref: AdapterRef, *, state: str | None = None) -> Iterator[AccessRequest]:
        """Who has asked for the files of your adapter, or was let in, by name."""
        from sdk.models.adapters import AccessRequest

        return self._pages(f"{self._path_of(ref)}/access-requests", {"state": state}, AccessRequest)

    def decide_access(self, ref: AdapterRef, user: str, state: str, *, reason: str | None = None) -> AccessRequest:
        """Lets a user in ("accepted"), refuses them ("rejected"), or lets them wait ("pending")."""
        from sdk.models.adapters import AccessRequest

        path = f"{self._path_of(ref)}/access-requests/{segment(user)}"
        return AccessRequest.from_json(self._write("PUT", path, {"state": state, "reason": reason}).json())

    def set_visibility(self, ref: AdapterRef, visibility: str) -> Adapter:
        """Makes the adapter "private", or "public"."""
        from sdk.models.adapters import Adapter

        path, body = self._path_of(ref), {"visibility": visibility}
        return Adapter.from_json(self._write("PATCH", path, body).json())
