"""The example of docs/serving.md, run as it stands there: a captured step whose rows are of many adapters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.nn.serving.test_packed_bank import NAMES, packed
from tests.nn.small_models import adapted
from vera.nn.slots import read

PAGE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text()
EXAMPLE = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "CUDAGraph" in block)
ROWS = ["b", None, "a", "c"]
NEW = 6

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="a graph is captured on a GPU")


def small_llama(device: str, dtype: torch.dtype) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96, hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(device, dtype).eval()


def test_the_example_is_python() -> None:
    compile(EXAMPLE, "docs/serving.md", "exec")


@needs_gpu
def test_the_example_gives_what_generate_gives_and_follows_changes_between_replays() -> None:
    model = small_llama("cuda", torch.bfloat16)
    bank = adapted(model, "q_proj", "v_proj", names=NAMES)
    ids = torch.arange(1, 13, device="cuda").view(4, 3)
    many = packed(model, bank, dtype=torch.bfloat16, run=lambda: model(input_ids=ids))
    with many:
        many.use(ROWS)
        expected = model.generate(input_ids=ids, max_new_tokens=NEW, do_sample=False)[:, 3:]
    scope: dict[str, Any] = {
        "torch": torch, "model": model, "packed": many, "refs": ROWS, "ids": ids, "new_tokens": NEW,
    }  # fmt: skip

    exec(EXAMPLE, scope)  # it is ours

    # What capturing does is a step of its own in no answer: a capture runs nothing.
    answers = torch.cat(scope["answers"], 1)
    assert torch.equal(answers, expected)

    graph, token, at, cache = (scope[name] for name in ("graph", "token", "at", "cache"))
    many.put("a", read(bank.slot("b")))
    with many:
        many.use(["a"] * 4)
        cache.reset()
        at.fill_(0)
        token.fill_(5)
        graph.replay()
        together = token.clone()
        many.use(["b"] * 4)
        cache.reset()
        at.fill_(0)
        token.fill_(5)
        graph.replay()
        assert torch.equal(token, together)
