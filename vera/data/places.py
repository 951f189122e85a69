"""Where the files of a set lie: one file, a folder, or (`vera.data.huggingface`) a repository of Hugging Face."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from vera.data.layouts import WHOLE, Layout
from vera.errors import DataError

CARD = "README.md"
_MAX_FILES = 2_000_000  # more are no data set, but somebody's home folder


@dataclass(frozen=True)
class Place:
    """The paths of the files there are, and `obtain`, which brings some onto this machine and says where each lies.

    `card` is the metadata at the top of the data set's README.md. A file that was named itself needs no laying out.
    A repository has the commit that is read.
    """

    name: str
    paths: tuple[str, ...]
    obtain: Callable[[Sequence[str]], Mapping[str, Path]] = field(repr=False)
    card: Mapping[str, Any] = field(default_factory=dict)
    layout: Layout | None = None
    dataset: str | None = None
    revision: str | None = None


def of_file(path: Path) -> Place:
    """A set in one file, whatever its name says."""
    return Place(path.name, (path.name,), lambda _paths: {path.name: path}, layout=Layout({WHOLE: (path.name,)}))


def of_folder(folder: Path) -> Place:
    """The files under `folder`. Raises DataError when there are too many to be a data set."""
    files = [file for file in islice(folder.rglob("*"), _MAX_FILES + 1) if file.is_file()]
    if len(files) > _MAX_FILES:
        raise DataError(f"{folder} has more than {_MAX_FILES:,} files: give the folder of the data alone.")
    paths = tuple(sorted(file.relative_to(folder).as_posix() for file in files))
    name = folder.resolve().name
    return Place(name, paths, lambda wanted: {path: folder / path for path in wanted}, read_card(folder / CARD))


def read_card(path: Path) -> Mapping[str, Any]:
    """The YAML at the top of a data set's README.md; nothing when there is none. Raises DataError when it is broken."""
    if not path.is_file():
        return {}
    import yaml
    from huggingface_hub import metadata_load

    try:
        card = metadata_load(path)
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise DataError(f"{path} does not begin with the YAML of a data set's card: correct or remove it.") from error
    return card if isinstance(card, dict) else {}


def digest_of_file(path: Path) -> str:
    """`sha256:…` of its bytes. Raises DataError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def digest_of_list(entries: Iterable[tuple[str, str]]) -> str:
    """`sha256:…` over lines of `sha256  path`, as sha256sum writes them."""
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(entries))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
