"""The child's end of a task of lm-evaluation-harness: an adapted decoder as the harness's own model of transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hub.worker import harness
from vera.nn.inputs import note_done, tokenizer_of


class _Counting:
    """What the harness tells of every response it has made, so that it may be kept: here it is counted."""

    def add_partial(self, kind: str, request: object, response: object) -> None:
        del kind, request, response
        note_done(1)


def responses(model: Any, requests: Sequence[Sequence[Any]], *, batch_size: int, max_length: int) -> list[str]:
    """The response to each request in JSON, as the harness's own model of transformers gives it. A text that is too
    long is cut at its beginning. Raises NotComputed without the harness."""
    harness.version()
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    asked: Any = HFLM(pretrained=model, tokenizer=tokenizer_of(model), batch_size=batch_size, max_length=max_length)
    asked.set_cache_hook(_Counting())
    found: dict[int, Any] = {}
    for kind in harness.KINDS:
        rows = [row for row, request in enumerate(requests) if request[0] == kind]
        instances = [Instance(kind, {}, tuple(requests[row][1:]), row) for row in rows]
        said = getattr(asked, kind)(instances, disable_tqdm=True) if rows else []
        found |= zip(rows, said, strict=True)
    return [json.dumps(found[row]) for row in range(len(requests))]
