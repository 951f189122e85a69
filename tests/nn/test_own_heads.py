"""Heads of transformers' own models, as PEFT trains them: never left out, never random, each with its adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel, VeraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    PretrainedConfig,
    RobertaConfig,
    RobertaModel,
)

from tests.nn.small_models import seeded
from tests.tiny import write_tiny_bert
from vera import archive as archives
from vera import fingerprint
from vera.errors import VeraError
from vera.fingerprint import BaseFingerprint
from vera.manifest import WEIGHTS_FILE, Task
from vera.nn.attach import attach
from vera.nn.exporting import write_lora, write_merged, write_peft
from vera.nn.merge import merge, unmerge
from vera.nn.opening import open_base
from vera.peft_import import import_folder

pytestmark = [
    pytest.mark.filterwarnings("ignore:Specified to not (save|load) vera_A and vera_B"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to"),
]

SMALL = {"vocab_size": 40, "max_position_embeddings": 64}
LABELS = ("red", "green", "blue")


def write_bert(folder: Path) -> None:
    write_tiny_bert(folder)


def writes(model: type, config: type[PretrainedConfig], **options: Any) -> Callable[[Path], None]:
    return lambda folder: seeded(lambda: model(config(**SMALL, **options))).save_pretrained(folder)


WRITERS: dict[str, Callable[[Path], None]] = {
    "bert": write_bert,
    "roberta": writes(
        RobertaModel, RobertaConfig, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    ),
    "llama": writes(
        LlamaModel, LlamaConfig, hidden_size=48, intermediate_size=64, num_hidden_layers=1, num_attention_heads=3,
        num_key_value_heads=1, pad_token_id=0,
    ),
    "gpt2": writes(GPT2Model, GPT2Config, n_embd=32, n_layer=1, n_head=2, pad_token_id=0, bos_token_id=1, eos_token_id=2),
    "distilbert": writes(DistilBertModel, DistilBertConfig, dim=32, n_layers=1, n_heads=2, hidden_dim=64),
}  # fmt: skip
TARGETS = {"bert": ["query", "value"], "roberta": ["query", "dense"], "llama": ["q_proj", "v_proj"], "gpt2": ["c_attn"]}
TARGETS["distilbert"] = ["q_lin"]


@pytest.fixture(scope="session")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a bare base of this kind: no head of any task is in it."""
    written: dict[str, Path] = {}

    def find(kind: str) -> Path:
        if kind not in written:
            written[kind] = tmp_path_factory.mktemp(kind) / "base"
            WRITERS[kind](written[kind])
        return written[kind]

    return find


def sequence_model(base: Path, labels: int = 3, **options: Any) -> Any:
    return seeded(lambda: AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels, **options))


def trained_by_peft(
    base: Path,
    to: Path,
    kind: str,
    *,
    seed: int = 1,
    labels: int = 3,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Any:
    """A VeRA of PEFT on a sequence model with random vectors and a random head, and its checkpoint in `to`."""
    usual = {"r": 8, "target_modules": TARGETS[kind], "projection_prng_key": 7}
    config = VeraConfig(task_type="SEQ_CLS", **{**usual, **options})
    model = get_peft_model(sequence_model(base, labels, dtype=dtype), config).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "vera_lambda" in name or "modules_to_save" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    model.save_pretrained(to)
    return model


def logits_of(model: Any) -> torch.Tensor:
    ids = torch.arange(5, 21).reshape(2, 8)
    with torch.no_grad():
        outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return outputs if isinstance(outputs, torch.Tensor) else outputs.logits


def read(folder: Path, base: Path, **options: Any) -> tuple[archives.Archive, BaseFingerprint]:
    table = fingerprint.of_files(base)
    return import_folder(folder, table, base_name="tests/tiny", **options).archive, table


# -- From PEFT and back ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "gpt2", "distilbert"])
@pytest.mark.parametrize("saved", [True, False])
def test_a_classifier_of_peft_answers_here_and_there_alike(
    base_of: Callable[[str], Path], tmp_path: Path, kind: str, saved: bool
) -> None:
    base = base_of(kind)
    expected = logits_of(trained_by_peft(base, tmp_path / "theirs", kind, save_projection=saved))
    archive, table = read(tmp_path / "theirs", base, labels=LABELS)

    adapted = attach(open_base(base, archive.manifest), archive, table)
    on_live_model = attach(sequence_model(base), archive, table)
    write_peft(adapted, archive, tmp_path / "again")
    again = PeftModel.from_pretrained(sequence_model(base), tmp_path / "again").eval()

    assert archive.manifest.task == Task("text-classification", LABELS)
    assert archive.manifest.weights.head_bytes > 0
    for answer in (logits_of(adapted), logits_of(on_live_model), logits_of(adapted.backbone)):
        # Logits of order 1 from float32 sums of up to 64 products, in another order.
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(logits_of(again), expected)


@settings(max_examples=8)
@given(
    rank=st.integers(1, 24),
    seed=st.integers(0, 2**63 - 1),
    targets=st.sets(st.sampled_from(["query", "key", "intermediate.dense", "pooler.dense"]), min_size=1).map(sorted),
    outputs=st.integers(1, 5),
    saved=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_any_classifier_of_peft_answers_here_and_there_alike(
    tmp_path_factory: pytest.TempPathFactory, rank: int, seed: int, targets: list[str], outputs: int, saved: bool,
    dtype: torch.dtype,
) -> None:  # fmt: skip
    """Trained on a base held in `dtype`, imported, attached, exported, and loaded by PEFT again."""
    base, folder = write_tiny_bert(tmp_path_factory.mktemp("base"), dtype=dtype), tmp_path_factory.mktemp("adapter")
    theirs = trained_by_peft(
        base, folder / "theirs", "bert", labels=outputs, dtype=dtype, r=rank, target_modules=targets,
        projection_prng_key=seed, save_projection=saved,
    )  # fmt: skip
    archive, table = read(folder / "theirs", base, trained_in=None if saved else str(dtype).removeprefix("torch."))

    # All in float32, which holds the 16-bit values exactly: what is compared is the adapter, not its arithmetic.
    model = attach(open_base(base, archive.manifest, {"dtype": torch.float32}), archive, table)
    write_peft(model, archive, folder / "again")
    again = PeftModel.from_pretrained(sequence_model(base, outputs, dtype=torch.float32), folder / "again").eval()

    expected = logits_of(theirs.float())
    for answer in (logits_of(model), logits_of(again)):
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)


def test_peft_refuses_the_folder_itself_where_it_would_not_find_the_vectors(
    base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """The base's modules are `encoder…` and the model's `bert.encoder…`: PEFT would go on with untrained vectors."""
    base = base_of("bert")
    trained_by_peft(base, tmp_path / "theirs", "bert")
    archives.write_folder(read(tmp_path / "theirs", base)[0], tmp_path / "ours")

    with pytest.raises(RuntimeError, match="manual_seed"):
        PeftModel.from_pretrained(sequence_model(base), tmp_path / "ours")


def test_a_lora_of_it_has_the_head_too(base_of: Callable[[str], Path], tmp_path: Path) -> None:
    base = base_of("roberta")
    expected = logits_of(trained_by_peft(base, tmp_path / "theirs", "roberta"))
    archive, table = read(tmp_path / "theirs", base)

    write_lora(attach(open_base(base, archive.manifest), archive, table), archive, tmp_path / "lora")

    loaded = PeftModel.from_pretrained(sequence_model(base), tmp_path / "lora").eval()
    torch.testing.assert_close(logits_of(loaded), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_merged_it_is_an_ordinary_sequence_model(base_of: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    base = base_of(kind)
    trained_by_peft(base, tmp_path / "peft", kind)
    archive, table = read(tmp_path / "peft", base)
    adapted = attach(open_base(base, archive.manifest), archive, table)
    before = logits_of(adapted)

    write_merged(adapted, archive, base, tmp_path / "out")

    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(logits_of(loaded), before, rtol=1e-4, atol=1e-4)
    assert torch.equal(logits_of(adapted), before)
    assert loaded.config.num_labels == 3
    assert not (tmp_path / "out" / "vera_head.safetensors").exists()


def test_a_single_output_is_a_number(base_of: Callable[[str], Path], tmp_path: Path) -> None:
    base = base_of("bert")
    theirs = trained_by_peft(base, tmp_path, "bert", labels=1)
    archive, table = read(tmp_path, base)

    regressor = attach(open_base(base, archive.manifest), archive, table)

    assert archive.manifest.task == Task("text-regression")
    torch.testing.assert_close(logits_of(regressor), logits_of(theirs), rtol=1e-4, atol=1e-5)
    assert [type(number) for number in regressor.predict(["the cat runs", "a dog"])] == [float, float]


def test_a_classifier_says_its_labels(base_of: Callable[[str], Path], tmp_path: Path) -> None:
    base, texts = base_of("bert"), ["the cat runs", "a dog", "near the old blue bird and the fish of a dog"]
    theirs = trained_by_peft(base, tmp_path, "bert")
    archive, table = read(tmp_path, base, labels=LABELS)

    classifier = attach(open_base(base, archive.manifest), archive, table)

    tokens = classifier.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = [LABELS[i] for i in theirs(**tokens).logits.argmax(-1)]
    assert classifier.classify(texts) == classifier.classify(texts, batch_size=1) == expected
    assert classifier.config.id2label == dict(enumerate(LABELS))


def test_a_decoder_reads_its_answer_off_the_last_token_whatever_the_padding(
    base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """Token 0 is a word for some models: padding with it would move the end of a text."""
    from vera.nn.inputs import Tokens

    base = base_of("llama")
    trained_by_peft(base, tmp_path, "llama")
    archive, table = read(tmp_path, base)
    items = [Tokens([5, 6, 7]), Tokens([8, 9, 10, 11, 12]), Tokens([13])]
    model = open_base(base, archive.manifest)
    alone = attach(model, archive, table).outputs(items, batch_size=1)

    for padding in (0, 39, None):
        model.config.pad_token_id = padding
        together = attach(model, archive, table).outputs(items, batch_size=3)
        torch.testing.assert_close(torch.from_numpy(together), torch.from_numpy(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "of_base", "expected"),
    [
        (None, (), ("LABEL_0", "LABEL_1", "LABEL_2")),
        (None, ("no", "yes"), ("LABEL_0", "LABEL_1", "LABEL_2")),
        (None, LABELS, LABELS),
        (("a", "b", "c"), LABELS, ("a", "b", "c")),
    ],
)
def test_labels_are_the_given_ones_or_those_of_the_base(
    base_of: Callable[[str], Path], tmp_path: Path, labels: Any, of_base: Any, expected: Any
) -> None:
    trained_by_peft(base_of("bert"), tmp_path, "bert")
    task = read(tmp_path, base_of("bert"), labels=labels, labels_of_base=of_base)[0].manifest.task
    assert task is not None
    assert task.labels == expected


def test_labels_that_are_too_few_are_refused(base_of: Callable[[str], Path], tmp_path: Path) -> None:
    trained_by_peft(base_of("bert"), tmp_path, "bert")
    with pytest.raises(VeraError) as error:
        read(tmp_path, base_of("bert"), labels=("a", "b"))
    assert error.value.code == "LABELS_MISMATCH"


# -- Never random ---------------------------------------------------------------------------------


@pytest.mark.parametrize("left_out", ["classifier.dense.weight", "classifier.dense"])
def test_a_part_of_the_head_that_was_not_saved_is_refused(
    base_of: Callable[[str], Path], tmp_path: Path, left_out: str
) -> None:
    """PEFT would load it with a warning, and answer with whatever was drawn when the model was made."""
    base = base_of("roberta")
    trained_by_peft(base, tmp_path, "roberta")
    tensors = load_file(tmp_path / WEIGHTS_FILE)
    kept = {name: tensor for name, tensor in tensors.items() if left_out not in name}
    assert len(kept) < len(tensors)
    save_file(kept, tmp_path / WEIGHTS_FILE)
    archive, table = read(tmp_path, base)
    model = open_base(base, archive.manifest)
    before = logits_of(model)

    with pytest.raises(VeraError) as error:
        attach(model, archive, table)

    assert error.value.code == "HEAD_UNTRAINED"
    assert "classifier.dense.weight" in str(error.value)
    assert torch.equal(logits_of(model), before)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(AutoModel.from_pretrained, id="a bare base"),
        pytest.param(lambda base: sequence_model(base, labels=2), id="another number of outputs"),
    ],
)
def test_a_head_that_has_no_place_is_refused_and_changes_nothing(
    base_of: Callable[[str], Path], tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    base = base_of("bert")
    trained_by_peft(base, tmp_path, "bert")
    archive, table = read(tmp_path, base)
    model = make(base).eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    with pytest.raises(VeraError) as error:
        attach(model, archive, table)

    assert error.value.code == "HEAD_UNSUPPORTED"
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_head_of_another_task_is_put_on_the_model_that_has_it(base_of: Callable[[str], Path], tmp_path: Path) -> None:
    base = base_of("bert")
    config = VeraConfig(r=8, target_modules=["query"], task_type="TOKEN_CLS")
    make: Callable[[], Any] = lambda: seeded(  # noqa: E731  # twice the same model
        lambda: AutoModelForTokenClassification.from_pretrained(base, num_labels=4)
    )
    theirs = get_peft_model(make(), config).eval()
    theirs.save_pretrained(tmp_path)
    archive, table = read(tmp_path, base)

    model = make()
    with torch.no_grad():
        model.classifier.weight.zero_()
    adapted = attach(model, archive, table)

    assert archive.manifest.task is None
    assert adapted is model
    torch.testing.assert_close(logits_of(adapted), logits_of(theirs), rtol=1e-4, atol=1e-5)


# -- Several on one model -------------------------------------------------------------------------


@pytest.fixture
def two(base_of: Callable[[str], Path], tmp_path: Path) -> tuple[Any, list[Any], list[torch.Tensor]]:
    """A live model, two classifiers on it, and what each answers alone."""
    base, model = base_of("bert"), sequence_model(base_of("bert"))
    expected, adapted = [], []
    for seed in (1, 2):
        expected.append(logits_of(trained_by_peft(base, tmp_path / str(seed), "bert", seed=seed)))
        archive, table = read(tmp_path / str(seed), base)
        adapted.append(attach(model, archive, table))
    return model, adapted, expected


def close(answer: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(answer, expected, rtol=1e-4, atol=1e-5)


def test_each_adapter_answers_with_its_own_head(two: tuple[Any, list[Any], list[torch.Tensor]]) -> None:
    model, (first, second), expected = two
    assert not close(expected[0], expected[1])
    for _ in range(2):
        assert close(logits_of(first), expected[0])
        assert close(logits_of(second), expected[1])
    first.vera.bank.activate(first.vera.name)
    assert close(logits_of(model), expected[0])


def test_the_model_itself_is_never_written_to(two: tuple[Any, list[Any], list[torch.Tensor]]) -> None:
    model, (first, _), _ = two
    untouched = sequence_model(Path(model.name_or_path))

    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in untouched.state_dict().items())
    first.vera.bank.detach()
    assert "forward" not in vars(model.classifier)
    assert torch.equal(logits_of(model), logits_of(untouched))


def test_the_bare_base_answers_with_its_own_head(two: tuple[Any, list[Any], list[torch.Tensor]]) -> None:
    model, (first, _), _ = two
    first.vera.bank.activate(None)
    assert torch.equal(logits_of(model), logits_of(sequence_model(Path(model.name_or_path))))


def test_each_row_goes_through_its_own_head(two: tuple[Any, list[Any], list[torch.Tensor]]) -> None:
    model, (first, second), expected = two
    with first.vera.bank.rows([second.vera.name, first.vera.name]):
        mixed = logits_of(model)
    assert close(mixed[0], expected[1][0])
    assert close(mixed[1], expected[0][1])

    bare = logits_of(sequence_model(Path(model.name_or_path)))
    with first.vera.bank.rows([None, first.vera.name]):
        mixed = logits_of(model)
    assert close(mixed[0], bare[0])
    assert close(mixed[1], expected[0][1])
    assert close(logits_of(model), expected[1])  # what was active before is active again


def test_heads_of_one_batch_have_one_width(base_of: Callable[[str], Path]) -> None:
    from vera.nn.own_heads import HeadRows, OwnHead

    wide, narrow = (OwnHead(torch.nn.Linear(4, width), torch.nn.Linear(4, width)) for width in (3, 2))
    with pytest.raises(VeraError) as error:
        HeadRows("classifier", [wide, narrow], torch.nn.Linear(4, 3))(torch.zeros(2, 4))
    assert error.value.code == "HEADS_DIFFER"
    with pytest.raises(VeraError) as error:
        HeadRows("classifier", [wide], torch.nn.Linear(4, 3))(torch.zeros(2, 4))
    assert error.value.code == "ROWS_MISMATCH"


@pytest.mark.parametrize("weights", [(0.5, 0.5), (2.0, None)])
def test_heads_are_not_summed_in_silence(two: tuple[Any, list[Any], list[torch.Tensor]], weights: Any) -> None:
    model, (first, second), expected = two
    pairs = zip((first.vera.name, second.vera.name), weights, strict=True)
    with pytest.raises(VeraError) as error:
        first.vera.bank.combine({name: weight for name, weight in pairs if weight})
    assert error.value.code == "HEADS_NOT_SUMMED"
    assert close(logits_of(model), expected[1])


def test_a_removed_adapter_takes_its_head_along(two: tuple[Any, list[Any], list[torch.Tensor]]) -> None:
    model, (first, second), expected = two
    bank, before = first.vera.bank, first.vera.bank.size_bytes
    bank.remove(second.vera.name)
    assert torch.equal(logits_of(model), logits_of(sequence_model(Path(model.name_or_path))))
    assert before - bank.size_bytes >= second.vera.manifest.weights.head_bytes
    assert close(logits_of(first), expected[0])


def test_a_merged_adapter_keeps_its_head(two: tuple[Any, list[Any], list[torch.Tensor]]) -> None:
    model, (first, _), expected = two
    bank = first.vera.bank
    merge(bank, first.vera.name)
    # W + ΔW is rounded once to float32 and then multiplied: a few units in the last place of values of order 1.
    torch.testing.assert_close(logits_of(model), expected[0], rtol=1e-3, atol=1e-4)
    unmerge(bank)
    assert close(logits_of(model), expected[0])
    bank.detach()
    assert torch.equal(logits_of(model), logits_of(sequence_model(Path(model.name_or_path))))
