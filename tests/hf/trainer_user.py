"""A program of somebody who trains with transformers and PEFT, and pushes as their Trainer does.

Run as `python trainer_user.py BASE OUT`: trains an adapter and pushes it as demo/by-trainer, gets its first version from
the hub, and writes to OUT what each answers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from peft import PeftModel, VeraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

IDS = torch.arange(2, 14).reshape(2, 6)


def answer(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    return logits


def main(base: str, out: str) -> None:
    torch.manual_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        VeraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    model.peft_config["default"].base_model_name_or_path = "tests/tiny-llama"  # as the hub knows it
    options = TrainingArguments(
        str(Path(out).parent / "by-trainer"), max_steps=3, learning_rate=0.1, report_to=[], push_to_hub=True,
        hub_model_id="demo/by-trainer", use_cpu=True, save_strategy="no",
    )  # fmt: skip
    rows = [{"input_ids": row, "labels": row} for row in IDS]
    trainer = Trainer(model, options, train_dataset=rows, processing_class=AutoTokenizer.from_pretrained(base))
    trainer.train()
    trainer.push_to_hub("Trained")
    answers = {"before": answer(model)}
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), "demo/by-trainer", revision="v1")
    tokenizer = AutoTokenizer.from_pretrained("demo/by-trainer")
    assert tokenizer("the cat") == AutoTokenizer.from_pretrained(base)("the cat")
    answers |= {"v1": answer(again), "base": answer(AutoModelForCausalLM.from_pretrained(base))}
    torch.save(answers, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
