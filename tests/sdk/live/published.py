"""A tiny real model and adapters of it on a hub in memory."""

from __future__ import annotations

from typing import Any

import torch

from tests.sdk.fakes import NOW, FakeHub
from vera.fingerprint import BaseFingerprint

REFS = ["demo/a@v1", "demo/a@v2", "demo/b@v1"]


def serve_base(fake: FakeHub, base: BaseFingerprint) -> None:
    """`fake` knows `base`, with its table."""
    fake.canned[f"GET /api/v1/bases/{base.value}"] = [base_json(base)]


def base_json(base: BaseFingerprint, name: str = "tests/tiny-bert") -> dict[str, Any]:
    return {
        "fingerprint": base.value, "name": name, "revision": None, "dtype": base.dtype, "parameters": 1, "size_bytes": 4,
        "tensor_count": len(base.tensors), "adapter_count": 0, "created_at": NOW, "tensors": base.to_rows(),
    }  # fmt: skip


def output_of(model: Any, rows: int = 2) -> torch.Tensor:
    ids = torch.arange(2, 2 + 6 * rows).reshape(rows, 6)
    with torch.no_grad():
        hidden: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return hidden
