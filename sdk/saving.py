"""`sdk.save`: an adapter that was trained on a live model, as a folder to push."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk import digest_books, finding, tensor_tables
from sdk.loading import door_to, reporting
from vera import archive as archives
from vera.errors import BaseMismatch
from vera.folders import ADAPTER_FILES, check_replaceable, check_writable
from vera.manifest import BEGUN

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.config import Config
    from vera.nn.attach import Attached


def save(
    model: Any,
    to: Path | str,
    ref: str | Path | None = None,
    *,
    verify: str = "strict",
    config: Config | None = None,
    hub: Hub | None = None,
) -> Path:
    """Writes the loaded adapter `ref`, or the one `model` answers through, as it is there now to the folder `to`, and gives that.

    It is an adapter of its own, for `sdk.push` and `sdk.load`: of the same base, matrices, modules and task, with the vectors
    (and the head) that `model` has, in float32, and a card that names what it was made from. `model` is what `sdk.load` or `sdk.activate`
    gave, and its base is proven again, so that nothing is saved whose base was trained along. An adapter that lies at `to` is replaced.

    `verify` is "strict", "warn" (a base that is no longer proven is a warning) or "off" (nobody looks at it).

    Raises VeraError: ADAPTER_NOT_LOADED, ADAPTER_MERGED, ROWS_ACTIVE, HEAD_UNSUPPORTED; BaseMismatch; ArchiveError for vectors that are not
    finite and for a folder that holds something else.
    """
    from sdk.live import held_by
    from vera.nn.attach import backbone_of, bank_on
    from vera.nn.continued import archive_of

    out = Path(to)
    check_replaceable(out, ADAPTER_FILES)
    check_writable(out)
    bank = bank_on(model)
    with bank.turns:  # which waits for a block of `using` in another thread
        bank.check_free()
    held = held_by(model, ref)
    _prove_base(backbone_of(model), held.attached, verify, config, hub)
    archive = archive_of(
        model, held.attached, archives.vectors_of(held.head_of).head if held.head_of else {},
        name=out.resolve().name, came_from=_origin(held.attached), projection=held.projection,
    )  # fmt: skip
    archives.write_folder(archive, out)
    return out


def _prove_base(model: Any, attached: Attached, verify: str, config: Config | None, hub: Hub | None) -> None:
    from vera.nn.attach import check_config, proof_of

    base = attached.manifest.base
    with door_to([], config, hub) as door, reporting(None) as report:
        table = tensor_tables.table_here(base.fingerprint, config=door.config)
        table = table or tensor_tables.table_of(base.fingerprint, hub=door)
        with digest_books.digest_book(digest_books.digests_of(door.config)) as digests:
            try:
                proof_of(model, table, verify=verify, digests=digests, progress=report)
            except BaseMismatch as error:
                raise _unless_held_otherwise(error, attached) from error
    check_config(attached.manifest, model, verify)


def _unless_held_otherwise(error: BaseMismatch, attached: Attached) -> BaseMismatch:
    """`error` or, of a base that was loaded rounded or quantised and has been moved or written to since, what to do after hours of training."""
    if error.code != "BASE_UNPROVABLE" or attached.base.kind != "source":
        return error
    return BaseMismatch(
        "The base of this model was proven as it was loaded, is held rounded or quantised, and was moved or written to since: nothing says any "
        "more that it was not trained along. Nothing was written; if it was only moved (to a GPU, say), save with "
        'verify="warn", and move it before the adapter is loaded the next time.',
        code="BASE_UNPROVABLE",
        fingerprint=attached.manifest.base.fingerprint,
    )


def _origin(attached: Attached) -> str | None:
    """The reference, or the digest of what was loaded from a folder, whose path is this machine's business; None of what was untrained."""
    if BEGUN in attached.manifest.training:
        return None
    is_folder = attached.ref is None or isinstance(finding.parse(attached.ref), Path)
    return attached.manifest.digest if is_folder or attached.ref is None else attached.ref
