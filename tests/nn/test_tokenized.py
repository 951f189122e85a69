"""What is seen of a tokenizer that reads texts otherwise than in training, and what is not taken for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.tiny import WORDS, load_tiny_bert, write_tiny_llama
from vera.base_tokenizer import BaseTokenizer
from vera.errors import BaseMismatch, VeraError, VeraWarning
from vera.manifest import BaseIdentity
from vera.nn.tokenized import check_tokenizer, record_of, tokenizer_at, tokenizer_for

CORPUS = [f"{one} {other} {one.title()}, {n * 37}!" for n, one in enumerate(WORDS) for other in WORDS]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def identity(record: BaseTokenizer | None) -> BaseIdentity:
    return BaseIdentity("org/base", "vbf1:" + "0" * 64, "float32", tokenizer=record)


def seen(tokenizer: Any, record: BaseTokenizer) -> list[str]:
    """What a refusal says differs; nothing where there is none."""
    try:
        check_tokenizer(tokenizer, identity(record))
    except BaseMismatch as error:
        return list(error.facts["tokenizer"])  # type: ignore[call-overload]  # facts are of any kind
    return []


def word_piece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL))
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


def byte_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    return made


def unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=150, special_tokens=SPECIAL, unk_token="<unk>"))
    return made


def wrapped(made: Tokenizer, **more: Any) -> Any:
    named = dict(zip(("bos", "pad", "eos", "unk", "mask"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, **{f"{name}_token": token for name, token in named.items()}, **more
    )


KINDS: dict[str, Callable[[], Tokenizer]] = {"word-piece": word_piece, "byte-level": byte_level, "unigram": unigram}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_is_itself_after_it_was_saved_opened_and_used(kind: str, tmp_path: Path) -> None:
    tokenizer = wrapped(KINDS[kind]())
    record = record_of(tokenizer, generates=True)
    tokenizer.save_pretrained(tmp_path)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    opened(["a cat"] * 3, truncation=True, max_length=2, padding=True)
    assert seen(opened, record) == seen(tokenizer, record) == []


@pytest.mark.parametrize("kind", KINDS)
def test_another_order_of_the_vocabulary_is_seen(kind: str) -> None:
    made = KINDS[kind]()
    record = record_of(wrapped(made))
    state = json.loads(made.to_str())
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, list):
        vocabulary[5:] = vocabulary[:4:-1]
    else:
        ids = sorted(number for number in vocabulary.values() if number >= 5)
        turned = dict(zip(ids, reversed(ids), strict=True))
        state["model"]["vocab"] = {token: turned.get(number, number) for token, number in vocabulary.items()}
    assert seen(wrapped(Tokenizer.from_str(json.dumps(state))), record)


def test_words_that_only_this_vocabulary_knows_are_among_the_examples() -> None:
    """A word-level one reads every other text as unknown words."""
    words = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    swapped = {**words, "cat": words["dog"], "dog": words["cat"]}
    records = []
    for vocabulary in (words, swapped):
        made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        records.append((wrapped(made), record_of(wrapped(made))))
    assert any("cat" in example.text for example in records[0][1].examples)
    assert seen(records[1][0], records[0][1])


@pytest.mark.parametrize("kind", KINDS)
def test_two_words_that_are_in_no_example_and_change_places_are_seen(kind: str) -> None:
    made = KINDS[kind]()
    record = record_of(wrapped(made))
    state, read = json.loads(made.to_str()), {number for example in record.examples for number in example.ids}
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, list):
        one, other = [number for number in range(5, len(vocabulary)) if number not in read][:2]
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    else:
        one, other = [token for token, number in vocabulary.items() if number >= 5 and number not in read][:2]
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    assert seen(wrapped(Tokenizer.from_str(json.dumps(state))), record) == ["the hash of its vocabulary"]


@pytest.mark.parametrize("added_first", [False, True])
@pytest.mark.parametrize("pads", ["cat", "[PAD]"])
def test_a_token_that_pads_from_one_day_to_the_next_is_no_other_vocabulary(added_first: bool, pads: str) -> None:
    """Whether it is a word of the vocabulary or stands beside it."""
    state = word_piece().to_str()
    plain, padding = (
        PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(state), unk_token="<unk>", pad_token=token)
        for token in (None, pads)
    )
    trained, found = (padding, plain) if added_first else (plain, padding)
    assert [said for said in seen(found, record_of(trained)) if "vocabulary" in said] == []


def test_a_record_from_before_words_were_hashed_is_compared_without_them() -> None:
    made = word_piece()
    assert seen(wrapped(made), replace(record_of(wrapped(made)), words=None)) == []


NORMALISERS = {
    "lower case": normalizers.Lowercase(),
    "accents": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    "composition": normalizers.NFC(),
    "compatibility": normalizers.NFKC(),
    "white space": normalizers.Replace("  ", " "),
    "ends": normalizers.Strip(),
}


@pytest.mark.parametrize("name", NORMALISERS)
def test_another_normaliser_is_seen(name: str) -> None:
    made = byte_level()
    record = record_of(wrapped(made))
    made.normalizer = NORMALISERS[name]
    assert seen(wrapped(made), record)


def test_other_special_tokens_sides_and_segments_are_seen() -> None:
    made, names = word_piece(), ["input_ids", "token_type_ids"]
    record = record_of(wrapped(made, model_input_names=names))
    assert seen(wrapped(made, model_input_names=names, truncation_side="left"), record)
    assert any("which text" in what for what in seen(wrapped(made, model_input_names=names[:1]), record))
    made.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A $B", special_tokens=[("</s>", 2)])
    assert seen(wrapped(made), record)


def test_the_side_on_which_nobody_but_this_project_pads_is_no_difference() -> None:
    made = word_piece()
    assert seen(wrapped(made, padding_side="left"), record_of(wrapped(made))) == []


def test_a_token_that_was_added_is_seen_and_one_that_pads_is_not() -> None:
    record = record_of(PreTrainedTokenizerFast(tokenizer_object=byte_level(), eos_token="</s>"))
    padded, marked = (PreTrainedTokenizerFast(tokenizer_object=byte_level(), eos_token="</s>") for _ in range(2))
    padded.add_special_tokens({"pad_token": "[PAD]"})
    marked.add_tokens(["[ENTITY]"])
    assert seen(padded, record) == []
    assert seen(marked, record) == ["the added token '[ENTITY]'"]


def test_the_token_that_ends_counts_where_a_text_is_completed() -> None:
    made = word_piece()
    other = wrapped(made)
    other.eos_token = "<mask>"
    assert seen(other, record_of(wrapped(made))) == []
    assert seen(other, record_of(wrapped(made), generates=True)) == ["the token that ends a completion"]


def test_the_chat_template_counts_where_it_was_used_and_the_day_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(write_tiny_llama(tmp_path / "llama"))
    tokenizer.chat_template = "{{ 'cat' if strftime_now('%Y') == '2001' else 'dog' }} " + tokenizer.chat_template
    record = record_of(tokenizer, chat=True)
    assert record.chat is not None
    assert record_of(tokenizer).chat is None

    from transformers.utils import chat_template_utils

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2001, 2, 3, tzinfo=tz)

    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    assert seen(tokenizer, record) == []
    tokenizer.chat_template = tokenizer.chat_template.replace("[USER] ", "[USER] the ")
    assert seen(tokenizer, record) == ["a conversation in the chat template"]
    tokenizer.chat_template = None
    assert seen(tokenizer, record) == ["a conversation in the chat template"]


def test_what_is_not_recorded_is_not_compared(tiny_folder: Path, tmp_path: Path) -> None:
    check_tokenizer(AutoTokenizer.from_pretrained(tiny_folder), identity(None))
    assert tokenizer_at(tmp_path) is None


def test_a_base_without_a_tokenizer_is_not_read_as_unknown_words(tiny_folder: Path, tmp_path: Path) -> None:
    """transformers makes a tokenizer of nothing, which reads every word as the unknown one."""
    load_tiny_bert(tiny_folder).save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("cat")["input_ids"] == AutoTokenizer.from_pretrained(tmp_path)("dog")["input_ids"]  # fmt: skip
    with pytest.raises(VeraError, match="has no tokenizer files") as refused:
        tokenizer_for(load_tiny_bert(tmp_path), None)
    assert refused.value.code == "TOKENIZER_MISSING"
    assert tokenizer_at(tmp_path) is None


def test_a_warning_is_enough_for_who_asks_for_no_more(tiny_folder: Path) -> None:
    model, record = load_tiny_bert(tiny_folder), record_of(AutoTokenizer.from_pretrained(tiny_folder))
    first = replace(record.examples[0], ids=(1, 2))
    base = identity(replace(record, examples=(first, *record.examples[1:])))
    with pytest.raises(BaseMismatch, match=r"opened by transformers \d") as refused:
        tokenizer_for(model, base)
    assert refused.value.code == "BASE_TOKENIZER_MISMATCH"
    with pytest.warns(VeraWarning, match="may answer wrongly"):
        tokenizer_for(model, base, verify="warn")
    tokenizer_for(model, base, verify="off")
