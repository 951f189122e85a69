"""The child process that runs adapters: a base kept warm, no token, no network, no answers.

It reads one JSON request per line and writes one JSON reply per line. A crash, an endless loop or
a memory blow-up ends this process and nothing else.

    request  {"base": {"path", "fingerprint", "tensors": [[name, dtype, shape, sha256], …]},
              "adapter": folder, "inputs": [text, …], "batch_size": n}
    reply    {"outputs": [label, …], "environment": {…}}  or  {"error": {"code", "detail"}}
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vera import __version__
from vera.errors import VeraError

if TYPE_CHECKING:
    from vera.manifest import Manifest


class Evaluator:
    """Answers requests, keeping the last base loaded and proven."""

    def __init__(self) -> None:
        self._loaded: tuple[tuple[str, int | None], Any] | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            outputs = self._run(request)
        except VeraError as error:
            return {"error": {"code": error.code, "detail": str(error)}}
        return {"outputs": outputs, "environment": environment()}

    def _run(self, request: dict[str, Any]) -> list[str]:
        from vera.archive import read_folder
        from vera.fingerprint import BaseFingerprint
        from vera.nn.attach import attach

        archive = read_folder(Path(request["adapter"]))
        base = BaseFingerprint.from_rows(request["base"]["tensors"])
        model = attach(self._base(request["base"]["path"], archive.manifest), archive, base)
        try:
            outputs: list[str] = model.classify(request["inputs"], batch_size=request["batch_size"])
        finally:
            model.vera.bank.detach()
        return outputs

    def _base(self, path: str, manifest: Manifest) -> Any:
        from vera.nn.opening import open_base, outputs_of_own_head

        key = (path, outputs_of_own_head(manifest))
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = (key, open_base(Path(path), manifest))
        return self._loaded[1]


def environment() -> dict[str, Any]:
    """What a score was computed with."""
    import torch
    import transformers

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "vera-hub": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "device": device,
        "threads": torch.get_num_threads(),
        "dtype": "float32",
    }


def serve(requests: IO[str], replies: IO[str]) -> None:
    """Answer every request until the parent closes the pipe."""
    evaluator = Evaluator()
    for line in requests:
        replies.write(json.dumps(evaluator.answer(json.loads(line))) + "\n")
        replies.flush()


if __name__ == "__main__":
    # Libraries print to stdout; the replies have a descriptor of their own.
    reply_pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, reply_pipe)
