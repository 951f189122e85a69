"""What changed from one version to another: computed from their files, as `vera-hub diff` computes it at home."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from hub.auth.policy import Principal
from hub.db.models.versions import Version
from hub.db.queries import versions
from hub.db.queries.blobs import StoredBlob
from hub.domain import blobs
from hub.domain.catalog import find_version, require_given, version_detail
from hub.domain.evaluations import compare_evaluations
from hub.domain.shaping import ref_of
from hub.domain.views.evaluations import Comparison, EvaluationView
from hub.domain.views.versions import ScoreChange, VersionDiff
from hub.errors import Conflict, Invalid
from hub.storage.blobs import BlobStore
from vera import archive
from vera.adapter_difference import compare_adapters
from vera.archive import Archive
from vera.manifest import WEIGHTS_FILE
from vera.ref import AdapterRef

# Both are held in memory, decoded, while they are compared. An adapter of vectors alone is far smaller.
MAX_WEIGHTS_BYTES = 16 << 20


@dataclass(frozen=True)
class Side:
    """A version that is to be compared: where its files are, and how it was scored."""

    ref: str
    files: Mapping[str, StoredBlob]
    evaluations: Mapping[str, EvaluationView]


@dataclass(frozen=True)
class Pair:
    """Two versions, and how their scores compare."""

    before: Side
    after: Side
    scores: tuple[ScoreChange, ...]


def find_pair(session: Session, reader: Principal | None, ref: AdapterRef, against: AdapterRef) -> Pair:
    """`against` and `ref`, to be compared when the session is closed. Raises what `find_version` raises, and Invalid
    for weights that are too large to be compared here."""
    before, after = (_side(session, reader, find_version(session, reader, each)) for each in (against, ref))
    return Pair(before, after, _scores(session, reader, before, after))


def diff_of(pair: Pair, objects: BlobStore | None) -> VersionDiff:
    """What changed, with the files read from wherever they are."""
    before, after = (_archive(side, objects) for side in (pair.before, pair.after))
    found = compare_adapters(before, after, names=(pair.before.ref, pair.after.ref))
    return VersionDiff(before=pair.before.ref, after=pair.after.ref, **vars(found), evaluations=pair.scores)


def against_of(ref: AdapterRef, text: str) -> AdapterRef:
    """What `?against=` means: a reference, or a version of the same adapter (`v2`). Raises RefError."""
    return AdapterRef.parse(text if "/" in text else f"{ref.adapter_id}@{text.removeprefix('@')}")


def _side(session: Session, reader: Principal | None, version: Version) -> Side:
    require_given(session, reader, version.adapter)  # what changed in the vectors tells of the vectors
    files = versions.files_of(session, version.id)
    size_bytes = next(file.size_bytes for file in files if file.path == WEIGHTS_FILE)
    if size_bytes > MAX_WEIGHTS_BYTES:
        raise Invalid(
            f"The weights of {ref_of(version)} have {size_bytes:,} bytes, and more than {MAX_WEIGHTS_BYTES:,} are not "
            "compared here: `vera-hub diff` compares them on your machine.",
            code="DIFF_TOO_LARGE",
            limit=MAX_WEIGHTS_BYTES,
            got=size_bytes,
        )
    found = version_detail(session, reader, version).evaluations
    return Side(
        ref=ref_of(version),
        files={file.path: blobs.locate(session, file.sha256) for file in files},
        evaluations={each.suite: each for each in found if each.score is not None},
    )


def _archive(side: Side, objects: BlobStore | None) -> Archive:
    return archive.inspect({path: blobs.bytes_of(stored, objects) for path, stored in side.files.items()})


def _scores(session: Session, reader: Principal | None, before: Side, after: Side) -> tuple[ScoreChange, ...]:
    one, other = before.evaluations, after.evaluations
    return tuple(
        ScoreChange(
            suite=suite,
            metric=other[suite].metric,
            before=one[suite].score or 0.0,
            after=other[suite].score or 0.0,
            comparison=_comparison(session, reader, other[suite].id, one[suite].id),
            evaluation_ids=(one[suite].id, other[suite].id),
        )
        for suite in sorted(one.keys() & other.keys())
    )


def _comparison(session: Session, reader: Principal | None, evaluation_id: str, against_id: str) -> Comparison | None:
    try:
        return compare_evaluations(session, reader, evaluation_id, against_id)
    except Conflict:  # another definition of the suite: the items are not the same
        return None
