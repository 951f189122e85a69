"""The base models of this machine: where each one lies, and where it comes from.

    <config>/bases.json        name → path, fingerprint, revision

Which base a folder holds is for `sdk.tensor_tables` to say.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdk.config import Config
from sdk.endpoints import download_options
from sdk.errors import Misconfigured, Offline
from sdk.files import read_bounded, write_atomically
from vera.errors import BaseUnreadable
from vera.fingerprint import SCHEME
from vera.locks import alone_with

BASES_FILE = "bases.json"

# Weights, and what it takes to build the model and its tokenizer: never pickles, never code.
DOWNLOADED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.spm",
    "spiece.model",
    "sentencepiece*.model",
)

_MAX_FILE_BYTES = 64 << 20
_HUGGING_FACE_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SNAPSHOT = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})$")


@dataclass(frozen=True)
class KnownBase:
    """A base on this machine."""

    name: str
    path: Path
    fingerprint: str
    revision: str | None = None

    @property
    def is_here(self) -> bool:
        return self.path.exists()


def list_known(config: Config) -> tuple[KnownBase, ...]:
    """The bases that were remembered, by name, those whose files are gone included. Raises Misconfigured."""
    path = config.folder / BASES_FILE
    data = read_bounded(path, _MAX_FILE_BYTES)
    if data is None:
        return ()
    try:
        rows = json.loads(data)["bases"]
        known = [KnownBase(r["name"], Path(r["path"]), r["fingerprint"], r.get("revision")) for r in rows]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Misconfigured(
            f"{path} is not a table of bases: remove it and run `vera-hub base add` again.", facts={"path": str(path)}
        ) from error
    return tuple(sorted(known, key=lambda base: base.name))


def known_as(fingerprint: str, typed: str, *, config: Config) -> KnownBase | None:
    """The remembered base with that fingerprint; of several names the one that is `typed`. Raises Misconfigured."""
    known = [base for base in list_known(config) if base.fingerprint == fingerprint]
    return min(known, key=lambda base: (not base.is_here, base.name != typed), default=None)


def remember(base: KnownBase, *, config: Config) -> None:
    """Keeps where `base` lies. Another base of that name is forgotten. Several processes may do so at once."""
    path = config.folder / BASES_FILE
    with alone_with(path):
        others = [known for known in list_known(config) if known.name != base.name]
        rows = [
            {"name": b.name, "path": str(b.path), "fingerprint": b.fingerprint, "revision": b.revision}
            for b in sorted([*others, base], key=lambda known: known.name)
        ]
        write_atomically(path, f"{json.dumps({'bases': rows}, indent=2)}\n".encode())


def fingerprints_here(config: Config) -> list[str]:
    """The fingerprints of the remembered bases whose files are still there."""
    return sorted({base.fingerprint for base in list_known(config) if base.is_here})


def locate(base: str | Path, *, config: Config, revision: str | None = None, may_download: bool = True) -> Path:
    """Where the checkpoint of `base` lies: a remembered name, a fingerprint, a path, or a Hugging Face id.

    A Hugging Face id that was not remembered is downloaded, unless `may_download` says no. Raises
    BaseUnreadable when it is none of them, and Offline.
    """
    wanted = str(base)
    known = [b for b in list_known(config) if wanted in (b.name, b.fingerprint)]
    for candidate in known:
        if candidate.is_here:
            return candidate.path
    path = Path(base).expanduser()
    if path.exists():
        return path
    if known:
        raise BaseUnreadable(
            f"The base {wanted} was at {known[0].path} and is not there any more: "
            f"run `vera-hub base add PATH --name {known[0].name}` with where it is now.",
            code="BASE_NOT_HERE",
            base=wanted,
        )
    if not may_download or not is_hugging_face_id(wanted):
        raise _not_here(wanted, config)
    return obtain(base, config=config, revision=revision)


def obtain(path_or_id: str | Path, *, config: Config, revision: str | None = None) -> Path:
    """The checkpoint at this path or, where there is none, the model of this id from Hugging Face.

    What this machine remembers is not asked. Raises BaseUnreadable when it is neither, and Offline.
    """
    wanted, path = str(path_or_id), Path(path_or_id).expanduser()
    if path.exists():
        return path
    if is_hugging_face_id(wanted):
        return download(wanted, config=config, revision=revision)
    raise BaseUnreadable(
        f"There is nothing at {wanted}, and it is no id of Hugging Face (owner/name): give the folder of a checkpoint, or an id.",
        code="BASE_NOT_HERE",
        base=wanted,
    )


def is_hugging_face_id(name: str) -> bool:
    """Whether `name` could be the id of a model there. Nobody is asked."""
    return _HUGGING_FACE_ID.fullmatch(name) is not None


def _not_here(wanted: str, config: Config) -> BaseUnreadable:
    is_fingerprint = wanted.startswith(f"{SCHEME}:")
    hint = "a fingerprint says which base it is, not where" if is_fingerprint else "there is no such path"
    return BaseUnreadable(
        f"The base {wanted} is not known on this machine, and {hint}: run `vera-hub base add PATH`, or give its folder.{_meant(wanted, config)}",
        code="BASE_NOT_HERE",
        base=wanted,
    )


def _meant(wanted: str, config: Config) -> str:
    from difflib import get_close_matches

    close = get_close_matches(wanted, [base.name for base in list_known(config)], n=2, cutoff=0.8)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def download(model_id: str, *, config: Config, revision: str | None = None) -> Path:
    """The folder of the model `model_id` from Hugging Face, with its weights, configuration and tokenizer.

    Uses Hugging Face's own cache and settings, but for where it is fetched from (`sdk.endpoints`). Raises BaseUnreadable and Offline.
    """
    if config.offline:
        raise Offline(
            f"VERA_HUB_OFFLINE is set and the base {model_id} is not known on this machine: "
            f"run `vera-hub base add {model_id}` once with the network."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        options = download_options(model_id, config=config)
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=list(DOWNLOADED), **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BaseUnreadable(
            f"The base {model_id} is not known on this machine and cannot be downloaded from Hugging Face: "
            f"{reason[:300]}. Check its name (`vera-hub base list` shows those known here) and the network, or give the "
            f"folder of a copy you have.{_meant(model_id, config)}",
            code="BASE_NOT_HERE",
            base=model_id,
        ) from error


def name_of(path: Path) -> tuple[str, str | None]:
    """The name and revision that a checkpoint's own path suggests.

    Hugging Face's cache spells out the id and the commit; any other folder gives its own name.
    """
    plain = path.resolve()
    snapshot = _SNAPSHOT.search(plain.as_posix())
    if snapshot:
        return f"{snapshot[1]}/{snapshot[2]}", snapshot[3]
    return plain.stem if plain.is_file() else plain.name, None


def labels_of(path: Path) -> tuple[str, ...]:
    """What the configuration of the checkpoint at `path` calls the outputs of its classifier; none when it does not."""
    try:
        labels = config_of(path)["id2label"]
        return tuple(str(labels[str(i)]) for i in range(len(labels)))
    except (TypeError, KeyError):
        return ()


def config_of(path: Path) -> dict[str, Any]:
    """What the config.json of the checkpoint at `path` spells out; nothing where there is none that can be read."""
    try:
        fields = json.loads(read_bounded(path / "config.json", _MAX_FILE_BYTES) or b"{}")
    except (OSError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
