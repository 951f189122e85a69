"""What a model writes after the prompts of a task; and the base as it is, asked with examples in place of training."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.benchmarks.results import places
from tests.benchmarks.results.experiments import Cell, Prompting, Writes
from vera.data import Examples, Split
from vera.nn.training.recipe import Recipe
from vera.nn.writing import Writing, written

Shots = Sequence[tuple[str, str]]


def texts_of(model: Any, writes: Writes, recipe: Recipe, shots: Shots = (), instruction: str = "") -> list[str]:
    """The text after each prompt of `writes`, in the order of `places.prompts_of`."""
    prompts, separator = places.prompts_of(writes), recipe.separator
    if writes.chat or shots or instruction:
        prompts, separator = in_chat(model, prompts, shots, instruction), ""
    writing = Writing(writes.max_new_tokens, writes.beams, writes.length_penalty, writes.no_repeat_ngram)
    longest = recipe.max_length + writes.max_new_tokens
    return written(
        model, prompts, writing, batch_size=writes.batch_size, max_length=longest, separator=separator
    )  # fmt: skip


def in_chat(model: Any, prompts: Sequence[str], shots: Shots, instruction: str) -> list[str]:
    """Each prompt as the last turn of a chat in which the `shots` were answered, up to where the answer begins."""
    from vera.nn import inputs

    tokenizer: Any = inputs.tokenizer_of(model)
    answered = [turn for asked, answer in shots for turn in (_turn("user", asked), _turn("assistant", answer))]
    found = []
    for prompt in prompts:
        first, *others = [*answered, _turn("user", prompt)]
        if instruction:
            first = _turn("user", f"{instruction}\n\n{first['content']}")
        found.append(str(tokenizer.apply_chat_template([first, *others], add_generation_prompt=True, tokenize=False)))
    return found


def asked(cell: Cell, model: Any, base: str, split: Split) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The result of the base as it is. A try is its loss on the validation tenth, with so many shots."""
    assert isinstance(cell.recipe, Prompting)
    ask, divided = cell.recipe, split.with_validation()
    shots = _shots(divided.train, ask)
    recipe = Recipe(batch_size=ask.batch_size, max_length=ask.max_length, separator="")
    assert divided.validation is not None
    epochs = [{"epoch": 0, "loss": None, "validation": _loss(model, divided.validation, ask, shots, recipe)}]
    result: dict[str, Any] = {"base": base, "epochs": epochs, "parameters": 0, "head_parameters": 0}
    if cell.is_try:
        return result, {}
    assert cell.task.writes is not None
    # Ten beams of so many examples each: a batch as large as without them would not fit beside other cells.
    writes = replace(cell.task.writes, batch_size=cell.task.writes.batch_size // max(1, ask.shots // 2))
    texts = texts_of(model, writes, recipe, shots, ask.instruction)
    loss = _loss(model, split.heldout, ask, shots, recipe)
    result |= {"scores": {"last": loss, "items": len(split.heldout)}, "heldout_digest": split.heldout_digest}
    return result, {"texts.json": json.dumps(texts, indent=0).encode()}


def _loss(model: Any, examples: Examples, ask: Prompting, shots: Shots, recipe: Recipe) -> dict[str, float]:
    from vera.nn.training.generation import Generation

    prompts = tuple(in_chat(model, examples.texts, shots, ask.instruction))
    return dict(Generation(model, recipe).score(Examples(prompts, examples.targets)))


def _shots(train: Examples, ask: Prompting) -> Shots:
    """So many training items, each of another prompt."""
    rows = list(range(len(train)))
    random.Random(ask.seed).shuffle(rows)
    found: dict[str, str] = {}
    for row in rows:
        if len(found) == ask.shots:
            break
        found.setdefault(train.texts[row], train.completions[row])
    return list(found.items())


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
