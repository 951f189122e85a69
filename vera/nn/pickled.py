"""The fingerprint of a checkpoint that is kept in pickles, read by torch's weights-only reader: tensors, and no code."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vera.errors import BaseUnreadable
from vera.fingerprint import BaseFingerprint, Progress, TensorRecord
from vera.nn.hashing import DTYPES, TensorHasher

_STORED = {dtype: name for name, dtype in DTYPES.items()}


def of_pickles(files: Sequence[Path], *, progress: Progress | None = None) -> BaseFingerprint:
    """The fingerprint of the tensors in `files`: that of the same tensors in safetensors files.

    Tensors that share their memory count once, under the first of their names, which is the one that safetensors keeps.
    Raises BaseUnreadable for a pickle that holds anything but tensors by name, which is not run.
    """
    tensors: dict[str, Tensor] = {}
    for file in files:
        for name, tensor in _read(file).items():
            if name in tensors:
                raise BaseUnreadable(f"{name} stands in {file.name} and in a file before it.", path=str(file))
            tensors[name] = tensor
    if not tensors:
        raise BaseUnreadable(f"{files[0]} holds no tensors: it is no base.", path=str(files[0]))
    kept = _without_tied(tensors)
    hashes = TensorHasher().sha256_all([(tensor, _STORED[tensor.dtype]) for tensor in kept.values()], progress)
    return BaseFingerprint.of_records(
        TensorRecord(name, _STORED[tensor.dtype], tuple(tensor.shape), digest)
        for (name, tensor), digest in zip(kept.items(), hashes, strict=True)
        if digest is not None
    )


def _read(file: Path) -> Mapping[str, Tensor]:
    """The file is mapped where its format allows, so that a checkpoint need not fit in memory."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file) or None)
    except Exception as error:  # a damaged pickle breaks the reader in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise BaseUnreadable(
            f"{file} is no pickle of tensors alone, and nothing else is read: {reason}", path=str(file)
        ) from error
    for name, tensor in state.items() if isinstance(state, dict) else [(None, state)]:
        is_tensor = isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.dtype in _STORED
        if not isinstance(name, str) or not is_tensor:
            raise BaseUnreadable(f"{file} holds more than tensors by name ({name!r}): it is no base.", path=str(file))
    return {name: tensor.detach() for name, tensor in state.items()}


def _without_tied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    kept: dict[object, str] = {}
    for name in sorted(tensors):
        tensor = tensors[name]
        memory = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
        kept.setdefault(memory, name)
    return {name: tensors[name] for name in kept.values()}
