"""Files and folders of the user's: read as what they are, or a sentence that says what to do."""

from __future__ import annotations

import csv
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vera import data
from vera.data import Split
from vera.data.layouts import choose_splits, lay_out
from vera.errors import DataError

ROWS = [{"text": f"{word} {i}", "label": label} for i in range(20) for word, label in (("one", "a"), ("two", "b"))]
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
PNG = b"\x89PNG\r\n\x1a\n"


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """`rows` in the format the name of `path` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(rows[0])
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix in (".csv", ".tsv"):
        dialect: dict[str, Any] = (
            {} if path.suffix == ".csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}
        )
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, **dialect).writerows([columns, *([row[column] for column in columns] for row in rows)])
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(rows)))
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def texts_of(split: Split) -> set[str]:
    return {*split.train.texts, *split.heldout.texts}


# ---- one file


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.ndjson", "rows.json", "rows.parquet"])
def test_a_file_of_texts_and_labels_is_the_same_set_in_every_format(tmp_path: Path, name: str) -> None:
    split = data.load(str(write(tmp_path / name, ROWS)))
    assert split.labels == ("a", "b")
    assert texts_of(split) == {row["text"] for row in ROWS}
    assert split.heldout_digest == data.load(str(write(tmp_path / "same.csv", ROWS))).heldout_digest


def test_a_source_names_its_bytes_and_how_they_were_read(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", ROWS)
    source = data.load(str(path), limit=30).source
    assert source is not None
    assert source.to_dict() == {
        "name": "rows.csv",
        "files": {"rows.csv": f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"},
        "options": {"task": "text-classification", "text": "text", "label": "label", "limit": 30, "min_per_label": 2},
    }
    assert str(tmp_path) not in json.dumps(source.to_dict())


def test_objects_line_by_line_may_be_called_json(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS).rename(tmp_path / "rows.json")
    assert len(texts_of(data.load(str(path)))) == 40


def test_a_line_of_a_text_file_is_a_text_to_generate(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("".join(f"line {i}\n\n" for i in range(50)))
    split = data.load(str(tmp_path / "lines.txt"))
    assert split.task == "text-generation"
    assert {*split.train.completions, *split.heldout.completions} == {f"line {i}" for i in range(50)}
    assert set(split.train.texts) == {""}
    assert len(split.heldout) > 1


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", ROWS)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert data.load(str(path)).labels == ("a", "b")


def test_a_quote_in_a_tab_separated_file_is_a_quote(tmp_path: Path) -> None:
    rows = [{**row, "text": f'"{row["text"]}'} for row in ROWS]
    assert texts_of(data.load(str(write(tmp_path / "rows.tsv", rows)))) == {row["text"] for row in rows}


def test_a_limit_reads_the_first_rows_and_says_so(tmp_path: Path) -> None:
    split = data.load(str(write(tmp_path / "rows.jsonl", ROWS)), limit=30)
    assert texts_of(split) == {row["text"] for row in ROWS[:30]}
    assert split.notes == ("the first 30 rows of the data read",)


@pytest.mark.parametrize(("name", "content", "sentence"), [
    ("rows.csv", b"words,kind\nhello,a\n", r"Its columns are words, kind\."),
    ("rows.csv", b"", "no rows"),
    ("rows.csv", b"text,label\n", "no rows"),
    ("rows.csv", b"text,label,text\nhello,a,world\n", "more than one column 'text'"),
    ("rows.csv", b"text,label\n" + b"x" * 200_000 + b",a\n", "field larger than .* save it as .jsonl"),
    ("rows.csv", b"text,label\nhello, world,a\n", "Line 2 of rows.csv has more fields than the 2"),
    ("rows.csv", b'text,label\n"hello,a\nworld,b\n', "unexpected end of data"),
    ("rows.csv", b"text,label\ncaf\xe9,a\n", "UTF-8"),
    ("rows.csv", b"text,label\n,a\n", "1 rows without text"),
    ("rows.csv", b"text,label\nhello,\n", "no label in the data"),
    ("rows.jsonl", b"hello\n", "Line 1 of rows.jsonl is not JSON"),
    ("rows.jsonl", b"[1]\n", "not a JSON object"),
    ("rows.jsonl", b"[" * 100_000, "cannot be read|not JSON"),
    ("rows.jsonl", b'{"text": ["hello"], "label": "a"}\n', "list and no text in 'text'"),
    ("rows.jsonl", b'{"text": "\\ud800", "label": "a"}\n', "Row 1 .* half a character"),
    ("rows.jsonl", b'{"text": "hello", "label": {"a": 1}}\n', "dict and no label"),
    ("rows.json", b"[1]", "Item 1 of rows.json is not a JSON object"),
    ("rows.json", b"[", "not JSON"),
    ("rows.parquet", b"PAR1 and not much more", "not a whole Parquet file"),
    ("rows.xlsx", b"PK", "not a file of rows"),
    ("one.csv", b"text,label\nhello,a\nworld,a\n", "training needs two or more"),
])  # fmt: skip
def test_a_file_that_cannot_be_used_is_a_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        data.load(str(tmp_path / name))


def test_a_damaged_parquet_file_is_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", ROWS * 500)
    content = bytearray(path.read_bytes())
    content[10:200] = bytes(190)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.parquet is damaged"):
        data.load(str(path))


@pytest.mark.parametrize("source", ["rows.csv", "no such thing", "a/b/c", "folder/train.parquet"])
def test_what_is_nowhere_names_what_there_could_be(source: str) -> None:
    with pytest.raises(DataError, match="demo/topics"):
        data.load(source)


@given(
    st.lists(st.tuples(texts, texts), min_size=1, unique=True), st.sampled_from([".csv", ".jsonl", ".json", ".parquet"])
)
def test_every_text_comes_back_as_it_was(rows: list[tuple[str, str]], suffix: str) -> None:
    fill = [(f"prompt {i}", f"completion {i}") for i in range(20)]  # so that both parts have some
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / f"rows{suffix}", [{"prompt": p, "completion": c} for p, c in (*fill, *rows)])
        split = data.load(str(path))
    found = [pair for part in (split.train, split.heldout) for pair in zip(part.texts, part.completions, strict=True)]
    by_spaces = {(" ".join(prompt.split()), completion) for prompt, completion in (*fill, *rows)}
    assert {*found} <= {*fill, *rows}
    assert {(" ".join(prompt.split()), completion) for prompt, completion in found} == by_spaces
    assert not {*split.train.texts} & {*split.heldout.texts}


# ---- columns and tasks


def of_columns(tmp_path: Path, n: int = 60, **columns: object) -> str:
    """A file whose rows have these columns: a function of the row's number, or a text before it."""
    rows = [
        {name: value(i) if callable(value) else f"{value} {i}" for name, value in columns.items()} for i in range(n)
    ]
    return str(write(tmp_path / "rows.parquet", rows))


def kind(i: int) -> int:
    return i % 2


@pytest.mark.parametrize(("names", "text", "pair"), [
    (("sentence", "label"), "sentence", None),
    (("sentence1", "sentence2", "label"), "sentence1", "sentence2"),
    (("question", "sentence", "label"), "question", "sentence"),
    (("premise", "hypothesis", "labels"), "premise", "hypothesis"),
    (("text", "label", "other"), "text", None),
])  # fmt: skip
def test_well_known_columns_are_found(tmp_path: Path, names: tuple[str, ...], text: str, pair: str | None) -> None:
    columns = {name: kind if name.startswith("label") else name for name in names}
    split = data.load(of_columns(tmp_path, **columns))
    assert split.task == "text-classification"
    assert split.labels == ("0", "1")
    assert split.train.texts[0].startswith(f"{text} ")
    assert (split.train.pairs is None) == (pair is None)
    assert pair is None or (split.train.pairs or ("",))[0].startswith(f"{pair} ")


@pytest.mark.parametrize(("names", "prompt", "completion"), [
    (("prompt", "completion"), "prompt 0", "completion 0"),
    (("instruction", "input", "output"), "instruction 0\n\ninput 0", "output 0"),
    (("instruction", "output"), "instruction 0", "output 0"),
    (("mr", "ref"), "mr 0", "ref 0"),
])  # fmt: skip
def test_prompts_and_completions_are_found(
    tmp_path: Path, names: tuple[str, ...], prompt: str, completion: str
) -> None:
    split = data.load(of_columns(tmp_path, **dict(zip(names, names, strict=True))))
    assert split.task == "text-generation"
    parts = (split.train, split.heldout)
    assert (prompt, completion) in [pair for part in parts for pair in zip(part.texts, part.completions, strict=True)]


def test_an_empty_input_leaves_the_instruction_alone(tmp_path: Path) -> None:
    split = data.load(of_columns(tmp_path, instruction="do", input=lambda _i: "", output="done"))
    assert split.train.texts[0].startswith("do ")
    assert "\n" not in "".join(split.train.texts)


def test_columns_may_be_named(tmp_path: Path) -> None:
    source = of_columns(tmp_path, text="text", review="review", title="title", label=kind, stars=lambda i: "xyz"[i % 3])
    split = data.load(source, text="title,review", label="stars")
    assert split.labels == ("x", "y", "z")
    assert split.train.pairs is not None
    assert split.train.pairs[0].startswith("review ")


def test_white_space_of_texts_and_completions_is_kept(tmp_path: Path) -> None:
    split = data.load(of_columns(tmp_path, prompt=lambda i: f"def f{i}():\n    ", completion="  return\n"))
    assert split.train.texts[0].endswith("\n    ")
    assert split.train.completions[0].startswith("  return\n")


@pytest.mark.parametrize(("options", "sentence"), [
    ({"text": "words"}, "no column 'words'. Its columns are text, label, prompt, completion"),
    ({}, "more than one way to read"),
    ({"task": "image-classification"}, "no way to tell"),
    ({"task": "text-clasification"}, "is not a task"),
    ({"text": "text,prompt,completion", "label": "label"}, "one column or two"),
    ({"text": "text", "label": "text"}, "no way to tell"),
    ({"text": "text", "task": "image-classification"}, "texts or images"),
    ({"image": "text", "task": "text-generation"}, "texts or images"),
    ({"limit": 0, "task": "text-generation"}, "limit of 0"),
])  # fmt: skip
def test_columns_that_cannot_be_told_are_listed(tmp_path: Path, options: dict[str, str], sentence: str) -> None:
    source = of_columns(tmp_path, text="text", label=kind, prompt="prompt", completion="completion")
    with pytest.raises(DataError, match=sentence):
        data.load(source, **options)


def test_the_task_decides_where_columns_may_be_read_in_two_ways(tmp_path: Path) -> None:
    source = of_columns(tmp_path, text="text", label=kind, prompt="prompt", completion="completion")
    assert data.load(source, task="text-generation").train.texts[0].startswith("prompt ")
    assert data.load(source, task="text-classification").train.texts[0].startswith("text ")


def test_regression_is_asked_for(tmp_path: Path) -> None:
    source = of_columns(tmp_path, sentence1="one", sentence2="two", label=lambda i: i / 4)
    with pytest.raises(DataError, match=r"numbers such as 0\.25: ask for the task text-regression"):
        data.load(source)
    split = data.load(source, task="text-regression")
    assert sorted((*split.train.values, *split.heldout.values)) == [i / 4 for i in range(60)]
    assert split.labels == ()


def test_a_value_that_is_no_number_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'high', which is not a number"):
        data.load(of_columns(tmp_path, text="text", label=lambda i: "high" if i == 7 else "1"), task="text-regression")


# ---- labels


def test_missing_labels_are_left_out_and_counted(tmp_path: Path) -> None:
    split = data.load(of_columns(tmp_path, text="text", label=lambda i: None if i < 10 else kind(i)))
    assert len(texts_of(split)) == 50
    assert split.labels == ("0", "1")  # whole numbers, though the column had to hold none as well
    assert split.notes == ("10 rows without label left out of the data",)


def test_what_pandas_writes_for_a_missing_text_is_no_text(tmp_path: Path) -> None:
    rows = [
        f'{{"text": {"NaN" if i < 2 else f"{chr(34)}text {i}{chr(34)}"}, "label": "{"ab"[i % 2]}"}}' for i in range(40)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    split = data.load(str(tmp_path / "rows.jsonl"))
    assert "nan" not in texts_of(split)
    assert split.notes == ("2 rows without text left out of the data",)


def test_minus_one_is_a_label_where_labels_have_no_names(tmp_path: Path) -> None:
    split = data.load(of_columns(tmp_path, text="text", label=lambda i: i % 3 - 1))
    assert split.labels == ("-1", "0", "1")


def test_true_and_false_are_labels(tmp_path: Path) -> None:
    assert data.load(of_columns(tmp_path, text="text", label=lambda i: i % 2 == 0)).labels == ("false", "true")


def with_names(path: Path, labels: Sequence[int], names: Sequence[str] = ("bad", "good")) -> Path:
    features = {"label": {"_type": "ClassLabel", "names": list(names)}}
    table = pa.Table.from_pylist([{"text": f"text {i}", "label": label} for i, label in enumerate(labels)])
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path)
    return path


def test_whole_numbers_get_the_names_the_file_has_for_them(tmp_path: Path) -> None:
    split = data.load(str(with_names(tmp_path / "rows.parquet", [-1, -1, *[0, 1] * 30])))
    assert split.labels == ("bad", "good")
    assert split.notes == ("2 rows without label left out of the data",)
    by_text = dict(zip(split.train.texts, split.train.classes, strict=True))
    assert all(label == int(text.split()[1]) % 2 for text, label in by_text.items())


def test_a_number_is_a_place_among_names_that_look_like_numbers_too(tmp_path: Path) -> None:
    split = data.load(str(with_names(tmp_path / "rows.parquet", [0, 1, 2] * 20, names=("1", "2", "3"))))
    assert split.labels == ("1", "2", "3")
    by_text = dict(zip(split.train.texts, split.train.classes, strict=True))
    assert all(label == int(text.split()[1]) % 3 for text, label in by_text.items())


def test_a_word_that_is_a_name_and_the_number_of_another_is_a_sentence(tmp_path: Path) -> None:
    features = [{"name": "label", "dtype": {"class_label": {"names": {"0": "1", "1": "2"}}}}]
    (tmp_path / "README.md").write_text(f"---\ndataset_info:\n  features: {json.dumps(features)}\n---\n")
    write(tmp_path / "rows.csv", [{"text": f"text {i}", "label": i % 2} for i in range(40)])
    with pytest.raises(DataError, match="the label 1, which is the name of one label and the number of another, '2'"):
        data.load(str(tmp_path))


@pytest.mark.parametrize(("labels", "second"), [((1, 2, 3), "2"), ((0, 1, 2), "2"), ((-1, 1, 2), "1")])
def test_labels_of_an_evaluation_stand_as_they_are_written_or_as_their_numbers(
    tmp_path: Path, labels: tuple[int, ...], second: str
) -> None:
    rows = [{"text": f"text {i}", "label": labels[i % 3]} for i in range(9)]
    stated = tuple(map(str, labels)) if labels[0] else ("1", "2", "3")
    write(tmp_path / "rows.jsonl", rows)
    asked = data.load_questions(str(tmp_path), task="text-classification", text="text", label="label", labels=stated)
    assert asked.notes == ()
    assert [asked.labels[target] for target in asked.examples.classes][1] == second


def test_a_number_without_a_name_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the label 2, and there are names for 0 to 1 only"):
        data.load(str(with_names(tmp_path / "rows.parquet", [0, 1, 2] * 20)))


# ---- folders


def numbered(prefix: str, n: int = 8) -> list[dict[str, object]]:
    return [{"text": f"{prefix} {i}", "label": "ab"[i % 2]} for i in range(n)]


@pytest.mark.parametrize("held", ["test", "validation", "dev", "val", "my-eval"])
def test_a_given_set_is_the_held_out_one(tmp_path: Path, held: str) -> None:
    write(tmp_path / "train.csv", numbered("train"))
    write(tmp_path / f"{held}.csv", numbered("held"))
    split = data.load(str(tmp_path))
    assert split.train.texts == tuple(row["text"] for row in numbered("train"))
    assert split.heldout.texts == tuple(row["text"] for row in numbered("held"))
    assert split.name == tmp_path.name


def test_validation_beside_a_test_set_chooses_checkpoints(tmp_path: Path) -> None:
    for part in ("train", "dev", "test"):
        write(tmp_path / f"{part}.jsonl", numbered(part))
    split = data.load(str(tmp_path))
    assert split.validation is not None
    assert (split.validation.texts[0], split.heldout.texts[0]) == ("dev 0", "test 0")
    other = data.load(str(tmp_path), heldout="validation")
    assert (other.heldout.texts[0], other.validation) == ("dev 0", None)


def test_a_test_set_that_keeps_its_labels_secret_is_not_used(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", numbered("train"))
    write(tmp_path / "dev.tsv", numbered("dev"))
    write(tmp_path / "test.tsv", [{**row, "label": -1} for row in numbered("test")])
    split = data.load(str(tmp_path))
    assert (split.heldout.texts[0], split.validation) == ("dev 0", None)
    assert split.notes == ("test not used: it has no labels, or keeps them secret",)
    with pytest.raises(DataError, match="no label in test: choose"):
        data.load(str(tmp_path), heldout="test")


def test_a_validation_set_alone_is_divided_and_said(tmp_path: Path) -> None:
    write(tmp_path / "validation.csv", numbered("x", 60))
    split = data.load(str(tmp_path))
    assert len(texts_of(split)) == 60
    assert split.notes == ("there is a validation set only: a fifth of it is held out, the rest trained on",)


def test_labels_that_are_held_out_and_never_trained_on_are_said(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", numbered("train"))
    write(tmp_path / "test.csv", [*numbered("test"), {"text": "new", "label": "c"}])
    split = data.load(str(tmp_path))
    assert split.labels == ("a", "b", "c")
    assert split.notes == ("labels that are held out and never trained on: c",)


def test_a_column_of_names_is_no_column_of_labels(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write(tmp_path / f"{part}.csv", [{"text": f"{part} {i}", "label": f"{i}.jpg"} for i in range(50)])
    with pytest.raises(DataError, match="50 labels for 50 items"):
        data.load(str(tmp_path))


def test_several_files_are_read_as_one_set_and_said(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", numbered("a", 30))
    write(tmp_path / "b.csv", numbered("b", 30))
    split = data.load(str(tmp_path))
    assert len(texts_of(split)) == 60
    assert split.notes == ("read as one set: a.csv, b.csv",)


def test_files_of_other_columns_are_no_one_set(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", numbered("a", 30))
    write(tmp_path / "b.csv", [{"sentence": "b", "label": "a"}])
    with pytest.raises(DataError, match=r"b\.csv has other columns"):
        data.load(str(tmp_path))


def test_a_folder_of_sets_names_them(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "rows.csv", numbered(name, 60))
    with pytest.raises(DataError, match="after a colon: one, two"):
        data.load(str(tmp_path))
    assert data.load(f"{tmp_path}:two").train.texts[0].startswith("two")
    with pytest.raises(DataError, match="no configuration 'three'"):
        data.load(f"{tmp_path}:three")


def test_splits_may_be_named(tmp_path: Path) -> None:
    for split in ("train_a", "train_b", "test_a", "test_b"):
        write(tmp_path / f"{split}-00000-of-00001.parquet", numbered(split))
    with pytest.raises(DataError, match="more than one train split, train_a, train_b"):
        data.load(str(tmp_path))
    split = data.load(str(tmp_path), train="train_b", heldout="test_a")
    assert (split.train.texts[0], split.heldout.texts[0]) == ("train_b 0", "test_a 0")
    with pytest.raises(DataError, match="both trained on and held out"):
        data.load(str(tmp_path), train="train_b", heldout="train_b")
    with pytest.raises(DataError, match="no split 'dev': its splits are"):
        data.load(str(tmp_path), heldout="dev")


# ---- images


def images(folder: Path, n: int = 15) -> Path:
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for i in range(n):
            (folder / label / f"{i}.png").write_bytes(PNG + f"{folder.name} {label} {i}".encode())
    return folder


def test_a_folder_of_images_has_a_class_in_each_folder(tmp_path: Path) -> None:
    split = data.load(str(images(tmp_path / "pets")))
    assert (split.task, split.labels) == ("image-classification", ("cat", "dog"))
    assert split.train.images is not None
    assert len(split.train) + len(split.heldout) == 30
    for image, label in zip(split.train.images, split.train.classes, strict=True):
        assert split.labels[label].encode() in image.read()


def test_images_in_sets_and_classes(tmp_path: Path) -> None:
    images(tmp_path / "pets" / "train")
    images(tmp_path / "pets" / "val", n=3)
    split = data.load(str(tmp_path / "pets"))
    assert (len(split.train), len(split.heldout)) == (30, 6)
    assert split.source is not None
    assert list(split.source.files) == ["train/", "validation/"]


def test_a_limit_of_images_is_spread_over_the_classes(tmp_path: Path) -> None:
    split = data.load(str(images(tmp_path / "pets", n=40)), limit=40)
    assert split.labels == ("cat", "dog")
    assert split.notes == ("40 of 80 images of the data read",)


def test_the_parts_of_images_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    images(tmp_path / "pets" / "images" / "train")
    images(tmp_path / "pets" / "images" / "test", n=3)
    split = data.load(str(tmp_path / "pets"))
    assert (len(split.train), len(split.heldout), split.notes) == (30, 6, ())


def test_classes_within_folders_are_said_to_be_the_labels(tmp_path: Path) -> None:
    for home in ("indoors", "outdoors"):
        images(tmp_path / "pets" / home)
    split = data.load(str(tmp_path / "pets"))
    assert split.labels == ("cat", "dog")
    assert split.notes == ("a label is the folder an image itself lies in, such as 'cat' of indoors/cat/0.png",)


def test_an_image_moved_between_folders_is_another_source(tmp_path: Path) -> None:
    folder = images(tmp_path / "pets")
    before = data.load(str(folder)).source
    (folder / "cat" / "0.png").rename(folder / "dog" / "other.png")
    assert data.load(str(folder)).source != before


def test_images_in_a_table_are_found(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": PNG + bytes([i]), "path": None}, "label": kind(i)} for i in range(60)]
    split = data.load(str(write(tmp_path / "rows.parquet", rows)))
    assert split.task == "image-classification"
    assert split.train.images is not None
    assert split.train.images[0].read().startswith(PNG)


def test_what_is_no_image_is_a_sentence(tmp_path: Path) -> None:
    folder = images(tmp_path / "pets")
    (folder / "cat" / "page.jpg").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"page\.jpg is no PNG, JPEG"):
        data.load(str(folder))


def test_an_image_outside_a_class_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(PNG)
    with pytest.raises(DataError, match="lies in no folder of a class"):
        data.load(str(tmp_path))


# ---- which file is which


@pytest.mark.parametrize(("paths", "splits"), [
    (["data/train-00000-of-00002-ab12.parquet", "data/train-00001-of-00002-ab12.parquet"], {"train": 2}),
    (["train/a.csv", "train/b.csv", "test/a.csv"], {"train": 2, "test": 1}),
    (["my_train_file.csv", "dev.csv"], {"train": 1, "validation": 1}),
    (["train.csv", "notes.csv"], {"train": 1}),
    (["train.csv", "train.parquet", "README.md"], {"train": 1}),
    (["data.csv", "LICENSE.txt", "dataset_infos.json", ".cache/x.csv"], {"": 1}),
    (["constraint.csv", "latest.csv"], {"": 2}),
    (["train/cat/1.jpg", "test/cat/1.jpg", "README.md"], {"train": 1, "test": 1}),
])  # fmt: skip
def test_names_say_which_part_a_file_is(paths: list[str], splits: dict[str, int]) -> None:
    found = lay_out(paths, {}, config=None, where="here").splits
    assert {split: len(files) for split, files in found.items()} == splits


def test_files_that_are_not_read_are_said() -> None:
    layout = lay_out(["train.csv", "notes.csv"], {}, config=None, where="here")
    assert layout.notes == ("not read, as no split is in the name: notes.csv",)


def test_a_test_set_beside_an_unnamed_file_is_not_taken_for_the_whole() -> None:
    layout = lay_out(["data.csv", "test.csv"], {}, config=None, where="here")
    with pytest.raises(DataError, match="no training split among"):
        choose_splits(tuple(layout.splits), train=None, heldout=None, where="here")


@pytest.mark.parametrize(("data_files", "splits"), [
    ("*.csv", {"train": ["a.csv", "b.csv"]}),
    (["a.csv", "b.csv"], {"train": ["a.csv", "b.csv"]}),
    ([{"split": "train", "path": ["a.csv"]}, {"split": "test", "path": "sub/*"}], {"train": ["a.csv"], "test": ["sub/c.csv"]}),
    ({"train": "[!b].csv", "test": "sub"}, {"train": ["a.csv"], "test": ["sub/c.csv"]}),
    ("**/?.csv", {"train": ["a.csv", "b.csv", "sub/c.csv"]}),
])  # fmt: skip
def test_a_card_says_which_part_a_file_is(data_files: object, splits: dict[str, list[str]]) -> None:
    card = {"configs": [{"config_name": "default", "data_files": data_files}]}
    found = lay_out(["a.csv", "b.csv", "sub/c.csv"], card, config=None, where="here").splits
    assert {split: list(files) for split, files in found.items()} == splits


@pytest.mark.parametrize(("config", "sentence"), [
    ({"data_files": "x.zip"}, r"x\.zip, which is not one of"),
    ({"data_files": "none.csv"}, "no file"),
    ({"data_files": "a.csv", "sep": ";"}, "read with sep"),
])  # fmt: skip
def test_a_card_that_means_something_else_is_a_sentence(config: dict[str, str], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        lay_out(["a.csv", "x.zip"], {"configs": [{"config_name": "default", **config}]}, config=None, where="here")


def test_a_name_of_two_parts_is_a_sentence() -> None:
    with pytest.raises(DataError, match="says both train and test"):
        lay_out(["train_test.csv"], {}, config=None, where="here")
