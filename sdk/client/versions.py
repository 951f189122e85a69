"""Versions and their files, and taking them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO

from sdk.client.addresses import segment
from sdk.client.wire import Wire
from sdk.errors import Forbidden, NotFound
from sdk.models.versions import BundledVersion, Pushed, Said, Version, VersionSummary
from vera.bundle import MEDIA_TYPE, unbundle
from vera.ref import AdapterRef

if TYPE_CHECKING:
    from sdk.models.record import Downloads
    from sdk.models.relations import Lineage, VersionDiff

_BUNDLE_OR_JSON = f"{MEDIA_TYPE}, application/json"


class Versions(Wire):
    """Versions and their files, and taking them back."""

    def push_version(self, ref: AdapterRef, files: Mapping[str, bytes], said: Said | None = None) -> Pushed:
        """The files as a version of `ref`'s adapter. The same files again give the same version."""
        path = f"{self._path_of(ref)}/versions"
        parts = [(name, (name, data, "application/octet-stream")) for name, data in files.items()]
        if said and said.parent:
            said = replace(said, parent=self._spelled_here(said.parent))
        fields = said.to_parts() if said else {}
        reply = self._send("POST", path, is_idempotent=True, files=parts, data=fields)
        return Pushed(Version.from_json(reply.json()), is_new=reply.status == HTTPStatus.CREATED)

    def resolve_version(self, ref: AdapterRef) -> Version:
        """The version that `ref` means now."""
        return Version.from_json(self._get(self._version_path(ref), {"digest": ref.digest}).json())

    def fetch_version(self, ref: AdapterRef) -> BundledVersion | Version:
        """The version that `ref` means now with what there is in it, while that is small. An older hub sends the files in the
        `content` of a Version, and one that does not give them none."""
        reply = self._get(self._version_path(ref), {"digest": ref.digest, "with_files": "true"}, accept=_BUNDLE_OR_JSON)
        if reply.media_type != MEDIA_TYPE:
            return Version.from_json(reply.json())
        try:
            said, files = unbundle(reply.body)
        except ValueError as error:
            raise reply.unreadable(f"cannot be read: {error}") from error
        return replace(BundledVersion.from_json(said), files=files)

    def download_blob(self, ref: AdapterRef, sha256: str, *, max_bytes: int) -> bytes:
        """What the hub sends as the file `sha256` of `ref`'s adapter: at most `max_bytes`, and not yet verified."""
        path = f"{self._path_of(ref)}/blobs/{segment(sha256)}"
        return self._send("GET", path, is_idempotent=True, max_bytes=max_bytes).body

    def downloads(self, ref: AdapterRef, *, days: int = 30) -> Downloads:
        """How often `ref`'s adapter was downloaded, ever and on each of the last days; everybody counts once a day."""
        from sdk.models.record import Downloads

        return Downloads.from_json(self._get(f"{self._path_of(ref)}/downloads", {"days": str(days)}).json())

    def diff_versions(self, ref: AdapterRef, against: AdapterRef) -> VersionDiff:
        """What changed from `against` to `ref`, as the hub computes it; `vera-hub diff` computes the same here."""
        from sdk.models.relations import VersionDiff

        path = f"{self._version_path(ref)}/diff"
        return VersionDiff.from_json(self._get(path, {"against": str(self._here(against))}).json())

    def lineage(self, ref: AdapterRef) -> Lineage:
        """What the version was made from, and what was made from it."""
        from sdk.models.relations import Lineage

        return Lineage.from_json(self._get(f"{self._version_path(ref)}/lineage").json())

    def yank(self, ref: AdapterRef, reason: str) -> Version:
        """Takes the version back: it is given to who names it exactly, and nothing that moves means it."""
        return Version.from_json(self._write("PUT", f"{self._version_path(ref)}/yank", {"reason": reason}).json())

    def unyank(self, ref: AdapterRef) -> Version:
        return Version.from_json(self._undo(f"{self._version_path(ref)}/yank").json())

    def deprecate(self, ref: AdapterRef, message: str, *, replacement: str | None = None) -> Version:
        """Says of the version that it is not to be used any more, and what instead (a reference)."""
        body = {"message": message, "replacement": replacement}
        return Version.from_json(self._write("PUT", f"{self._version_path(ref)}/deprecation", body).json())

    def undeprecate(self, ref: AdapterRef) -> Version:
        return Version.from_json(self._undo(f"{self._version_path(ref)}/deprecation").json())

    def quarantine(self, ref: AdapterRef, reason: str) -> VersionSummary:
        """Keeps the version from being given out (admins)."""
        path = f"{self._version_path(ref)}/quarantine"
        return VersionSummary.from_json(self._write("PUT", path, {"reason": reason}).json())

    def release(self, ref: AdapterRef) -> Version:
        """Ends the quarantine (admins)."""
        return Version.from_json(self._undo(f"{self._version_path(ref)}/quarantine").json())

    def delete_version(self, ref: AdapterRef, reason: str) -> None:
        """Deletes a version for good, within a day of its push and while nobody else has it; an admin any."""
        self._send("DELETE", self._version_path(ref), is_idempotent=True, params={"reason": reason})

    def has_projection(self, digest: str) -> bool:
        """Whether the hub keeps the stored pair `digest` and gives it to this user, who need not send it then."""
        try:
            self._send("HEAD", f"/api/v1/projections/{segment(digest)}", is_idempotent=True)
        except (NotFound, Forbidden):
            return False
        return True

    def put_projection(self, digest: str, runs: Callable[[], Iterator[memoryview]], *, size_bytes: int) -> None:
        """Sends the stored pair whose bytes `runs` gives, as often as the request is repeated."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        path = f"/api/v1/projections/{segment(digest)}"
        self._send("PUT", path, is_idempotent=True, content=lambda: map(bytes, runs()), headers=headers)

    def download_projection(self, digest: str, into: BinaryIO, *, size_bytes: int) -> None:
        """What the hub sends as the stored pair `digest`, written to `into`: at most `size_bytes`, not yet verified."""
        path = f"/api/v1/projections/{segment(digest)}"
        self._send("GET", path, is_idempotent=True, max_bytes=size_bytes, into=into)
