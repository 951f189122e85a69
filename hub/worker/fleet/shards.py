"""What travels between the worker's process and the nodes: nothing in it is a path of either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Introduction:
    """What a member says of itself once it runs."""

    node: str
    pid: int
    version: str
    memory_bytes: int | None


@dataclass(frozen=True)
class Shard:
    """Adapters on one base that are answered together, each as the files of its folder."""

    base: Mapping[str, Any]
    adapters: Sequence[Mapping[str, bytes]]
    batch_size: int


def packed(folder: Path) -> dict[str, bytes]:
    """The files of an adapter's folder by their places in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def with_image_bytes(asked: Mapping[str, Any]) -> dict[str, Any]:
    """`asked` as it travels: what are files on one machine are none on another."""
    images = asked.get("images")
    return dict(asked) if images is None else {**asked, "images": [Path(path).read_bytes() for path in images]}
