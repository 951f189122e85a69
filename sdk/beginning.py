"""`sdk.new`: an adapter before its first step, as a folder to load and to train with a loop of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdk import bases, digest_books, identities, tensor_tables
from sdk.config import Config
from sdk.loading import quiet, reporting
from vera import archive as archives
from vera.data import TEXT_GENERATION
from vera.errors import ArchiveError, BaseUnreadable, VeraError
from vera.folders import ADAPTER_FILES, check_replaceable, check_writable
from vera.manifest import BEGUN, METHODS, VERA
from vera.peft_format import FEATURE_EXTRACTION
from vera.projection import PEFT_MT19937

if TYPE_CHECKING:
    from vera.fingerprint import Progress


def new(
    base: str | Path,
    to: Path | str,
    *,
    rank: int = 256,
    targets: Sequence[str] | str = (),
    method: str = VERA,
    stream: str = PEFT_MT19937,
    seed: int = 0,
    license: str | None = None,
    config: Config | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes an untrained adapter of `base` to the folder `to`, and gives that. Another untrained one there is replaced.

    `base` is a folder, a name given to `vera-hub base add`, or a Hugging Face id. `targets` are the ends of the names of the modules to
    adapt, or "all-linear"; none is the query and value maps. `method` is "vera" or "dvora"; `rank`, `stream` and `seed` are those of the
    frozen matrices. A decoder's is to generate, any other's gives hidden states: a classifier with its head is for `vera-hub train`.

        sdk.new("org/base", "my-adapter", rank=256)
        model = sdk.load("org/base", "./my-adapter")  # or on a live model
        with sdk.training(model) as vectors:
            ...  # your loop, or transformers' Trainer
        sdk.save(model, "my-adapter")

    Raises VeraError: BaseUnreadable, TargetError, RecipeError, TRAINING_INVALID; ArchiveError (FOLDER_TAKEN) for a folder that holds something else, an adapter that
    was trained among it.
    """
    from vera.nn import opening, untrained
    from vera.nn.base import Base
    from vera.nn.training.recipe import Recipe

    _check(base, method)
    out, used = Path(to), config or Config.resolve()
    check_replaceable(out, ADAPTER_FILES)
    _check_nothing_is_lost(out)
    check_writable(out)
    recipe = Recipe(method=method, rank=rank, stream=stream, seed=seed)
    path = bases.locate(base, config=used)
    with reporting(progress) as report:
        table = tensor_tables.fingerprint_of(path, config=used, progress=report)
    identity, generates = identities.identity_of(path, table, base, config=used), opening.can_generate(path)
    with quiet():
        opened = Base.open(
            path,
            TEXT_GENERATION if generates else FEATURE_EXTRACTION,
            recipe,
            name=identity.name,
            revision=identity.revision,
            fingerprint=table,
        )
    with digest_books.digest_book(digest_books.digests_of(used)) as digests:
        opened.prove(digests)
    archive = untrained.archive_of(
        opened,
        identity,
        recipe,
        name=out.resolve().name,
        suffixes=[targets] if isinstance(targets, str) else targets,
        generates=generates,
        license=license,
    )
    archives.write_folder(archive, out)
    return out


def _check(base: object, method: str) -> None:
    """Raises BaseUnreadable for a live model, and VeraError (TRAINING_INVALID) for a method of no adapter."""
    if not isinstance(base, str | Path):
        raise BaseUnreadable(
            f"The base is a {type(base).__name__}: an adapter is begun from the base's files, so give its folder, its name or a Hugging Face "
            "id, and the live model to sdk.load.",
            kind=type(base).__name__,
        )
    if method not in METHODS:
        raise VeraError(
            f"The method is {method!r}: an adapter of this hub is one of {', '.join(METHODS)}.", code="TRAINING_INVALID"
        )


def _check_nothing_is_lost(folder: Path) -> None:
    """Raises ArchiveError (FOLDER_TAKEN) for an adapter that was trained, which a script that is run again would begin anew."""
    try:
        training = archives.read_folder(folder).manifest.training
    except VeraError:  # nothing that could be loaded
        return
    if BEGUN not in training:
        raise ArchiveError(
            f"{folder} holds an adapter that was trained, and a new one would take its place: choose another folder, or remove that one.",
            code="FOLDER_TAKEN",
            path=str(folder),
        )
