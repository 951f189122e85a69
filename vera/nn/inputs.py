"""From texts and images to what a base takes: token ids, padded batches, pixels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vera.data import EncodedImage
from vera.errors import BaseMismatch, DataError, VeraError, VeraWarning
from vera.manifest import BaseIdentity

Image = EncodedImage | bytes | str | Path | Any  # the last is an image of Pillow


class _Sized(Protocol):
    def __len__(self) -> int: ...


_ItemT = TypeVar("_ItemT", bound=_Sized)
_PROCESSOR_FILE = "preprocessor_config.json"
_SAID_OF_ERROR = 300  # characters of what a library says, which may be a page
# Who is told of each batch that is done. Whatever answers goes through its items here, and knows nothing of who waits for it.
_told: ContextVar[Callable[[int], None] | None] = ContextVar("told", default=None)


@dataclass(frozen=True)
class Tokens:
    """One item of a batch: token ids and, for a pair of texts, which of the two each token is of."""

    ids: Sequence[int]
    types: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Pixels:
    """One image, not decoded: a training set of them fits in memory. All have one length, as their batches have one shape."""

    image: Image

    def __len__(self) -> int:
        return 1


def tokenizer_of(backbone: nn.Module, base: BaseIdentity | None = None) -> Any:
    """The base's own tokenizer, loaded from where the base was loaded; of a model that has the id of `base`, at its revision.

    Raises VeraError (TOKENIZER_MISSING, TOKENIZER_UNREADABLE) where none is there, or none that can be opened.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(backbone.name_or_path, **_revision_of(backbone, base))
    except Exception as error:  # of a damaged file the libraries beneath raise whatever they met, Exception itself too
        raise VeraError(_cannot_be_opened("tokenizer", backbone, error), code="TOKENIZER_UNREADABLE") from error
    if is_without_words(tokenizer):
        raise VeraError(
            f"The base {backbone.name_or_path} has no tokenizer files, for which transformers makes a tokenizer that knows no word and "
            "reads every text alike: put those it was trained with beside its weights.",
            code="TOKENIZER_MISSING",
        )
    return tokenizer


def _cannot_be_opened(what: str, backbone: Any, error: Exception) -> str:
    from transformers import __version__

    first_line = next(iter(str(error).strip().splitlines()), "")
    return (
        f"The {what} of the base {backbone.name_or_path} cannot be opened by transformers {__version__} ({type(error).__name__}: "
        f"{first_line[:_SAID_OF_ERROR]}): put the files it was trained with beside its weights, whole; where they are, another version of "
        "transformers or a package that it names is wanted."
    )


def is_without_words(tokenizer: Any) -> bool:
    """Whether it has nothing but special tokens, and at most the sign of a space beside them: transformers opens a folder without a
    vocabulary so."""
    special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    return len(tokenizer) <= len(special) + 1


def _revision_of(backbone: Any, base: BaseIdentity | None) -> dict[str, str]:
    """A model of the Hugging Face Hub does not say at which commit it was opened, and its id alone means the newest; the adapter was
    trained with the tokenizer of the commit that it names."""
    name = backbone.name_or_path
    if base is None or base.revision is None or name != base.name or Path(name).exists():
        return {}
    return {"revision": base.revision}


def image_processor_of(backbone: nn.Module, base: BaseIdentity | None = None) -> Any:
    """The base's own image processor. Always the one on Pillow and NumPy: another computes other pixels.

    Raises VeraError (PROCESSOR_MISSING, PROCESSOR_UNREADABLE) when the base has none, or none that can be opened.
    """
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(backbone.name_or_path, backend="pil", **_revision_of(backbone, base))  # type: ignore[no-untyped-call]  # transformers
    except ImportError as error:
        raise VeraError(
            "Reading images needs Pillow: pip install 'vera-hub[torch]'.", code="PROCESSOR_MISSING"
        ) from error
    except Exception as error:  # as of a tokenizer; of a file that is no JSON an OSError, as of one that is not there
        if not isinstance(error, OSError) or Path(str(backbone.name_or_path), _PROCESSOR_FILE).is_file():
            raise VeraError(
                _cannot_be_opened("image processor", backbone, error), code="PROCESSOR_UNREADABLE"
            ) from error
        raise VeraError(
            f"The base {backbone.name_or_path} has no {_PROCESSOR_FILE}, which says what size and scale its "
            "images have: put the one it was trained with beside its weights.",
            code="PROCESSOR_MISSING",
        ) from error


def compared(reader: Any, check: Callable[[Any, BaseIdentity], None], base: BaseIdentity | None, verify: str) -> Any:
    """`reader`, a tokenizer or an image processor, once `check` has compared it with the record in `base`.

    Raises its BaseMismatch; with `verify` "warn" it warns, and with "off" nobody looks.
    """
    if base is None or verify == "off":
        return reader
    try:
        check(reader, base)
    except BaseMismatch as error:
        if verify == "strict":
            raise
        warnings.warn(f"The adapter may answer wrongly. {error}", VeraWarning, stacklevel=3)
    return reader


def encode(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None = None, *, max_length: int
) -> list[Tokens]:
    """The tokens of each text, or of each text and its pair, cut at `max_length`; of one that has none, `first_token`. Raises
    DataError for other things."""
    _require_texts(texts, pairs)
    if len(texts) == 0:  # an array of texts has no truth of its own
        return []
    if pairs is None:
        ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
        return [Tokens(row or [first_token(tokenizer)]) for row in ids]
    encoded = tokenizer(list(texts), list(pairs), truncation=True, max_length=max_length)
    types = encoded.get("token_type_ids") or [None] * len(texts)
    rows = zip(encoded["input_ids"], types, strict=True)
    return [Tokens(row, kind) if row else Tokens([first_token(tokenizer)]) for row, kind in rows]


def first_token(tokenizer: Any) -> int:
    """What stands for a text without a token, which a model cannot be given: the token that begins a text, or else the one that
    ends it. Raises DataError where there is neither."""
    token: int | None = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if token is None:
        raise DataError(
            "The base's tokenizer has no token that begins or ends a text, and an item has no text: give it one."
        )
    return token


def require_many(items: object, what: str) -> None:
    """Raises DataError when `items` is one item: of a string, each letter would be answered."""
    if isinstance(items, str | bytes | Path):
        raise DataError(
            f"A list of {what}s is wanted, and this is one {what}, {str(items)[:80]!r}: put it into a list."
        )


def _require_texts(texts: Sequence[str], pairs: Sequence[str] | None) -> None:
    for column in (texts, pairs if pairs is not None else ()):
        require_many(column, "text")
        others = [item for item in column if not isinstance(item, str)]
        if others:
            raise DataError(
                f"{repr(others[0])[:80]} is of type {type(others[0]).__name__} and no text: give texts, and the second texts "
                "of pairs as a list of their own, classify([a, …], [b, …])."
            )
    if pairs is not None and len(pairs) != len(texts):
        raise DataError(f"There are {len(texts)} texts and {len(pairs)} second texts: give one for each.")


def batches_by_length(items: Sequence[_ItemT], batch_size: int) -> Iterator[tuple[list[int], list[_ItemT]]]:
    """Batches of items of like length, as (row numbers, items): padding is wasted work."""
    rows = sorted(range(len(items)), key=lambda row: (len(items[row]), row))
    for start in range(0, len(rows), batch_size):
        chunk = rows[start : start + batch_size]
        yield chunk, [items[row] for row in chunk]
        note_done(len(chunk))


def note_done(items: int) -> None:
    """Says that so many more are done to whoever wants to know (`telling`)."""
    if (tell := _told.get()) is not None:
        tell(items)


@contextmanager
def telling(tell: Callable[[int], None] | None) -> Iterator[None]:
    """Calls `tell` with the number of items that are done within it, batch by batch; with None nobody is told."""
    token = _told.set(tell)
    try:
        yield
    finally:
        _told.reset(token)


def padded(items: Sequence[Tokens], device: torch.device) -> dict[str, Tensor]:
    """Token ids, mask and, for pairs, token types (batch, longest), int64, padded to the right with zeros."""
    columns: dict[str, list[Sequence[int]]] = {
        "input_ids": [item.ids for item in items],
        "attention_mask": [[1] * len(item) for item in items],
    }
    if any(item.types is not None for item in items):
        columns["token_type_ids"] = [item.types or [0] * len(item) for item in items]
    return {name: filled(rows, device) for name, rows in columns.items()}


def filled(rows: Sequence[Sequence[int]], device: torch.device, *, value: int = 0) -> Tensor:
    """`rows` as one int64 tensor (rows, longest), filled up to the right with `value`."""
    table = np.full((len(rows), max(len(row) for row in rows)), value, dtype=np.int64)
    for at, row in enumerate(rows):
        table[at, : len(row)] = row
    return torch.from_numpy(table).to(device)


def decoded(image: Image) -> Any:
    """`image` (bytes, a path, or an image of Pillow) as an RGB image of Pillow, the way up that it says (a camera that was held
    upright says so in EXIF), as transformers and `datasets` read it. Raises DataError."""
    from PIL import Image as Pillow
    from PIL import ImageOps, UnidentifiedImageError

    if isinstance(image, Pillow.Image):
        return ImageOps.exif_transpose(image).convert("RGB")
    data = image.read() if isinstance(image, EncodedImage) else image
    try:
        with Pillow.open(io.BytesIO(data) if isinstance(data, bytes) else data) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(
            f"There is no image file {str(image)!r}: give the path of one, its bytes, or an image of Pillow."
        ) from error
    except (OSError, UnidentifiedImageError, Pillow.DecompressionBombError) as error:
        what = image.sha256 if isinstance(image, EncodedImage) else str(image)[:80]
        raise DataError(f"The image {what} cannot be decoded ({error}): leave it out or save it again.") from error
