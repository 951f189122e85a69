"""How a base's tokenizer reads texts: recorded when an adapter is trained, and compared before one is given what it reads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from vera.base_tokenizer import (
    MAX_ADDED,
    MAX_EXAMPLE_IDS,
    MAX_EXAMPLE_TEXT,
    BaseTokenizer,
    ChatExample,
    TextExample,
    TokenizerDifference,
    hash_of_words,
    refusal,
)
from vera.errors import DataError
from vera.manifest import BaseIdentity
from vera.nn import inputs

# What tokenizers treat differently. Nothing newer than Unicode 6, on which libraries agree, and no token that pads, which
# people add where a base has none.
_TEXTS = (
    "The quick Brown FOX can't jump over 12,345.67 lazy dogs -- isn't it?",
    "Café, Ärger, naïve and Ñandú; cafe\u0301 with the accent apart; İstanbul, STRASSE, straße",
    "  two  spaces,\ta tab,\na line\n\n  and a no-break\u00a0space  ",
    "Привет, мир! Γειά σου. 你好,世界 こんにちは 안녕하세요 مرحبا שלום नमस्ते สวัสดี",
    "\U0001f600 x² ½ № ﬁne Ｆｕｌｌ … “quoted” ‘single’ – 5 € © ™ #tag @user",
    "<s> </s> <unk> <mask> [UNK] [CLS] [SEP] [MASK] <|endoftext|> <|im_start|>user <|im_end|> <bos>",
    "def f(x):\n    return x ** 2 != 3.14e-10  # {'key': [0, 1]} https://example.org/?q=a_b&c=1",
    "",
)
_FIRST, _SECOND = "Does it RAIN in Zürich today?", "No: the sun is shining."
_CUT = 6  # tokens: which end of a text is cut off
_TURNS = ("What is 2 + 3?", "It is 5.", "  And doubled?\n")
_ONE_DAY = "{% macro strftime_now(format) %}1 Jan 2024{% endmacro %}"
_OWN_WORDS = 64
_MOST_WORDS = 1_000_000  # CANINE has a word for each character that there can be


def record_of(tokenizer: Any, *, generates: bool = False, chat: bool = False) -> BaseTokenizer:
    """What `tokenizer` does with some texts: those of every record, and words of its own vocabulary.

    `generates` and `chat` say what the training uses beside texts: the token that ends a completion, and the template.
    """
    own = _own_words(tokenizer)
    texts = [TextExample(text, ()) for text in (*_TEXTS, *([own] if own else []))]
    asked = [*texts, TextExample(_FIRST, (), pair=_SECOND), TextExample(_TEXTS[0], (), max_length=_CUT)]
    added = {str(token): int(number) for token, number in tokenizer.get_added_vocab().items()}
    return BaseTokenizer(
        tuple(read for each in asked if (read := _read(tokenizer, each)) and len(read.ids) <= MAX_EXAMPLE_IDS),
        tokenizer.eos_token_id if generates else None,
        added if len(added) <= MAX_ADDED and all(0 < len(token) <= MAX_EXAMPLE_TEXT for token in added) else None,
        _chatted(tokenizer, _TURNS) if chat else None,
        _words(tokenizer, tokenizer.get_added_vocab()),
    )


def check_tokenizer(tokenizer: Any, base: BaseIdentity, what: str | None = None) -> None:
    """Raises BaseMismatch (BASE_TOKENIZER_MISMATCH) when `tokenizer` reads the examples of `base` otherwise than when the adapter
    was trained. Without a record there is nothing to compare."""
    if base.tokenizer is not None and (differing := list(_differences(tokenizer, base.tokenizer))):
        from transformers import __version__

        named = what or f"The tokenizer in {tokenizer.name_or_path}"
        raise refusal(f"{named}, opened by transformers {__version__},", base, differing)


def tokenizer_for(backbone: nn.Module, base: BaseIdentity | None, *, verify: str = "strict") -> Any:
    """The tokenizer of the live base `backbone`, which reads texts as when an adapter that names `base` was trained.

    Raises BaseMismatch (BASE_TOKENIZER_MISMATCH); with `verify` "warn" it warns, and with "off" nobody looks.
    """
    return inputs.compared(inputs.tokenizer_of(backbone, base), check_tokenizer, base, verify)


def tokenizer_at(path: Path) -> Any:
    """The tokenizer beside the checkpoint at `path`; None where there is none that can be opened without running code of its
    own. Raises ImportError without transformers."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception:  # whatever is wrong with it is said by who reads texts with it
        return None
    return None if inputs.is_without_words(tokenizer) else tokenizer


def _differences(tokenizer: Any, trained: BaseTokenizer) -> Iterator[TokenizerDifference]:
    for example in trained.examples:
        read = _read(tokenizer, example)
        if read is None or read.ids != example.ids:
            yield TokenizerDifference(str(example), example.ids, None if read is None else read.ids)
        elif read.types != example.types:
            yield TokenizerDifference(f"which text each token is of in {example}", example.types, read.types)
    if trained.end is not None and tokenizer.eos_token_id != trained.end:
        yield TokenizerDifference("the token that ends a completion", trained.end, tokenizer.eos_token_id)
    if trained.added is not None:
        yield from _added(tokenizer, trained.added)
    if trained.words is not None and (words := _words(tokenizer, _left_out(tokenizer, trained))) != trained.words:
        yield TokenizerDifference("the hash of its vocabulary", trained.words, words)
    if trained.chat is not None:
        chatted = _chatted(tokenizer, trained.chat.turns)
        if chatted is None or chatted.ids != trained.chat.ids:
            yield TokenizerDifference(
                "a conversation in the chat template", trained.chat.ids, chatted.ids if chatted else None
            )


def _added(tokenizer: Any, trained: Mapping[str, int]) -> Iterator[TokenizerDifference]:
    """A token that pads stands in no text, and is added where a base has none."""
    found = tokenizer.get_added_vocab()
    for token in sorted(trained.keys() | found.keys()):
        if token != tokenizer.pad_token and trained.get(token) != found.get(token):
            yield TokenizerDifference(f"the added token {token!a}", trained.get(token), found.get(token))


def _words(tokenizer: Any, left_out: Collection[str]) -> str | None:
    """The hash of the vocabulary without some tokens; None where a tokenizer has none, or one of characters."""
    if len(tokenizer) > _MOST_WORDS:
        return None
    try:
        ids = tokenizer.get_vocab()
    except NotImplementedError:
        return None
    return hash_of_words({token: number for token, number in ids.items() if token not in left_out})


def _left_out(tokenizer: Any, trained: BaseTokenizer) -> set[str]:
    """Tokens that its record leaves out of the vocabulary: those that were added then. One that pads is added or is none of them
    from one day to the next, and may be a word of the vocabulary."""
    added = set(tokenizer.get_added_vocab())
    return added if trained.added is None else {*trained.added, *(added - _own(tokenizer))}


def _own(tokenizer: Any) -> set[str]:
    """The words of the vocabulary itself, whether they are added tokens beside that or not."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return set(backend.get_vocab(with_added_tokens=False))
    return {token for token, number in tokenizer.get_vocab().items() if number < tokenizer.vocab_size}


def _read(tokenizer: Any, example: TextExample) -> TextExample | None:
    """The example as `tokenizer` reads it; None for a text of which it makes no token at all."""
    pairs = None if example.pair is None else [example.pair]
    longest = example.max_length or MAX_EXAMPLE_IDS + 1
    try:
        (read,) = inputs.encode(tokenizer, [example.text], pairs, max_length=longest)
    except DataError:
        return None
    types = tuple(read.types) if read.types and any(read.types) else None  # a model that is told none takes them for 0
    return TextExample(example.text, tuple(read.ids), example.pair, types, example.max_length)


def _chatted(tokenizer: Any, turns: Sequence[str]) -> ChatExample | None:
    """None where there is no template, or it refuses such a conversation. Some write into every conversation which day it is, which is
    always the same one here."""
    if not tokenizer.chat_template:
        return None
    said = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(turns)]
    try:
        ids = tokenizer.apply_chat_template(
            said,
            chat_template=_ONE_DAY + tokenizer.get_chat_template(),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
        )["input_ids"]
    except Exception:  # a template is a program of anybody's
        return None
    return ChatExample(tuple(turns), tuple(ids))


def _own_words(tokenizer: Any) -> str:
    """Words from all over the vocabulary, which may know none of those of the other texts."""
    size = len(tokenizer)
    words: list[str] = []
    for number in range(0, size, max(1, size // _OWN_WORDS)):
        token = tokenizer.convert_ids_to_tokens(number)
        word = tokenizer.convert_tokens_to_string([token]).strip() if isinstance(token, str) else ""
        if word.isalpha() and len(" ".join([*words, word])) <= MAX_EXAMPLE_TEXT:
            words.append(word)
    return " ".join(words)
