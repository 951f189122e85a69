"""Proof that a live model holds exactly the weights of a registered base.

Every tensor of the base's table is looked for in the model, by its name or by its content
(transformers renames some modules when it loads them), and its bytes are hashed in the stored
dtype. A wider dtype that contains the stored one (bfloat16 → float32) proves just as well.

A tensor that is held quantised, or rounded to a narrower dtype, has no bytes left to compare. Such a
model is proven by its source: by whoever checked the checkpoint's files and then loaded it from them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vera.base_difference import BaseDifference
from vera.errors import BaseMismatch
from vera.fingerprint import BaseFingerprint, TensorRecord
from vera.nn.building import names_built
from vera.nn.correspondence import by_name, match, parent_of, part_of
from vera.nn.hashing import FLOATS, Progress, TensorHasher, can_contain
from vera.nn.live_tensors import is_plain, is_weight, memory_of, sample_of, stamp_of, tensors_of
from vera.parallel_digest import DigestBook


@dataclass(frozen=True)
class BaseProof:
    """What was proven of a live base. `names` maps checkpoint tensor names to live ones."""

    fingerprint: str
    # "content": the bytes of every tensor; "source": of those that can be compared, and the rest was loaded
    # from the base's own files; "none": nobody looked
    kind: str
    tensors: int
    names: Mapping[str, str]
    absent: tuple[str, ...] = ()  # parts of the checkpoint that this model class leaves out
    extra: tuple[str, ...] = ()  # parameters that are not the base's, such as a task head
    tied: Mapping[str, str] = field(default_factory=dict)  # further live names of checkpoint tensors, to those
    unread: tuple[str, ...] = ()  # checkpoint tensors that are held quantised or rounded
    recognised: int = 0  # of `tensors`, those on a GPU that were known by their digest and not hashed again

    def __str__(self) -> str:
        if self.kind == "none":
            return f"base {self.fingerprint}: not verified"
        if self.kind == "source":
            return (
                f"base {self.fingerprint}: loaded from its verified checkpoint; {self.tensors} tensors, every byte equal, "
                f"and {len(self.unread)} held quantised or rounded"
            )
        how = f" ({self.recognised} recognised where they lie)" if self.recognised else ""
        return f"base {self.fingerprint}: {self.tensors} tensors, every byte equal{how}"

    def module(self, name: str) -> str | None:
        """The live name of the checkpoint's module `name`."""
        live = self.names.get(f"{name}.weight")
        return live.removesuffix(".weight") if live else None


def prove_base(
    model: nn.Module,
    base: BaseFingerprint,
    *,
    is_loaded_from_base: bool = False,
    digests: DigestBook | None = None,
    progress: Progress | None = None,
) -> BaseProof:
    """Proof that `model` holds `base`. A model proven once is not read again until a tensor of it changes.

    With `digests`, tensors on a GPU that this machine hashed before are recognised there, and the ones that are
    hashed now are written down in it; without, they are copied to the host and hashed.

    `is_loaded_from_base` is said by whoever verified the files of a checkpoint to be `base` and made
    `model` from them: it vouches for tensors that are held quantised or in a narrower dtype, and for
    nothing else. Raises BaseMismatch, which says what differs and what it looks like, or, with the
    code BASE_UNPROVABLE, what cannot be compared.
    """
    live = tensors_of(model)
    known = _PROVEN.get(model)
    if known and known.proof.fingerprint == base.value and known.still_holds(live):
        return known.proof
    stamp, sample = stamp_of(live), sample_of(live)  # before it is read: what changes meanwhile is seen the next time
    proof = _prove(live, base, TensorHasher(digests, (record.sha256 for record in base.tensors)), progress)
    if taken_out := _taken_out(model, proof):
        raise _incomplete(base, taken_out, model)
    if proof.unread and not is_loaded_from_base:
        raise _unprovable(proof, base, live)
    _PROVEN[model] = _Proven(proof, stamp, sample)
    return proof


def trust_base(model: nn.Module, base: BaseFingerprint) -> BaseProof:
    """The names of `base` in `model`, without looking at a single weight (verify="off")."""
    live = tensors_of(model)
    names = {r.name: found for r in base.tensors if (found := by_name(r.name, live))}
    return BaseProof(base.value, "none", 0, names, tied=_tied(names, live))


def _prove(
    live: Mapping[str, Tensor], base: BaseFingerprint, hasher: TensorHasher, progress: Progress | None
) -> BaseProof:
    """Raises BaseMismatch for anything that can be compared and is not the base's."""
    records = base.tensors
    matched = match(records, live, hasher)
    compared = [(live[matched.named[r.name]], r) for r in records if r.name in matched.named]
    unread = [record for tensor, record in compared if not _can_compare(tensor, record)]
    read = [(tensor, record) for tensor, record in compared if _can_compare(tensor, record)]
    absent, lost = _left_out(records, matched.found)
    tied = _tied(matched.found, live)
    extra = _extra(live, {*matched.found.values(), *tied}, [matched.named[record.name] for record in unread])
    parts = _live_parts(matched.found)
    hashes = _hashes(read, hasher, progress)
    differing = [record for _, record in read if hashes.get(record.name) != record.sha256]
    difference = BaseDifference(
        same=tuple(matched.found.keys() - {record.name for record in [*differing, *unread]}),
        changed=tuple(record.name for record in differing if record.name in hashes),
        reshaped=tuple(record.name for record in differing if record.name not in hashes),
        recast=(),
        only_before=tuple(record.name for record in lost),
        only_after=tuple(name for name in extra if _is_within(name, parts)),
    )
    if not difference.is_same or not matched.found:
        raise _mismatch(base, difference, hashes)
    names = {**matched.named, **matched.renamed}
    return BaseProof(
        base.value,
        "source" if unread else "content",
        len(matched.found) - len(unread),
        names,
        tuple(record.name for record in absent),
        tuple(extra),
        {live: name for live, name in tied.items() if name in names},
        tuple(record.name for record in unread),
        hasher.recognised,
    )


def _hashes(
    read: Sequence[tuple[Tensor, TensorRecord]], hasher: TensorHasher, progress: Progress | None
) -> dict[str, str | None]:
    """The SHA-256 of each live tensor by its name in the base; those of another shape are left out."""
    fitting = [(tensor, record) for tensor, record in read if tuple(tensor.shape) == record.shape]
    found = hasher.sha256_all([(tensor, record.dtype) for tensor, record in fitting], progress)
    return {record.name: digest for (_, record), digest in zip(fitting, found, strict=True)}


def _left_out(
    records: Sequence[TensorRecord], found: Mapping[str, str]
) -> tuple[list[TensorRecord], list[TensorRecord]]:
    """The weights of whole parts that this model class does not have, and those that it should have.

    A buffer that a model computes instead of loading it, such as position numbers, is neither.
    """
    parts = {part_of(name) for name in found}
    missing = [record for record in records if record.name not in found and record.dtype in FLOATS]
    absent = [record for record in missing if part_of(record.name) not in parts]
    return absent, [record for record in missing if part_of(record.name) in parts]


def _taken_out(model: nn.Module, proof: BaseProof) -> list[str]:
    """The tensors of `proof.absent` whose part another module without weights (nn.Identity, say) has the place of, where the class
    of the model would have them."""
    prefixes = {live.removesuffix(base) for base, live in proof.names.items() if live.endswith(base)}
    modules = dict(model.named_modules(remove_duplicate=False))
    empty = [name for name in proof.absent for prefix in prefixes if _is_empty(modules.get(f"{prefix}{part_of(name)}"))]
    built = names_built(model) if empty else set()
    return [name for name in empty if by_name(name, built)]


def _is_empty(module: nn.Module | None) -> bool:
    return module is not None and not module.state_dict()


def _extra(live: Mapping[str, Tensor], known: set[str], unread: Iterable[str]) -> list[str]:
    """The weights of the model that are not `known` as the base's, nor the scales that a quantised one brings."""
    quantised = {parent_of(name) for name in unread if not is_plain(live[name]) or not live[name].is_floating_point()}
    return sorted(n for n in live.keys() - known if is_weight(live[n]) and not _is_within(n, quantised))


def _can_compare(tensor: Tensor, record: TensorRecord) -> bool:
    """Whether the bytes of the stored tensor can still be there. One of another shape can be compared: it differs."""
    if not is_plain(tensor) or tensor.is_meta:
        return False
    return can_contain(tensor.dtype, record.dtype) or (
        tensor.is_floating_point() and tuple(tensor.shape) != record.shape
    )


def _tied(names: Mapping[str, str], live: Mapping[str, Tensor]) -> dict[str, str]:
    """Live tensors beyond `names` that are the memory of a tensor in it: live name to checkpoint name.

    A checkpoint keeps tied weights once.
    """
    keepers = {memory_of(live[found]): name for name, found in names.items()}
    others = live.keys() - set(names.values())
    return {n: keepers[memory_of(live[n])] for n in sorted(others) if memory_of(live[n]) in keepers}


def _live_parts(names: Mapping[str, str]) -> set[str]:
    """The top modules of the model that the base's tensors stand in, such as `bert.encoder`."""
    prefixes = {live.removesuffix(base) for base, live in names.items() if live.endswith(base)}
    parts: set[str] = set()
    for base, live in names.items():
        if live.endswith(base):
            parts.add(live.removesuffix(base) + part_of(base))
        elif base.endswith(f".{live}"):  # the checkpoint has one leading part more
            parts.add(part_of(live))
        else:  # renamed: its part is the one it has in the model
            prefix = max((prefix for prefix in prefixes if live.startswith(prefix)), key=len, default="")
            parts.add(prefix + part_of(live.removeprefix(prefix)))
    return parts


def _is_within(name: str, modules: Iterable[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _mismatch(base: BaseFingerprint, what: BaseDifference, hashes: Mapping[str, str | None]) -> BaseMismatch:
    differing, missing, foreign = [*what.changed, *what.reshaped], what.only_before, what.only_after
    return BaseMismatch(
        f"This model is not the base {base.value}: {what.counts}. "
        f"{what.story} Nothing was changed; load the base that the adapter names.",
        found={name: digest for name, digest in hashes.items() if digest},
        fingerprint=base.value,
        differing=differing,
        missing=list(missing),
        foreign=list(foreign),
    )


def _incomplete(base: BaseFingerprint, taken_out: Sequence[str], model: nn.Module) -> BaseMismatch:
    return BaseMismatch(
        f"This model is not the base {base.value}: its {part_of(taken_out[0])} was taken out, and a {type(model).__name__} of this "
        f"configuration has one, with {', '.join(taken_out[:3])}. Nothing was changed; load the base that the adapter names, whole.",
        fingerprint=base.value,
        differing=[],
        missing=list(taken_out),
        foreign=[],
    )


def _unprovable(proof: BaseProof, base: BaseFingerprint, live: Mapping[str, Tensor]) -> BaseMismatch:
    record = base.by_name[proof.unread[0]]
    tensor = live[proof.names[record.name]]
    if tensor.is_meta:
        how = "on the device meta, without values"
    elif is_plain(tensor) and tensor.is_floating_point():
        how = f"in {tensor.dtype}, which cannot contain the stored {record.dtype}"
    else:
        how = f"quantised or sharded ({type(tensor).__name__}, {tensor.dtype}), and its stored bytes are gone"
    return BaseMismatch(
        f"This model cannot be proven to be the base {base.value}: {len(proof.unread)} of its {len(proof.names)} tensors "
        f"cannot be compared. {record.name} is held {how}. Nothing was changed; give sdk.load the checkpoint's folder or "
        "id and how to load it (dtype=, quantization=), so that its files are the proof, or load the model as it is stored.",
        code="BASE_UNPROVABLE",
        fingerprint=base.value,
        unread=list(proof.unread),
    )


@dataclass(frozen=True)
class _Proven:
    """A proof, and what the tensors looked like then."""

    proof: BaseProof
    stamp: int
    sample: Mapping[object, Tensor]

    def still_holds(self, live: Mapping[str, Tensor]) -> bool:
        if stamp_of(live) != self.stamp:
            return False
        sample = sample_of(live)
        return all(torch.equal(sample[group], numbers) for group, numbers in self.sample.items())


_PROVEN: weakref.WeakKeyDictionary[nn.Module, _Proven] = weakref.WeakKeyDictionary()
