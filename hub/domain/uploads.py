"""What a push brings, checked as far as bytes alone tell: no database is asked, and nothing is held."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from hub.domain import blobs
from hub.domain.cards import MAX_RENDERED, CardFacts, read_facts
from hub.errors import Invalid
from hub.storage.blobs import BlobStore
from vera import archive
from vera.archive import Archive
from vera.errors import ArchiveError
from vera.manifest import CARD_FILE, EXTRA_FILES, MANIFEST_FILE, WEIGHTS_FILE, Manifest

MAX_MESSAGE = 1000
MAX_LINK = 500
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Said:
    """What a push says beside its files; None is what it leaves unsaid.

    `is_private` is who may see an adapter that is new. `parent` is the version it was made from: `v2` of the same
    adapter, or a reference. `commit` and `run` are the commit and the CI run that made it.
    """

    message: str | None = None
    is_private: bool | None = None
    is_prerelease: bool | None = None
    parent: str | None = None
    commit: str | None = None
    run: str | None = None

    def __post_init__(self) -> None:
        """Raises Invalid for what cannot be kept as said."""
        _check_message(self.message)
        if self.commit is not None and not _COMMIT.fullmatch(self.commit):
            raise Invalid("The source commit must be 40 or 64 hex digits, as git has them.", code="SOURCE_INVALID")
        if self.run is not None:
            _check_link(self.run)

    @property
    def source(self) -> dict[str, str] | None:
        """Where it was made, as it is kept."""
        said = {"commit": self.commit, "run": self.run}
        return {name: value for name, value in said.items() if value is not None} or None


@dataclass(frozen=True)
class Upload:
    """A checked push. `outside` names the blobs that are in the object store already."""

    archive: Archive
    card_html: str
    said: Said = field(default_factory=Said)
    # What is to stand with the version's warnings.
    notes: tuple[str, ...] = ()
    outside: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        return self.archive.manifest

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """The SHA-256 of each file, which `inspect` has proven to be what the manifest says."""
        manifest = self.manifest
        proven = {path: entry.sha256 for path, entry in manifest.files.items()}
        proven |= {WEIGHTS_FILE: manifest.weights.sha256, MANIFEST_FILE: manifest.digest.removeprefix("sha256:")}
        return {path: proven[path] for path in sorted(self.archive.files)}

    @cached_property
    def spelled(self) -> Mapping[str, Any]:
        """The manifest as `vera.json` spells it."""
        found: dict[str, Any] = json.loads(self.archive.files[MANIFEST_FILE])
        return found

    @cached_property
    def facts(self) -> CardFacts:
        """What the card says to machines."""
        return read_facts(self.archive.card)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and probably not meant, whatever base is registered here."""
        return tuple(_warnings_of(self))


def check_upload(files: Mapping[str, bytes], said: Said | None = None) -> Upload:
    """The adapter that `files` are. Raises a VeraError for the first thing that is wrong with it."""
    return upload_of(archive.inspect(files), said)


def upload_of(checked: Archive, said: Said | None = None, *, notes: tuple[str, ...] = ()) -> Upload:
    """A checked archive as a push. Raises ArchiveError for one that is not sealed."""
    for path in EXTRA_FILES:
        if path not in checked.manifest.files:
            raise ArchiveError(
                f"{MANIFEST_FILE} does not name {path}, so a change to it would go unseen: "
                "push the folder with vera-hub, which seals it.",
                code="FILE_MISSING",
                path=path,
            )
    from hub.domain.rendering import render_card  # 2 MB, which an idle hub does not need

    upload = Upload(checked, render_card(checked.card), said or Said(), notes)
    _ = upload.hashes, upload.spelled, upload.warnings  # looked at now, and not while everybody else waits to write
    return upload


def put_large_files(objects: BlobStore | None, upload: Upload) -> Upload:
    """`upload` with its large files put into the object store, when there is one.

    The manifest stays in the database, where every version's page reads it, and so does the card, by whose
    words adapters are found.
    """
    large = [data for path, data in upload.archive.files.items() if path not in (MANIFEST_FILE, CARD_FILE)]
    return replace(upload, outside=blobs.put_large(objects, large))


def warnings_for(upload: Upload, registered_base: str) -> list[str]:
    """What is allowed and probably not meant."""
    called, found = upload.manifest.base.name, list(upload.notes)
    if called != registered_base:
        found.append(
            f"The manifest calls its base {called}; it is registered here as {registered_base}, which the hub's "
            "operator may change (`vera-hub admin rename-base`)."
        )
    return [*found, *upload.warnings]


def _check_message(message: str | None) -> None:
    if message is not None and (
        len(message) > MAX_MESSAGE or not message.replace("\n", "").replace("\t", "").isprintable()
    ):
        raise Invalid(
            f"The message may have {MAX_MESSAGE} characters of text, none of them a control character.",
            code="MESSAGE_INVALID",
        )


def _check_link(text: str) -> None:
    """A page shows it as a link, and what it must not show are the credentials that such addresses hold at times."""
    try:
        parts = urlsplit(text)
        is_fine = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_fine = False
    if not is_fine or len(text) > MAX_LINK or not text.isascii() or not text.isprintable() or " " in text:
        raise Invalid(
            f"The CI run must be an http(s) address of at most {MAX_LINK} characters, without a user in it.",
            code="SOURCE_INVALID",
        )


def _warnings_of(upload: Upload) -> Iterator[str]:
    manifest = upload.manifest
    # DVoRA's magnitudes change the model without any λb.
    if not manifest.has_magnitude and not any(np.any(vector) for vector in archive.lambda_b_of(upload.archive)):
        yield "Every λb is zero: this adapter changes nothing. Was it trained?"
    yield from upload.facts.warnings
    if len(upload.archive.card) > MAX_RENDERED:
        yield f"The card is long: its page shows the first {MAX_RENDERED:,} characters."
