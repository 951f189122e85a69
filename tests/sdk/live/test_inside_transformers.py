"""What `sdk.load` gives is used as any model of transformers is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sdk
from sdk.config import Config
from tests.nn.small_models import tiny_llama, tokens
from tests.sdk.fakes import FakeHub, hub_for
from tests.sdk.live.published import serve_base
from tests.tiny import WORDS
from tests.tiny_adapters import make_tiny
from vera import fingerprint
from vera.fingerprint import BaseFingerprint

SIZES = {"model.layers.0.self_attn.q_proj": (48, 48), "model.layers.1.mlp.down_proj": (64, 48)}


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertTokenizerFast

    folder = tmp_path_factory.mktemp("llama")
    tiny_llama().save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture
def llama(llama_folder: Path, fake: FakeHub, config: Config) -> Any:
    """The tiny Llama with demo/l on it, opened from its folder, and demo/m loaded but not active."""
    base = fingerprint.of_files(llama_folder)
    fake.publish("demo/l", make_tiny(base, seed=1, sizes=SIZES))
    fake.publish("demo/m", make_tiny(base, seed=2, sizes=SIZES))
    serve_base(fake, base)
    hub = hub_for(fake, config)
    model = sdk.load(llama_folder, "demo/l", hub=hub)
    sdk.load(model, "demo/m", hub=hub)
    return sdk.activate(model, "demo/l")


def greedy(model: Any) -> list[list[int]]:
    generated: list[list[int]] = model.generate(tokens(2), max_new_tokens=8, do_sample=False).tolist()
    return generated


def test_generate_with_a_cache_goes_through_the_active_adapter(llama: Any) -> None:
    with_adapter = greedy(llama)
    step_by_step = tokens(2)
    for _ in range(8):
        with torch.no_grad():
            step_by_step = torch.cat([step_by_step, llama(step_by_step).logits[:, -1:].argmax(-1)], dim=1)

    assert with_adapter == step_by_step.tolist()
    for other in ("demo/m", None):
        assert greedy(sdk.activate(llama, other)) != with_adapter


def test_generate_in_rows_gives_each_row_its_own_adapter(llama: Any) -> None:
    alone = [greedy(sdk.activate(llama, ref))[row] for row, ref in enumerate(("demo/l", "demo/m"))]

    with sdk.rows(llama, ["demo/l", "demo/m"]):
        assert greedy(llama) == alone


def test_a_pipeline_takes_the_model_as_its_own(llama: Any, llama_folder: Path) -> None:
    from transformers import AutoTokenizer, pipeline

    generator = pipeline("text-generation", model=llama, tokenizer=AutoTokenizer.from_pretrained(llama_folder))

    def answer() -> str:
        text: str = generator("the cat", max_new_tokens=6, do_sample=False)[0]["generated_text"]
        return text

    with_adapter = answer()
    assert with_adapter.startswith("the cat")
    sdk.activate(llama, "demo/m")
    other = answer()
    sdk.activate(llama, "demo/l")

    assert answer() == with_adapter != other


def test_pipelines_of_an_encoder_take_the_model_as_their_own(tiny_folder: Path, hub: Any) -> None:
    from transformers import AutoTokenizer, BertForSequenceClassification, BertModel, pipeline

    tokenizer, text = AutoTokenizer.from_pretrained(tiny_folder), "the red cat"
    encoder = sdk.load(BertModel.from_pretrained(tiny_folder, local_files_only=True).eval(), "demo/a@v1", hub=hub)
    features = torch.tensor(pipeline("feature-extraction", model=encoder, tokenizer=tokenizer)(text))
    with torch.no_grad():
        expected = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state
    torch.testing.assert_close(features, expected)

    classifier = BertForSequenceClassification.from_pretrained(tiny_folder, local_files_only=True).eval()
    classify = pipeline("text-classification", model=classifier, tokenizer=tokenizer)
    bare = classify(text)[0]["score"]
    sdk.load(classifier, "demo/a@v1", hub=hub)
    with torch.no_grad():
        logits = classifier(**tokenizer(text, return_tensors="pt")).logits
    assert classify(text)[0]["score"] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-6)
    assert classify(text)[0]["score"] != bare


def test_trainer_predicts_through_the_adapter(llama: Any, tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    rows = [{"input_ids": row, "labels": row} for row in tokens(4)]
    quiet = TrainingArguments(str(tmp_path), report_to=[], disable_tqdm=True, use_cpu=True)
    trainer = Trainer(llama, quiet, eval_dataset=rows)
    with torch.no_grad():
        expected = float(llama(input_ids=tokens(4), labels=tokens(4)).loss)

    with_adapter = trainer.evaluate()["eval_loss"]
    sdk.activate(llama, None)
    bare = trainer.evaluate()["eval_loss"]

    # The mean of float32 losses of order 4, summed in another order.
    assert with_adapter == pytest.approx(expected, abs=1e-5)
    assert abs(bare - expected) > 1e-3


def test_a_classifier_reads_texts_with_the_tokenizer_of_its_base(
    tiny_folder: Path, hub: Any, tiny_base: BaseFingerprint
) -> None:
    classifier = sdk.load(tiny_folder, "demo/c", hub=hub)

    assert set(classifier.classify([f"the {word} runs" for word in WORDS])) <= {"cat", "dog"}
