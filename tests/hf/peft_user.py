"""A program of somebody who has PEFT and has never heard of this project: HF_ENDPOINT is all that it is told.

Run as `python peft_user.py BASE REPO REVISION OUT`: what the adapter answers on the base goes to OUT.
"""

from __future__ import annotations

import sys

import torch
from peft import PeftModel
from transformers import AutoModel

IDS = torch.arange(2, 14).reshape(2, 6)


def answer(base: str, repo: str, revision: str) -> torch.Tensor:
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), repo, revision=revision).eval()
    with torch.no_grad():
        hidden: torch.Tensor = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state
    return hidden


if __name__ == "__main__":
    base, repo, revision, out = sys.argv[1:]
    torch.save(answer(base, repo, revision), out)
