"""How one base differs from another, and the likeliest reason for it, told from names, shapes and hashes alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from vera.fingerprint import BaseFingerprint, TensorRecord

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
_VOCABULARY = ("embed", "wte", "lm_head", "decoder")
_HEADS = ("pooler", "lm_head", "classifier", "score", "qa_outputs", "cls")
# What PEFT puts beside a module that it adapts.
_PEFT = ("vera_lambda_", "lora_", "vera_A", "vera_B")
# As many kinds of modules as a sentence has room for.
_KINDS_SHOWN = 6
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class BaseDifference:
    """What differs between two bases, by the names of tensors; `same` are those that are equal."""

    same: tuple[str, ...]
    changed: tuple[str, ...]  # other values
    reshaped: tuple[str, ...]
    recast: tuple[str, ...]  # of another dtype
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        return not (self.changed or self.reshaped or self.recast or self.only_before or self.only_after)

    @property
    def counts(self) -> str:
        """How many tensors differ, and how, with the names of some."""
        kinds = {
            "has other values": self.changed,
            "has another shape": self.reshaped,
            "has another dtype": self.recast,
            "is missing": self.only_before,
            "is not the base's": self.only_after,
        }
        told = [_told(names, what) for what, names in kinds.items() if names]
        return "; ".join([*told, f"{len(self.same):,} of its tensors are equal"])

    @property
    def story(self) -> str:
        """The likeliest reason, as a sentence. `before` is the base, `after` what was found instead."""
        in_both = len(self.same) + len(self.changed) + len(self.reshaped) + len(self.recast)
        if not in_both or len(self.only_before) > in_both:
            return "It looks like another architecture."
        if self.is_same:
            return "They are the same base."
        return self._story_of_size() or self._story_of_values()

    def _story_of_size(self) -> str | None:
        if self.only_before and self.only_after:
            return "Some of its tensors are fused or split otherwise than in the checkpoint, so their bytes cannot be compared."
        if self.only_before:
            fewer = all(_NUMBER.search(name) for name in self.only_before)
            return (
                "It looks like another size of the model, with fewer layers."
                if fewer
                else "A part of the base is missing."
            )
        if self.reshaped and all(any(word in name for word in _VOCABULARY) for name in self.reshaped):
            return "It looks like the base with a resized vocabulary."
        if self.reshaped:
            return "It looks like another size of the model."
        if self.only_after and not any(map(_is_matrix, self.same)) and all(map(_NUMBER.search, self.only_after)):
            return "It looks like another size of the model, with more layers."
        if self.only_after and all(any(word in name for word in _PEFT) for name in self.only_after):
            return "It looks like a model that PEFT has adapters on: give the model it wraps (what its `unload()` returns)."
        if self.only_after and not self.changed and not self.recast:
            return "It looks like a deeper model, or one that something was added to."
        return None

    def _story_of_values(self) -> str:
        if self.recast and not self.changed:
            return "It looks like the same model saved in another dtype, which is another base."
        kinds = Counter(_kind(name) for name in self.changed)
        if not any(map(_is_matrix, self.same)):
            return "Every matrix differs: it looks like another training run or revision."
        if all(any(part in _HEADS for part in name.split(".")) for name in self.changed):
            return "Only its head differs: it looks like the base under a head of another training."
        if self._is_merged(kinds):
            shown = ", ".join(sorted(_leaf_module(name) for name in kinds)[:_KINDS_SHOWN])
            return (
                f"An adapter looks merged into {shown}: all {len(self.changed)} weights of that kind differ and nothing else "
                "does. Unmerge it, or load the base anew."
            )
        return "It looks like a fine-tune of the base, or an adapter merged into it."

    def _is_merged(self, kinds: Collection[str]) -> bool:
        """Whether whole kinds of matrices differ and no others: training moves biases and norms too."""
        others = {_kind(name) for name in self.same if name.endswith(".weight")}
        return (
            all(map(_is_matrix, self.changed))
            and not others & set(kinds)
            and any("norm" in name.lower() for name in others)
        )


def compare_bases(before: BaseFingerprint, after: BaseFingerprint) -> BaseDifference:
    """What changed from one table of tensors to the other."""
    one, other = before.by_name, after.by_name
    both = sorted(one.keys() & other.keys())
    kinds = {name: _kind_of_change(one[name], other[name]) for name in both}

    def of(kind: str) -> tuple[str, ...]:
        return tuple(name for name in both if kinds[name] == kind)

    return BaseDifference(
        of("same"), of("changed"), of("reshaped"), of("recast"),
        only_before=_sorted(one.keys() - other.keys()), only_after=_sorted(other.keys() - one.keys()),
    )  # fmt: skip


def _kind_of_change(one: TensorRecord, other: TensorRecord) -> str:
    if one.shape != other.shape:
        return "reshaped"
    if one.dtype != other.dtype:
        return "recast"
    return "same" if one.sha256 == other.sha256 else "changed"


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


def _told(names: Sequence[str], what: str) -> str:
    if len(names) == 1:
        return f"{names[0]} {what}"
    plural = what.replace("has", "have").replace("is ", "are ")
    more = ", …" if len(names) > _NAMES_SHOWN else ""
    return f"{len(names):,} tensors {plural} ({', '.join(names[:_NAMES_SHOWN])}{more})"


def _kind(name: str) -> str:
    """The name without the number of its layer: `encoder.layer.#.attention.self.query.weight`."""
    return _NUMBER.sub("#", name)


def _is_matrix(name: str) -> bool:
    """As far as its name says. The vectors of a fresh model, zeros and ones, are those of every other."""
    return name.endswith(".weight") and "norm" not in name.lower()


def _leaf_module(name: str) -> str:
    return name.split(".")[-2]
