"""Put a checked adapter on a live model: prove the base, prove the matrices, then attach."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vera.archive import Archive, Vectors, vectors_of
from vera.data import IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_REGRESSION
from vera.errors import BaseMismatch, VeraError, VeraWarning
from vera.fingerprint import BaseFingerprint
from vera.manifest import Manifest, Task
from vera.nn.bank import Bank
from vera.nn.configured import check_model
from vera.nn.draw import ProvenPair
from vera.nn.hashing import Progress
from vera.nn.heads import (
    HEAD_BIAS,
    HEAD_WEIGHT,
    ImageClassifier,
    PooledClassifier,
    PooledHead,
    PooledRegressor,
    width_of,
)
from vera.nn.identity import BaseProof, prove_base, trust_base
from vera.nn.own_heads import own_heads
from vera.nn.sequences import SequenceClassifier, SequenceModel, SequenceRegressor
from vera.nn.slots import holds
from vera.nn.tokenized import check_tokenizer
from vera.notebook import html_card
from vera.parallel_digest import DigestBook
from vera.peft_format import has_own_head
from vera.projection import DEFAULT_BUDGET_BYTES

VERIFY = ("strict", "warn", "off")
_WEIGHT = ".weight"


@dataclass(frozen=True)
class Attached:
    """What is known of an adapter on a model; `model.vera` of everything `attach` returns."""

    bank: Bank
    name: str
    manifest: Manifest
    base: BaseProof
    ref: str | None = None
    verify: str = "strict"

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Raises BaseMismatch (BASE_TOKENIZER_MISMATCH) when `tokenizer`, with which texts for a generator are read, reads them otherwise
        than in training."""
        check_tokenizer(tokenizer, self.manifest.base)

    def __str__(self) -> str:
        recipe = self.manifest.recipe
        origin = "read from its file" if recipe.is_stored else f"rebuilt from seed {recipe.seed}, rank {recipe.rank},"
        return (
            f"{self.ref or self.name}\n"
            f"  {self.base}\n"
            f"  projection {self.manifest.projection_digest}: {origin} and equal"
        )

    def __repr__(self) -> str:
        """What a prompt shows: the bank and the manifest are pages."""
        return f"<{self}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        title, *proofs = str(self).splitlines()
        rows = [(what, rest) for what, _, rest in (proof.strip().partition(" ") for proof in proofs)]
        return html_card(f"{title} ({'active' if self.bank.active == self.name else 'loaded, not active'})", rows)


def attach(
    model: nn.Module,
    archive: Archive,
    base: BaseFingerprint,
    *,
    ref: str | None = None,
    verify: str = "strict",
    is_loaded_from_base: bool = False,
    digests: DigestBook | None = None,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    progress: Progress | None = None,
) -> Any:
    """`model` with the adapter of `archive` active: with its head where it has one (see `vera.nn.heads` and
    `vera.nn.sequences`), else `model` itself.

    `base` is the tensor table of the base the adapter names; `is_loaded_from_base` and
    `digests` are those of `identity.prove_base`. Nothing is changed before everything
    is proven; with `verify` "off" nobody looks for parameters of the model that were never trained either.
    The same adapter twice is attached once. Raises BaseMismatch, ProjectionMismatch,
    AdapterTooLarge or TargetError, and VeraError (ADAPTER_CHANGED) when it is there and was trained further.
    """
    manifest = archive.manifest
    if base.value != manifest.base.fingerprint:
        raise BaseMismatch(
            f"The adapter was trained on {manifest.base.fingerprint}, and {base.value} was given as its base."
        )
    proof = proof_of(
        model, base, verify=verify, is_loaded_from_base=is_loaded_from_base, digests=digests, progress=progress
    )
    check_config(manifest, model, verify)
    _check_pooled_head(manifest, model)  # after the proof, which says of another model what it is
    name = manifest.digest
    vectors = vectors_of(archive)
    heads = own_heads(model, vectors.head, proof.extra) if has_own_head(manifest) else {}
    if not heads:
        _check_generator(manifest, model, proof)
    bank = bank_of(model, proof)
    if name not in bank.slots:
        slot = bank.add_vera(
            name,
            manifest.modules,
            manifest.projection_digest,
            ProvenPair(manifest.recipe, manifest.projection_digest, budget_bytes, archive.projection),
            method=manifest.method,
            vectors=vectors,
        )
        slot.heads = heads
    elif not holds(bank.slots[name], vectors):
        raise VeraError(
            f"{ref or name} is on this model already, and its vectors there are not the published ones any more: they were trained further. "
            "Unload it (sdk.unload) to load it as it was published, or go on with what it is now (sdk.activate).",
            code="ADAPTER_CHANGED",
        )
    bank.activate(name)
    attached = Attached(bank, name, manifest, proof, ref, verify)
    adapted = _with_head(model, vectors, attached)
    adapted.vera = attached
    return adapted


def reactivate(model: nn.Module, attached: Attached, head_of: Archive | None) -> Any:
    """What `attach` gave for an adapter that is still on `model`, with the adapter active again.

    `head_of` is its archive when it has a head. What was proven then is not proven again.
    """
    attached.bank.activate(attached.name)
    return answering(model, attached, head_of)


def answering(model: nn.Module, attached: Attached, head_of: Archive | None) -> Any:
    """What answers as an adapter that is active on `model`: that, or with its head, which is in `head_of`."""
    adapted = _with_head(model, vectors_of(head_of), attached) if head_of is not None else model
    adapted.vera = attached
    return adapted


def bank_of(model: nn.Module, proof: BaseProof) -> Bank:
    """The one bank of `model`, made at the first call."""
    bank = _BANKS.get(model)
    if bank is None:
        bank = _BANKS[model] = Bank(live_modules(model, proof), model, shared_tensors(proof))
    return bank


def backbone_of(model: Any) -> Any:
    """The live base in what `attach` gave: a classifier's backbone, or the model itself."""
    return model.backbone if isinstance(model, PooledHead | SequenceModel) else model


def find_bank(model: Any) -> Bank | None:
    """The bank of `model`, or of the classifier's backbone; None before the first adapter."""
    return _BANKS.get(backbone_of(model))


def bank_on(model: Any) -> Bank:
    """The bank of `model`. Raises VeraError (ADAPTER_NOT_LOADED) before the first adapter, and for what is no model."""
    if not isinstance(model, nn.Module):
        raise VeraError(
            f"This takes the model that adapters were loaded on, and was given a {type(model).__name__}: sdk.load_many gives a "
            "list of what answers as each adapter, all on that one model.",
            code="ADAPTER_NOT_LOADED",
        )
    bank = find_bank(model)
    if bank is None:
        raise VeraError(
            f"No adapter was ever loaded on this {type(model).__name__}: load one first.", code="ADAPTER_NOT_LOADED"
        )
    return bank


def live_modules(model: nn.Module, proof: BaseProof) -> dict[str, nn.Module]:
    """The model's modules under their names in the base checkpoint, those that share a tensor of another included."""
    shared = {_in_checkpoint(live, proof): live for live in proof.tied}
    return {
        name.removesuffix(_WEIGHT): model.get_submodule(live.removesuffix(_WEIGHT))
        for name, live in {**shared, **proof.names}.items()
        if name.endswith(_WEIGHT) and live.endswith(_WEIGHT)
    }


def shared_tensors(proof: BaseProof) -> dict[str, str]:
    """Modules that have no tensor of their own in the checkpoint, such as a head tied to the embedding, to the one they share."""
    named = {_in_checkpoint(live, proof): tensor for live, tensor in proof.tied.items()}
    return {
        name.removesuffix(_WEIGHT): tensor
        for name, tensor in named.items()
        if name.endswith(_WEIGHT) and name not in proof.names
    }


def _in_checkpoint(live: str, proof: BaseProof) -> str:
    """What the checkpoint would call the live tensor `live`, which it keeps under another name.

    Where the model has one leading part more or fewer than the checkpoint, so has this name.
    """
    tensor = proof.tied[live]
    keeper = proof.names[tensor]
    if keeper.endswith(f".{tensor}"):
        return live.removeprefix(keeper.removesuffix(tensor))
    if tensor.endswith(f".{keeper}"):
        return tensor.removesuffix(keeper) + live
    return live


def proof_of(
    model: nn.Module,
    base: BaseFingerprint,
    *,
    verify: str,
    is_loaded_from_base: bool = False,
    digests: DigestBook | None,
    progress: Progress | None,
) -> BaseProof:
    """`identity.prove_base`, of which `verify` "warn" makes a warning of what is refused, and "off" nothing. Raises BaseMismatch, and VeraError
    (VERIFY_INVALID)."""
    if verify not in VERIFY:
        raise VeraError(f"verify is {verify!r} and can be {', '.join(VERIFY)}.", code="VERIFY_INVALID")
    if verify == "off":
        return trust_base(model, base)
    try:
        return prove_base(model, base, is_loaded_from_base=is_loaded_from_base, digests=digests, progress=progress)
    except BaseMismatch as error:
        if verify == "strict":
            raise
        _warn(error)
        return trust_base(model, base)


def check_config(manifest: Manifest, model: nn.Module, verify: str) -> None:
    """`configured.check_model` likewise: weights do not say all of what a model computes."""
    if verify == "off":
        return
    try:
        check_model(model, manifest.base)
    except BaseMismatch as error:
        if verify == "strict":
            raise
        _warn(error)


def _warn(error: BaseMismatch) -> None:
    import warnings

    warnings.warn(f"The adapter may answer wrongly. {error}", VeraWarning, stacklevel=5)


def _check_pooled_head(manifest: Manifest, model: nn.Module) -> None:
    """Raises VeraError for a head that would be left out or does not fit: the answers would not be the trained ones."""
    task = manifest.task
    if task is None or task.pooling is None:
        return
    found = {tensor.name: tensor.shape for tensor in manifest.head}
    outputs = 1 if task.kind == TEXT_REGRESSION else len(task.labels)
    expected = {HEAD_BIAS: (outputs,), HEAD_WEIGHT: (outputs, width_of(model))}
    if found != expected:
        raise VeraError(
            f"The adapter's head has the tensors {found} and its task needs {expected}: it cannot be loaded as it was trained.",
            code="HEAD_UNSUPPORTED",
        )


def _check_generator(manifest: Manifest, model: Any, proof: BaseProof) -> None:
    """Raises VeraError (HEAD_UNTRAINED) for a model that writes through a head that the base does not have: where the base
    ties it to the embedding, a model that does not has drawn it, or somebody has changed it."""
    if manifest.task is None or manifest.task.kind != TEXT_GENERATION or not hasattr(model, "get_output_embeddings"):
        return
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    weight = getattr(head, "weight", None)
    if names.get(id(weight)) in proof.extra and not _are_equal(weight, getattr(embedding, "weight", None)):
        raise VeraError(
            f"{names[id(weight)]} of this {type(model).__name__} comes neither from the base, which has none or shares it with the "
            "embedding, nor from the adapter: it would answer at random. Load the base as it is stored (tie_word_embeddings).",
            code="HEAD_UNTRAINED",
            untrained=[names[id(weight)]],
        )


def _are_equal(one: Any, other: Any) -> bool:
    """Whether they are the same numbers, wherever they lie."""
    return isinstance(other, torch.Tensor) and one.shape == other.shape and torch.equal(one, other.to(one.device))


def _with_head(model: nn.Module, vectors: Vectors, attached: Attached) -> Any:
    task = attached.manifest.task
    if task is None or not attached.manifest.head:
        return model
    if task.pooling is None:
        adapted = _sequence_model(model, task, (attached.bank, attached.name))
        if isinstance(adapted, SequenceModel):
            adapted.base, adapted.verify = attached.manifest.base, attached.verify
        return adapted
    head = _head(model, task, task.pooling, (attached.bank, attached.name))
    with torch.no_grad():
        head.classifier.weight.copy_(torch.from_numpy(vectors.head[HEAD_WEIGHT]))
        head.classifier.bias.copy_(torch.from_numpy(vectors.head[HEAD_BIAS]))
    head.base, head.verify = attached.manifest.base, attached.verify
    head.eval()
    return head


def _sequence_model(model: nn.Module, task: Task, adapter: tuple[Bank, str]) -> Any:
    """`model`, whose own head has been filled, with the words for what it answers."""
    if task.kind == TEXT_CLASSIFICATION:
        return SequenceClassifier(model, task.labels, adapter=adapter, max_length=task.max_length).eval()
    if task.kind == TEXT_REGRESSION:
        return SequenceRegressor(model, adapter=adapter, max_length=task.max_length).eval()
    return model


def _head(model: nn.Module, task: Task, pooling: str, adapter: tuple[Bank, str]) -> PooledHead:
    """The untrained head of `task` on `model`."""
    if task.kind == IMAGE_CLASSIFICATION:
        return ImageClassifier(model, task.labels, pooling=pooling, adapter=adapter)
    max_length = task.max_length or 128
    if task.kind == TEXT_REGRESSION:
        return PooledRegressor(model, pooling=pooling, max_length=max_length, adapter=adapter)
    return PooledClassifier(model, task.labels, pooling=pooling, max_length=max_length, adapter=adapter)


_BANKS: weakref.WeakKeyDictionary[nn.Module, Bank] = weakref.WeakKeyDictionary()
