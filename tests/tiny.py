"""Real but tiny models with their tokenizers or image processors, made from configurations: nothing is downloaded."""

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


def write_tiny_llama(folder: Path, *, seed: int = 0) -> Path:
    """A LlamaForCausalLM checkpoint with random weights, and a word-level tokenizer with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[USER]", "[BOT]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]",
        additional_special_tokens=["[USER]", "[BOT]"],
    )  # fmt: skip
    tokenizer.chat_template = (
        "{% for m in messages %}[USER] {{ m['content'] }} {% endfor %}{% if add_generation_prompt %}[BOT]{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, pad_token_id=0, bos_token_id=2, eos_token_id=3,
        initializer_range=0.3,  # so that its logits are not all alike
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_tiny_vit(folder: Path, *, seed: int = 0) -> Path:
    """A ViTModel checkpoint with random weights for pictures of 16 × 16, and its image processor."""
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=8
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ViTModel(config, add_pooling_layer=False)
        for parameter in model.parameters():  # transformers renames its modules: they are known by what they hold
            torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(folder)
    return folder
