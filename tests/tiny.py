"""A real but tiny BERT with its tokenizer, made from a configuration: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = "the a cat dog bird fish runs flies swims sleeps red blue green old new and near far of to".split()


def write_tiny_bert(
    folder: Path, *, seed: int = 0, layers: int = 2, hidden: int = 32, dtype: torch.dtype = torch.float32
) -> Path:
    """A BertModel checkpoint with random weights that depend on `seed`, and a word-level tokenizer."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(config)
    model.to(dtype).save_pretrained(folder)
    return folder


def load_tiny_bert(folder: Path, **options: Any) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, local_files_only=True, **options).eval()
