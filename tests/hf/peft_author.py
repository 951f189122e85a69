"""A program of somebody who trains with PEFT and pushes with it: HF_ENDPOINT is all that it is told.

Run as `python peft_author.py BASE REPO OUT`: what the adapter answers before it is pushed goes to OUT.
"""

from __future__ import annotations

import sys

import torch
from peft import VeraConfig, get_peft_model
from peft_user import IDS
from transformers import AutoModel


def main(base: str, repo: str, out: str) -> None:
    torch.manual_seed(0)
    model = get_peft_model(AutoModel.from_pretrained(base), VeraConfig(r=8, target_modules=["query", "dense"]))
    for name, parameter in model.named_parameters():
        if "vera_lambda" in name:
            torch.nn.init.normal_(parameter)
    model.eval()
    with torch.no_grad():
        torch.save(model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state, out)
    model.peft_config["default"].base_model_name_or_path = "tests/tiny-bert"  # as the hub knows it
    model.push_to_hub(repo)


if __name__ == "__main__":
    main(*sys.argv[1:])
