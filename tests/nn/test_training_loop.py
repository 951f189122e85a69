"""The loop: interrupted or not the same bytes, steps that mean what the recipe says, the best epoch and the last."""

from __future__ import annotations

import json
import math
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import WORDS, load_tiny_bert, write_tiny_bert
from vera import fingerprint
from vera.data import Examples, Split
from vera.data.dividing import split_by_hash
from vera.errors import VeraError, VeraWarning
from vera.fingerprint import BaseFingerprint
from vera.nn import experiment
from vera.nn.base import Base
from vera.nn.experiment import Choices, Outcome
from vera.nn.training.batches import shuffled_steps, steps_per_epoch
from vera.nn.training.checkpoints import Checkpoints
from vera.nn.training.curve import loss_curve
from vera.nn.training.loop import Loop, rate_factor
from vera.nn.training.progress import Epoch, Step
from vera.nn.training.recipe import Recipe, by_method, default_recipe
from vera.nn.training.recipes import RECIPES, named
from vera.nn.training.task import Scored, Task

RECIPE = Recipe(rank=8, epochs=3, batch_size=8, learning_rate=5e-2, head_learning_rate=2e-2, keep="best", dropout=True)


class Interrupted(Exception):
    """As a kill would be, at a step that a test chooses."""


@pytest.fixture(scope="module")
def split() -> Split:
    rows = [(f"the {animal} {a} {b}", animal) for animal in ("cat", "dog") for a in WORDS[10:18] for b in WORDS[10:16]]
    return split_by_hash("animals", rows, min_per_label=10)


def train(
    folder: Path, base: BaseFingerprint, split: Split, recipe: Recipe = RECIPE,
    *, work: Path | None = None, stop_at: int | None = None, baselines: bool = False,
) -> Outcome:  # fmt: skip
    """A run that saves every step and, with `stop_at`, is interrupted right after that one."""

    def stop(step: Step) -> None:
        if step.step == stop_at:
            raise Interrupted

    model = Base(load_tiny_bert(folder), base, "tests/tiny-bert")
    choices = Choices(baselines=baselines)
    return experiment.run("animals", model, split, recipe, choices, work=work, checkpoint_every_s=0, report=stop)


def contents(outcome: Outcome) -> dict[str, bytes]:
    return {**(outcome.archive.files if outcome.archive else {}), **outcome.files}


@pytest.mark.parametrize("stops", [[1], [4, 9], [10], [27]])  # there are 9 or 10 steps in an epoch
def test_a_training_that_was_interrupted_ends_with_the_same_bytes(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split, tmp_path: Path, stops: list[int]
) -> None:
    whole = train(tiny_folder, tiny_base, split)
    for stop in stops:
        with pytest.raises(Interrupted):
            train(tiny_folder, tiny_base, split, work=tmp_path, stop_at=stop)

    resumed = train(tiny_folder, tiny_base, split, work=tmp_path)

    assert contents(resumed) == contents(whole)
    assert resumed.epochs == whole.epochs


@pytest.mark.parametrize("method", ["dvora", "lora", "head", "full"])
def test_any_method_goes_on_where_it_was_interrupted(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split, tmp_path: Path, method: str
) -> None:
    recipe = replace(RECIPE, method=method, learning_rate=1e-3, epochs=2)
    with pytest.raises(Interrupted):
        train(tiny_folder, tiny_base, split, recipe, work=tmp_path, stop_at=13)

    resumed, whole = (train(tiny_folder, tiny_base, split, recipe, work=work) for work in (tmp_path, None))

    assert contents(resumed) == contents(whole)
    assert resumed.scores == whole.scores


def test_a_training_on_a_base_in_float16_goes_on_with_the_scale_of_its_loss(split: Split, tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "half", dtype=torch.float16)
    base, recipe = fingerprint.of_files(folder), replace(RECIPE, epochs=1, learning_rate=1e-2)
    whole = train(folder, base, split, recipe)
    with pytest.raises(Interrupted):
        train(folder, base, split, recipe, work=tmp_path / "work", stop_at=4)
    assert torch.load(tmp_path / "work" / "checkpoint.pt")["scaler"]["scale"] >= 1
    assert contents(train(folder, base, split, recipe, work=tmp_path / "work")) == contents(whole)


def test_a_resumed_training_does_not_begin_again(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split, tmp_path: Path
) -> None:
    seen: list[int] = []
    with pytest.raises(Interrupted):
        train(tiny_folder, tiny_base, split, work=tmp_path, stop_at=12)

    model = Base(load_tiny_bert(tiny_folder), tiny_base, "tests/tiny-bert")
    experiment.run(
        "animals", model, split, RECIPE, Choices(baselines=False),
        work=tmp_path, report=lambda step: seen.append(step.step),
    )  # fmt: skip

    assert seen[0] == 13


@pytest.mark.parametrize("change", [{"seed": 1}, {"epochs": 4}, {"learning_rate": 1e-3}])
def test_a_checkpoint_of_another_training_is_not_gone_on_from(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(Interrupted):
        train(tiny_folder, tiny_base, split, work=tmp_path, stop_at=5)
    other = replace(RECIPE, **change)

    assert contents(train(tiny_folder, tiny_base, split, other, work=tmp_path)) == contents(
        train(tiny_folder, tiny_base, split, other)
    )


@pytest.mark.parametrize("what", ["an item", "their order"])
def test_a_checkpoint_of_other_items_under_the_same_name_is_not_gone_on_from(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split, tmp_path: Path, what: str
) -> None:
    with pytest.raises(Interrupted):
        train(tiny_folder, tiny_base, split, work=tmp_path, stop_at=5)
    rows = [1, 0, *range(2, len(split.train))] if what == "their order" else [1, *range(1, len(split.train))]
    other = replace(split, train=split.train.take(rows))

    assert contents(train(tiny_folder, tiny_base, other, work=tmp_path)) == contents(
        train(tiny_folder, tiny_base, other)
    )


def test_a_checkpoint_over_another_tokenizer_is_not_gone_on_from(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    with pytest.raises(Interrupted):
        train(folder, tiny_base, split, work=tmp_path / "work", stop_at=5)
    state = json.loads((folder / "tokenizer.json").read_text())
    words = state["model"]["vocab"]
    words["cat"], words["dog"] = words["dog"], words["cat"]
    (folder / "tokenizer.json").write_text(json.dumps(state))

    resumed, whole = (train(folder, tiny_base, split, work=work) for work in (tmp_path / "work", None))

    assert contents(resumed) == contents(whole)


def test_a_checkpoint_over_the_base_in_another_dtype_is_not_gone_on_from(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, epochs=1)

    def trained(work: Path | None) -> Outcome:
        model = load_tiny_bert(tiny_folder).double()  # which holds the stored numbers too
        base = Base(model, tiny_base, "tests/tiny-bert")
        return experiment.run("animals", base, split, recipe, Choices(baselines=False), work=work)

    with pytest.raises(Interrupted):
        train(tiny_folder, tiny_base, split, recipe, work=tmp_path, stop_at=5)
    assert contents(trained(tmp_path)) == contents(trained(None))


def test_what_was_trained_to_the_end_is_kept_for_who_is_interrupted_while_it_is_scored(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split, tmp_path: Path
) -> None:
    seen: list[Step] = []

    def finish(stop_at: str | None) -> Outcome:
        def stop(stage: str) -> None:
            if stage == stop_at:
                raise Interrupted

        model = Base(load_tiny_bert(tiny_folder), tiny_base, "tests/tiny-bert")
        choices = Choices(baselines=False)
        return experiment.run("animals", model, split, RECIPE, choices, work=tmp_path, stage=stop, report=seen.append)

    with pytest.raises(Interrupted):
        finish(stop_at="scoring the held-out set")
    trained = len(seen)

    assert contents(finish(stop_at=None)) == contents(train(tiny_folder, tiny_base, split))
    assert len(seen) == trained


def test_modules_that_no_answer_goes_through_are_named(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split
) -> None:
    """The task reads the hidden states, and the pooler of BERT stands after them."""
    model = Base(load_tiny_bert(tiny_folder), tiny_base, "tests/tiny-bert")
    choices = Choices(targets=["query", "pooler.dense"], baselines=False)
    steps: list[Step] = []

    def is_warned_first(step: Step) -> None:
        assert len(recorded) == 1
        steps.append(step)

    with pytest.warns(VeraWarning, match=r"through 1 of the 3 adapted modules: pooler\.dense\. Unless") as recorded:
        experiment.run("animals", model, split, replace(RECIPE, epochs=2), choices, report=is_warned_first)
    assert len(steps) > 1


def test_a_training_in_which_no_answer_goes_through_any_module_ends_at_once(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split
) -> None:
    model, steps = Base(load_tiny_bert(tiny_folder), tiny_base, "tests/tiny-bert"), list[Step]()
    choices = Choices(targets=["pooler.dense"], baselines=False)

    with pytest.raises(VeraError, match=r"pooler\.dense.*choose other targets") as error:
        experiment.run("animals", model, split, RECIPE, choices, report=steps.append)

    assert (error.value.code, steps) == ("TRAINING_INVALID", [])


def test_a_checkpoint_that_cannot_be_written_says_where_room_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(VeraError, match="make room there") as caught:
        Checkpoints(tmp_path / "file" / "work", "key").save({})
    assert caught.value.code == "CHECKPOINT_UNWRITABLE"


def test_a_damaged_checkpoint_says_what_to_remove(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"not one")
    with pytest.raises(VeraError, match="remove") as caught:
        train(tiny_folder, tiny_base, split, work=tmp_path)
    assert caught.value.code == "CHECKPOINT_UNREADABLE"


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"key": "k", "progress": Path("/")}, tmp_path / "checkpoint.pt")
    with pytest.raises(VeraError, match="cannot be read"):
        Checkpoints(tmp_path, "k").load()


def test_the_best_epoch_is_chosen_on_a_part_of_the_training_set(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split
) -> None:
    best, last = (
        train(tiny_folder, tiny_base, split, replace(RECIPE, keep=k, validation=True)) for k in ("best", "last")
    )
    scores = best.scores
    by_validation = [epoch.scores["validation"]["accuracy"] for epoch in best.epochs]

    assert scores.best_epoch == 1 + by_validation.index(max(by_validation))
    assert (scores.best, scores.last) == (last.scores.best, last.scores.last)
    assert scores.adapter is scores.best
    assert last.scores.adapter is last.scores.last
    assert "held-out" not in best.epochs[0].scores
    assert best.archive is not None
    notes = best.archive.manifest.training
    assert notes["examples"] < len(split.train)
    assert notes["self_reported"]["best_epoch"] == scores.best_epoch


def test_without_validation_every_item_is_trained_on(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split
) -> None:
    outcome = train(tiny_folder, tiny_base, split, replace(RECIPE, keep="last"))
    assert outcome.scores.best is None
    assert outcome.archive is not None
    assert outcome.archive.manifest.training["examples"] == len(split.train)


def test_what_a_run_took_is_told_and_not_written(tiny_folder: Path, tiny_base: BaseFingerprint, split: Split) -> None:
    outcome = train(tiny_folder, tiny_base, split, replace(RECIPE, epochs=1))
    assert 0 < outcome.cost.training_s <= outcome.cost.total_s
    assert outcome.cost.peak_bytes > 1 << 20
    assert outcome.size_bytes == 4 * (4 * (8 + 32) + 2 * 32 + 2)
    assert not any(b'_s"' in data or b"peak" in data for data in contents(outcome).values())


def test_the_log_has_each_step_and_each_epoch_that_was_scored(
    tiny_folder: Path, tiny_base: BaseFingerprint, split: Split
) -> None:
    outcome = train(tiny_folder, tiny_base, split)
    lines = [json.loads(line) for line in outcome.files["training.jsonl"].splitlines()]
    assert [line["step"] for line in lines if "step" in line] == list(range(1, len(lines) - 2))
    assert [line["epoch"] for line in lines if "validation" in line] == [1, 2, 3]


# -- Steps ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """An item of a task whose loss is (w - number)²."""

    value: float

    def __len__(self) -> int:
        return 1


class Numbers(Task[Number]):
    """The mean of numbers, as a task: small enough to follow by hand."""

    metrics = ("loss",)

    def __init__(self, scores: Sequence[float] = ()) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        self.scores = list(scores)
        self.start(0)

    @property
    def module(self) -> nn.Module:
        return self.model

    def start(self, seed: int) -> None:
        nn.init.constant_(self.model.weight, 0.0)

    def make_items(self, examples: Examples) -> list[Number]:
        return [Number(float(target)) for target in examples.targets]

    def loss(self, items: Sequence[Number]) -> Tensor:
        return ((self.model.weight - torch.tensor([item.value for item in items])) ** 2).mean()

    def score(self, examples: Examples) -> Scored:
        return {"loss": self.scores.pop(0)}

    def fit(self, recipe: Recipe, values: Sequence[float], **options: Any) -> Any:
        examples = Examples(("",) * len(values), tuple(values))
        watched = {"validation": examples} if self.scores else {}
        return Loop(self, [self.model.weight], examples, recipe, watched=watched, **options).run()

    @property
    def weight_now(self) -> float:
        return self.model.weight.item()


PLAIN = Recipe(method="full", epochs=1, batch_size=4, learning_rate=0.1, schedule="constant", warmup=0)


@pytest.mark.parametrize("values", [(1.0, 2, 3, 4, 5, 6, 7, 8), (1.0, 2, 3, 4, 5, 6)])  # the second: a short batch
def test_accumulated_batches_make_the_step_of_one_large_batch(values: tuple[float, ...]) -> None:
    large, parts = Numbers(), Numbers()
    one = large.fit(replace(PLAIN, batch_size=8), values)
    two = parts.fit(replace(PLAIN, batch_size=4, accumulation=2), values)
    assert len(one.steps) == len(two.steps) == 1
    assert one.steps[0].loss == pytest.approx(two.steps[0].loss, rel=1e-6)
    assert large.model.weight.grad is not None
    assert parts.model.weight.grad is not None
    assert large.model.weight.grad.item() == pytest.approx(parts.model.weight.grad.item(), rel=1e-6)


def test_a_gradient_is_clipped_to_the_norm_of_the_recipe() -> None:
    task = Numbers()
    task.fit(replace(PLAIN, clip=0.5), (100.0,))
    assert task.model.weight.grad is not None
    assert abs(task.model.weight.grad.item()) == pytest.approx(0.5, rel=1e-5)


def test_a_loss_that_nothing_trained_decides_is_refused() -> None:
    task = Numbers()
    task.model.requires_grad_(False)
    with pytest.raises(VeraError, match="choose other targets") as error:
        task.fit(PLAIN, (1.0, 2.0))
    assert error.value.code == "TRAINING_INVALID"


def test_patience_stops_after_so_many_epochs_that_were_not_the_best() -> None:
    task = Numbers(scores=[5.0, 3.0, 4.0, 3.5, 1.0])
    fitted = task.fit(replace(PLAIN, epochs=5, patience=2, keep="best"), (1.0, 2.0))
    assert len(fitted.epochs) == 4
    assert fitted.best.epoch == 2
    assert fitted.last.epoch == 4


def test_a_smaller_loss_is_the_better_one_and_the_first_of_equals_is_kept() -> None:
    fitted = Numbers(scores=[5.0, 3.0, 3.0]).fit(replace(PLAIN, epochs=3, keep="best"), (1.0, 2.0))
    assert fitted.best.epoch == 2


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    with pytest.raises(VeraError, match="lower learning rate"):
        Numbers().fit(PLAIN, (math.inf,))


class Normed(Numbers):
    """A number beside a batch norm, which writes into itself while it is in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.model.add_module("norm", self.norm)

    def loss(self, items: Sequence[Number]) -> Tensor:
        return super().loss(items) + 0 * self.norm(torch.tensor([[item.value] for item in items])).sum()


def test_the_statistics_of_the_base_are_not_written_to() -> None:
    task = Normed()
    task.fit(replace(PLAIN, dropout=True), (1.0, 2.0, 5.0))
    assert task.norm.running_mean is not None
    assert task.norm.running_mean.item() == 0
    assert task.norm.num_batches_tracked is not None
    assert task.norm.num_batches_tracked.item() == 0


class Half(Numbers):
    """A number that goes through float16, as all gradients do in a base that is held in it, and counts `weight` times."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.counts = weight
        self.model.register_parameter("base", nn.Parameter(torch.ones(1, dtype=torch.float16), requires_grad=False))

    def loss(self, items: Sequence[Number]) -> Tensor:
        return (self.model.weight.half().float() * self.counts).mean()


def test_gradients_that_float16_cannot_hold_are_not_lost() -> None:
    task = Half(1e-9)
    task.fit(PLAIN, (1.0,))
    # AdamW's first step: the rate times g / (|g| + 1e-8); scaled, the gradient is 69 of the smallest steps of float16
    assert task.weight_now == pytest.approx(-0.1 * 1e-9 / (1e-9 + 1e-8), rel=1e-2)


def test_steps_beyond_float16_are_left_out_until_the_loss_is_scaled_less() -> None:
    task = Half(100.0)
    task.fit(replace(PLAIN, epochs=5), (1.0,))
    assert task.weight_now == pytest.approx(-0.1 * 2, rel=1e-3)  # 100 · 2^12, 2^11 and 2^10 are beyond it


def test_gradients_that_stay_beyond_float16_end_the_training() -> None:
    with pytest.raises(VeraError, match="The gradient became inf: train again with a lower learning rate"):
        Half(1e9).fit(replace(PLAIN, epochs=20), (1.0,))


def test_a_score_that_is_no_number_ends_the_training() -> None:
    with pytest.raises(VeraError, match="lower learning rate") as caught:
        Numbers(scores=[math.nan]).fit(PLAIN, (1.0,))
    assert caught.value.code == "TRAINING_DIVERGED"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"warmup": 0.5}, [0.5, 1.0, 1.0, 0.5]),
        ({"warmup_steps": 1}, [1.0, 1.0, 2 / 3, 1 / 3]),
        ({"warmup_steps": 2, "schedule": "cosine"}, [0.5, 1.0, 1.0, 0.5]),
        ({"warmup_steps": 2, "schedule": "constant"}, [0.5, 1.0, 1.0, 1.0]),
    ],
)
def test_rates_rise_and_fall_as_the_recipe_says(change: dict[str, Any], expected: list[float]) -> None:
    recipe = replace(Recipe(), **change)
    assert [rate_factor(recipe, step, 4) for step in range(4)] == pytest.approx(expected)


def test_an_epoch_has_every_item_once_in_another_order_each_time() -> None:
    generator, lengths = torch.Generator().manual_seed(0), [n % 7 for n in range(101)]
    first, second = (list(shuffled_steps(lengths, 4, 3, generator)) for _ in range(2))
    rows = [row for step in first for batch in step for row in batch]
    assert sorted(rows) == list(range(101))
    assert first != second
    assert len(first) == len(second) == steps_per_epoch(101, 4, 3) == 9


def test_a_recipe_that_cannot_be_followed_says_which_value() -> None:
    with pytest.raises(VeraError, match="schedule is 'steep' and must be one of linear") as caught:
        Recipe(schedule="steep")
    assert caught.value.code == "TRAINING_INVALID"
    with pytest.raises(VeraError, match="learning_rate"):
        Recipe(learning_rate=0)


# -- Recipes and the picture ----------------------------------------------------------------------


def test_the_recipes_of_the_paper_have_the_numbers_of_its_tables() -> None:
    mrpc = named("glue-base/mrpc")  # Table 8
    assert (mrpc.rank, mrpc.epochs, mrpc.head_learning_rate, mrpc.learning_rate) == (1024, 30, 4e-3, 1e-2)
    assert (mrpc.warmup, mrpc.batch_size, mrpc.max_length, mrpc.schedule) == (0.06, 64, 512, "linear")
    cola = named("glue-large/cola")
    assert (cola.rank, cola.epochs, cola.batch_size * cola.accumulation, cola.metric) == (256, 40, 128, "matthews")
    e2e = named("e2e/gpt2-medium")  # Table 10
    assert (e2e.warmup_steps, e2e.label_smoothing, e2e.weight_decay, e2e.learning_rate) == (500, 0.1, 0.01, 0.1)
    assert (named("instruct/lora").rank, named("instruct/lora").schedule) == (64, "cosine")  # Table 9
    assert named("vit-large/resisc45").learning_rate == 7e-2  # Table 11
    assert len(RECIPES) == 12 + 2 + 2 + 8


def test_a_recipe_that_is_not_there_names_the_families() -> None:
    with pytest.raises(VeraError, match="e2e, glue-base, glue-large, instruct, vit-base, vit-large"):
        named("glue-base/nope")


def test_another_method_has_its_own_rank_and_rate() -> None:
    mrpc = named("glue-base/mrpc")
    assert (by_method(mrpc, "lora").rank, by_method(mrpc, "lora").learning_rate) == (8, 1e-3)
    assert by_method(mrpc, "lora").epochs == mrpc.epochs
    assert by_method(mrpc, "dvora") == replace(mrpc, method="dvora")
    assert default_recipe("text-generation", "lora").max_length == 256


def test_the_curve_shows_losses_and_scores_and_rings_the_best() -> None:
    steps = [Step(1 + i // 5, i + 1, 10, 1.0 - i / 20) for i in range(10)]
    epochs = [Epoch(n, 0.9 / n, {"validation": {"accuracy": 0.5 + n / 10}}) for n in (1, 2)]
    root = ET.fromstring(loss_curve(steps, epochs, "accuracy", best_epoch=2))
    titles = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "title"]
    assert titles == ["Training loss", "Validation accuracy"]
    assert len([c for c in root.iter("{http://www.w3.org/2000/svg}circle") if c.get("class") == "best"]) == 1
    alone = ET.fromstring(loss_curve(steps, [Epoch(1, 0.9), Epoch(2, 0.4)], "accuracy"))
    assert float(alone.get("height", 0)) < float(root.get("height", 0))


def test_a_long_training_gives_a_small_picture() -> None:
    steps = [Step(1 + i // 5000, i + 1, 50_000, 1.0 + i % 3) for i in range(50_000)]
    assert len(loss_curve(steps, [Epoch(n, 1.0) for n in range(1, 11)], "loss")) < 12_000
