"""The model that is adapted, and who it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vera.base_config import BaseConfig
from vera.data import TEXT_GENERATION
from vera.fingerprint import BaseFingerprint, of_files
from vera.manifest import BaseIdentity
from vera.nn.configured import record_of
from vera.nn.identity import BaseProof, prove_base
from vera.nn.opening import open_bare, open_language_model
from vera.nn.quantising import configuration
from vera.nn.training.recipe import Recipe
from vera.parallel_digest import DigestBook


@dataclass(frozen=True)
class Base:
    """The model to adapt and who it is. Where it lies is where it is trained."""

    model: nn.Module
    fingerprint: BaseFingerprint
    name: str
    revision: str | None = None
    quantization: str | None = None  # how `model` was quantised as the files of `fingerprint` were read

    @classmethod
    def open(
        cls,
        path: str | Path,
        task: str,
        recipe: Recipe,
        *,
        name: str,
        revision: str | None = None,
        fingerprint: BaseFingerprint | None = None,
        device: str = "cpu",
        quantization: str | None = None,
    ) -> Base:
        """The base in the checkpoint folder `path`, as `task` and `recipe` need it, on `device`.

        Its files are hashed unless their `fingerprint` is known; whether the model holds them is
        proven when it is trained. With `quantization`, one of those of `quantising`, its weights are quantised as they
        are read. Raises VeraError (HEAD_UNTRAINED) when it is to generate and is no decoder.
        """
        path = Path(path)
        options: dict[str, Any] = {"dtype": "float32" if recipe.dtype == "float32" else "auto"}  # auto: as stored
        if quantization:
            options |= {"quantization_config": configuration(quantization), "device_map": device}
        model: Any = open_language_model(path, options) if task == TEXT_GENERATION else open_bare(path, options)
        held = model if quantization else model.to(device)
        return cls(held, fingerprint or of_files(path), name, revision, quantization)

    def prove(self, digests: DigestBook | None = None) -> BaseProof:
        """Proof that the model holds the base, with what `digests` knows. What is proven once is not read again.

        Raises BaseMismatch.
        """
        return prove_base(
            self.model, self.fingerprint, is_loaded_from_base=self.quantization is not None, digests=digests
        )

    @property
    def config(self) -> BaseConfig | None:
        """How the model is configured, None where it does not say."""
        return record_of(getattr(self.model, "config", None))

    @property
    def identity(self) -> BaseIdentity:
        return BaseIdentity(self.name, self.fingerprint.value, self.fingerprint.dtype, self.revision, self.config)
