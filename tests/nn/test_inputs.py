"""What a classifier is asked: a list of texts, of pairs or of images, and nothing that only looks like one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags
from PIL import Image as Pillow
from transformers import AutoModel

from tests.tiny import write_tiny_llama
from vera.errors import DataError, VeraError
from vera.nn.heads import ImageClassifier, PooledClassifier, PooledRegressor
from vera.nn.inputs import decoded

LABELS = ("cat", "dog")


@pytest.fixture
def classifier(tiny_model: Any) -> PooledClassifier:
    return PooledClassifier(tiny_model, LABELS)


def test_one_text_is_not_read_letter_by_letter(classifier: PooledClassifier) -> None:
    with pytest.raises(DataError, match=r"A list of texts is wanted, and this is one text, 'the cat'"):
        classifier.classify("the cat")
    with pytest.raises(DataError, match=r"this is one text, 'a dog'"):
        classifier.classify(["the cat"], "a dog")


def test_one_image_is_not_read_byte_by_byte(tiny_model: Any) -> None:
    for image in ("cat.png", Path("cat.png"), b"GIF89a"):
        with pytest.raises(DataError, match="A list of images is wanted, and this is one image"):
            ImageClassifier(tiny_model, LABELS).classify(image)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize("item", [None, 3, ("the cat", "a dog")])
def test_what_is_no_text_is_named(classifier: PooledClassifier, item: object) -> None:
    with pytest.raises(DataError, match=f"is of type {type(item).__name__} and no text"):
        classifier.classify(["the cat", item])  # type: ignore[list-item]  # the mistake under test


def test_each_text_has_its_pair(classifier: PooledClassifier) -> None:
    with pytest.raises(DataError, match="There are 2 texts and 1 second texts"):
        classifier.classify(["the cat", "a dog"], ["a bird"])


def test_no_texts_have_no_labels(classifier: PooledClassifier) -> None:
    assert classifier.classify([]) == classifier.classify([], []) == []


def test_texts_may_be_an_array(classifier: PooledClassifier) -> None:
    assert classifier.classify(np.array(["the cat", "a dog"])) == classifier.classify(["the cat", "a dog"])  # type: ignore[arg-type]  # a column of a table


def test_a_text_without_a_token_is_answered_as_its_beginning_alone(tmp_path: Path) -> None:
    """A decoder's tokenizer puts nothing around a text, and the mean of no tokens is no number."""
    model = AutoModel.from_pretrained(write_tiny_llama(tmp_path / "llama")).eval()
    decoder = PooledClassifier(model, LABELS)
    torch.nn.init.normal_(decoder.classifier.weight, generator=torch.Generator().manual_seed(0))
    alone, beside = (decoder.outputs(decoder.encode(texts))[0] for texts in ([""], [" ", "the cat"]))
    np.testing.assert_allclose(alone, beside, rtol=1e-4)  # float32 sums in a batch of another shape
    np.testing.assert_array_equal(alone, decoder.outputs(decoder.encode(["[BOS]"]))[0])
    assert np.isfinite(decoder.outputs(decoder.encode(["", "the cat"], ["", "a dog"]))).all()


@pytest.mark.parametrize("mask", [None, torch.ones(1, 400, dtype=torch.long)])
def test_the_mean_of_large_half_precision_states_is_no_infinity(
    classifier: PooledClassifier, mask: torch.Tensor | None
) -> None:
    states = torch.full((1, 400, 32), 200.0, dtype=torch.float16)  # whose sum is beyond float16
    assert classifier.pooled(states, mask).tolist() == [[200.0] * 32]


def test_a_picture_is_read_the_way_up_that_its_camera_was_held() -> None:
    exif = Pillow.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned to the right by a quarter
    stored, picture = io.BytesIO(), Pillow.new("RGB", (4, 2))
    picture.putpixel((0, 0), (255, 255, 255))
    picture.save(stored, "PNG", exif=exif)
    for image in (stored.getvalue(), Pillow.open(stored)):
        upright = decoded(image)
        assert upright.size == (2, 4)
        assert upright.getpixel((1, 0)) == (255, 255, 255)


def test_of_no_texts_there_are_no_answers(classifier: PooledClassifier) -> None:
    assert classifier.classify([]) == []
    assert PooledRegressor(classifier.backbone).predict([]) == []


def test_of_outputs_that_are_no_numbers_no_label_is_told(classifier: PooledClassifier) -> None:
    """The first of them would be the largest."""
    with torch.no_grad():
        classifier.backbone.embeddings.word_embeddings.weight[classifier.tokenizer.vocab["dog"]] = torch.inf
    with pytest.raises(
        VeraError, match="The outputs of 1 of 2 items, item 1 the first, are no finite numbers"
    ) as caught:
        classifier.classify(["the cat", "a dog"])
    assert caught.value.code == "OUTPUT_NONFINITE"
    number = PooledRegressor(classifier.backbone)
    with pytest.raises(VeraError, match="item 0 the first"):
        number.predict(["a dog"])
    assert number.predict(["the cat"]) == [0.0]
