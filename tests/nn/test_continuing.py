"""What a continuation is worth does not hang on what the tokenizer puts around a text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tiny import write_tiny_llama
from vera.nn.continuing import likelihoods

BOS, EOS = ("[BOS]", 2), ("[EOS]", 3)
CONTEXTS = ["the cat", "", "[BOS] the cat"]
CONTINUATIONS = [" runs near", "old fish", " runs"]


@pytest.mark.parametrize("template", ["$A", "[BOS] $A", "$A [EOS]", "[BOS] $A [EOS]"])
def test_a_text_begins_once_and_no_end_of_it_counts(tmp_path: Path, template: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(write_tiny_llama(tmp_path))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=[BOS, EOS])
    tokenizer.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()

    found = likelihoods(model, CONTEXTS, CONTINUATIONS, batch_size=2, max_length=32)

    begins = template.startswith("[BOS]")
    for context, text, likelihood in zip(CONTEXTS, CONTINUATIONS, found, strict=True):
        own = tokenizer(text, add_special_tokens=False)["input_ids"]
        before = tokenizer(context, add_special_tokens=False)["input_ids"]
        if not before or (begins and before[0] != 2):
            before = [2, *before]
        with torch.no_grad():
            chances = model(torch.tensor([before + own])).logits[0].log_softmax(-1)
        expected = -sum(chances[len(before) + n - 1, token].item() for n, token in enumerate(own))
        assert likelihood.tokens == len(own)
        assert likelihood.nats == pytest.approx(expected, rel=1e-4)  # float32, in batches of another length
