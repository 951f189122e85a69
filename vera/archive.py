"""The files of one adapter version, hostile until `inspect` says otherwise.

Everything is decided from bytes already in memory: what was checked is what is used.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vera import peft_format, tensorfile
from vera.errors import ArchiveError
from vera.folders import write_files
from vera.manifest import (
    CARD_FILE,
    CONFIG_FILE,
    DTYPES,
    EXTRA_FILES,
    MANIFEST_FILE,
    MAX_EXTRA_BYTES,
    MAX_MANIFEST_BYTES,
    WEIGHTS_FILE,
    FileEntry,
    HeadTensor,
    Manifest,
    Weights,
)
from vera.plain_files import read_plain
from vera.projection import PairSource, missing_pair, round_to_bfloat16
from vera.stored import PROJECTION_FILE

if TYPE_CHECKING:
    import numpy as np  # 40 ms, and most files are checked without it: imported where numbers are computed
    from numpy.typing import NDArray

MAX_WEIGHTS_BYTES = 64 << 20
MAX_BYTES = {
    MANIFEST_FILE: MAX_MANIFEST_BYTES,
    WEIGHTS_FILE: MAX_WEIGHTS_BYTES,
    CONFIG_FILE: MAX_EXTRA_BYTES,
    CARD_FILE: MAX_EXTRA_BYTES,
}
NARROWER = (
    "give it fewer outputs, let a module that is trained whole (modules_to_save) be adapted like the others instead "
    "(target_modules), or save it in a narrower dtype"
)
# λ and head weights of a trained adapter are of order 1; a magnitude beyond this is a broken run.
MAX_MAGNITUDE = 1e4

Array: TypeAlias = "NDArray[np.float32]"


@dataclass(frozen=True)
class Archive:
    """A checked adapter: its manifest and the bytes of every file.

    `projection` is where its stored pair is, None where the pair is drawn or not at hand. It is no
    file of the version: the manifest's digest of it decides, when the pair is used (`vera.projection.prove`).
    """

    manifest: Manifest
    files: Mapping[str, bytes]
    projection: PairSource | None = field(default=None, compare=False, repr=False)

    @property
    def size_bytes(self) -> int:
        return sum(len(data) for data in self.files.values())

    @property
    def card(self) -> str:
        return self.files.get(CARD_FILE, b"").decode()

    @cached_property
    def entries(self) -> Sequence[tensorfile.TensorEntry]:
        """What the weights' file says is in it."""
        return tensorfile.entries_of(self.files[WEIGHTS_FILE])

    @cached_property
    def tensors(self) -> Mapping[str, NDArray[np.generic]]:
        """The weights by the names they have in their file, as arrays over its bytes. BF16 comes as uint16 words."""
        return tensorfile.arrays(self.files[WEIGHTS_FILE], self.entries)


@dataclass(frozen=True)
class Vectors:
    """What was learned, in float32: per module λb (out_features) and λd (rank), and the head tensors.

    DVoRA has a magnitude (out_features) per module too, VeRA none.
    """

    lambda_b: Mapping[str, Array]
    lambda_d: Mapping[str, Array]
    head: Mapping[str, Array]
    magnitude: Mapping[str, Array] = field(default_factory=dict)


def inspect(files: Mapping[str, bytes], *, sealed: bool = True, manifest: Manifest | None = None) -> Archive:
    """The adapter that `files` (name → bytes) are, with every promise of the manifest checked.

    A sealed adapter has every file its manifest names; a folder that is still worked on
    (`sealed=False`) is the manifest and the weights alone. `manifest` is given by whoever has read
    it from these very bytes already. Raises ArchiveError or ManifestError for the first thing that
    is not as promised.

    Whoever was promised a version compares `manifest.digest` with the promise: a manifest vouches
    for every other file, and only its digest vouches for the manifest.
    """
    for path in (MANIFEST_FILE, WEIGHTS_FILE):
        if path not in files:
            raise ArchiveError(
                f"There is no {path}: an adapter has at least {MANIFEST_FILE} and {WEIGHTS_FILE}.",
                code="FILE_MISSING",
                path=path,
            )
    _check_sizes(files)
    manifest = manifest or Manifest.from_bytes(files[MANIFEST_FILE])
    archive = Archive(manifest, dict(files))
    _check_files(manifest, files, sealed)
    _check_tensors(manifest, archive.entries)
    _check_values(archive)
    if CONFIG_FILE in files and files[CONFIG_FILE] != peft_format.config_of(manifest):
        raise ArchiveError(
            f"{CONFIG_FILE} is not the one that follows from {MANIFEST_FILE}: push the folder with vera-hub, which writes it.",
            code="CONFIG_MISMATCH",
        )
    _decode_card(files.get(CARD_FILE, b""))
    return archive


def seal_files(files: Mapping[str, bytes]) -> Archive:
    """The adapter of `files` as somebody works on them: the card as it stands now, the configuration written anew.

    Raises ArchiveError and ManifestError as `inspect` does.
    """
    worked_on = {path: data for path, data in files.items() if path in (MANIFEST_FILE, WEIGHTS_FILE)}
    inspected = inspect(worked_on, sealed=False)
    return seal(inspected.manifest, files[WEIGHTS_FILE], _decode_card(files.get(CARD_FILE, b"")))


def seal(manifest: Manifest, weights: bytes, card: str) -> Archive:
    """The archive of `manifest` and `weights` with this card and PEFT's configuration, hashed into the manifest."""
    extras = {CONFIG_FILE: peft_format.config_of(manifest), CARD_FILE: card.encode()}
    sealed = manifest.with_files(extras)
    return inspect({MANIFEST_FILE: sealed.to_bytes(), WEIGHTS_FILE: weights, **extras})


def pack(vectors: Vectors, *, dtype: str = "float32") -> tuple[bytes, Weights, tuple[HeadTensor, ...]]:
    """The tensor file of `vectors`, and what the manifest says of it. Equal vectors give equal bytes.

    Raises ArchiveError (FILE_TOO_LARGE), before anything of that size is made, for more than an adapter may have.
    """
    tensors = {}
    for module, lambda_b in vectors.lambda_b.items():
        key_b, key_d = peft_format.vector_keys(module)
        tensors[key_b], tensors[key_d] = lambda_b, vectors.lambda_d[module]
    tensors |= {peft_format.magnitude_key(module): magnitude for module, magnitude in vectors.magnitude.items()}
    vector_items = sum(array.size for array in tensors.values())
    tensors |= {peft_format.head_key(name): array for name, array in vectors.head.items()}
    head_items = sum(array.size for array in vectors.head.values())
    item = tensorfile.ITEM_BYTES[DTYPES[dtype]]
    _check_weights_fit(item * vector_items, item * head_items, dtype)
    data = tensorfile.serialize({name: _encode(array, dtype) for name, array in tensors.items()}, DTYPES[dtype])
    weights = Weights(hashlib.sha256(data).hexdigest(), len(data), item * vector_items, item * head_items, dtype)
    head = tuple(HeadTensor(name, vectors.head[name].shape) for name in sorted(vectors.head))
    return data, weights, head


def lambda_b_of(archive: Archive) -> Iterator[Array]:
    """Each λb (out_features) of a checked archive, in float32, made when it is asked for."""
    entries = {entry.name: entry for entry in archive.entries}
    for module in archive.manifest.modules:
        (lambda_b,) = tensorfile.arrays(
            archive.files[WEIGHTS_FILE], [entries[peft_format.vector_keys(module.name)[0]]]
        ).values()
        yield _decode(lambda_b)


def vectors_of(archive: Archive) -> Vectors:
    """The learned vectors of a checked archive, as float32 arrays."""
    tensors = archive.tensors
    keys = {module.name: peft_format.vector_keys(module.name) for module in archive.manifest.modules}
    return Vectors(
        lambda_b={module: _decode(tensors[key_b]) for module, (key_b, _) in keys.items()},
        lambda_d={module: _decode(tensors[key_d]) for module, (_, key_d) in keys.items()},
        head={t.name: _decode(tensors[peft_format.head_key(t.name)]) for t in archive.manifest.head},
        magnitude={module: _decode(tensors[peft_format.magnitude_key(module)]) for module in keys}
        if archive.manifest.has_magnitude
        else {},
    )


def read_folder(folder: Path) -> Archive:
    """The adapter in `folder`, its card as it stands now and its configuration written anew.

    Follows no link and opens nothing but regular files of bounded size; a stored pair beside it is
    left unread. Raises ArchiveError.
    """
    files = {path: _read_own(folder, path) for path in (MANIFEST_FILE, WEIGHTS_FILE)}
    sealed = seal_files({**files, CARD_FILE: _read_card(folder)})
    pair = folder / PROJECTION_FILE
    is_beside = sealed.manifest.recipe.is_stored and os.path.lexists(pair)
    return replace(sealed, projection=pair if is_beside else None)


def write_folder(archive: Archive, folder: Path) -> None:
    """`archive` as `folder`, its stored pair beside it: all of it or nothing. See `vera.folders.write_files`.

    Raises ProjectionMissing for a stored pair that is not at hand.
    """
    manifest = archive.manifest
    if manifest.recipe.is_stored and archive.projection is None:
        raise missing_pair(manifest.recipe, manifest.projection_digest)
    write_files(archive.files, folder, projection=archive.projection)


def _check_weights_fit(vector_bytes: int, head_bytes: int, dtype: str) -> None:
    if vector_bytes + head_bytes > MAX_WEIGHTS_BYTES:
        raise ArchiveError(
            f"This adapter would have {vector_bytes + head_bytes:,} bytes of weights in {dtype}, {head_bytes:,} of them a head or modules "
            f"that are trained whole, and an adapter may have {MAX_WEIGHTS_BYTES:,}: {NARROWER}.",
            code="FILE_TOO_LARGE",
            path=WEIGHTS_FILE,
            got_bytes=vector_bytes + head_bytes,
            head_bytes=head_bytes,
            max_bytes=MAX_WEIGHTS_BYTES,
        )


def _check_sizes(files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        if path in MAX_BYTES and len(data) > MAX_BYTES[path]:
            raise ArchiveError(
                f"{path} has {len(data):,} bytes, and may have {MAX_BYTES[path]:,}.",
                code="FILE_TOO_LARGE",
                path=path,
                got_bytes=len(data),
                max_bytes=MAX_BYTES[path],
            )


def _check_files(manifest: Manifest, files: Mapping[str, bytes], sealed: bool) -> None:
    promised = {WEIGHTS_FILE: FileEntry(manifest.weights.sha256, manifest.weights.size_bytes)}
    if sealed:
        promised |= manifest.files
    unknown = set(files) - {MANIFEST_FILE, WEIGHTS_FILE, *EXTRA_FILES}
    if unknown:
        raise ArchiveError(
            f"{sorted(unknown)[0][:80]!r} is no file of an adapter.", code="FILE_UNKNOWN", path=sorted(unknown)[0][:200]
        )
    for path, entry in promised.items():
        if path not in files:
            raise ArchiveError(f"{MANIFEST_FILE} promises {path} and it is not there.", code="FILE_MISSING", path=path)
        got = FileEntry.of(files[path])
        if got != entry:
            raise ArchiveError(
                f"{path} is not the file {MANIFEST_FILE} promises: expected sha256 {entry.sha256} ({entry.size_bytes:,} bytes), "
                f"got {got.sha256} ({got.size_bytes:,} bytes). It was changed or damaged after it was written: get it again.",
                code="DIGEST_INVALID",
                path=path,
                expected=entry.sha256,
                got=got.sha256,
            )
    extra = set(files) - {MANIFEST_FILE} - set(promised)
    if extra:
        raise ArchiveError(
            f"{MANIFEST_FILE} does not name {sorted(extra)[0]}: it is not sealed.",
            code="FILE_UNKNOWN",
            path=sorted(extra)[0],
        )


def _check_tensors(manifest: Manifest, entries: Sequence[tensorfile.TensorEntry]) -> None:
    expected, found = _expected_shapes(manifest), {entry.name for entry in entries}
    if found != set(expected):
        missing, extra = sorted(set(expected) - found), sorted(found - set(expected))
        raise ArchiveError(
            f"{WEIGHTS_FILE} and {MANIFEST_FILE} name different tensors: {len(missing)} missing ({', '.join(missing[:3])}), "
            f"{len(extra)} unexpected ({', '.join(extra[:3])}).",
            code="TENSOR_SET",
            missing=missing[:20],
            unexpected=extra[:20],
        )
    for name, dtype, shape, *_ in entries:
        if shape != expected[name]:
            raise ArchiveError(
                f"{name} has the shape {shape} and {MANIFEST_FILE} promises {expected[name]}.",
                code="RANK_MISMATCH" if name.endswith(peft_format.LAMBDA_D) else "DIMS_MISMATCH",
                tensor=name,
                expected=list(expected[name]),
                got=list(shape),
            )
        if dtype != DTYPES[manifest.weights.dtype]:
            raise ArchiveError(
                f"{name} is not {manifest.weights.dtype}, as {MANIFEST_FILE} promises.",
                code="TENSOR_DTYPE",
                tensor=name,
            )


def _check_values(archive: Archive) -> None:
    """A look at all values together passes nearly every adapter; one at each tensor says what is wrong, and where."""
    if tensorfile.are_small(archive.files[WEIGHTS_FILE], DTYPES[archive.manifest.weights.dtype]):
        return
    for name, tensor in archive.tensors.items():
        _check_values_of(name, _decode(tensor))


def _check_values_of(name: str, values: Array) -> None:
    import numpy as np

    finite = np.isfinite(values)
    if not finite.all():
        index = int(np.flatnonzero(~finite)[0])
        raise ArchiveError(
            f"{name}[{index}] is {values.flat[index]}: training diverged, and the model would answer NaN. "
            "Train again with a lower learning rate.",
            code="TENSOR_NONFINITE",
            tensor=name,
            index=index,
        )
    magnitude = float(np.abs(values).max())
    if magnitude > MAX_MAGNITUDE:
        raise ArchiveError(
            f"{name} reaches {magnitude:.3g} and at most {MAX_MAGNITUDE:.0e} is allowed: training diverged.",
            code="TENSOR_RANGE",
            tensor=name,
        )


def _expected_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    vectors: dict[str, tuple[int, ...]] = {}
    for module in manifest.modules:
        key_b, key_d = peft_format.vector_keys(module.name)
        vectors[key_b], vectors[key_d] = (module.out_features,), (manifest.recipe.rank,)
        if manifest.has_magnitude:
            vectors[peft_format.magnitude_key(module.name)] = (module.out_features,)
    heads = {peft_format.head_key(tensor.name): tensor.shape for tensor in manifest.head}
    if both := sorted(vectors.keys() & heads.keys()):
        raise ArchiveError(
            f"{both[0]} is promised as a vector and as a head tensor.", code="TENSOR_SET", tensor=both[0]
        )
    return vectors | heads


def _encode(array: Array, dtype: str) -> NDArray[np.generic]:
    import numpy as np

    if dtype == "bfloat16":
        return (round_to_bfloat16(array).view(np.uint32) >> np.uint32(16)).astype("<u2")
    with np.errstate(over="ignore"):  # what overflows float16 is refused by `inspect`
        return array.astype("<f2" if dtype == "float16" else "<f4")


def _decode(tensor: NDArray[np.generic]) -> Array:
    import numpy as np

    if tensor.dtype == np.uint16:
        return (tensor.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return tensor.astype(np.float32)


def _decode_card(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{CARD_FILE} is not UTF-8 text: save it as UTF-8.", code="CARD_INVALID") from error


def _read_card(folder: Path) -> bytes:
    try:
        return _read_own(folder, CARD_FILE)
    except ArchiveError as error:
        if error.code != "FILE_MISSING":
            raise
        return b""


def _read_own(folder: Path, name: str) -> bytes:
    """The bytes of one of the files of an adapter's folder."""
    return read_plain(
        folder / name,
        MAX_BYTES[name],
        missing=f"{folder} holds no adapter: there is no {name} in it. `vera-hub train` writes such a folder.",
        too_large=NARROWER if name == WEIGHTS_FILE else "",
    )
