"""Which tensor of a live model is which of a checkpoint: by its name, or by what it holds.

transformers renames some modules when it loads them, and a class of model may have one leading part more or fewer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from vera.fingerprint import TensorRecord
from vera.nn.hashing import TensorHasher
from vera.nn.live_tensors import is_plain

_NUMBER = re.compile(r"(\d+)")

Key = tuple[tuple[int, ...], str, str]  # shape, stored dtype and hash of a tensor


@dataclass(frozen=True)
class Match:
    """Checkpoint names to live names: by name, by content, and by content that several modules have."""

    named: Mapping[str, str]
    renamed: Mapping[str, str]
    alike: Mapping[str, str]

    @property
    def found(self) -> dict[str, str]:
        return {**self.named, **self.renamed, **self.alike}


def match(records: Sequence[TensorRecord], live: Mapping[str, Tensor], hasher: TensorHasher) -> Match:
    named = {record.name: here for record in records if (here := by_name(record.name, live))}
    others = live.keys() - set(named.values())
    renamed, alike = _by_content([r for r in records if r.name not in named], {n: live[n] for n in others}, hasher)
    return Match(named, renamed, alike)


def by_name(name: str, live: Collection[str]) -> str | None:
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
    keys = _keys({name: tensor for name, tensor in live.items() if is_plain(tensor)}, records, hasher)
    rooms: dict[str, dict[str, set[Key]]] = {}
    holders: dict[Key, list[str]] = {}
    for name in sorted(keys, key=_natural):
        rooms.setdefault(parent_of(name), {})[name] = keys[name]
        for key in keys[name]:
            holders.setdefault(key, []).append(parent_of(name))
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
        same_leaf = sorted(room, key=lambda name: leaf_of(name) != leaf_of(record.name))
        found = next((n for n in same_leaf if _key(record) in room[n] and n not in placed.values()), None)
        if found is None:
            return None
        placed[record.name] = found
    return placed


def _by_module(records: Sequence[TensorRecord]) -> list[list[TensorRecord]]:
    groups: dict[str, list[TensorRecord]] = {}
    for record in sorted(records, key=lambda record: _natural(record.name)):
        groups.setdefault(parent_of(record.name), []).append(record)
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


def part_of(name: str) -> str:
    return name.partition(".")[0]


def parent_of(name: str) -> str:
    return name.rpartition(".")[0]


def leaf_of(name: str) -> str:
    return name.rpartition(".")[2]


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which layer 10 comes after layer 2."""
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in _NUMBER.split(name)]
