"""`sdk.verify`: what of an adapter and a base is proven, and how, without attaching anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk import bases, fetching
from sdk.config import Config
from sdk.explaining import explained
from sdk.loading import check_files, door_to, is_live, locate_for, reporting
from sdk.locking import lock_for
from vera.notebook import html_card
from vera.projection import DEFAULT_BUDGET_BYTES, check_budget, prove
from vera.ref import AdapterRef

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.fetching import Fetched
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
    ref: str | AdapterRef,
    *,
    locked: bool | str | Path = False,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    config: Config | None = None,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Proof that the adapter `ref` is what was published and `base` the one it was trained on.

    `base` and `locked` are what `sdk.load` takes; None leaves the base out. Nothing is attached or changed,
    and a base on disk is proven by its files, without torch. Raises what `sdk.load` raises:
    BaseMismatch, ProjectionMismatch, DigestMismatch, ArchiveError and the rest.
    """
    parsed, lock = ref if isinstance(ref, AdapterRef) else AdapterRef.parse(ref), lock_for(locked)
    with door_to([parsed], config, hub) as door, reporting(progress) as report:
        fetched = fetching.fetch(parsed, hub=door, lock=lock)
        check_budget(fetched.archive.manifest.recipe, budget_bytes)
        fetched = fetching.with_pair(fetched, hub=door)
        archive = fetched.archive
        prove(
            archive.manifest.recipe,
            archive.manifest.projection_digest,
            budget_bytes=budget_bytes,
            source=archive.projection,
        )
        with explained([fetched], hub=door):
            base_evidence = _prove_base(base, archive, door, report)
    return Verification(
        fetched.version_ref, fetched.resolved.digest, base_evidence, _projection(archive), _files(fetched)
    )


def _prove_base(base: Any, archive: Archive, door: Hub, report: Progress) -> Evidence:
    named = archive.manifest.base
    if base is None:
        return Evidence("base", named.fingerprint, "none", f"{named.name}: not looked at")
    if is_live(base):
        return _prove_live(base, archive, door, report)
    path = locate_for(base, archive.manifest, door.config)
    table = check_files(path, archive.manifest, door.config, report)
    return Evidence("base", table.value, "files", f"every byte of {len(table.tensors)} tensors in {Path(path)}")


def _prove_live(model: Any, archive: Archive, door: Hub, report: Progress) -> Evidence:
    from vera.nn.attach import backbone_of
    from vera.nn.identity import prove_base

    table = bases.table_of(archive.manifest.base.fingerprint, hub=door)
    with bases.digest_book(door.config) as digests:
        proof = prove_base(backbone_of(model), table, digests=digests, progress=report)
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


def _files(fetched: Fetched) -> tuple[Evidence, ...]:
    from hashlib import sha256

    return tuple(
        Evidence(path, f"sha256:{sha256(data).hexdigest()}", "sha256", f"{len(data):,} bytes as promised")
        for path, data in sorted(fetched.archive.files.items())
    )
