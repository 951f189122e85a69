"""How a base's tokenizer read some texts when an adapter was trained: examples that are read again wherever the adapter is used.

The fingerprint of a base is its weights. Beside the same weights another vocabulary, normaliser or template gives other
token ids, and so other answers. What is kept is what the tokenizer did and not its files, which versions of transformers
write differently for tokenizers that do the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from vera.errors import BaseMismatch

if TYPE_CHECKING:
    from vera.base_identity import BaseIdentity

MAX_EXAMPLES = 32
MAX_EXAMPLE_TEXT = 256  # characters
MAX_EXAMPLE_IDS = 1024
MAX_TURNS = 8
MAX_ADDED = 64
_MOST_SAID = 3
_Value = Sequence[int] | int | str | None
_SAID_BEFORE, _SAID_FROM = 1, 6  # ids around the first that differs


@dataclass(frozen=True)
class TextExample:
    """A text, with a second one where it is a pair, and the ids that a training would be given of it: with the special
    tokens around it, cut at `max_length`. `types` says of a pair which of the two each id is of, where the tokenizer does."""

    text: str
    ids: tuple[int, ...]
    pair: str | None = None
    types: tuple[int, ...] | None = None
    max_length: int | None = None

    def __str__(self) -> str:
        second = f" with {_quoted(self.pair)}" if self.pair is not None else ""
        cut = f" cut at {self.max_length} tokens" if self.max_length is not None else ""
        return f"{_quoted(self.text)}{second}{cut}"


@dataclass(frozen=True)
class ChatExample:
    """What a user and an assistant say in turn, the user first and last, and the ids that the chat template makes of it for an answer."""

    turns: tuple[str, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True)
class BaseTokenizer:
    """What a base's tokenizer did when an adapter was trained.

    `end` is the id that ends a completion and `chat` the template's, each only where the training used it. `added` has the ids of the
    tokens that are looked for in a text before anything else, by how they are spelled; None where they were too many to keep.
    `words` is the hash of all others (`hash_of_words`); None where there is none, as in records of before it.
    """

    examples: tuple[TextExample, ...]
    end: int | None = None
    added: Mapping[str, int] | None = field(default=None, hash=False)
    chat: ChatExample | None = None
    words: str | None = None


def hash_of_words(ids: Mapping[str, int]) -> str:
    """SHA-256, in lower-case hex, of a vocabulary: of the canonical JSON (RFC 8785) of `[id, token]` for each, in order."""
    ordered = sorted(zip(ids.values(), ids.keys(), strict=True))
    # Of integers and texts this is canonical, and a tenth of the time: a vocabulary has up to a million.
    text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class TokenizerDifference:
    """Something that the tokenizer does not do as in training. None is what is not there."""

    what: str
    trained: _Value
    found: _Value

    def __str__(self) -> str:
        trained, found = _shown(self.trained, self.found)
        return f"{self.what} is {found} here and was {trained} in training"


def refusal(what: str, base: BaseIdentity, differing: Sequence[TokenizerDifference]) -> BaseMismatch:
    """The refusal of `what`, which says of some texts how they are read and how they were."""
    said = "; ".join(map(str, differing[:_MOST_SAID]))
    more = f"; and {len(differing) - _MOST_SAID} more differences" if len(differing) > _MOST_SAID else ""
    at = f" at revision {base.revision}" if base.revision else ""
    return BaseMismatch(
        f"{what} reads texts otherwise than that of {base.name} did when the adapter was trained, which would be given other token "
        f"ids for the very same texts: {said}{more}. Put the tokenizer files of {base.name}{at} beside the weights, as they are "
        "there, and open the base again; where they are there already, it is another version of transformers that reads them "
        "as in training.",
        code="BASE_TOKENIZER_MISMATCH",
        fingerprint=base.fingerprint,
        tokenizer={each.what: {"trained": _json(each.trained), "found": _json(each.found)} for each in differing},
    )


def _shown(trained: _Value, found: _Value) -> tuple[str, str]:
    """Both, of long ones what is around the first place where they differ."""
    if isinstance(trained, tuple | list) and isinstance(found, tuple | list):
        same = next((at for at, (a, b) in enumerate(zip(trained, found, strict=False)) if a != b), None)
        start = max(0, (min(len(trained), len(found)) if same is None else same) - _SAID_BEFORE)
        return _part(trained, start), _part(found, start)
    return _one(trained), _one(found)


def _part(ids: Sequence[int], start: int) -> str:
    middle = ", ".join(map(str, ids[start : start + _SAID_FROM]))
    return f"[{'…, ' if start else ''}{middle}{', …' if start + _SAID_FROM < len(ids) else ''}]"


def _one(value: _Value) -> str:
    return "no token" if value is None else str(value) if isinstance(value, int | str) else _part(value, 0)


def _json(value: _Value) -> object:
    return value if isinstance(value, int | str) or value is None else list(value)


def _quoted(text: str) -> str:
    """The text as JSON in ASCII: it may hold what says something else in a terminal than what is written."""
    shown = json.dumps(text)
    return shown if len(shown) <= 60 else f'{shown[:56]}…"'
