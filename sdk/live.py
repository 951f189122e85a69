"""The adapters on a live model, by the references they were loaded under.

A name here needs no network: `org/adapter@v3`, a commit and a digest name that version; an alias
or `latest` means what it meant when it was last loaded onto this model; `org/adapter` alone is
enough while one version of it is loaded. A folder is named by its path.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk import finding
from sdk.cache import selector_of
from vera.errors import RefError, VeraError, VeraWarning
from vera.nn.attach import Attached, answering, attach, backbone_of, bank_on, find_bank, reactivate
from vera.nn.parameters import as_parameters
from vera.ref import LATEST, AdapterRef

if TYPE_CHECKING:
    from torch.nn import Parameter

    from sdk.cache import Resolution
    from sdk.finding import Found, Wanted
    from vera.archive import Archive
    from vera.fingerprint import BaseFingerprint, Progress
    from vera.nn.bank import Bank
    from vera.parallel_digest import DigestBook
    from vera.projection import PairSource


@dataclass
class Held:
    """What is kept of a loaded adapter, as the label of its slot. It knows no model, so that one can be freed."""

    attached: Attached
    head_of: Archive | None  # where its head can be read again, None when it has none
    projection: PairSource | None = None  # its stored pair, where it has one
    refs: set[str] = field(default_factory=set)


def add(
    model: Any,
    found: Found,
    base: BaseFingerprint,
    *,
    verify: str,
    is_loaded_from_base: bool,
    budget_bytes: int,
    digests: DigestBook | None,
    progress: Progress | None,
) -> Any:
    """`attach`, and the adapter answers to what was asked for and to every name of its version from now on."""
    model, archive = backbone_of(model), found.archive
    adapted = attach(
        model, archive, base, ref=found.title, verify=verify, is_loaded_from_base=is_loaded_from_base,
        digests=digests, budget_bytes=budget_bytes, progress=progress,
    )  # fmt: skip
    attached: Attached = adapted.vera
    names = _names(found.asked, found.fetched.resolved.resolution if found.fetched else None)
    for held in _held_on(attached.bank).values():
        held.refs -= names  # an alias means one version: the one it was loaded as last
    slot = attached.bank.slot(attached.name)
    before = slot.label.refs if isinstance(slot.label, Held) else set()
    slot.label = Held(attached, archive if archive.manifest.head else None, archive.projection, before | names)
    return adapted


def activate(model: Any, ref: str | Path | None) -> Any:
    """Every pass of `model` goes through the loaded adapter `ref` from now on, or through the bare base for None.

    Gives the model that answers as `ref`: `model` itself or, for a classifier, the module with its
    head, which goes on answering through its own adapter whatever is active. Reads nothing and asks nobody. Raises VeraError: ADAPTER_NOT_LOADED,
    ADAPTER_AMBIGUOUS, and TARGET_TAKEN while what was loaded through another model that shares modules with this one is active there.
    """
    bank, backbone = bank_on(model), backbone_of(model)
    _warn_of_threads(bank, ref)
    if ref is None:
        bank.check_alone()
        bank.activate(None)
        return backbone
    held = held_of(bank, ref)
    return reactivate(backbone, held.attached, held.head_of)


@contextmanager
def using(model: Any, ref: str | Path | None) -> Iterator[Any]:
    """Within the block every pass of `model` goes through the loaded adapter `ref`, or through the bare base for None. Other threads
    that want another one wait until it is over; after it, what was active before is active again.

    Gives what `activate` gives. For threads that pass through the live model itself, `generate` of a decoder say, each with an
    adapter of its own. Within it nothing else can be activated or loaded (ROWS_ACTIVE). Raises what `activate` does.
    """
    bank, backbone = bank_on(model), backbone_of(model)
    held = None if ref is None else held_of(bank, ref)
    with bank.using(None if held is None else held.attached.name):
        yield backbone if held is None or held.head_of is None else answering(backbone, held.attached, held.head_of)


def unload(model: Any, ref: str | Path) -> None:
    """Forgets the loaded adapter `ref` and frees what only it used. After the last one the model is what it was.

    When it was active, the bare base is. Raises VeraError: ADAPTER_NOT_LOADED, ADAPTER_AMBIGUOUS,
    and ROWS_ACTIVE or ADAPTER_MERGED while it is in use.
    """
    bank, backbone = bank_on(model), backbone_of(model)
    name = held_of(bank, ref).attached.name
    bank.remove(name)
    for each in (model, backbone):
        if isinstance(vars(each).get("vera"), Attached) and each.vera.name == name:
            del each.vera


def rows(model: Any, refs: Sequence[str | Path | None]) -> AbstractContextManager[None]:
    """Within the block, row i of every batch goes through the loaded adapter `refs[i]`; None is the bare base.

    Each row gets what it gets alone. Raises VeraError: ADAPTER_NOT_LOADED, and ROWS_MISMATCH in a
    pass whose batch has another number of rows.
    """
    if isinstance(refs, str | Path):
        raise RefError(
            f"rows takes a list of adapters, one for each row of a batch, and was given {str(refs)!r}: write [{str(refs)!r}, …], or use "
            "sdk.activate for one adapter of all rows."
        )
    bank = bank_on(model)
    return bank.rows([None if ref is None else held_of(bank, ref).attached.name for ref in refs])


@contextmanager
def training(model: Any, ref: str | Path | None = None) -> Iterator[Sequence[Parameter]]:
    """Within the block the vectors of the loaded adapter `ref`, or of the one `model` answers through, are parameters of the model, and of the base's
    none wants a gradient: for an optimizer, transformers' Trainer, DistributedDataParallel. `sdk.save` keeps what was trained.

    Raises VeraError: those of `activate`, and ROWS_ACTIVE, ADAPTER_MERGED, or TARGET_TAKEN within such a block.
    """
    with as_parameters(bank_on(model), held_by(model, ref).attached.name) as vectors:
        yield vectors


@contextmanager
def all_or_none(model: Any) -> Iterator[None]:
    """When the block fails, the adapters it added are forgotten and what was active is active again.

    Raises VeraError at once (ROWS_ACTIVE, ADAPTER_MERGED) when nothing can be activated now.
    """
    bank, backbone = find_bank(model), backbone_of(model)
    if bank is not None:
        with bank.turns:  # which waits for a block of `using` in another thread
            bank.check_free()
    before, weights = (set(bank.slots), dict(bank.weights)) if bank else (set(), {})
    shown = vars(backbone).get("vera")
    try:
        yield
    except BaseException:
        _restore(find_bank(model), before, weights)
        if shown is not None:
            backbone.vera = shown
        elif isinstance(vars(backbone).get("vera"), Attached):
            del backbone.vera
        raise


def _warn_of_threads(bank: Bank, ref: str | Path | None) -> None:
    """Warns where threads take turns in saying what one model goes through: a pass of the one may go through what the other has said."""
    thread, last = threading.current_thread(), _ACTIVATED.get(bank)
    _ACTIVATED[bank] = (thread, ref)
    if last is not None and last[0] is not thread and last[0].is_alive() and last[1] != ref:
        warnings.warn(
            f"{thread.name} activates {ref} where {last[0].name} has activated {last[1]}: what is active is of the model, and not of a thread, so "
            "that a pass of one may answer as the other's. Write `with sdk.using(model, ref):` around each pass, or put the inputs of "
            "several into one batch (sdk.rows).",
            VeraWarning,
            stacklevel=3,
        )


# By whom, and which: the last time that somebody said what the model of a bank goes through.
_ACTIVATED: weakref.WeakKeyDictionary[Bank, tuple[threading.Thread, str | Path | None]] = weakref.WeakKeyDictionary()


def _restore(bank: Bank | None, slots: Set[str], weights: Mapping[str, float]) -> None:
    if bank is None:
        return
    for name in bank.slots.keys() - slots:
        bank.remove(name)
    if dict(bank.weights) != weights:
        bank.combine(weights)


def held_by(model: Any, ref: str | Path | None) -> Held:
    """The loaded adapter `ref`, or the one `model` answers through. Raises VeraError: ADAPTER_NOT_LOADED, ADAPTER_AMBIGUOUS."""
    bank = bank_on(model)
    if ref is not None:
        return held_of(bank, ref)
    name = bank.active if model is backbone_of(model) else model.adapter[1]
    held = bank.slot(name).label if name else None
    if isinstance(held, Held):
        return held
    raise VeraError(
        "No adapter is active on this model: say which one is meant by its reference, or activate it first (sdk.activate).",
        code="ADAPTER_NOT_LOADED",
    )


def held_of(bank: Bank, ref: str | Path) -> Held:
    """The loaded adapter `ref`. Raises VeraError: ADAPTER_NOT_LOADED, ADAPTER_AMBIGUOUS."""
    wanted = finding.parse(ref)
    loaded = _held_on(bank)
    found = _found(wanted, loaded)
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(held.attached.ref) for held in loaded.values()) or "none"
    if not found:
        raise VeraError(
            f"{ref} is not loaded on this model (there are: {names}): load it with sdk.load(model, {str(ref)!r}).",
            code="ADAPTER_NOT_LOADED",
            ref=str(ref),
        )
    raise VeraError(
        f"{ref} may be any of {', '.join(str(held.attached.ref) for held in found)}: say which version.",
        code="ADAPTER_AMBIGUOUS",
        ref=str(ref),
    )


def _held_on(bank: Bank) -> dict[str, Held]:
    return {name: slot.label for name, slot in bank.slots.items() if isinstance(slot.label, Held)}


def _found(ref: Wanted, loaded: Mapping[str, Held]) -> list[Held]:
    """What `ref` names: what was loaded under that very name or, for an id alone, any version of the adapter."""
    if isinstance(ref, Path):
        return [held for held in loaded.values() if str(ref) in held.refs]
    pinned = {name: held for name, held in loaded.items() if ref.digest in (None, name)}
    named = [held for held in pinned.values() if _spelled(ref) in held.refs]
    if named or selector_of(ref) != LATEST:
        return named
    return [held for held in pinned.values() if any(each.partition("@")[0] == _adapter_of(ref) for each in held.refs)]


def _names(asked: Wanted, resolution: Resolution | None) -> set[str]:
    """What an adapter is called from now on: its folder, or what was asked for and every name of the version that it meant."""
    if isinstance(asked, Path) or resolution is None:
        return {str(asked)}
    return {_spelled(asked), *(f"{_adapter_of(asked)}@{selector}" for selector in resolution.selectors)}


def _spelled(ref: AdapterRef) -> str:
    selector = selector_of(ref)
    return _adapter_of(ref) if selector == LATEST else f"{_adapter_of(ref)}@{selector}"


def _adapter_of(ref: AdapterRef) -> str:
    """The adapter's name, with its hub when that was named: two hubs may each have one of that name."""
    return f"vera://{ref.host}/{ref.adapter_id}" if ref.host else ref.adapter_id
