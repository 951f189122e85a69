"""Checkpoints of PEFT, adopted: bound to a base that is registered here, their matrices held to the recipe that gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from hub.db.models.adapters import Base
from hub.db.queries import bases
from hub.db.queries.visibility import ANYBODY
from hub.domain.bases import fingerprint_of
from hub.errors import Invalid
from vera.archive import Archive
from vera.errors import ArchiveError, TargetError
from vera.fingerprint import BaseFingerprint
from vera.peft_checkpoint import PeftCheckpoint
from vera.peft_format import beyond_peft
from vera.peft_import import Imported, import_checkpoint
from vera.peft_matrices import Evidence

# Bases of one name: one for each revision or dtype that somebody has registered.
_MOST_BASES = 20


@dataclass(frozen=True)
class KnownBase:
    """A base as the registry knows it."""

    name: str
    revision: str | None
    table: BaseFingerprint


@dataclass(frozen=True)
class Adopted:
    """A checkpoint as an adapter. `notes` are what nothing has proven; `dropped_bytes` its matrices that a recipe gives."""

    archive: Archive
    notes: tuple[str, ...]
    dropped_bytes: int


def bases_for(session: Session, checkpoint: PeftCheckpoint) -> tuple[KnownBase, ...]:
    """The registered bases that the checkpoint can mean. Raises Invalid when there is none."""
    name, revision = checkpoint.config.base_name, checkpoint.config.base_revision
    rows = bases.page(session, ANYBODY, name=name, after=None, limit=_MOST_BASES) if name else []
    found = [row.base for row in rows]
    if not found:
        raise Invalid(
            f"adapter_config.json calls its base {(name or 'nothing')[:200]!r}, and no base of that name is registered here, "
            "so nothing could say which weights the adapter is for. If `vera-hub base list --hub` has that base under another name, write "
            "that in its place (base_model_name_or_path); if not, register it first: `vera-hub base add PATH --name owner/name`. With "
            "the base at hand, `vera-hub import FOLDER OUT --base PATH` proves the adapter against it, and `vera-hub push OUT` publishes that.",
            code="BASE_UNKNOWN",
            name=(name or "")[:200],
        )
    exact = [base for base in found if revision is not None and base.revision == revision]
    return tuple(_known(session, base) for base in exact or found)


def adopt(checkpoint: PeftCheckpoint, known: Sequence[KnownBase], card: bytes | None) -> Adopted:
    """The checkpoint as an adapter of the one base among `known` that it fits; with `card`, or one that says where it is from.

    Raises what `vera.peft_import` does, and Invalid where several bases fit.
    """
    base, imported = _import(checkpoint, known, None if card is None else _text(card))
    is_stored = imported.evidence is Evidence.STORED
    notes = [
        f"Base not proven: PEFT's configuration names it {base.name}, without a hash, and {base.table.value} is what "
        "is registered here under that name.",
        "Settings not recorded: neither the checkpoint nor the registry says how the base was configured and read its texts or images in "
        "training, so no load compares that. `vera-hub import` beside the base records how it does now.",
    ]
    if imported.evidence is Evidence.SEED:
        notes.append(
            "Matrices not proven: the checkpoint held none, and the seed in PEFT's configuration is taken at its word, "
            f"with matrices in {imported.archive.manifest.recipe.rounding}."
        )
    if beyond := beyond_peft(imported.archive.manifest):
        notes.append(
            f"Not for PEFT as it is: it has {beyond}, and PeftModel.from_pretrained of this version ends in an error. sdk.load loads "
            "it, and `vera-hub export REF --base BASE --peft OUT` writes it as PEFT reads it."
        )
    elif renamed := _renamed(checkpoint, imported.archive):
        theirs, ours = renamed
        notes.append(
            f"Renamed: the checkpoint says {theirs} where the base's files say {ours}. On a model that says it too, PEFT finds "
            "nothing of this version and answers as the base does: load it with PEFT on the bare model (AutoModel), or with sdk.load."
        )
    return Adopted(
        imported.archive,
        tuple(notes),
        0 if is_stored else imported.matrix_bytes,
    )


def _import(checkpoint: PeftCheckpoint, known: Sequence[KnownBase], card: str | None) -> tuple[KnownBase, Imported]:
    fitting: list[tuple[KnownBase, Imported]] = []
    refused: TargetError | None = None
    for base in known:
        try:
            imported = import_checkpoint(
                checkpoint, base.table, base_name=base.name, base_revision=base.revision, card=card
            )
        except TargetError as error:
            refused = error
        else:
            fitting.append((base, imported))
    if not fitting:
        assert refused is not None, "bases_for gives one at least"
        raise refused
    if len(fitting) > 1:
        names = ", ".join(f"{base.table.value} ({base.revision or 'no revision'})" for base, _ in fitting)
        raise Invalid(
            f"Several bases called {known[0].name} are registered here and the adapter fits them all: {names}. Set `revision` "
            "in adapter_config.json to that of the base it was trained on, or import it with `vera-hub import`.",
            code="BASE_AMBIGUOUS",
            name=known[0].name,
        )
    return fitting[0]


def _renamed(checkpoint: PeftCheckpoint, adopted: Archive) -> tuple[str, str] | None:
    """A module that the checkpoint calls otherwise than the adapter does, by both names."""
    ours = {module.name for module in adopted.manifest.modules}
    for theirs in sorted(checkpoint.lambda_b.keys() - ours):
        if meant := next(
            (name for name in sorted(ours) if theirs.endswith(f".{name}") or name.endswith(f".{theirs}")), None
        ):
            return theirs, meant
    return None


def _known(session: Session, base: Base) -> KnownBase:
    return KnownBase(base.name, base.revision, fingerprint_of(session, base.id))


def _text(card: bytes) -> str:
    try:
        return card.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError("README.md is not UTF-8 text: save it as UTF-8.", code="CARD_INVALID") from error
