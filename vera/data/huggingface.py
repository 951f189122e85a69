"""Data sets of Hugging Face, through its own client and cache: files of rows or images, never code.

A revision is resolved to its commit once; everything is read at that commit. What is in the cache
needs no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from vera.data.places import CARD, Place, read_card
from vera.errors import DataError

# What a repository always has, so that its cached snapshot exists and names the commit.
_ABOUT = (CARD, ".gitattributes")
_MAX_DOWNLOAD_BYTES = 20 << 30  # more is asked for with a limit, which takes file after file
_REFERENCE = re.compile(
    r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?(?::(?P<config>[^:/@]+))?"
)


@dataclass(frozen=True)
class DatasetRef:
    """`org/name`, at a revision (the newest, when None), in a configuration (the one there is, when None)."""

    id: str
    revision: str | None = None
    config: str | None = None

    @classmethod
    def parse(cls, text: str) -> DatasetRef | None:
        """`org/name[@revision][:config]`, or None when `text` is nothing like it."""
        found = _REFERENCE.fullmatch(text)
        return cls(found["id"], found["revision"], found["config"]) if found else None


@dataclass(frozen=True)
class Endpoint:
    """The hub that is asked for data sets, and the token it is given: None for the client's own, False for none."""

    url: str
    token: str | bool | None = None

    @classmethod
    def usual(cls) -> Endpoint:
        """The one that Hugging Face's client asks by itself: huggingface.co, or what HF_ENDPOINT says."""
        from huggingface_hub import constants

        return cls(str(constants.ENDPOINT).rstrip("/"))


def of_dataset(ref: DatasetRef, *, offline: bool = False, endpoint: Endpoint | None = None) -> Place:
    """The files of a data set at the commit its revision stands for; one that only its own script can read is refused.

    Reads the network unless `offline`: `endpoint`, the usual one where it is None. Raises DataError.
    """
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    endpoint = endpoint or Endpoint.usual()
    folder = _snapshot(ref, ref.revision, _ABOUT, offline, endpoint)
    commit = folder.name
    try:
        sizes = {file.path: file.size for file in get_cached_repo_tree(ref.id, repo_type="dataset", revision=commit)}
    except CachedRepoTreeNotFoundError as error:
        raise _unreachable(ref, endpoint, f"the list of its files at {commit[:8]} is not in the cache.") from error
    card = read_card(folder / CARD)
    _refuse_script(ref, sizes, has_configs=bool(card.get("configs")))

    def obtain(paths: Sequence[str]) -> Mapping[str, Path]:
        _require_room(ref, sum(sizes[path] for path in paths))
        here = _snapshot(ref, commit, paths, offline, endpoint)
        return {path: here / path for path in paths}

    return Place(ref.id, tuple(sizes), obtain, card, dataset=ref.id, revision=commit)


def _snapshot(ref: DatasetRef, revision: str | None, paths: Sequence[str], offline: bool, endpoint: Endpoint) -> Path:
    from huggingface_hub import snapshot_download

    with _explained(ref, endpoint):
        return Path(
            snapshot_download(
                ref.id, repo_type="dataset", revision=revision, allow_patterns=[escape(path) for path in paths],
                local_files_only=offline, endpoint=endpoint.url, token=endpoint.token,
            )
        )  # fmt: skip


def _refuse_script(ref: DatasetRef, paths: Mapping[str, int], *, has_configs: bool) -> None:
    """A script says what the files beside it mean, unless the card does."""
    script = f"{ref.id.split('/')[1]}.py"
    if script in paths and not has_configs:
        raise DataError(
            f"The data set {ref.id} is defined by a program, {script}, and programs of data sets are never run here. "
            f"Hugging Face may keep a copy without it: try {ref.id}@refs/convert/parquet."
        )


def _require_room(ref: DatasetRef, size_bytes: int) -> None:
    if size_bytes > _MAX_DOWNLOAD_BYTES:
        raise DataError(
            f"The data set {ref.id} is {size_bytes / 1e9:.0f} GB here, and {_MAX_DOWNLOAD_BYTES / 1e9:.0f} GB are taken "
            f"at once: give a limit of rows."
        )


@contextmanager
def _explained(ref: DatasetRef, endpoint: Endpoint) -> Iterator[None]:
    """What Hugging Face's client raises, as DataError."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise DataError(
            f"The data set {ref.id} is given to those who ask: ask at its page, {endpoint.url}/datasets/{ref.id}, then "
            "`hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"There is no file or folder {ref.id} here, and no data set of that name at {endpoint.url} that you may read: "
            "check the name, or `hf auth login` if it is private."
        ) from error
    except RevisionNotFoundError as error:
        raise DataError(
            f"The data set {ref.id} has no revision {ref.revision}: give a branch, tag or commit it has."
        ) from error
    except HFValidationError as error:
        raise DataError(f"{ref.id} is not the name of a data set: {error}") from error
    except (HfHubHTTPError, OSError) as error:
        raise _unreachable(
            ref, endpoint, (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        ) from error


def _unreachable(ref: DatasetRef, endpoint: Endpoint, reason: str) -> DataError:
    at = f" --revision {ref.revision}" if ref.revision else ""
    return DataError(
        f"The data set {ref.id} is not in the cache and {endpoint.url} cannot be asked for it: {reason.rstrip('.')}. "
        f"Run `hf download {ref.id} --repo-type dataset{at}` once with the network, or give a file or folder of your own."
    )
