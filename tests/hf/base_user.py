"""A program of somebody who has transformers: HF_ENDPOINT is all that it is told.

Run as `python base_user.py NAME OUT`: opens the model of that name with its tokenizer and writes to OUT what it answers.
"""

from __future__ import annotations

import sys

import torch
from transformers import AutoModel, AutoTokenizer


def main(name: str, out: str) -> None:
    tokens = AutoTokenizer.from_pretrained(name)("the cat runs", return_tensors="pt")
    with torch.no_grad():
        torch.save(AutoModel.from_pretrained(name).eval()(**tokens).last_hidden_state, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
