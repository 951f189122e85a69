"""`sdk.load`: from a base and an adapter to a model that answers, with proof before the first output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk import bases, digest_books, explaining, finding, progress, resolving, tensor_tables
from sdk.config import Config
from sdk.errors import HubError
from sdk.locking import lock_for
from vera.base_config import differences, is_spelled, refusal, settings_of
from vera.errors import BaseMismatch, BaseUnreadable, RefError, VeraError
from vera.projection import DEFAULT_BUDGET_BYTES

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.finding import Found, Wanted
    from vera.fingerprint import BaseFingerprint, Progress
    from vera.manifest import BaseIdentity, Manifest
    from vera.parallel_digest import DigestBook


def load(
    base: Any,
    ref: str | Path,
    *,
    verify: str = "strict",
    locked: bool | str | Path = False,
    dtype: Any = None,
    quantization: Any = None,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    config: Config | None = None,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> Any:
    """The model `base` with the adapter `ref` active, after proof that both are what they say.

    `ref` is a reference, or a folder with an adapter: a Path, or text such as `./my-adapter`, for which no hub is needed.
    `base` is a live model (a torch module, or what `load` gave before), a folder, a name given to
    `vera-hub base add`, or a Hugging Face id, which is downloaded at the revision the adapter
    names. A classifier comes back as a module with `.classify(texts)` (or images), a regressor with
    `.predict(texts)`; anything else as the model itself. What was proven is `model.vera`. Load again to add another adapter: `sdk.activate`,
    `sdk.unload` and `sdk.rows` tell them apart by the same references.

    `verify` is "strict", "warn" (a wrong base is a warning) or "off" (nobody looks at the base).
    With `locked`, references mean what `vera.lock` here (True), or the lock at that path, pins, and
    nothing else loads; `vera-hub lock` writes it.
    `dtype` ("bfloat16") and `quantization` (a quantisation configuration of transformers) say how a
    base that is not live yet is held. Where its bytes are then gone, its files are the proof.
    `budget_bytes` bounds the memory of the rebuilt matrices. `progress` is called with (bytes done,
    bytes in all) while the base is read, instead of a bar. Asks the hub only for what is not in the
    cache. Raises HubError, and VeraError: BaseMismatch, ProjectionMismatch, AdapterTooLarge.
    """
    (model,) = load_many(
        base, [ref],
        verify=verify, locked=locked, dtype=dtype, quantization=quantization, budget_bytes=budget_bytes, config=config,
        hub=hub, progress=progress,
    )  # fmt: skip
    return model


def load_many(
    base: Any,
    refs: Sequence[str | Path],
    *,
    verify: str = "strict",
    locked: bool | str | Path = False,
    dtype: Any = None,
    quantization: Any = None,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    config: Config | None = None,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> list[Any]:
    """What `load` gives for each of `refs`, in their order, all on one model. The last one is active.

    They are fetched at the same time, and all of them before the first is attached. When one is
    refused, none is added. Arguments and errors are those of `load`.
    """
    if isinstance(refs, str | Path):
        raise RefError(
            f"load_many takes a list of adapters, and was given {str(refs)!r}: write [{str(refs)!r}], or use sdk.load."
        )
    wanted, lock, held = [finding.parse(ref) for ref in refs], lock_for(locked), HeldAs(dtype, quantization)
    if not wanted:
        return []
    check_base(base)
    with door_to(wanted, config, hub) as door:
        found = finding.find_many(wanted, hub=door, lock=lock, budget_bytes=budget_bytes)
        with explaining.explained(found, hub=door), reporting(progress) as report:
            is_opened, named = not is_live(base), found[0].archive.manifest
            path = _locate(base, named, verify=verify, config=door.config, report=report) if is_opened else None
            if path is not None and verify == "strict":
                for each in found[1:]:
                    check_reading(path, each.archive.manifest.base, but=named.base)
            tables = _tables_of(found, door)
            if path is not None:
                base = open_base(path, named, held)
            with digest_books.digest_book(digest_books.digests_of(door.config)) as digests:
                return _attach_all(
                    base, list(zip(found, tables, strict=True)),
                    verify=verify, is_loaded_from_base=is_opened and verify == "strict", budget_bytes=budget_bytes,
                    digests=digests, report=report,
                )  # fmt: skip


@contextmanager
def door_to(wanted: Sequence[Wanted], config: Config | None, hub: Hub | None) -> Iterator[Hub]:
    """The hub of the first reference; references to other hosts are fetched from theirs. Nobody is asked yet."""
    if hub is not None:
        yield hub
        return
    from sdk.client import Hub as HubClient

    host = next((each.host for each in wanted if not isinstance(each, Path)), None)
    with HubClient((config or Config.resolve()).at_host(host)) as opened:
        yield opened


@contextmanager
def reporting(given: Progress | None) -> Iterator[Progress]:
    if given is not None:
        yield given
        return
    with progress.shown("Reading the base") as report:
        yield report


def _tables_of(found: Sequence[Found], door: Hub) -> list[BaseFingerprint]:
    """The table of the base each adapter names; of one base, once."""
    tables: dict[str, BaseFingerprint] = {}
    for each in found:
        value = each.archive.manifest.base.fingerprint
        if value not in tables:
            tables[value] = table_for(each, door)
    return [tables[each.archive.manifest.base.fingerprint] for each in found]


def table_for(found: Found, door: Hub) -> BaseFingerprint:
    """The table of the base that an adapter names: from the adapter's own hub or, of one in a folder, from this machine.

    Raises HubError, and BaseUnreadable (BASE_NOT_HERE) for a folder whose base neither this machine nor a hub knows.
    """
    named = found.archive.manifest.base
    if found.fetched is not None:
        with resolving.hub_of(found.fetched.resolved.ref, None, door) as own:
            return tensor_tables.table_of(named.fingerprint, hub=own)
    table = tensor_tables.table_here(named.fingerprint, config=door.config)
    if table is not None:
        return table
    try:
        return tensor_tables.table_of(named.fingerprint, hub=door)
    except HubError as error:
        raise BaseUnreadable(
            f"{found.title} was trained on {named.name} ({named.fingerprint}), which this machine does not know, and no hub told: "
            f"{error} Run `vera-hub base add PATH` with the folder of that base, once.",
            code="BASE_NOT_HERE",
            base=named.fingerprint,
        ) from error


def _attach_all(
    model: Any,
    found: Sequence[tuple[Found, BaseFingerprint]],
    *,
    verify: str,
    is_loaded_from_base: bool,
    budget_bytes: int,
    digests: DigestBook,
    report: Progress,
) -> list[Any]:
    from sdk import live

    with live.all_or_none(model):
        return [
            live.add(
                model, each, table,
                verify=verify, is_loaded_from_base=is_loaded_from_base, budget_bytes=budget_bytes, digests=digests,
                progress=report,
            )
            for each, table in found
        ]  # fmt: skip


def is_live(base: Any) -> bool:
    """Whether `base` is a model in memory and not the name of one."""
    return not isinstance(base, str | Path)


def check_base(base: Any) -> None:
    """Raises BaseUnreadable for what is neither a model in memory nor can be the name of one."""
    if not is_live(base):
        return
    from torch import nn

    if not isinstance(base, nn.Module):
        raise BaseUnreadable(
            f"The base is a {type(base).__name__}, which is no model: give a torch module, a folder, a name that `vera-hub base add` "
            "was given, or a Hugging Face id.",
            kind=type(base).__name__,
        )


@dataclass(frozen=True)
class HeldAs:
    """How a checkpoint is to lie in memory: in a dtype of torch or as quantised by a configuration of transformers.

    Raises VeraError (DTYPE_INVALID) for a name that is none of torch's.
    """

    dtype: Any = None
    quantization: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.dtype, str) and self.dtype != "auto":
            import torch

            if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
                raise VeraError(
                    f"dtype is {self.dtype!r}, which is no dtype of torch: write bfloat16, float16 or float32.",
                    code="DTYPE_INVALID",
                    dtype=self.dtype,
                )

    @property
    def options(self) -> dict[str, Any]:
        options = {"dtype": self.dtype, "quantization_config": self.quantization}
        return {name: value for name, value in options.items() if value is not None}


def _locate(base: str | Path, manifest: Manifest, *, verify: str, config: Config, report: Progress) -> Path:
    """Where the checkpoint of `base` lies, refused before a model is built of it when its files are another base."""
    path = locate_for(base, manifest, config)
    if verify == "strict":
        check_files(path, manifest, config, report)
    return path


def open_base(path: Path, manifest: Manifest, held: HeldAs | None = None) -> Any:
    """The model in the checkpoint at `path`, as the adapter uses it: a decoder with its head, or the bare base.

    It is held as it is stored, unless `held` says otherwise.
    """
    try:
        import transformers  # noqa: F401  # to say it here if it is missing
    except ImportError as error:
        raise BaseUnreadable(
            "Loading a model needs torch and transformers: pip install 'vera-hub[torch]'.", code="TORCH_MISSING"
        ) from error
    from vera.nn import opening

    with quiet():
        return opening.open_base(path, manifest, held.options if held else {})


def locate_for(base: str | Path, manifest: Manifest, config: Config) -> Path:
    """Where the checkpoint of `base` lies. A Hugging Face id is downloaded at the commit the adapter was trained on;
    another id than the adapter's has commits of its own, and gives its newest."""
    revision = manifest.base.revision if str(base) == manifest.base.name else None
    return bases.locate(base, config=config, revision=revision)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars of transformers, which count tensors: the reading has been shown."""
    import transformers

    logging: Any = transformers.utils.logging
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def check_files(path: Path, manifest: Manifest, config: Config, report: Progress | None = None) -> BaseFingerprint:
    """The table of the checkpoint at `path`. Raises BaseMismatch when it is not the adapter's base, is configured otherwise, or has texts
    or images read otherwise."""
    found = tensor_tables.fingerprint_of(path, config=config, progress=report)
    if found.value != manifest.base.fingerprint:
        raise BaseMismatch(
            f"{path} is the base {found.value}, and the adapter was trained on {manifest.base.fingerprint} "
            f"({manifest.base.name}). Give the checkpoint of that one.",
            found={record.name: record.sha256 for record in found.tensors},
            expected=manifest.base.fingerprint,
            got=found.value,
        )
    _check_settings(path, manifest.base)
    check_reading(path, manifest.base)
    return found


def _check_settings(path: Path, base: BaseIdentity) -> None:
    """Raises BaseMismatch (BASE_CONFIG_MISMATCH) when the config.json at `path` is not that of training.

    What it spells out is read without transformers, and is enough for most; where that is not installed, nothing else is compared.
    """
    spelled = bases.config_of(path)
    if base.config is None or not spelled or is_spelled(base.config, spelled):
        return
    what, config = f"The base in {path}", None
    with contextlib.suppress(ImportError):
        from vera.nn.configured import check_config, config_at

        config = config_at(path)
    if config is not None:
        check_config(config, base, what)
    elif differing := differences(base.config, settings_of(spelled)):
        raise refusal(what, base, differing)


def check_reading(path: Path, base: BaseIdentity, *, but: BaseIdentity | None = None) -> None:
    """Raises BaseMismatch (BASE_TOKENIZER_MISMATCH, BASE_PROCESSOR_MISMATCH) when what lies beside the weights at `path` reads texts or
    images otherwise than in training. Nothing is compared without transformers, or where there is nothing that reads them; nor again
    where the records are those of `but`."""
    records = base.tokenizer, base.processor
    if records in ((None, None), but and (but.tokenizer, but.processor)):
        return
    with contextlib.suppress(ImportError):
        from vera.nn.processed import check_processor, processor_at
        from vera.nn.tokenized import check_tokenizer, tokenizer_at

        if base.tokenizer is not None and (tokenizer := tokenizer_at(path)) is not None:
            check_tokenizer(tokenizer, base, f"The tokenizer in {path}")
        if base.processor is not None and (processor := processor_at(path)) is not None:
            check_processor(processor, base, f"The image processor in {path}")
