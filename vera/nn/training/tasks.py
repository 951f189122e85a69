"""Which task a set of examples is.

Task
├── PooledTask     a head on pooled hidden states of texts, pairs or images, with an Objective:
│   └── FeatureTask    the same head on features computed once: the base is frozen and bare
└── Generation     the base's own language-modelling head, on the completion alone
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from vera.data import IMAGE_CLASSIFICATION, TEXT_GENERATION, TEXT_REGRESSION, Split
from vera.nn.heads import ImageClassifier, PooledClassifier, PooledRegressor
from vera.nn.training.generation import Generation
from vera.nn.training.objectives import Classes, Values
from vera.nn.training.pooled import PooledTask
from vera.nn.training.recipe import Recipe
from vera.nn.training.task import Task


def task_of(split: Split, model: nn.Module, recipe: Recipe, *, pooling: str | None = None) -> Task[Any]:
    """The task of `split` on `model`. Raises VeraError when the base cannot do it."""
    if split.task == TEXT_GENERATION:
        return Generation(model, recipe)
    options: Mapping[str, Any] = {"pooling": pooling} if pooling else {}
    classes = Classes(split.labels, recipe.label_smoothing)
    if split.task == IMAGE_CLASSIFICATION:
        return PooledTask(ImageClassifier(model, split.labels, **options), classes)
    options = {**options, "max_length": recipe.max_length}
    if split.task == TEXT_REGRESSION:
        return PooledTask(PooledRegressor(model, **options), Values.of(split.train.values))
    return PooledTask(PooledClassifier(model, split.labels, **options), classes)
