"""The child's end of a task of lm-evaluation-harness: an adapted decoder as the harness's own model of transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hub.worker import harness
from vera.errors import DataError
from vera.nn.inputs import note_done, tokenizer_of


class _Counting:
    """What the harness tells of every response it has made, so that it may be kept: here it is counted."""

    def add_partial(self, kind: str, request: object, response: object) -> None:
        del kind, request, response
        note_done(1)


def responses(model: Any, requests: Sequence[Sequence[Any]], *, batch_size: int, max_length: int) -> list[str]:
    """The response to each request in JSON, as the harness's own model of transformers gives it. A text that is too
    long is cut at its beginning. A conversation is put in the base's own chat template. Raises DataError where that is not
    to be, and NotComputed without the harness."""
    harness.version()
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    asked: Any = HFLM(pretrained=model, tokenizer=tokenizer_of(model), batch_size=batch_size, max_length=max_length)
    asked.set_cache_hook(_Counting())
    found: dict[int, Any] = {}
    for kind in harness.KINDS:
        rows = [row for row, request in enumerate(requests) if request[0] == kind]
        arguments = [(_prompt(asked, requests[row][1]), *requests[row][2:]) for row in rows]
        instances = [Instance(kind, {}, each, row) for row, each in zip(rows, arguments, strict=True)]
        said = getattr(asked, kind)(instances, disable_tqdm=True) if rows else []
        found |= zip(rows, said, strict=True)
    return [json.dumps(found[row]) for row in range(len(requests))]


def _prompt(asked: Any, stated: str | Mapping[str, Any]) -> str:
    """A system message that the template refuses is left out, as the harness does it."""
    from jinja2.exceptions import TemplateError

    if isinstance(stated, str):
        return stated
    if not asked.tokenizer.chat_template:
        raise DataError("The base has no chat template: leave out `chat_template`, or take a base that has one.")
    try:
        prompt: str = asked.apply_chat_template(
            stated["messages"], add_generation_prompt=stated["add_generation_prompt"]
        )
    except TemplateError as error:
        raise DataError(f"The base's chat template refuses what the suite asks: {error}.") from error
    return prompt
