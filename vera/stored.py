"""The file of a pair that follows no recipe: A, then B, as little-endian float32, row-major, and nothing else.

Those are the bytes a projection's digest is taken over. So the SHA-256 of the file is the digest that
every adapter which uses it names already, and one file serves them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vera.errors import ArchiveError, ProjectionMismatch
from vera.plain_files import open_plain

if TYPE_CHECKING:
    import numpy as np  # 40 ms, and a file is hashed without it: imported where values are looked at
    from numpy.typing import NDArray

PROJECTION_FILE = "projection.bin"

# Values and files are looked at in runs of this many bytes: a large pair is never held twice.
RUN_BYTES = 1 << 20
# A draw is of order 1; a larger value makes every answer infinite.
MAX_MAGNITUDE = 1e4

Matrix: TypeAlias = "NDArray[np.float32]"


def read_matrices(path: Path, shapes: Sequence[tuple[int, int]]) -> list[Matrix]:
    """The matrices of `shapes` that the file `path` is, float32 and read-only.

    Its size is checked before anything is allocated. Raises ProjectionMismatch for another one, and
    ArchiveError for what is no plain file.
    """
    import numpy as np

    expected_bytes = sum(4 * height * width for height, width in shapes)
    with open_plain(path) as (file, size_bytes):
        _check_size(path, expected_bytes, size_bytes)
        matrices = [np.empty(shape, "<f4") for shape in shapes]
        read_bytes = sum(file.readinto(matrix.reshape(-1).view(np.uint8).data) for matrix in matrices)  # type: ignore[attr-defined]  # BufferedReader has it
        _check_size(path, expected_bytes, read_bytes + len(file.read(1)))  # it may have changed meanwhile
    for matrix in matrices:
        matrix.flags.writeable = False
    return [matrix.astype(np.float32, copy=False) for matrix in matrices]


def digest_of_file(path: Path, expected_bytes: int) -> str:
    """`sha256:…` of the file `path`, which must have `expected_bytes`. Raises as `read_matrices` does."""
    hasher, read_bytes = hashlib.sha256(), 0
    with open_plain(path) as (_, size_bytes):
        _check_size(path, expected_bytes, size_bytes)
    for run in runs_of_file(path):
        hasher.update(run)
        read_bytes += len(run)
    _check_size(path, expected_bytes, read_bytes)
    return f"sha256:{hasher.hexdigest()}"


def runs_of_file(path: Path) -> Iterator[memoryview]:
    """The bytes of the plain file `path`, in runs. Raises ArchiveError for what is none."""
    with open_plain(path) as (file, _):
        while run := file.read(RUN_BYTES):
            yield memoryview(run)


def check_values(matrix: Matrix) -> None:
    """Raises ArchiveError for a value that is not finite or beyond any draw: the model would answer NaN."""
    import numpy as np

    flat, run = matrix.reshape(-1), RUN_BYTES // 4
    for start in range(0, flat.size, run):
        # A NaN is not within the limit either.
        within = np.abs(flat[start : start + run]) <= MAX_MAGNITUDE
        if not within.all():
            index = start + int(np.flatnonzero(~within)[0])
            raise ArchiveError(
                f"Value {index} of a stored matrix is {flat[index]}, and a finite one of at most {MAX_MAGNITUDE:.0e} is "
                "expected: these are no matrices that an adapter was trained with.",
                code="TENSOR_RANGE" if np.isfinite(flat[index]) else "TENSOR_NONFINITE",
                index=index,
            )


def _check_size(path: Path, expected_bytes: int, got_bytes: int) -> None:
    if got_bytes != expected_bytes:
        raise ProjectionMismatch(
            f"{path} has {got_bytes:,} bytes, and the matrices of this adapter have {expected_bytes:,}: it is another file.",
            expected_bytes=expected_bytes,
            got_bytes=got_bytes,
        )
