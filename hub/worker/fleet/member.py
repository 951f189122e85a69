"""What runs on a node of the cluster: an evaluator that keeps its base loaded, without a token and without answers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hub.worker import memory
from hub.worker.child import Evaluator
from hub.worker.fleet.shards import Introduction, Shard
from sdk import bases, digest_books, tensor_tables
from sdk.config import Config
from sdk.errors import HubError
from vera import __version__
from vera.errors import BaseUnreadable, VeraError


class Member:
    """One process on a node. It ends with whatever ends it, and nothing else does."""

    def __init__(self) -> None:
        self._evaluator = Evaluator()
        self._progress: tuple[list[int], int] | None = None

    def introduce(self) -> Introduction:
        import ray

        node = ray.get_runtime_context().get_node_id()
        return Introduction(node, os.getpid(), __version__, memory.available())

    def progress(self) -> tuple[list[int], int] | None:
        """How far the answer is that is being made: rows that each adapter has answered, and how many there are."""
        return self._progress

    def answer(self, shard: Shard, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The evaluator's reply; {"lacking": why} when the base is not on this node. Images in `asked` are bytes."""
        try:
            digests = str(digest_books.digests_of(Config.resolve()))  # of this node's GPUs
            base = {**shard.base, "path": str(_base_here(shard.base)), "digests": digests}
        except (VeraError, HubError) as error:
            return {"lacking": str(error)}
        with tempfile.TemporaryDirectory(prefix="vera-eval-") as place:
            folder = Path(place)
            request = {
                "base": base,
                "adapters": [_unpacked(files, folder / str(each)) for each, files in enumerate(shard.adapters)],
                "asked": _with_image_files(asked, folder / "images"),
                "batch_size": shard.batch_size,
            }
            self._progress = None
            return self._evaluator.answer(request, self._note)

    def _note(self, done: Sequence[int], of: int) -> None:
        self._progress = list(done), of


def _unpacked(files: Mapping[str, bytes], folder: Path) -> str:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return str(folder)


def _with_image_files(asked: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    images = asked.get("images")
    if images is None:
        return dict(asked)
    folder.mkdir()
    paths = [folder / f"{number:07}" for number in range(len(images))]
    for path, data in zip(paths, images, strict=True):
        path.write_bytes(data)
    return {**asked, "images": [str(path) for path in paths]}


def _base_here(base: Mapping[str, Any]) -> Path:
    """Where the base lies on this node: where it lies for the worker, as in a folder that all share, or where the node itself
    knows it. Another base in that place is none: it must not look as if the adapter were wrong. Raises BaseUnreadable."""
    config, fingerprint, shared = Config.resolve(), str(base["fingerprint"]), Path(base["path"])
    path = shared if shared.exists() else bases.locate(fingerprint, config=config, may_download=False)
    got = tensor_tables.fingerprint_of(path, config=config).value
    if got != fingerprint:
        raise BaseUnreadable(
            f"{path} holds the base {got}, and {fingerprint} is needed.",
            code="BASE_MISMATCH",
            expected=fingerprint,
            got=got,
        )
    return path
