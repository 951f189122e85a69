"""Proof that a live model holds exactly the weights of a registered base.

Every tensor of the base's table is looked for in the model, by its name or by its content
(transformers renames some modules when it loads them), and its bytes are hashed in the stored
dtype. A wider dtype that contains the stored one (bfloat16 → float32) proves just as well.

A tensor that is held quantised, or rounded to a narrower dtype, has no bytes left to compare. Such a
model is proven by its source: by whoever checked the checkpoint's files and then loaded it from them.
"""

from __future__ import annotations

import re
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vera.base_difference import BaseDifference
from vera.errors import BaseMismatch
from vera.fingerprint import BaseFingerprint, TensorRecord
from vera.nn.hashing import FLOATS, Progress, TensorHasher, can_contain
from vera.nn.offloading import kept_weight
from vera.parallel_digest import DigestBook

_NUMBER = re.compile(r"(\d+)")
# Numbers of each matrix that are compared when a model was proven before. A matrix that a merge left equal in all of
# them, by rounding, would have to be equal nearly everywhere.
_SAMPLED = 64
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Key = tuple[tuple[int, ...], str, str]  # shape, stored dtype and hash of a tensor


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
    live = _tensors(model)
    known = _PROVEN.get(model)
    if known and known.proof.fingerprint == base.value and known.still_holds(live):
        return known.proof
    stamp, sample = _stamp(live), _sample(live)  # before it is read: what changes meanwhile is seen the next time
    proof = _prove(live, base, TensorHasher(digests, (record.sha256 for record in base.tensors)), progress)
    if proof.unread and not is_loaded_from_base:
        raise _unprovable(proof, base, live)
    _PROVEN[model] = _Proven(proof, stamp, sample)
    return proof


def trust_base(model: nn.Module, base: BaseFingerprint) -> BaseProof:
    """The names of `base` in `model`, without looking at a single weight (verify="off")."""
    live = _tensors(model)
    names = {r.name: found for r in base.tensors if (found := _by_name(r.name, live))}
    return BaseProof(base.value, "none", 0, names, tied=_tied(names, live))


def _prove(
    live: Mapping[str, Tensor], base: BaseFingerprint, hasher: TensorHasher, progress: Progress | None
) -> BaseProof:
    """Raises BaseMismatch for anything that can be compared and is not the base's."""
    records = base.tensors
    match = _match(records, live, hasher)
    compared = [(live[match.named[r.name]], r) for r in records if r.name in match.named]
    unread = [record for tensor, record in compared if not _can_compare(tensor, record)]
    read = [(tensor, record) for tensor, record in compared if _can_compare(tensor, record)]
    absent, lost = _left_out(records, match.found)
    tied = _tied(match.found, live)
    extra = _extra(live, {*match.found.values(), *tied}, [match.named[record.name] for record in unread])
    parts = _live_parts(match.found)
    hashes = _hashes(read, hasher, progress)
    differing = [record for _, record in read if hashes.get(record.name) != record.sha256]
    difference = BaseDifference(
        same=tuple(match.found.keys() - {record.name for record in [*differing, *unread]}),
        changed=tuple(record.name for record in differing if record.name in hashes),
        reshaped=tuple(record.name for record in differing if record.name not in hashes),
        recast=(),
        only_before=tuple(record.name for record in lost),
        only_after=tuple(name for name in extra if _is_within(name, parts)),
    )
    if not difference.is_same or not match.found:
        raise _mismatch(base, difference, hashes)
    names = {**match.named, **match.renamed}
    return BaseProof(
        base.value,
        "source" if unread else "content",
        len(match.found) - len(unread),
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


@dataclass(frozen=True)
class _Match:
    """Checkpoint names to live names: by name, by content, and by content that several modules have."""

    named: Mapping[str, str]
    renamed: Mapping[str, str]
    alike: Mapping[str, str]

    @property
    def found(self) -> dict[str, str]:
        return {**self.named, **self.renamed, **self.alike}


def _match(records: Sequence[TensorRecord], live: Mapping[str, Tensor], hasher: TensorHasher) -> _Match:
    named = {record.name: here for record in records if (here := _by_name(record.name, live))}
    others = live.keys() - set(named.values())
    renamed, alike = _by_content([r for r in records if r.name not in named], {n: live[n] for n in others}, hasher)
    return _Match(named, renamed, alike)


def _left_out(
    records: Sequence[TensorRecord], found: Mapping[str, str]
) -> tuple[list[TensorRecord], list[TensorRecord]]:
    """The weights of whole parts that this model class does not have, and those that it should have.

    A buffer that a model computes instead of loading it, such as position numbers, is neither.
    """
    parts = {_part(name) for name in found}
    missing = [record for record in records if record.name not in found and record.dtype in FLOATS]
    absent = [record for record in missing if _part(record.name) not in parts]
    return absent, [record for record in missing if _part(record.name) in parts]


def _extra(live: Mapping[str, Tensor], known: set[str], unread: Iterable[str]) -> list[str]:
    """The weights of the model that are not `known` as the base's, nor the scales that a quantised one brings."""
    quantised = {_parent(name) for name in unread if not _is_plain(live[name]) or not live[name].is_floating_point()}
    return sorted(n for n in live.keys() - known if _is_weight(live[n]) and not _is_within(n, quantised))


def _can_compare(tensor: Tensor, record: TensorRecord) -> bool:
    """Whether the bytes of the stored tensor can still be there. One of another shape can be compared: it differs."""
    if not _is_plain(tensor):
        return False
    return can_contain(tensor.dtype, record.dtype) or (
        tensor.is_floating_point() and tuple(tensor.shape) != record.shape
    )


def _is_plain(tensor: Tensor) -> bool:
    """False for tensors of libraries, such as quantised or sharded ones: they are not the numbers they seem."""
    return type(tensor) in (Tensor, nn.Parameter)


def _is_weight(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or not _is_plain(tensor)


def _tied(names: Mapping[str, str], live: Mapping[str, Tensor]) -> dict[str, str]:
    """Live tensors beyond `names` that are the memory of a tensor in it: live name to checkpoint name.

    A checkpoint keeps tied weights once.
    """
    keepers = {_memory(live[found]): name for name, found in names.items()}
    others = live.keys() - set(names.values())
    return {n: keepers[_memory(live[n])] for n in sorted(others) if _memory(live[n]) in keepers}


def _memory(tensor: Tensor) -> tuple[object, ...]:
    """Equal for two tensors if and only if they are the same numbers in the same memory."""
    if parts := _parts_of(tensor):
        return tuple(_memory(part) for part in parts)
    if tensor.data_ptr() == 0:
        return (id(tensor),)
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())


def _writes(tensor: Tensor) -> int:
    """How often it was written in place, as torch counts it."""
    own = 0 if tensor.is_inference() else tensor._version
    return own + sum(_writes(part) for part in _parts_of(tensor))


def _parts_of(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that one of a library, such as torchao's integers and scales, is made of."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    return [getattr(tensor, name) for name in flatten()[0]] if flatten else []


def _live_parts(names: Mapping[str, str]) -> set[str]:
    """The top modules of the model that the base's tensors stand in, such as `bert.encoder`."""
    prefixes = {live.removesuffix(base) for base, live in names.items() if live.endswith(base)}
    parts: set[str] = set()
    for base, live in names.items():
        if live.endswith(base):
            parts.add(live.removesuffix(base) + _part(base))
        elif base.endswith(f".{live}"):  # the checkpoint has one leading part more
            parts.add(_part(live))
        else:  # renamed: its part is the one it has in the model
            prefix = max((prefix for prefix in prefixes if live.startswith(prefix)), key=len, default="")
            parts.add(prefix + _part(live.removeprefix(prefix)))
    return parts


def _is_within(name: str, modules: Iterable[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _by_name(name: str, live: Mapping[str, Tensor]) -> str | None:
    """`name` in the model, with one leading part (such as `bert.`) more or fewer than in the checkpoint."""
    if name in live:
        return name
    tail = name.partition(".")[2]
    if tail in live:
        return tail
    longer = [candidate for candidate in live if candidate.partition(".")[2] == name]
    return longer[0] if len(longer) == 1 else None


def _by_content(
    records: Sequence[TensorRecord], live: Mapping[str, Tensor], hasher: TensorHasher
) -> tuple[dict[str, str], dict[str, str]]:
    """Checkpoint names to live names for modules that only the bytes of all their tensors identify.

    In the second table are those that several modules hold byte for byte, such as fresh norms: each is
    there as often as it must be, and which is which cannot be told.
    """
    keys = _keys({name: tensor for name, tensor in live.items() if _is_plain(tensor)}, records, hasher)
    rooms: dict[str, dict[str, set[Key]]] = {}
    holders: dict[Key, list[str]] = {}
    for name in sorted(keys, key=_natural):
        rooms.setdefault(_parent(name), {})[name] = keys[name]
        for key in keys[name]:
            holders.setdefault(key, []).append(_parent(name))
    groups = _by_module(records)
    same = Counter(frozenset(map(_key, group)) for group in groups)
    taken: set[str] = set()
    renamed: dict[str, str] = {}
    alike: dict[str, str] = {}
    for group in groups:
        candidates = dict.fromkeys(holders.get(_key(group[0]), ()))
        fitting = {parent: placed for parent in candidates if (placed := _place(group, rooms[parent]))}
        if free := [parent for parent in fitting if parent not in taken]:
            taken.add(free[0])
            is_unique = len(fitting) == 1 and same[frozenset(map(_key, group))] == 1
            (renamed if is_unique else alike).update(fitting[free[0]])
    return renamed, alike


def _place(group: Sequence[TensorRecord], room: Mapping[str, set[Key]]) -> dict[str, str] | None:
    """Each record of a module to a live tensor of its own that has its bytes, or None if one has none."""
    placed: dict[str, str] = {}
    for record in group:
        same_leaf = sorted(room, key=lambda name: _leaf(name) != _leaf(record.name))
        found = next((n for n in same_leaf if _key(record) in room[n] and n not in placed.values()), None)
        if found is None:
            return None
        placed[record.name] = found
    return placed


def _by_module(records: Sequence[TensorRecord]) -> list[list[TensorRecord]]:
    groups: dict[str, list[TensorRecord]] = {}
    for record in sorted(records, key=lambda record: _natural(record.name)):
        groups.setdefault(_parent(record.name), []).append(record)
    return list(groups.values())


def _keys(live: Mapping[str, Tensor], records: Iterable[TensorRecord], hasher: TensorHasher) -> dict[str, set[Key]]:
    """What each of `live` is in every dtype that a record of its shape is stored in."""
    dtypes: dict[tuple[int, ...], set[str]] = {}
    for record in records:
        dtypes.setdefault(record.shape, set()).add(record.dtype)
    jobs = [(name, dtype) for name in live for dtype in sorted(dtypes.get(tuple(live[name].shape), ()))]
    hashes = hasher.sha256_all([(live[name], dtype) for name, dtype in jobs])
    keys: dict[str, set[Key]] = {name: set() for name in live}
    for (name, dtype), digest in zip(jobs, hashes, strict=True):
        if digest:
            keys[name].add((tuple(live[name].shape), dtype, digest))
    return keys


def _key(record: TensorRecord) -> Key:
    return record.shape, record.dtype, record.sha256


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


def _unprovable(proof: BaseProof, base: BaseFingerprint, live: Mapping[str, Tensor]) -> BaseMismatch:
    record = base.by_name[proof.unread[0]]
    tensor = live[proof.names[record.name]]
    how = (
        f"in {tensor.dtype}, which cannot contain the stored {record.dtype}"
        if _is_plain(tensor) and tensor.is_floating_point()
        else f"quantised or sharded ({type(tensor).__name__}, {tensor.dtype}), and its stored bytes are gone"
    )
    return BaseMismatch(
        f"This model cannot be proven to be the base {base.value}: {len(proof.unread)} of its {len(proof.names)} tensors "
        f"cannot be compared. {record.name} is held {how}. Nothing was changed; give sdk.load the checkpoint's folder or "
        "id and how to load it (dtype=, quantization=), so that its files are the proof, or load the model as it is stored.",
        code="BASE_UNPROVABLE",
        fingerprint=base.value,
        unread=list(proof.unread),
    )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the model's state, tied ones under each of their names. Buffers that are computed
    and never saved, such as rotary frequencies, are not among them. One that is offloaded is where it is kept."""
    live = {name: t for name, t in model.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}
    for name, tensor in live.items():
        if tensor.device.type == "meta":
            kept = kept_weight(model.get_submodule(_parent(name)), _leaf(name))
            live[name] = tensor if kept is None else kept
    return live


@dataclass(frozen=True)
class _Proven:
    """A proof, and what the tensors looked like then."""

    proof: BaseProof
    stamp: int
    sample: Mapping[object, Tensor]

    def still_holds(self, live: Mapping[str, Tensor]) -> bool:
        if _stamp(live) != self.stamp:
            return False
        sample = _sample(live)
        return all(torch.equal(sample[group], numbers) for group, numbers in self.sample.items())


def _stamp(live: Mapping[str, Tensor]) -> int:
    """Changes whenever a tensor is replaced or written in place (torch counts writes in `_version`)."""
    return hash(tuple((name, _memory(tensor), _writes(tensor), tensor.dtype) for name, tensor in live.items()))


def _sample(live: Mapping[str, Tensor]) -> dict[object, Tensor]:
    """Some numbers of each matrix, their bits, by device and width.

    torch does not count what is written behind its back, through `.data` (as PEFT merges a LoRA) or a NumPy view.
    Such a write changes a whole matrix, or next to all of it, and shows in any few of its numbers.
    """
    parts: dict[object, list[Tensor]] = {}
    for tensor in live.values():
        if tensor.ndim > 1 and tensor.is_contiguous() and tensor.numel() and _is_plain(tensor) and not tensor.is_meta:
            step = max(1, tensor.numel() // _SAMPLED)
            few = tensor.detach().as_strided((min(tensor.numel(), _SAMPLED),), (step,)).view(_BITS[tensor.itemsize])
            parts.setdefault((tensor.device, tensor.itemsize), []).append(few)
    return {group: torch.cat(few) for group, few in parts.items()}


def _part(name: str) -> str:
    return name.partition(".")[0]


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which layer 10 comes after layer 2."""
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in _NUMBER.split(name)]


_PROVEN: weakref.WeakKeyDictionary[nn.Module, _Proven] = weakref.WeakKeyDictionary()
