"""`vbf1:` is the weights of a base: not their files, not their order, and every bit of them."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tests.builders import make_base
from tests.vera import golden
from vera.errors import BaseUnreadable
from vera.fingerprint import (
    INDEX_FILE,
    SINGLE_FILE,
    BaseFingerprint,
    TensorRecord,
    _entries,
    _record,
    checkpoint_files,
    of_files,
)

Tensors = dict[str, np.ndarray]


def tiny() -> Tensors:
    """The checkpoint of tests/golden/fingerprint.json and of docs/format.md."""
    return {
        "embeddings.weight": np.arange(6, dtype=np.float32).reshape(3, 2) / 4,
        "encoder.query.weight": -np.arange(4, dtype=np.float32).reshape(2, 2),
        "encoder.query.bias": np.array([0.5, -0.25], np.float16),
        "position_ids": np.arange(3, dtype=np.int64),
        "scale": np.array(1.5, np.float32),
    }


def write_single(folder: Path, tensors: Tensors, name: str = SINGLE_FILE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / name, metadata={"format": "pt"})
    return folder


def write_shards(folder: Path, tensors: Tensors, shards: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    for i in range(shards):
        name = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[i::shards])
        save_file(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    write_index(folder, weight_map)
    return folder


def write_index(folder: Path, weight_map: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX_FILE).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


# -- one identity for one set of weights ----------------------------------------------------------


def test_the_published_checkpoint_has_the_published_fingerprint(tmp_path: Path) -> None:
    published = golden.load("fingerprint")
    fingerprint = of_files(write_single(tmp_path, tiny()))
    assert fingerprint.value == published["fingerprint"]
    assert [record.line for record in fingerprint.tensors] == published["lines"]


def test_the_fingerprint_is_the_hash_of_the_lines(tmp_path: Path) -> None:
    lines = []
    for name, array in sorted(tiny().items()):
        dtype = {"float32": "F32", "float16": "F16", "int64": "I64"}[array.dtype.name]
        shape = ",".join(map(str, array.shape))
        lines.append(f"{name}\t{dtype}\t{shape}\t{hashlib.sha256(array.tobytes()).hexdigest()}\n")
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert of_files(write_single(tmp_path, tiny())).value == f"vbf1:{expected}"


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_it_does_not_matter_how_a_checkpoint_is_sharded(tmp_path: Path, shards: int) -> None:
    whole = of_files(write_single(tmp_path / "one", tiny()))
    assert of_files(write_shards(tmp_path / "many", tiny(), shards)) == whole


def test_it_does_not_matter_in_which_order_or_with_what_metadata_a_file_is_written(tmp_path: Path) -> None:
    whole = of_files(write_single(tmp_path / "one", tiny()))
    backwards = tmp_path / "backwards.safetensors"
    save_file(dict(reversed(tiny().items())), backwards, metadata={"made by": "somebody"})
    assert of_files(backwards) == whole
    assert of_files(str(backwards)) == whole


@pytest.mark.parametrize(
    "change",
    [
        {"scale": np.array(np.nextafter(np.float32(1.5), np.float32(2)))},
        {"encoder.query.weight": np.array([[0.0, -1], [-2, -3]], np.float32)},  # -0.0 became 0.0
        {"encoder.query.weight": -np.arange(4, dtype=np.float32).reshape(2, 2).T},
        {"embeddings.weight": tiny()["embeddings.weight"].reshape(2, 3)},
        {"scale": np.array([1.5], np.float32)},
        {"position_ids": np.arange(3, dtype=np.int64).view(np.uint64)},
        {"encoder.query.bias": tiny()["encoder.query.bias"].astype(np.float32)},
        {"scale": None},
        {"scale": None, "scales": np.array(1.5, np.float32)},
        {"extra": np.zeros(1, np.float32)},
    ],
    ids=",".join,
)  # fmt: skip
def test_any_other_byte_shape_dtype_or_name_is_another_base(tmp_path: Path, change: Mapping[str, Any]) -> None:
    changed = {name: array for name, array in {**tiny(), **change}.items() if array is not None}
    changed = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in changed.items()}
    assert of_files(write_single(tmp_path / "b", changed)).value != of_files(write_single(tmp_path / "a", tiny())).value


def test_every_bit_of_the_weights_counts(tmp_path: Path) -> None:
    file = write_single(tmp_path, tiny()) / SINGLE_FILE
    data = file.read_bytes()
    body = 8 + struct.unpack("<Q", data[:8])[0]
    seen = {of_files(tmp_path).value}
    for at in range(body, len(data)):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        seen.add(of_files(tmp_path).value)
    assert len(seen) == 1 + len(data) - body


def test_transformers_reads_the_weights_that_were_fingerprinted(tmp_path: Path) -> None:
    """With both a single file and an index in the folder, the identity is of the file that is loaded."""
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=5)
    model, other = BertModel(config), BertModel(config)
    model.save_pretrained(tmp_path)
    single = of_files(tmp_path)
    write_shards(tmp_path, {name: t.detach().numpy() for name, t in other.state_dict().items()}, 2)

    loaded = BertModel.from_pretrained(tmp_path).state_dict()

    assert of_files(tmp_path) == single
    for record in single.tensors:
        assert hashlib.sha256(loaded[record.name].numpy().tobytes()).hexdigest() == record.sha256


def test_progress_ends_with_every_byte_read(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    of_files(write_shards(tmp_path, tiny(), 2), progress=lambda done, total: seen.append((done, total)))
    total = sum(array.nbytes for array in tiny().values())
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# -- the table ------------------------------------------------------------------------------------

ROWS = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30),
        st.sampled_from(["F32", "BF16", "I64", "BOOL"]),
        st.lists(st.integers(1, 1 << 20), max_size=2),
        st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    ).map(list),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row[0],
)


@given(rows=ROWS)
def test_a_table_survives_the_wire_in_any_order(rows: list[list[Any]]) -> None:
    base = BaseFingerprint.from_rows(rows)
    assert BaseFingerprint.from_rows(json.loads(json.dumps(base.to_rows()))) == base
    assert BaseFingerprint.from_rows(rows[::-1]) == base
    assert set(base.by_name) == {row[0] for row in rows}


def test_rows_are_sorted_by_the_bytes_of_the_name() -> None:
    rows = [[name, "F32", [1], "0" * 64] for name in ("b", "a.b", "a-b", "a", "Z", "é", "\U0001f600", "\uffff")]
    expected = ["Z", "a", "a-b", "a.b", "b", "é", "\uffff", "\U0001f600"]  # UTF-8, not UTF-16
    assert [record.name for record in BaseFingerprint.from_rows(rows).tensors] == expected


SHA = "0" * 64


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [["a", "F32", [1], SHA], ["a", "F16", [1], SHA]],
        [["a", "F32", [1]]],
        [["a", "F32", [1], SHA, 1]],
        ["abcd"],
        [None],
        [{"name": "a"}],
        [[1, "F32", [1], SHA]],
        [["", "F32", [1], SHA]],
        [["a" * 513, "F32", [1], SHA]],
        [["a\tF32\t1\t" + SHA + "\nb", "F32", [1], SHA]],
        [["a\nb", "F32", [1], SHA]],
        [["\ud800", "F32", [1], SHA]],
        [["a", "f32", [1], SHA]],
        [["a", "F32\t", [1], SHA]],
        [["a", ["F32"], [1], SHA]],
        [["a", "F32", "1", SHA]],
        [["a", "F32", 1, SHA]],
        [["a", "F32", ["1"], SHA]],
        [["a", "F32", [1.0], SHA]],
        [["a", "F32", [True], SHA]],
        [["a", "F32", [0], SHA]],
        [["a", "F32", [-1], SHA]],
        [["a", "F32", [10**400], SHA]],
        [["a", "F32", [1 << 40, 2], SHA]],
        [["a", "F32", [1] * 9, SHA]],
        [["a", "F32", [1], SHA.upper().replace("0", "A")]],
        [["a", "F32", [1], SHA + "\n"]],
        [["a", "F32", [1], "sha256:" + SHA]],
        [["a", "F32", [1], None]],
    ],
    ids=lambda rows: repr(rows)[:40],
)  # fmt: skip
def test_a_table_from_a_stranger_is_checked_row_by_row(rows: list[Any]) -> None:
    with pytest.raises(BaseUnreadable) as refused:
        BaseFingerprint.from_rows(rows)
    assert refused.value.code == "BASE_TABLE_INVALID"
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("stored", "said"), [("F32", "float32"), ("BF16", "bfloat16"), ("F16", "float16"), ("F64", "float64"), ("F8_E4M3", "f8_e4m3")]
)  # fmt: skip
def test_the_dtype_of_a_base_is_the_one_of_most_weights(stored: str, said: str) -> None:
    odd_ones = [TensorRecord("ids", "I64", (9,), SHA), TensorRecord("mask", "BOOL", (9,), SHA)]
    most = [TensorRecord(f"w{i}", stored, (2, 2), SHA) for i in range(2)]
    assert BaseFingerprint.of_records([*odd_ones, *most, TensorRecord("norm", "F32", (2,), SHA)]).dtype == said
    assert make_base().dtype == "float32"


# -- checkpoints that cannot be read --------------------------------------------------------------


def test_a_folder_of_pickles_is_refused_in_those_words(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(BaseUnreadable, match="only pickle files, which can run code when read"):
        of_files(tmp_path)


def test_pickles_beside_a_checkpoint_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    assert of_files(write_single(tmp_path, tiny())).value == golden.load("fingerprint")["fingerprint"]


def test_what_is_not_there_is_said_to_be_not_there(tmp_path: Path) -> None:
    with pytest.raises(BaseUnreadable, match="There is nothing at"):
        of_files(tmp_path / "nowhere")
    with pytest.raises(BaseUnreadable, match="no safetensors checkpoint"):
        of_files(tmp_path)


@pytest.mark.parametrize("cut", [1, 7, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    file = write_single(tmp_path, tiny()) / SINGLE_FILE
    data = file.read_bytes()
    file.write_bytes(data[:cut])
    with pytest.raises(BaseUnreadable, match=SINGLE_FILE):
        of_files(tmp_path)


def test_of_a_file_that_lacks_its_end_it_is_said_that_it_is_cut_off(tmp_path: Path) -> None:
    file = write_single(tmp_path, tiny()) / SINGLE_FILE
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(BaseUnreadable, match="the file is cut off: fetch it again"):
        of_files(tmp_path)


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = write_single(tmp_path, tiny()) / SINGLE_FILE
    entries = _entries(file)  # the header is read, and then the file is cut
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(BaseUnreadable, match="still being written"):
        [_record(file, *entry) for entry in entries]


def test_a_file_is_a_checkpoint_by_its_suffix_and_a_folder_whatever_its_name(tmp_path: Path) -> None:
    folder = write_single(tmp_path / "folder.safetensors", tiny())
    assert of_files(folder) == of_files(folder / SINGLE_FILE)
    (folder / SINGLE_FILE).rename(folder / "pytorch_model.bin")
    with pytest.raises(BaseUnreadable, match="no safetensors checkpoint"):
        of_files(folder / "pytorch_model.bin")


def test_a_file_without_tensors_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(BaseUnreadable, match="no tensors"):
        of_files(write_single(tmp_path, {}))


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    save_file(tiny(), tmp_path / "one.safetensors")
    save_file({"scale": tiny()["scale"]}, tmp_path / "two.safetensors")
    write_index(tmp_path, {"a": "one.safetensors", "scale": "two.safetensors"})
    with pytest.raises(BaseUnreadable, match="scale stands in"):
        of_files(tmp_path)


@pytest.mark.parametrize(
    "shard", ["../evil.safetensors", "/etc/passwd", "sub/model.safetensors", "..", ".", "", "missing.safetensors", "a\0b", 5, None, ["x"]],
    ids=repr,
)  # fmt: skip
def test_an_index_names_files_beside_it_and_no_others(tmp_path: Path, shard: object) -> None:
    folder = tmp_path / "base"
    write_single(folder / "sub", tiny())
    save_file(tiny(), tmp_path / "evil.safetensors")
    write_index(folder, {"a": shard})
    with pytest.raises(BaseUnreadable):
        of_files(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"weight_map":[]}', '{"weight_map":null}', "[" * 100_000],
    ids=lambda t: t[:20],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX_FILE).write_text(text)
    with pytest.raises(BaseUnreadable):
        of_files(tmp_path)


def test_shards_are_found_through_links_as_in_a_download_cache(tmp_path: Path) -> None:
    write_single(tmp_path / "blobs", tiny())
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / SINGLE_FILE).symlink_to(tmp_path / "blobs" / SINGLE_FILE)
    assert of_files(tmp_path / "snapshot").value == golden.load("fingerprint")["fingerprint"]
    assert checkpoint_files(tmp_path / "snapshot") == [tmp_path / "snapshot" / SINGLE_FILE]
