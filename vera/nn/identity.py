"""Proof that a live model holds exactly the weights of a registered base.

Every float tensor of the base's table is looked for in the model, by its name or by its content
(transformers renames some modules when it loads them), and its bytes are hashed in the stored
dtype. A wider dtype that contains the stored one (bfloat16 → float32) proves just as well.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vera.errors import BaseMismatch
from vera.fingerprint import BaseFingerprint, TensorRecord

Progress = Callable[[int, int], None]

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# A cast to the stored dtype and back loses nothing when the live dtype contains it.
_CONTAINS = {
    torch.bfloat16: (torch.bfloat16, torch.float32, torch.float64),
    torch.float16: (torch.float16, torch.float32, torch.float64),
    torch.float32: (torch.float32, torch.float64),
    torch.float64: (torch.float64,),
}
_THREADS = 4


@dataclass(frozen=True)
class BaseProof:
    """What was proven of a live base. `names` maps checkpoint tensor names to live ones."""

    fingerprint: str
    kind: str  # "content": the bytes of every tensor; "none": nobody looked
    tensors: int
    names: Mapping[str, str]
    absent: tuple[str, ...] = ()  # parts of the checkpoint that this model class leaves out
    extra: tuple[str, ...] = ()  # parameters that are not the base's, such as a task head

    def __str__(self) -> str:
        if self.kind == "none":
            return f"base {self.fingerprint}: not verified"
        return f"base {self.fingerprint}: {self.tensors} float tensors, every byte equal"

    def module(self, name: str) -> str | None:
        """The live name of the checkpoint's module `name`."""
        live = self.names.get(f"{name}.weight")
        return live.removesuffix(".weight") if live else None


def prove_base(model: nn.Module, base: BaseFingerprint, *, progress: Progress | None = None) -> BaseProof:
    """Proof that `model` holds `base`. A model proven once is not read again until a tensor of it changes.

    Raises BaseMismatch, which says what differs and what it looks like.
    """
    stamp = _stamp(model)
    known = _PROVEN.get(model)
    if known and known[0] == stamp and known[1].fingerprint == base.value:
        return known[1]
    proof = _prove(dict(_float_tensors(model)), base, progress)
    _PROVEN[model] = (stamp, proof)
    return proof


def trust_base(model: nn.Module, base: BaseFingerprint) -> BaseProof:
    """The names of `base` in `model`, without looking at a single weight (verify="off")."""
    live = dict(_float_tensors(model))
    names = {r.name: found for r in base.tensors if (found := _by_name(r.name, live))}
    return BaseProof(base.value, "none", 0, names)


def _prove(live: Mapping[str, Tensor], base: BaseFingerprint, progress: Progress | None) -> BaseProof:
    records = [record for record in base.tensors if record.dtype in _DTYPES]
    named = {record.name: found for record in records if (found := _by_name(record.name, live))}
    hashes = _hash_all([(live[named[r.name]], r) for r in records if r.name in named], progress)
    differing = [r for r, digest in hashes if digest != r.sha256]
    missing = [r for r in records if r.name not in named]
    renamed = _by_content(missing, {n: t for n, t in live.items() if n not in named.values()})
    missing = [r for r in missing if r.name not in renamed]
    names = named | renamed
    absent = [r for r in missing if _part(r.name) not in {_part(name) for name in names}]
    lost = [r for r in missing if r not in absent]
    extra = sorted(set(live) - set(names.values()))
    foreign = [name for name in extra if _is_inside(name, names)]
    if differing or lost or foreign or not names:
        raise _mismatch(base, live, _Difference(differing, lost, foreign, found=len(names)))
    return BaseProof(base.value, "content", len(names), names, tuple(r.name for r in absent), tuple(extra))


def _is_inside(name: str, names: Mapping[str, str]) -> bool:
    """Whether the live tensor `name` stands among the base's own parts, where it would change what the base computes.

    A task head stands beside them.
    """
    parts = {live.removesuffix(base) + _part(base) for base, live in names.items() if live.endswith(base)}
    parts |= {_part(live) for base, live in names.items() if base.endswith(f".{live}")}
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def _by_name(name: str, live: Mapping[str, Tensor]) -> str | None:
    """`name` in the model, with one leading part (such as `bert.`) more or fewer than in the checkpoint."""
    if name in live:
        return name
    tail = name.partition(".")[2]
    if tail in live:
        return tail
    longer = [candidate for candidate in live if candidate.partition(".")[2] == name]
    return longer[0] if len(longer) == 1 else None


def _by_content(records: list[TensorRecord], live: Mapping[str, Tensor]) -> dict[str, str]:
    """Checkpoint names to live names for tensors that only their bytes identify."""
    wanted: dict[tuple[tuple[int, ...], str], dict[str, str]] = {}
    for record in records:
        wanted.setdefault((record.shape, record.dtype), {})[record.sha256] = record.name
    found: dict[str, str] = {}
    for name, tensor in live.items():
        for (shape, dtype), names in wanted.items():
            if tuple(tensor.shape) == shape and (record_name := names.get(_hash(tensor, dtype) or "")):
                found.setdefault(record_name, name)
    return found


def _hash_all(
    jobs: list[tuple[Tensor, TensorRecord]], progress: Progress | None
) -> list[tuple[TensorRecord, str | None]]:
    total, done, results = sum(t.numel() * t.element_size() for t, _ in jobs), 0, []
    with ThreadPoolExecutor(_THREADS) as pool:
        for (tensor, record), digest in zip(
            jobs, pool.map(lambda job: _hash(job[0], job[1].dtype, job[1].shape), jobs), strict=True
        ):
            results.append((record, digest))
            done += tensor.numel() * tensor.element_size()
            if progress:
                progress(done, total)
    return results


def _hash(tensor: Tensor, dtype: str, shape: tuple[int, ...] | None = None) -> str | None:
    """SHA-256 of `tensor` in the stored `dtype`, or None when it cannot be the stored tensor."""
    stored = _DTYPES[dtype]
    if (shape is not None and tuple(tensor.shape) != shape) or tensor.dtype not in _CONTAINS[stored]:
        return None
    narrow = tensor.detach().to(stored)
    if tensor.dtype != stored and not torch.equal(narrow.to(tensor.dtype), tensor.detach()):
        return None
    data = narrow.contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(data.data).hexdigest()


@dataclass(frozen=True)
class _Difference:
    """How a live model is not the base: tensors that differ, are lost, or stand among the base's own and are not its."""

    differing: list[TensorRecord]
    lost: list[TensorRecord]
    foreign: list[str]
    found: int


def _mismatch(base: BaseFingerprint, live: Mapping[str, Tensor], what: _Difference) -> BaseMismatch:
    first = [*(record.name for record in what.differing + what.lost), *what.foreign][:3]
    return BaseMismatch(
        f"This model is not the base {base.value}: {len(what.differing)} of its {what.found} tensors differ, "
        f"{len(what.lost)} are missing and {len(what.foreign)} are not the base's{' (' + ', '.join(first) + ')' if first else ''}. "
        f"{_story(base, live, what)} Nothing was changed; load the base that the adapter names.",
        fingerprint=base.value,
        differing=[record.name for record in what.differing],
        missing=[record.name for record in what.lost],
        foreign=what.foreign,
    )


def _story(base: BaseFingerprint, live: Mapping[str, Tensor], what: _Difference) -> str:
    """The likeliest reason for a mismatch, as a sentence."""
    differing = what.differing
    if not what.found or len(what.lost) > len(base.tensors) // 2:
        return "It looks like another architecture."
    if what.lost:
        return "It looks like another size of the model, with fewer layers."
    shapes = [r for r in differing if (name := _by_name(r.name, live)) and tuple(live[name].shape) != r.shape]
    if shapes and all("embed" in record.name for record in shapes):
        return "It looks like the base with a resized vocabulary."
    if shapes:
        return "It looks like another size of the model."
    narrow = [
        r for r in differing if (name := _by_name(r.name, live)) and live[name].dtype not in _CONTAINS[_DTYPES[r.dtype]]
    ]
    if narrow:
        return f"It is held in {live[_by_name(narrow[0].name, live) or ''].dtype}, which cannot contain the stored {narrow[0].dtype}: load it in {narrow[0].dtype}."
    if what.foreign and not differing:
        return "It looks like a deeper model, or one that something was added to."
    if len(differing) == what.found:
        return "Every weight differs: it looks like another training run or revision."
    return "It looks like a fine-tune of the base, or an adapter merged into it."


def _float_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The float tensors of the model's state, tied ones under each of their names. Buffers that are
    computed and never saved, such as rotary frequencies, are not among them."""
    state = model.state_dict(keep_vars=True)
    return [(name, t) for name, t in state.items() if isinstance(t, Tensor) and t.is_floating_point()]


def _stamp(model: nn.Module) -> int:
    """Changes whenever a tensor is replaced or written in place (torch counts writes in `_version`).

    A write behind torch's back, through `.data` or a NumPy view, is not counted and not seen.
    """
    return hash(
        tuple((name, t.data_ptr(), 0 if t.is_inference() else t._version, t.dtype) for name, t in _float_tensors(model))
    )


def _part(name: str) -> str:
    return name.partition(".")[0]


_PROVEN: weakref.WeakKeyDictionary[nn.Module, tuple[int, BaseProof]] = weakref.WeakKeyDictionary()
