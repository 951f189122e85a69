"""Proof that a base is the base: its files hashed, and a live model on a CPU and on a GPU."""

from __future__ import annotations

import copy
import hashlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from tests.benchmarks.measuring import Row, medians
from vera import fingerprint
from vera.fingerprint import BaseFingerprint, TensorRecord
from vera.nn.hashing import DTYPES, TensorHasher
from vera.nn.identity import prove_base
from vera.parallel_digest import DigestBook

RUNS = 5
_FILE_TENSORS, _TENSOR_BYTES = 12, 1 << 25  # 400 MB, as the layers of a model of 7 billion parameters
_STORED = {dtype: name for name, dtype in DTYPES.items()}


def rows() -> Iterator[Row]:
    yield from _rows_of_files()
    yield from _rows_of_live("a live MiniLM-L6 float32, CPU", _minilm())
    if torch.cuda.is_available():
        yield from _rows_of_live("a live Llama-2-7B bfloat16, GPU", _llama())


def _minilm() -> nn.Module:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536))


def _llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig())
    model = model.to(torch.bfloat16).to_empty(device="cuda")
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    return model


def _table_of(model: nn.Module) -> BaseFingerprint:
    """The table of a base that is in memory alone: what its checkpoint would hold."""
    tensors = model.state_dict()
    hashes = TensorHasher().sha256_all([(tensor, _STORED[tensor.dtype]) for tensor in tensors.values()])
    return BaseFingerprint.of_records(
        TensorRecord(name, _STORED[tensor.dtype], tuple(tensor.shape), digest)
        for (name, tensor), digest in zip(tensors.items(), hashes, strict=True)
        if digest
    )


def _rows_of_files() -> Iterator[Row]:
    """Gigabytes a second from the page cache, beside SHA-256 of as many bytes in memory on as many threads."""
    threads = os.cpu_count() or 1
    tensors = {f"w{i}": torch.randint(0, 255, (_TENSOR_BYTES,), dtype=torch.uint8) for i in range(_FILE_TENSORS)}
    size_gb = _FILE_TENSORS * _TENSOR_BYTES / 1e9
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(threads) as pool:
        save_file(tensors, Path(folder) / fingerprint.SINGLE_FILE)
        ms = medians(
            RUNS,
            files=lambda: fingerprint.of_files(folder),
            memory=lambda: list(pool.map(lambda t: hashlib.sha256(t.numpy().data).digest(), tensors.values())),
        )
    yield Row(
        f"a base's files, {size_gb:.1f} GB in the page cache", "GB/s", 1000 * size_gb / ms["files"], None,
        1000 * size_gb / ms["memory"], f"SHA-256 in memory, {threads} threads",
    )  # fmt: skip


def _rows_of_live(name: str, model: nn.Module) -> Iterator[Row]:
    """The first proof on this machine, that of another process, and the next in this one."""
    base, book = _table_of(model), DigestBook()
    size_gb = sum(tensor.nbytes for tensor in model.state_dict().values()) / 1e9
    what = f"{name}, {len(base.tensors)} tensors, {size_gb:.2f} GB"
    ms = medians(1, hashed=lambda: prove_base(copy.copy(model), base))
    yield Row(f"{what}: proven by hashing", "ms", ms["hashed"])
    prove_base(copy.copy(model), base, digests=book)
    if book.known:
        ms = medians(RUNS, recognised=lambda: prove_base(copy.copy(model), base, digests=book))
        yield Row(f"{what}: recognised where it lies", "ms", ms["recognised"], None, *_reading(size_gb))
    prove_base(model, base)
    yield Row(f"{what}: proven before", "ms", medians(RUNS, again=lambda: prove_base(model, base))["again"])


def _reading(size_gb: float) -> tuple[float, str]:
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy_ms = medians(RUNS, copy=lambda: target.copy_(source))["copy"]
    return copy_ms * size_gb * 1e9 / (2 * source.nbytes), "reading it once, at the rate of a copy"
