"""The README of a freshly trained adapter: what it does, how well, and how to use it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from vera.data import IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_REGRESSION, Split
from vera.manifest import METHODS

if TYPE_CHECKING:
    from vera.manifest import Manifest
    from vera.nn.packaging import Scores
    from vera.nn.training.recipe import Recipe

_METRICS_SHOWN = 3
_BASELINES = {
    "head_only": "the same training of the head alone, the base frozen",
    "probe": "the head alone, trained until it has converged",
    "base": "the base without it",
}
# Tasks that Hugging Face knows by the same name.
_PIPELINES = (TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION, TEXT_GENERATION)
_SHARES = ("accuracy", "f1")  # shown in percent


def of_adapter(name: str, manifest: Manifest, split: Split, recipe: Recipe, scores: Scores) -> str:
    """Markdown."""
    notes = "".join(f"- {note}\n" for note in split.notes)
    if held := manifest.training.get("quantization"):
        notes += (
            f"- trained over the base held in {held}; over the base as it is stored it answers a little differently\n"
        )
    weights, head = manifest.weights, f"; head: {manifest.weights.head_bytes:,} bytes" if manifest.head else ""
    return f"""{_for_programs(manifest, split)}# {name}

A {METHODS[manifest.method]} adapter of {manifest.base.name}: {_what(split)}.

{_table(split, scores)}

Self-reported at training; the hub's own evaluation stands beside it on the adapter's page.

- vectors: {weights.vector_bytes:,} bytes ({manifest.parameters:,} parameters) on {len(manifest.modules)} modules{head}
- a rank-8 LoRA of the same modules: {manifest.lora_bytes():,} bytes
- projection: {manifest.recipe}
{notes}
## Use it

```python
import sdk
{_import_beside(split)}
model = sdk.load("{manifest.base.name}", "OWNER/{name}")
{_usage(split, recipe)}
```
"""


def of_begun(name: str, manifest: Manifest) -> str:
    """Markdown, of an adapter before its first step."""
    return _of_own_loop(name, manifest, "not trained yet")


def of_continued(name: str, manifest: Manifest, came_from: str | None) -> str:
    """Markdown, of an adapter that somebody's own loop has trained, further than `came_from` if it was trained before: nobody has told
    what it learned, or how well."""
    return _of_own_loop(
        name, manifest, f"trained further from {came_from}" if came_from else "trained by a loop of its author's own"
    )


def _of_own_loop(name: str, manifest: Manifest, how: str) -> str:
    weights, head = manifest.weights, f"; head: {manifest.weights.head_bytes:,} bytes" if manifest.head else ""
    kind = manifest.task.kind if manifest.task and manifest.task.kind in _PIPELINES else None
    return f"""{front_matter(manifest, "adapter", library_name="peft", pipeline_tag=kind)}# {name}

A {METHODS[manifest.method]} adapter of {manifest.base.name}, {how}.

- vectors: {weights.vector_bytes:,} bytes ({manifest.parameters:,} parameters) on {len(manifest.modules)} modules{head}
- projection: {manifest.recipe}
"""


def front_matter(manifest: Manifest, relation: str, **more: object) -> str:
    """The YAML that programs read of a card, in Hugging Face's own names: what the model is to its base, and `more`."""
    said = {"base_model": manifest.base.name, "base_model_relation": relation, "license": manifest.license, **more}
    # JSON is YAML, so any name may stand in it.
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in said.items() if value is not None]
    return f"---\n{''.join(lines)}---\n"


def _for_programs(manifest: Manifest, split: Split) -> str:
    return front_matter(
        manifest,
        "adapter",
        library_name="peft",
        pipeline_tag=split.task if split.task in _PIPELINES else None,
        datasets=[split.source.dataset] if split.source and split.source.dataset else None,
    )


def _what(split: Split) -> str:
    kind = "two texts" if split.train.pairs is not None else "a text"
    if split.has_labels:
        kind = "an image" if split.task == IMAGE_CLASSIFICATION else kind
        labels = ", ".join(f"`{label}`" for label in split.labels[:20]) + (", …" if len(split.labels) > 20 else "")
        return f"it sorts {kind} into one of {len(split.labels)} labels ({labels})"
    return "it completes a prompt" if split.task == TEXT_GENERATION else f"it gives {kind} a number"


def _table(split: Split, scores: Scores) -> str:
    metrics = [scores.metric, *(name for name in scores.adapter if name != scores.metric)][:_METRICS_SHOWN]
    lines = [
        f"| held out, {scores.items} items of {split.name} | {' | '.join(name.replace('_', ' ') for name in metrics)} |",
        "|---" * (1 + len(metrics)) + "|",
        *(
            f"| {what} | {' | '.join(_shown(name, values) for name in metrics)} |"
            for what, values in _rows(split, scores)
        ),
    ]
    return "\n".join(lines)


def _rows(split: Split, scores: Scores) -> Iterator[tuple[str, Mapping[str, float]]]:
    yield "this adapter", scores.adapter
    for name, values in scores.baselines.items():
        trivial = split.baseline.answer if split.baseline else ""
        yield _BASELINES.get(name, trivial), values


def _shown(metric: str, values: Mapping[str, float]) -> str:
    if metric not in values:
        return ""
    return f"{values[metric]:.1%}" if metric.startswith(_SHARES) else f"{values[metric]:.4g}"


def _import_beside(split: Split) -> str:
    return "from transformers import AutoTokenizer\n" if split.task == TEXT_GENERATION else ""


def _usage(split: Split, recipe: Recipe) -> str:
    if split.task == TEXT_GENERATION:
        return _generation_usage(recipe)
    if split.task == IMAGE_CLASSIFICATION:
        return 'print(model.classify(["picture.jpg"]))'
    call = "predict" if split.task == TEXT_REGRESSION else "classify"
    texts = '["one of a pair"], ["the other"]' if split.train.pairs is not None else '["a text", "another"]'
    return f"print(model.{call}({texts}))"


def _generation_usage(recipe: Recipe) -> str:
    lines = [
        "tokenizer = AutoTokenizer.from_pretrained(model.name_or_path)",
    ]
    if recipe.chat:
        lines += [
            'turn = [{"role": "user", "content": "Your prompt"}]',
            'inputs = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)',
        ]
    else:
        lines.append(f'inputs = tokenizer("Your prompt" + {recipe.separator!r}, return_tensors="pt")')
    return "\n".join(
        [
            *lines,
            "tokens = model.generate(**inputs, max_new_tokens=100)",
            'print(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
        ]
    )
