"""`sdk.verify`: what of an adapter and a base is proven, and how, without attaching anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk import digest_books, finding
from sdk.config import Config
from sdk.explaining import explained
from sdk.loading import check_files, check_reading, door_to, is_live, locate_for, reporting, table_for
from sdk.locking import lock_for
from vera.manifest import WEIGHTS_FILE
from vera.notebook import html_card
from vera.projection import DEFAULT_BUDGET_BYTES, prove

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.finding import Found, Named
    from vera.archive import Archive
    from vera.fingerprint import Progress


@dataclass(frozen=True)
class Evidence:
    """One thing that was proven: what it is, by its hash, and how that is known.

    `kind` is, for a base, "content" (the tensors of a live model), "files" (those of a checkpoint) or
    "none" (nobody looked); for matrices "rebuilt" and for files "sha256".
    """

    what: str
    digest: str
    kind: str
    how: str


@dataclass(frozen=True)
class Verification:
    """That an adapter and a base are what they say. There is none for what is not: `verify` raises."""

    ref: str
    digest: str
    base: Evidence
    projection: Evidence
    files: tuple[Evidence, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the base was looked at too."""
        return self.base.kind != "none"

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return (self.base, self.projection, *self.files)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "files": [asdict(file) for file in self.files], "is_complete": self.is_complete}

    def __str__(self) -> str:
        width = max(len(each.what) for each in self.evidence)
        lines = [f"  {each.what:<{width}}  {each.digest}  {each.how}" for each in self.evidence]
        return "\n".join([f"{self.ref}  {self.digest}", *lines])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html_card(self.ref, [(each.what, f"{each.how} ({each.digest})") for each in self.evidence])


def verify(
    base: Any,
    ref: Named,
    *,
    locked: bool | str | Path = False,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    config: Config | None = None,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Proof that the adapter `ref` is what was published and `base` the one it was trained on.

    `ref` is a reference, or a folder (a Path, or text such as `./my-adapter`), of which is proven what a push of it would
    publish, without a hub. `base` and `locked` are what `sdk.load` takes; None leaves the base out. Nothing is attached or changed,
    and a base on disk is proven by its files, without torch. Raises what `sdk.load` raises:
    BaseMismatch, ProjectionMismatch, DigestMismatch, ArchiveError and the rest.
    """
    wanted, lock = finding.parse(ref), lock_for(locked)
    with door_to([wanted], config, hub) as door, reporting(progress) as report:
        (found,) = finding.find_many([wanted], hub=door, lock=lock, budget_bytes=budget_bytes)
        archive = found.archive
        prove(
            archive.manifest.recipe,
            archive.manifest.projection_digest,
            budget_bytes=budget_bytes,
            source=archive.projection,
        )
        with explained([found], hub=door):
            base_evidence = _prove_base(base, found, door, report)
    return Verification(found.title, archive.manifest.digest, base_evidence, _projection(archive), _files(found))


def _prove_base(base: Any, found: Found, door: Hub, report: Progress) -> Evidence:
    manifest = found.archive.manifest
    named = manifest.base
    if base is None:
        return Evidence("base", named.fingerprint, "none", f"{named.name}: not looked at")
    if is_live(base):
        return _prove_live(base, found, door, report)
    path = locate_for(base, manifest, door.config)
    table = check_files(path, manifest, door.config, report)
    return Evidence("base", table.value, "files", f"every byte of {len(table.tensors)} tensors in {Path(path)}")


def _prove_live(model: Any, found: Found, door: Hub, report: Progress) -> Evidence:
    from vera.nn.attach import backbone_of
    from vera.nn.configured import check_model
    from vera.nn.identity import prove_base

    table = table_for(found, door)
    with digest_books.digest_book(digest_books.digests_of(door.config)) as digests:
        proof = prove_base(backbone_of(model), table, digests=digests, progress=report)
    check_model(backbone_of(model), found.archive.manifest.base)
    check_reading(Path(backbone_of(model).name_or_path), found.archive.manifest.base)
    return Evidence("base", proof.fingerprint, proof.kind, str(proof).partition(": ")[2])


def _projection(archive: Archive) -> Evidence:
    recipe, digest = archive.manifest.recipe, archive.manifest.projection_digest
    if recipe.is_stored:
        return Evidence("projection", digest, "sha256", f"{recipe.size_bytes:,} bytes of a stored pair, as promised")
    return Evidence(
        "projection",
        digest,
        "rebuilt",
        f"rebuilt from seed {recipe.seed}, rank {recipe.rank}, {recipe.stream}, and equal",
    )


def _files(found: Found) -> tuple[Evidence, ...]:
    from hashlib import sha256

    return tuple(
        Evidence(path, f"sha256:{sha256(data).hexdigest()}", "sha256", f"{len(data):,} bytes {_standing(path, found)}")
        for path, data in sorted(found.archive.files.items())
    )


def _standing(path: str, found: Found) -> str:
    """Nobody has promised the card of a folder: it is the author's to write, and a push seals it."""
    return "as promised" if found.fetched or path == WEIGHTS_FILE else "as a push of the folder would publish them"
