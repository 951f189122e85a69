"""`sdk.load`: from a base and a reference to a model that answers, with proof before the first output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk import bases, fetching
from sdk.config import Config
from vera.errors import BaseMismatch, BaseUnreadable
from vera.projection import DEFAULT_BUDGET_BYTES
from vera.ref import AdapterRef

if TYPE_CHECKING:
    from sdk.client import Hub
    from vera.fingerprint import Progress
    from vera.manifest import Manifest


def load(
    base: Any,
    ref: str,
    *,
    verify: str = "strict",
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    config: Config | None = None,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> Any:
    """The model `base` with the adapter `ref` active, after proof that both are what they say.

    `base` is a live model (a torch module), a folder, a name given to `vera-hub base add`, or a
    Hugging Face id. A classifier comes back as a module with `.classify(texts)`; anything else as
    the model itself. What was proven is `model.vera`. Load again to add another adapter.

    `verify` is "strict", "warn" (a wrong base is a warning) or "off" (nobody looks at the base).
    `budget_bytes` bounds the memory of the rebuilt matrices. Asks the hub only for what is not in
    the cache. Raises HubError, and VeraError: BaseMismatch, ProjectionMismatch, AdapterTooLarge.
    """
    from sdk.client import Hub as HubClient

    parsed = AdapterRef.parse(ref)
    door = hub or HubClient((config or Config.resolve()).at_host(parsed.host))
    try:
        fetched = fetching.fetch(parsed, hub=door)
        manifest = fetched.archive.manifest
        table = bases.table_of(manifest.base.fingerprint, hub=door)
        model = base if _is_live(base) else _open(base, manifest, verify, door.config)
    finally:
        if hub is None:
            door.close()
    from vera.nn.attach import attach

    return attach(
        model,
        fetched.archive,
        table,
        ref=fetched.version_ref,
        verify=verify,
        budget_bytes=budget_bytes,
        progress=progress,
    )


def _is_live(base: Any) -> bool:
    return not isinstance(base, str | Path)


def _open(base: str | Path, manifest: Manifest, verify: str, config: Config) -> Any:
    """The model in the checkpoint `base`, refused before it is built when its files are another base."""
    path = bases.locate(base, config=config, revision=manifest.base.revision)
    if verify == "strict":
        _check_files(path, manifest, config)
    try:
        import transformers
    except ImportError as error:
        raise BaseUnreadable(
            "Loading a model needs torch and transformers: pip install 'vera-hub[torch]'.", code="TORCH_MISSING"
        ) from error
    has_own_head = manifest.task is not None and manifest.task.pooling is not None
    is_generator = not has_own_head and _generates(transformers.AutoConfig.from_pretrained(path, local_files_only=True))
    kind = transformers.AutoModelForCausalLM if is_generator else transformers.AutoModel
    return kind.from_pretrained(path, local_files_only=True).eval()


def _generates(config: Any) -> bool:
    """Whether the checkpoint was saved with a language-modelling head of a decoder."""
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.architectures or ())


def _check_files(path: Path, manifest: Manifest, config: Config) -> None:
    found = bases.fingerprint_of(path, config=config)
    if found.value != manifest.base.fingerprint:
        raise BaseMismatch(
            f"{path} is the base {found.value}, and the adapter was trained on {manifest.base.fingerprint} "
            f"({manifest.base.name}). Load that one.",
            expected=manifest.base.fingerprint,
            got=found.value,
        )
