"""A program of somebody who has PEFT and has never heard of this project: HF_ENDPOINT is all that it is told.

Run as `python peft_user.py BASE OUT`: trains an adapter and pushes it as demo/by-peft, gets that and demo/for-peft
from the hub, and writes to OUT what each answers.
"""

from __future__ import annotations

import sys

import torch
from peft import PeftModel, VeraConfig, get_peft_model
from transformers import AutoModel

IDS = torch.arange(2, 14).reshape(2, 6)


def answer(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        hidden: torch.Tensor = model.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state
    return hidden


def trained(base: str) -> PeftModel:
    torch.manual_seed(0)
    model = get_peft_model(AutoModel.from_pretrained(base), VeraConfig(r=8, target_modules=["query", "dense"]))
    for name, parameter in model.named_parameters():
        if "vera_lambda" in name:
            torch.nn.init.normal_(parameter)
    model.peft_config["default"].base_model_name_or_path = "tests/tiny-bert"  # as the hub knows it
    return model


def main(base: str, out: str) -> None:
    mine = trained(base)
    answers = {"before": answer(mine)}
    mine.push_to_hub("demo/by-peft")
    for name in ("by-peft", "for-peft"):
        got = PeftModel.from_pretrained(AutoModel.from_pretrained(base), f"demo/{name}", revision="v1")
        answers[name] = answer(got)
    torch.save(answers, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
