"""Heads of transformers' own models, as PEFT trains them: never left out, never random, each with its adapter."""

from __future__ import annotations

import json
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
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
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

from tests.nn.small_models import seeded, tiny_llama
from tests.tiny import write_tiny_bert
from vera import archive as archives
from vera import fingerprint
from vera.errors import VeraError
from vera.fingerprint import BaseFingerprint
from vera.manifest import CONFIG_FILE, WEIGHTS_FILE, AdaptedModule, Task
from vera.nn.attach import attach
from vera.nn.exporting import write_lora, write_merged, write_peft
from vera.nn.merge import merge, unmerge
from vera.nn.opening import open_base
from vera.peft_checkpoint import read_checkpoint
from vera.peft_import import import_checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore:Specified to not (save|load) vera_A and vera_B"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to"),
]

# Of weights that are tied, which PEFT would rather not have merged.
PEFTS_ADVICE_ON_TIES = pytest.mark.filterwarnings("ignore::UserWarning:peft.*")

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


def randomised(adapted: Any) -> Any:
    """`adapted` with random vectors and a random head, as training would leave them."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return adapted


def write_config(folder: Path, **fields: Any) -> None:
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def rename(folder: Path, module: str, to: str) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    save_file({name.replace(module, to): tensor for name, tensor in tensors.items()}, folder / WEIGHTS_FILE)


def answers_of(model: Any) -> tuple[torch.Tensor, ...]:
    """All that a model of any task answers with but its cache."""
    ids = torch.arange(5, 21).reshape(2, 8)
    with torch.no_grad():
        outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return tuple(value for value in outputs.values() if isinstance(value, torch.Tensor))


def logits_of(model: Any) -> torch.Tensor:
    ids = torch.arange(5, 21).reshape(2, 8)
    with torch.no_grad():
        outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return outputs if isinstance(outputs, torch.Tensor) else outputs.logits


def read(folder: Path, base: Path, **options: Any) -> tuple[archives.Archive, BaseFingerprint]:
    table = fingerprint.of_files(base)
    return import_checkpoint(read_checkpoint(folder), table, base_name="tests/tiny", **options).archive, table


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


OTHER_TASKS: dict[str, tuple[Any, Task]] = {
    "TOKEN_CLS": (AutoModelForTokenClassification, Task("token-classification", LABELS)),
    "QUESTION_ANS": (AutoModelForQuestionAnswering, Task("question-answering")),
    "FEATURE_EXTRACTION": (AutoModel, Task("feature-extraction")),
}


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "distilbert"])
@pytest.mark.parametrize("task_type", OTHER_TASKS)
def test_an_adapter_of_another_task_answers_here_and_there_alike(
    base_of: Callable[[str], Path], tmp_path: Path, kind: str, task_type: str
) -> None:
    base, (opener, task) = base_of(kind), OTHER_TASKS[task_type]
    options = {"num_labels": len(LABELS)} if task.labels else {}
    make: Callable[[], Any] = lambda: seeded(lambda: opener.from_pretrained(base, **options))  # noqa: E731  # thrice the same
    config = VeraConfig(r=8, target_modules=TARGETS[kind], task_type=task_type)
    theirs = randomised(get_peft_model(make(), config).eval())
    theirs.save_pretrained(tmp_path / "theirs")
    expected = answers_of(theirs)
    archive, table = read(tmp_path / "theirs", base, labels=LABELS if task.labels else None)

    adapted = attach(open_base(base, archive.manifest), archive, table)
    live = make()
    write_peft(adapted, archive, tmp_path / "again")
    again = PeftModel.from_pretrained(make(), tmp_path / "again").eval()

    assert archive.manifest.task == task
    assert attach(live, archive, table) is live
    assert type(adapted) is type(live)
    for model in (adapted, live):
        for mine, of_peft in zip(answers_of(model), expected, strict=True):
            torch.testing.assert_close(mine, of_peft, rtol=1e-4, atol=1e-5)
    assert all(map(torch.equal, answers_of(again), expected))
    assert (
        type(again).__name__ == type(theirs).__name__
    )  # PEFT's own class for the task, which its Auto classes ask for
    if task.labels:
        assert adapted.config.id2label == dict(enumerate(LABELS))


def test_a_tagger_whose_head_has_a_name_of_its_own_is_for_whoever_has_the_model(
    base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    base = base_of("bert")
    trained_by_peft(base, tmp_path, "bert")
    write_config(tmp_path, task_type="TOKEN_CLS", modules_to_save=["tags"])
    rename(tmp_path, "classifier", "tags")

    archive, _ = read(tmp_path, base)

    assert archive.manifest.task is None
    assert [tensor.name for tensor in archive.manifest.head] == ["tags.bias", "tags.weight"]


def test_a_tagger_without_its_head_is_refused(base_of: Callable[[str], Path], tmp_path: Path) -> None:
    base = base_of("bert")
    config = VeraConfig(r=8, target_modules=["query"])
    get_peft_model(AutoModel.from_pretrained(base), config).save_pretrained(tmp_path)
    write_config(tmp_path, task_type="TOKEN_CLS")

    with pytest.raises(VeraError, match="at random") as error:
        read(tmp_path, base)

    assert error.value.code == "PEFT_UNSUPPORTED"


# -- Tied to the embedding ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tied")
    tiny_llama(tie_word_embeddings=True).save_pretrained(folder)
    return folder


def language_model(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base).eval()


def trained_whole(base: Path, to: Path, modules: list[str]) -> Any:
    """A VeRA of PEFT on a language model, with `modules` trained whole, and its checkpoint in `to`."""
    config = VeraConfig(r=8, target_modules=["q_proj"], modules_to_save=modules, task_type="CAUSAL_LM")
    theirs = randomised(get_peft_model(language_model(base), config).eval())
    theirs.save_pretrained(to)
    return theirs


@PEFTS_ADVICE_ON_TIES
@pytest.mark.parametrize("modules", [["lm_head"], ["embed_tokens"], ["embed_tokens", "lm_head"]])
def test_what_is_tied_and_was_trained_whole_changes_alone_as_in_peft(
    tied: Path, tmp_path: Path, modules: list[str]
) -> None:
    expected = answers_of(trained_whole(tied, tmp_path / "theirs", modules))
    archive, table = read(tmp_path / "theirs", tied)
    plain = answers_of(language_model(tied))

    adapted = attach(open_base(tied, archive.manifest), archive, table)
    write_peft(adapted, archive, tmp_path / "again")
    again = PeftModel.from_pretrained(language_model(tied), tmp_path / "again").eval()

    torch.testing.assert_close(answers_of(adapted), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(answers_of(again)[0], expected[0])
    adapted.vera.bank.activate(None)
    assert torch.equal(answers_of(adapted)[0], plain[0])
    with adapted.vera.bank.rows([adapted.vera.name, None]):
        mixed = answers_of(adapted)[0]
    torch.testing.assert_close(mixed[0], expected[0][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed[1], plain[0][1], rtol=1e-4, atol=1e-5)


@PEFTS_ADVICE_ON_TIES
def test_a_tied_head_that_was_trained_whole_is_not_merged_into_one_weight_for_two(tied: Path, tmp_path: Path) -> None:
    trained_whole(tied, tmp_path / "theirs", ["lm_head"])
    archive, table = read(tmp_path / "theirs", tied)
    adapted = attach(open_base(tied, archive.manifest), archive, table)

    with pytest.raises(VeraError, match="lm_head, which the adapter has trained whole, is tied") as error:
        write_merged(adapted, archive, tied, tmp_path / "merged")

    assert error.value.code == "MERGE_TIED"
    assert not (tmp_path / "merged").exists()


@PEFTS_ADVICE_ON_TIES
def test_vectors_of_a_tied_head_are_imported_with_the_tensor_that_it_shares(tied: Path, tmp_path: Path) -> None:
    """PEFT saves the base's own weight beside them, which says what the head is tied to."""
    config = VeraConfig(r=8, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM")
    theirs = randomised(get_peft_model(language_model(tied), config).eval())
    theirs.save_pretrained(tmp_path)
    assert "base_model.model.lm_head.base_layer.weight" in load_file(tmp_path / WEIGHTS_FILE)

    archive, table = read(tmp_path, tied)

    adapted = attach(open_base(tied, archive.manifest), archive, table)
    assert archive.manifest.modules[0] == AdaptedModule("lm_head", 48, 40, "model.embed_tokens.weight")
    assert archive.manifest.head == ()
    torch.testing.assert_close(answers_of(adapted), answers_of(theirs), rtol=1e-4, atol=1e-5)


@PEFTS_ADVICE_ON_TIES
def test_a_generator_whose_head_is_no_longer_the_embedding_is_refused(tied: Path, tmp_path: Path) -> None:
    """The base has no head of its own, so that no tensor of it says what one ought to be. A copy of the embedding will do."""
    config = VeraConfig(r=8, target_modules=["q_proj"], task_type="CAUSAL_LM")
    theirs = randomised(get_peft_model(language_model(tied), config).eval())
    theirs.save_pretrained(tmp_path)
    archive, table = read(tmp_path, tied)
    parted, changed = language_model(tied), language_model(tied)
    parted.lm_head.weight = torch.nn.Parameter(parted.lm_head.weight.detach().clone())
    changed.lm_head.weight = torch.nn.Parameter(changed.lm_head.weight.detach() + 1)

    with pytest.raises(
        VeraError, match=r"lm_head\.weight .* neither from the base.* at random.*tie_word_embeddings"
    ) as refused:
        attach(changed, archive, table)

    assert refused.value.code == "HEAD_UNTRAINED"
    torch.testing.assert_close(answers_of(attach(parted, archive, table)), answers_of(theirs), rtol=1e-4, atol=1e-5)


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
