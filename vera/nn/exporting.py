"""An adapter in a form that needs nothing of this project: merged into its base's checkpoint, or as a LoRA or a VeRA of PEFT.

vera_export.json            what it was made of: adapter, base, matrices
vera_head.safetensors       the head that was trained beside the vectors, where no file of the form has a place for it
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vera import __version__
from vera.archive import Archive, vectors_of
from vera.errors import TargetError
from vera.fingerprint import INDEX_FILE, SINGLE_FILE, checkpoint_files, of_files
from vera.folders import check_new
from vera.manifest import CARD_FILE, CONFIG_FILE, METHODS, WEIGHTS_FILE, Manifest
from vera.nn.attach import Attached
from vera.nn.bank import Bank
from vera.nn.card import front_matter
from vera.nn.layer import Delta
from vera.nn.linear import as_rows
from vera.nn.merge import check_head_writable, check_mergeable, live_name, lora_config, lora_tensors
from vera.nn.peft_form import check_sayable, head_tensors, peft_config, peft_tensors
from vera.peft_format import HEAD_FILE, has_own_head, peft_head

# What a merged checkpoint can be written in, other than its base's own.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
EXPORT_FILE = "vera_export.json"

MERGED, LORA, PEFT = "merged", "lora", "peft"
# Of a base's folder, what builds the model and its tokenizer, and under which terms; neither its weights nor code.
_CONFIGURATION = (".json", ".txt", ".model", ".spm", ".jinja")
# Where sentence-transformers keeps pooling and what follows it.
_MODULE_FOLDER = re.compile(r"\d+_[A-Za-z]+")
_TERMS = ("LICENSE", "LICENCE", "NOTICE")


@dataclass(frozen=True)
class Exported:
    """What was written to `folder`. `tensor_bytes` is its tensor files', `vector_bytes` the adapter's vectors'.

    `fingerprint` is that of a merged checkpoint; `head` the name of the head's file, if there is one.
    `lost` is the share of the adapter's change of the weights that rounding to their dtype took away, by norm.
    """

    folder: Path
    form: str
    tensor_bytes: int
    vector_bytes: int
    fingerprint: str | None = None
    head: str | None = None
    lost: float = 0.0


@dataclass
class _Rounding:
    """To `dtype`, or for None as it is stored. Adds up, as squares, what an adapter changes in the weights and what their
    dtype cannot hold of it."""

    dtype: torch.dtype | None = None
    changed: float = 0.0
    missed: float = 0.0

    def cast(self, name: str, tensor: Tensor, stored: torch.dtype) -> Tensor:
        """`tensor` as it is written. Raises TargetError (MERGE_OVERFLOW) for a value that the dtype cannot hold."""
        wanted = self.dtype if self.dtype is not None and stored in DTYPES.values() else stored
        cast = tensor.to(wanted)
        if cast.dtype != tensor.dtype and not bool(torch.isfinite(cast).all()) and bool(torch.isfinite(tensor).all()):
            raise TargetError(
                f"{name} has values beyond what {wanted} can hold (up to {tensor.abs().max().item():.3g}): write it in another dtype.",
                code="MERGE_OVERFLOW",
                tensor=name,
            )
        return cast

    def add(self, before: Tensor, exact: Tensor, rounded: Tensor) -> None:
        self.changed += (exact - before).square().sum(dtype=torch.float64).item()
        self.missed += (exact - rounded).square().sum(dtype=torch.float64).item()

    @property
    def lost(self) -> float:
        return float((self.missed / self.changed) ** 0.5) if self.changed else 0.0


def write_merged(
    adapted: Any, archive: Archive, checkpoint: Path, out: Path, *, dtype: torch.dtype | None = None
) -> Exported:
    """The base in `checkpoint` with the adapter `archive` merged in, as the checkpoint `out` of an ordinary model.

    Files, names, dtypes and the tensors that are not adapted are those of the base, byte for byte;
    W' is computed in float32 from the tensor in the file and rounded once to its dtype. With `dtype` every float
    tensor is written in that one, and its configuration says so: float32 holds all of the adapter on a base in bfloat16. `adapted`,
    which `attach` gave, says how its modules keep their weights, and is not changed. With a head
    that transformers knows it is that model which is saved, with the head in it.
    Raises TargetError (MERGE_QUANTIZED, MERGE_TIED, MERGE_OVERFLOW), and ArchiveError (FOLDER_TAKEN).
    """
    attached: Attached = adapted.vera
    bank = attached.bank
    deltas = bank.slot(attached.name).deltas
    for name in deltas:
        check_mergeable(bank, name)
    check_head_writable(bank, attached.name)
    rounding = _Rounding(dtype)
    with _written(out) as folder:
        if has_own_head(archive.manifest):
            _save_merged_model(bank, deltas, archive, folder, rounding)
        else:
            _write_merged_files(checkpoint, folder, bank, deltas, attached.manifest, rounding=rounding)
        _copy_configuration(checkpoint, folder)
        if dtype is not None:
            _say_dtype(folder, dtype)
        fingerprint = of_files(folder).value
        head = None if has_own_head(archive.manifest) else _write_head(archive, folder)
        _write_about(attached, MERGED, folder, head, fingerprint=fingerprint, lost_by_rounding=round(rounding.lost, 4))
    return _exported(out, MERGED, archive.manifest, fingerprint=fingerprint, head=head, lost=rounding.lost)


def write_lora(adapted: Any, archive: Archive, out: Path) -> Exported:
    """The adapter `archive` as the checkpoint `out` of PEFT: a LoRA of its rank or, for DVoRA, a DoRA, which PEFT has.

    The factors are bit for bit λd·A and λb·B, under the module names of `adapted`, which `attach`
    gave. Raises TargetError (TARGET_UNSUPPORTED), and ArchiveError (FOLDER_TAKEN).
    """
    from safetensors.torch import save_file

    attached: Attached = adapted.vera
    tensors = lora_tensors(attached.bank, attached.name) | head_tensors(attached.bank, attached.name)
    config = {
        "base_model_name_or_path": attached.manifest.base.name,
        "revision": attached.manifest.base.revision,
        **lora_config(attached.bank, attached.name),
        **peft_head(archive.manifest),
    }
    with _written(out) as folder:
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        (folder / CONFIG_FILE).write_text(_json(config))
        head = None if has_own_head(archive.manifest) else _write_head(archive, folder)
        _write_about(attached, LORA, folder, head, loads_on=type(attached.bank.model).__name__)
    return _exported(out, LORA, archive.manifest, head=head)


def write_peft(adapted: Any, archive: Archive, out: Path) -> Exported:
    """The adapter `archive` as the VeRA checkpoint `out` of PEFT, with its matrices and its head, so that PEFT loads
    it whatever their stream. Module names are those of `adapted`, which `attach` gave.

    Raises TargetError (TARGET_UNSUPPORTED), and ArchiveError (FOLDER_TAKEN).
    """
    from safetensors.torch import save_file

    attached: Attached = adapted.vera
    check_sayable(attached.bank, archive.manifest)
    with _written(out) as folder:
        save_file(peft_tensors(attached.bank, attached.name), folder / WEIGHTS_FILE, metadata={"format": "pt"})
        (folder / CONFIG_FILE).write_text(_json(peft_config(attached.bank, archive.manifest)))
        head = None if has_own_head(archive.manifest) else _write_head(archive, folder)
        _write_about(attached, PEFT, folder, head, loads_on=type(attached.bank.model).__name__)
    return _exported(out, PEFT, archive.manifest, head=head)


@contextmanager
def _written(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` when the block ends well, and is gone otherwise."""
    check_new(out)
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as staging:
        fresh = Path(staging) / "fresh"
        fresh.mkdir()
        yield fresh
        fresh.rename(out)


def _save_merged_model(
    bank: Bank, deltas: Mapping[str, Delta], archive: Archive, folder: Path, rounding: _Rounding
) -> None:
    """The live model as transformers saves it, with W' and the head in the place of its own."""
    model: Any = bank.model
    tensors = model.state_dict()
    for module_name, delta in deltas.items():
        name = f"{live_name(bank, module_name)}.weight"
        own = bank.originals.get(module_name, tensors[name])  # a live weight that is merged has the delta already
        tensors[name] = _merged(name, own, bank.targets[module_name], delta, rounding)
    for name, tensor in vectors_of(archive).head.items():
        tensors[name] = torch.from_numpy(tensor.copy()).to(tensors[name].dtype)
    tensors = {name: rounding.cast(name, tensor, tensor.dtype) for name, tensor in tensors.items()}
    model.save_pretrained(folder, state_dict=tensors)


def _write_merged_files(
    checkpoint: Path, folder: Path, bank: Bank, deltas: Mapping[str, Delta], manifest: Manifest, *, rounding: _Rounding
) -> None:
    of_tensor = {module.weight: module.name for module in manifest.modules}
    merged: set[str] = set()
    shards = checkpoint_files(checkpoint)
    for shard in shards:
        merged |= _write_merged_shard(shard, folder / shard.name, bank, deltas, of_tensor, rounding=rounding)
    _check_complete(merged, of_tensor, checkpoint)
    if shards[0].name != SINGLE_FILE and checkpoint.is_dir():
        shutil.copyfile(checkpoint / INDEX_FILE, folder / INDEX_FILE)


def _write_merged_shard(
    shard: Path, to: Path, bank: Bank, deltas: Mapping[str, Delta], of_tensor: Mapping[str, str], *, rounding: _Rounding
) -> set[str]:
    """Gives the names of the tensors that were merged into."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(shard, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict
    found = tensors.keys() & of_tensor.keys()
    for name in tensors.keys() - found:
        tensors[name] = rounding.cast(name, tensors[name], tensors[name].dtype)
    for name in found:
        module_name = of_tensor[name]
        tensors[name] = _merged(name, tensors[name], bank.targets[module_name], deltas[module_name], rounding)
    save_file(tensors, to, metadata=metadata)
    return found


def _check_complete(merged: set[str], of_tensor: Mapping[str, str], checkpoint: Path) -> None:
    """Raises TargetError when the checkpoint is not the one that was proven: a part of the adapter would be left out."""
    if missing := sorted(of_tensor.keys() - merged):
        raise TargetError(
            f"{checkpoint} has no tensor {missing[0]}, which the adapter changes: it is another base than the live one.",
            module=of_tensor[missing[0]],
            missing=missing[:20],
        )


@torch.no_grad()
def _merged(name: str, weight: Tensor, module: torch.nn.Module, delta: Delta, rounding: _Rounding) -> Tensor:
    """What the stored `weight` of `module` becomes, laid out and rounded as it is stored."""
    rows = as_rows(module, weight.to(next(delta.parameters()).device))
    exact = delta.adapted(rows)
    rounded = rounding.cast(name, exact, weight.dtype)
    rounding.add(rows, exact, rounded)
    return as_rows(module, rounded).cpu().contiguous()


def _copy_configuration(checkpoint: Path, folder: Path) -> None:
    """What there is beside the weights of `checkpoint`, unless it was written to `folder` already."""
    if not checkpoint.is_dir():
        return
    for path in sorted(checkpoint.iterdir()):
        if path.is_dir() and _MODULE_FOLDER.fullmatch(path.name):
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("*.bin", "*.py"))
        elif path.is_file() and _is_configuration(path.name) and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def _say_dtype(folder: Path, dtype: torch.dtype) -> None:
    """Makes the configuration and the index of the shards say what the tensors are now: transformers reads them as it says."""
    config, index = folder / "config.json", folder / INDEX_FILE
    if config.is_file():
        config.write_text(_json(_with_dtype(json.loads(config.read_text()), str(dtype).removeprefix("torch."))))
    if index.is_file():
        fields = json.loads(index.read_text())
        sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
        index.write_text(_json({**fields, "metadata": {**fields.get("metadata", {}), "total_size": sum(sizes)}}))


def _with_dtype(config: dict[str, Any], dtype: str, *, is_whole: bool = True) -> dict[str, Any]:
    """`config`, and the parts of a model of several, with `dtype` in place of what they say, under either of its names."""
    parts = {
        name: _with_dtype(value, dtype, is_whole=False) if isinstance(value, dict) else value
        for name, value in config.items()
    }
    said = [name for name in ("dtype", "torch_dtype") if isinstance(parts.get(name), str)]
    return {**parts, **dict.fromkeys(said or (["dtype"] if is_whole else []), dtype)}


def _is_configuration(name: str) -> bool:
    is_other = name.endswith(".index.json") or name == CONFIG_FILE  # of weights that were not copied
    return not is_other and (name.endswith(_CONFIGURATION) or name.upper().startswith(_TERMS))


def _write_head(archive: Archive, folder: Path) -> str | None:
    from safetensors.numpy import save_file

    head = vectors_of(archive).head
    if not head:
        return None
    save_file({name: tensor.copy() for name, tensor in head.items()}, folder / HEAD_FILE, metadata={"format": "pt"})
    return HEAD_FILE


def _write_about(attached: Attached, form: str, folder: Path, head: str | None, **more: str | float) -> None:
    manifest = attached.manifest
    parsed: dict[str, Any] = json.loads(manifest.to_bytes())
    about = {
        "form": form,
        "made_by": f"vera-hub {__version__}",
        "adapter": {"ref": attached.ref, "digest": manifest.digest, "method": manifest.method},
        "base": parsed["base"],
        "projection": parsed["projection"],
        "task": parsed["task"],
        "license": manifest.license,
        "head": head,
        **more,
    }
    (folder / EXPORT_FILE).write_text(_json(about))
    (folder / CARD_FILE).write_text(_card(manifest, form, attached.ref, head))


def _card(manifest: Manifest, form: str, ref: str | None, head: str | None) -> str:
    lora = "DoRA" if manifest.has_magnitude else "LoRA"
    what = {
        MERGED: f"{manifest.base.name} with a {METHODS[manifest.method]} adapter merged into its weights. It is another model than its base.",
        PEFT: f"A VeRA adapter of {manifest.base.name}, written as PEFT's own checkpoint, with its matrices.",
        LORA: f"A {METHODS[manifest.method]} adapter of {manifest.base.name}, written as the {lora} it is "
        "(`lora_A` = λd·A, `lora_B` = λb·B).",
    }[form]
    about_head = f"\nIts head is in `{head}`, and what it is for is the `task` in `{EXPORT_FILE}`.\n" if head else ""
    relation, library = ("finetune", "transformers") if form == MERGED else ("adapter", "peft")
    said = front_matter(manifest, relation, library_name=library)
    return f"{said}# {ref or manifest.digest}\n\n{what}\nMade by vera-hub; `{EXPORT_FILE}` says of what.\n{about_head}"


def _exported(
    out: Path, form: str, manifest: Manifest, *, head: str | None, fingerprint: str | None = None, lost: float = 0.0
) -> Exported:
    tensor_bytes = sum(path.stat().st_size for path in out.glob("*.safetensors") if path.name != HEAD_FILE)
    return Exported(out, form, tensor_bytes, manifest.weights.vector_bytes, fingerprint, head, lost)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
