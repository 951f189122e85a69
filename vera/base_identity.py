"""What a manifest says of the base: which one it is and, where that was recorded, how it computed and read in training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vera.base_config import MAX_NAME as MAX_SETTING_NAME
from vera.base_config import MAX_SETTINGS, BaseConfig, Setting, is_setting
from vera.base_tokenizer import (
    MAX_ADDED,
    MAX_EXAMPLE_IDS,
    MAX_EXAMPLE_TEXT,
    MAX_EXAMPLES,
    MAX_TURNS,
    BaseTokenizer,
    ChatExample,
    TextExample,
)
from vera.errors import ManifestError
from vera.manifest_fields import Fields
from vera.manifest_rules import DECEIVING, check_text, require

_FINGERPRINT = re.compile(r"vbf1:[0-9a-f]{64}")
_DTYPE_NAME = re.compile(r"[a-z0-9_]{1,32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class BaseIdentity:
    """The base model: `fingerprint` decides, `name` and `revision` are for people and downloads.

    `config` is how it was set in training, where that was recorded: weights alone do not say what a model computes. `tokenizer` and
    `processor` are likewise how its texts were read then, and the settings its images were prepared with.
    """

    name: str
    fingerprint: str
    dtype: str
    revision: str | None = None
    config: BaseConfig | None = None
    tokenizer: BaseTokenizer | None = None
    processor: Mapping[str, Setting] | None = field(default=None, hash=False)


def check_base(base: BaseIdentity) -> None:
    """Raises ManifestError."""
    require(
        _FINGERPRINT.fullmatch(base.fingerprint),
        f"base.fingerprint is {base.fingerprint[:80]!r}, not vbf1: and 64 hex digits",
    )
    check_text("base.name", base.name)
    if base.revision is not None:
        check_text("base.revision", base.revision)
    require(_DTYPE_NAME.fullmatch(base.dtype), f"base.dtype {base.dtype[:80]!r} is no dtype")
    if base.config is not None:
        require(
            not base.config.set.keys() & base.config.default.keys(), "base.config has a setting in both of its halves"
        )
        _check_settings("base.config", base.config.all)
    if base.tokenizer is not None:
        _check_tokenizer(base.tokenizer)
    if base.processor is not None:
        _check_settings("base.processor", base.processor)


def _check_settings(where: str, settings: Mapping[str, Setting]) -> None:
    require(len(settings) <= MAX_SETTINGS, f"{where} may have at most {MAX_SETTINGS} settings")
    for name, value in settings.items():
        require(
            0 < len(name) <= MAX_SETTING_NAME and not DECEIVING.search(name), f"{name[:80]!r} is no name of a setting"
        )
        require(is_setting(value) and not DECEIVING.search(str(value)), f"{where} cannot say what {name[:80]!r} says")


def _check_tokenizer(tokenizer: BaseTokenizer) -> None:
    where, chat = "base.tokenizer", tokenizer.chat
    require(0 < len(tokenizer.examples) <= MAX_EXAMPLES, f"{where} must have 1 to {MAX_EXAMPLES} examples")
    for example in tokenizer.examples:
        texts = (example.text,) if example.pair is None else (example.text, example.pair)
        require(
            all(map(_is_example, texts)), f"a text of {where} is longer than {MAX_EXAMPLE_TEXT} characters, or none"
        )
        ids = (example.ids,) if example.types is None else (example.ids, example.types)
        require(all(map(_are_ids, ids)), f"{where} has {MAX_EXAMPLE_IDS} ids of a text at most, each an integer from 0")
        require(
            example.max_length is None or 1 <= example.max_length <= MAX_EXAMPLE_IDS,
            f"{where} cuts a text at no length",
        )
    require(tokenizer.end is None or _are_ids((tokenizer.end,)), f"{where}.end is no id")
    added = tokenizer.added or {}
    require(len(added) <= MAX_ADDED, f"{where}.added may name at most {MAX_ADDED} tokens")
    require(
        all(token and _is_example(token) for token in added) and (not added or _are_ids(tuple(added.values()))),
        f"{where}.added must give the id of each token by its text",
    )
    require(tokenizer.words is None or bool(_SHA256.fullmatch(tokenizer.words)), f"{where}.words is no SHA-256")
    if chat is not None:
        require(
            0 < len(chat.turns) <= MAX_TURNS and len(chat.turns) % 2 and all(map(_is_example, chat.turns)),
            f"{where}.chat must have an odd number of turns, at most {MAX_TURNS}",
        )
        require(_are_ids(chat.ids), f"{where}.chat has no ids")


def _is_example(text: str) -> bool:
    return len(text) <= MAX_EXAMPLE_TEXT and not _SURROGATE.search(text)


def _are_ids(ids: tuple[int, ...]) -> bool:
    return 0 < len(ids) <= MAX_EXAMPLE_IDS and all(type(number) is int and 0 <= number < 2**31 for number in ids)


# -- JSON in and out ------------------------------------------------------------------------------


def base_to_json(base: BaseIdentity) -> dict[str, Any]:
    return {
        "name": base.name,
        "revision": base.revision,
        "fingerprint": base.fingerprint,
        "dtype": base.dtype,
        # Absent where nothing was recorded, so that manifests from before it keep their bytes and their digests.
        **({"config": {"set": dict(base.config.set), "default": dict(base.config.default)}} if base.config else {}),
        **({"tokenizer": _tokenizer_to_json(base.tokenizer)} if base.tokenizer else {}),
        **({"processor": dict(base.processor)} if base.processor is not None else {}),
    }


def _tokenizer_to_json(tokenizer: BaseTokenizer) -> dict[str, Any]:
    chat = tokenizer.chat
    return {
        "examples": [
            {
                "text": each.text,
                "pair": each.pair,
                "max_length": each.max_length,
                "ids": list(each.ids),
                "types": None if each.types is None else list(each.types),
            }
            for each in tokenizer.examples
        ],
        "end": tokenizer.end,
        "added": None if tokenizer.added is None else dict(tokenizer.added),
        "chat": chat and {"turns": list(chat.turns), "ids": list(chat.ids)},
        **({"words": tokenizer.words} if tokenizer.words is not None else {}),
    }


def parse_base(base: Fields) -> BaseIdentity:
    """Raises ManifestError for fields that are missing, of another type, or unknown; `check_base` says whether they hold."""
    identity = BaseIdentity(
        name=base.string("name"),
        fingerprint=base.string("fingerprint"),
        dtype=base.string("dtype"),
        revision=base.optional_string("revision"),
        config=_parse_config(base.object("config")) if base.has("config") else None,
        tokenizer=_parse_tokenizer(base.object("tokenizer")) if base.has("tokenizer") else None,
        processor=base.object("processor").rest() if base.has("processor") else None,
    )
    base.end()
    return identity


def _parse_config(config: Fields) -> BaseConfig:
    parsed = BaseConfig(config.object("set").rest(), config.object("default").rest())
    config.end()
    return parsed


def _parse_tokenizer(tokenizer: Fields) -> BaseTokenizer:
    chat, added = tokenizer.optional_object("chat"), tokenizer.optional_object("added")
    parsed = BaseTokenizer(
        tuple(_parse_example(each) for each in tokenizer.objects("examples")),
        tokenizer.optional_integer("end"),
        None if added is None else added.rest(),
        _parse_chat(chat) if chat else None,
        tokenizer.string("words") if tokenizer.has("words") else None,
    )
    tokenizer.end()
    return parsed


def _parse_example(example: Fields) -> TextExample:
    types = example.optional_values("types")
    parsed = TextExample(
        example.string("text"),
        tuple(example.values("ids")),
        example.optional_string("pair"),
        None if types is None else tuple(types),
        example.optional_integer("max_length"),
    )
    example.end()
    return parsed


def _parse_chat(chat: Fields) -> ChatExample:
    turns = chat.values("turns")
    if not all(isinstance(turn, str) for turn in turns):
        raise ManifestError("vera.json is not valid: the turns of base.tokenizer.chat must be texts.")
    parsed = ChatExample(tuple(turns), tuple(chat.values("ids")))
    chat.end()
    return parsed
