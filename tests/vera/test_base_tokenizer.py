"""The record of how texts were read in training: what a manifest can say of it, and what a refusal says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.vera import golden
from vera.adapter_difference import _fields
from vera.base_config import BaseConfig, differences, processor_refusal, processor_settings
from vera.base_tokenizer import BaseTokenizer, ChatExample, TextExample, TokenizerDifference, hash_of_words, refusal
from vera.errors import ManifestError
from vera.manifest import BaseIdentity, Manifest

MANIFEST = Manifest.from_bytes(golden.load("manifest")["canonical"].encode())
RECORD = BaseTokenizer(
    (
        TextExample("tab\tline\n\u202eback", (2, 7, 3)),
        TextExample("one", (2, 7, 3, 8, 3), pair="two", types=(0, 0, 0, 1, 1)),
        TextExample("one two", (2, 3), max_length=2),
    ),
    end=3,
    added={"<s>": 2, "</s>": 3},
    chat=ChatExample(("hello",), (2, 9, 3)),
    words=hash_of_words({"hello": 7, "you": 8}),
)
PROCESSOR = {"image_mean": [0.5, 0.5], "resample": 2, "size.height": 16}


def having(**records: Any) -> Manifest:
    return replace(MANIFEST, base=replace(MANIFEST.base, **records))


@pytest.mark.parametrize(
    "record", [RECORD, BaseTokenizer((TextExample("", (1,)),)), replace(RECORD, added={}, words=None)]
)
def test_a_manifest_with_records_reads_back_as_it_was_written(record: BaseTokenizer) -> None:
    manifest = having(tokenizer=record, processor=PROCESSOR)
    read = Manifest.from_bytes(manifest.to_bytes())
    assert (read.base.tokenizer, read.base.processor) == (record, PROCESSOR)
    assert read.digest != MANIFEST.digest


def test_a_manifest_without_them_keeps_its_bytes() -> None:
    assert b"tokenizer" not in MANIFEST.to_bytes()
    assert having().to_bytes().decode() == golden.load("manifest")["canonical"]


def one(**wrong: Any) -> BaseTokenizer:
    return BaseTokenizer((replace(RECORD.examples[1], **wrong),))


@pytest.mark.parametrize(
    "record",
    [
        BaseTokenizer(()),
        BaseTokenizer(RECORD.examples[:1] * 33),
        one(text="x" * 257),
        one(pair="\ud800"),
        one(ids=()),
        one(ids=(-1,)),
        one(ids=(True,)),
        one(ids=(2**31,)),
        one(ids=(1,) * 1025),
        one(types=("1",)),
        one(max_length=0),
        replace(RECORD, end=-1),
        replace(RECORD, added={"": 1}),
        replace(RECORD, added={"<s>": "1"}),
        replace(RECORD, added={f"<{n}>": n for n in range(65)}),
        replace(RECORD, words="A" * 64),
        replace(RECORD, chat=ChatExample(("a", "b"), (1,))),
        replace(RECORD, chat=ChatExample((), (1,))),
        replace(RECORD, chat=ChatExample(("a",), ())),
    ],
)
def test_a_record_that_says_nothing_or_lies_is_refused(record: BaseTokenizer) -> None:
    with pytest.raises(ManifestError, match=r"base\.tokenizer"):
        having(tokenizer=record)


@pytest.mark.parametrize(("name", "value"), [("", 1), ("a\n", 1), ("a", None), ("a", {"b": 1}), ("a", "\x1b[31m")])
def test_a_setting_that_no_processor_can_have_is_refused(name: str, value: object) -> None:
    with pytest.raises(ManifestError):
        having(processor={name: value})


def test_a_refusal_shows_where_the_ids_part_and_no_text_as_it_is() -> None:
    trained, found = tuple(range(20)), (*range(10), 99, *range(11, 20))
    differing = [TokenizerDifference(str(RECORD.examples[0]), trained, found), *[TokenizerDifference("x", 1, None)] * 9]
    error = refusal("The tokenizer", BaseIdentity("org/base", "vbf1:" + "0" * 64, "float32", "abc"), differing)
    assert error.code == "BASE_TOKENIZER_MISMATCH"
    assert "[…, 9, 99, 11, 12, 13, 14, …] here and was […, 9, 10, 11, 12, 13, 14, …] in training" in str(error)
    assert "x is no token here and was 1 in training" in str(error)
    assert "and 7 more differences" in str(error)
    assert "org/base at revision abc" in str(error)
    assert str(error).isprintable()


def test_a_difference_of_two_versions_names_each_text_and_setting() -> None:
    class Read:
        manifest = having(tokenizer=RECORD, processor=PROCESSOR)

    fields = _fields(Read())  # type: ignore[arg-type]  # of which only the manifest is looked at
    assert fields[r'base.tokenizer."tab\tline\n\u202eback"'] == [2, 7, 3]
    assert fields['base.tokenizer."one" with "two"'] == [2, 7, 3, 8, 3]
    assert fields["base.tokenizer.added.'<s>'"] == 2
    assert fields["base.processor.resample"] == 2


def test_processors_are_compared_by_what_decides_the_pixels() -> None:
    old = {
        "feature_extractor_type": "ViTFeatureExtractor", "processor_class": "X", "size": {"height": 16, "width": 16},
        "image_mean": (0.5, 0.5, 0.5), "do_pad": None, "device": None,
    }  # fmt: skip
    new = {"image_processor_type": "ViTImageProcessorFast", "size": {"width": 16, "height": 16}, "image_mean": [0.5] * 3, "data_format": "first"}  # fmt: skip
    assert differences(BaseConfig(processor_settings(old)), processor_settings(new), {}) == []
    differing = differences(
        BaseConfig(processor_settings(old)), processor_settings({**new, "image_mean": [0.4, 0.5, 0.5]}), {}
    )
    error = processor_refusal("This one", BaseIdentity("org/base", "vbf1:" + "0" * 64, "float32"), differing)
    assert "image_mean is [0.4, 0.5, 0.5] here and was [0.5, 0.5, 0.5] in training" in str(error)
