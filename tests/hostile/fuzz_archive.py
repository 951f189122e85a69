"""Coverage-guided fuzzing of everything that reads an adapter's bytes, by hand and for as long as one likes:

    pip install -c constraints.txt -e '.[fuzz]'
    python -m tests.hostile.fuzz_archive -runs=200000          # or -max_total_time=600, and any option of libFuzzer

The first byte says what the rest stands for. It starts from real files; what it finds is left in `crash-…` here.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vera"]):
    import vera.archive
    import vera.manifest
    import vera.strict_json
    import vera.tensorfile  # noqa: F401  # before the tests import them uninstrumented

from tests.hostile.real_files import ADAPTERS, TENSOR_FILES, check_manifest, check_tensor_file, check_weights
from vera.manifest import MANIFEST_FILE, WEIGHTS_FILE

TENSORS, WEIGHTS, MANIFEST = b"\0", b"\1", b"\2"


def one_input(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    adapter = ADAPTERS[len(rest) % len(ADAPTERS)]
    if kind == WEIGHTS:
        check_weights(adapter, rest)
    elif kind == MANIFEST:
        check_manifest(adapter, rest)
    else:
        check_tensor_file(rest)


def write_seeds(folder: Path) -> None:
    seeds = [TENSORS + data for data in TENSOR_FILES]
    for adapter in ADAPTERS:
        seeds += [WEIGHTS + adapter.files[WEIGHTS_FILE], MANIFEST + adapter.files[MANIFEST_FILE]]
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)


def main() -> None:
    with tempfile.TemporaryDirectory() as corpus:
        write_seeds(Path(corpus))
        atheris.Setup([*sys.argv, corpus], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
