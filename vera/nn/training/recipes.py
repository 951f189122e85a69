"""The recipes of the paper, by name: Kopiczko, Blankevoort, Asano, ICLR 2024 (arXiv 2310.11454v2), Tables 8 to 11.

All use AdamW. What a table does not give keeps this project's default. Its encoders are RoBERTa and
its head reads the first token; another base may want another learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vera.errors import VeraError
from vera.nn.training.recipe import Recipe


@dataclass(frozen=True)
class NamedRecipe:
    name: str
    recipe: Recipe
    source: str


def named(name: str) -> Recipe:
    """The recipe called `name`. Raises VeraError (RECIPE_UNKNOWN)."""
    if name not in RECIPES:
        raise VeraError(
            f"There is no recipe {name!r}: `vera-hub train --list-recipes` shows those there are "
            f"({', '.join(sorted({known.partition('/')[0] for known in RECIPES}))}).",
            code="RECIPE_UNKNOWN",
            recipe=name,
        )
    return RECIPES[name].recipe


def _glue() -> dict[str, tuple[Recipe, str]]:
    """Table 8. Large: a batch of 32 on each of 4 GPUs, here 4 batches a step."""
    tasks, metrics = ("sst2", "mrpc", "cola", "qnli", "rte", "stsb"), {"cola": "matthews", "stsb": "pearson"}
    base_epochs, large_epochs = (60, 30, 80, 25, 160, 80), (10, 40, 40, 20, 40, 20)
    base_rates = ((4e-3, 4e-3), (4e-3, 1e-2), (1e-2, 1e-2), (4e-3, 1e-2), (1e-2, 4e-3), (1e-2, 1e-2))
    large_rates = ((6e-3, 1e-2), (3e-3, 3e-2), (6e-3, 1e-2), (2e-4, 1e-2), (2e-3, 2e-2), (2e-3, 2e-2))
    found: dict[str, tuple[Recipe, str]] = {}
    for task, epochs, (head, vectors) in zip(tasks, base_epochs, base_rates, strict=True):
        found[f"glue-base/{task}"] = (
            Recipe(
                rank=1024, epochs=epochs, batch_size=64, learning_rate=vectors, head_learning_rate=head,
                metric=metrics.get(task), max_length=512,
            ),
            "Table 8, RoBERTa-base",
        )  # fmt: skip
    for task, epochs, (head, vectors) in zip(tasks, large_epochs, large_rates, strict=True):
        found[f"glue-large/{task}"] = (
            Recipe(
                rank=256, epochs=epochs, batch_size=32, accumulation=4, learning_rate=vectors,
                head_learning_rate=head, metric=metrics.get(task), max_length=128,
            ),
            "Table 8, RoBERTa-large",
        )  # fmt: skip
    return found


def _instruct() -> dict[str, tuple[Recipe, str]]:
    """Table 9. The paper adapts every linear layer but the top one: --targets all-linear."""
    shared = Recipe(
        epochs=1, batch_size=4, accumulation=4, schedule="cosine", warmup=0.1, max_length=512, chat=True
    )  # fmt: skip
    vera = shared.with_values({"rank": 1024, "learning_rate": 4e-3})
    lora = shared.with_values({"method": "lora", "rank": 64, "learning_rate": 4e-4})
    return {"instruct/vera": (vera, "Table 9, Llama 7B and 13B"), "instruct/lora": (lora, "Table 9, Llama 7B and 13B")}


def _e2e() -> dict[str, tuple[Recipe, str]]:
    """Table 10."""
    shared = Recipe(
        rank=1024, epochs=5, batch_size=8, warmup_steps=500, weight_decay=0.01, label_smoothing=0.1, max_length=256
    )
    return {
        "e2e/gpt2-medium": (shared.with_values({"learning_rate": 1e-1}), "Table 10, GPT-2 medium"),
        "e2e/gpt2-large": (shared.with_values({"learning_rate": 2e-2}), "Table 10, GPT-2 large"),
    }


def _vit() -> dict[str, tuple[Recipe, str]]:
    """Table 11, and Table 5 for rank and epochs. It gives no batch size."""
    sets = ("cifar100", "food101", "flowers102", "resisc45")
    rates = {
        "vit-base": ((4e-3, 2e-2), (4e-2, 4e-2), (4e-3, 4e-2), (5e-3, 7e-2)),
        "vit-large": ((2e-3, 4e-2), (2e-3, 4e-2), (2e-3, 4e-2), (3e-3, 7e-2)),
    }
    return {
        f"{size}/{name}": (
            Recipe(
                rank=256, epochs=10, batch_size=32, learning_rate=vectors, head_learning_rate=head, weight_decay=0.01
            ),
            f"Table 11, {size.replace('vit', 'ViT')}",
        )
        for size, of_size in rates.items()
        for name, (head, vectors) in zip(sets, of_size, strict=True)
    }


RECIPES: Mapping[str, NamedRecipe] = {
    name: NamedRecipe(name, recipe, source)
    for family in (_glue(), _instruct(), _e2e(), _vit())
    for name, (recipe, source) in family.items()
}
