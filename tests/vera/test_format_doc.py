"""docs/format.md is checked like code: its examples, its tables and the names it lists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from tests.vera import golden, philox
from vera import errors
from vera.manifest import Manifest
from vera.peft_format import TASK_TYPES, config_of
from vera.projection import MAX_SEED, STORED, STREAMS, ProjectionRecipe, prove
from vera.ref import RESERVED_NAMESPACES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "format.md").read_text()


def example(label: str) -> str:
    """The fenced block whose opening line ends with `label`."""
    found = re.search(rf"```\w+ {label}\n(.*?)```", TEXT, re.DOTALL)
    assert found, f"there is no example called {label}"
    return found[1]


def test_the_example_is_a_manifest_with_the_digest_that_is_printed() -> None:
    manifest = Manifest.from_bytes(rfc8785.dumps(json.loads(example("manifest"))))
    assert manifest.digest == golden.load("manifest")["digest"]
    assert manifest.digest in TEXT


def test_every_field_of_a_manifest_is_in_the_table() -> None:
    value: dict[str, Any] = json.loads(example("manifest"))
    listed = set(re.findall(r"`([a-z_.\[\]]+)`", TEXT))
    assert set(value) <= {name.partition(".")[0].removesuffix("[]") for name in listed}
    for field in value["projection"]:
        assert f"| `{field}`" in TEXT or f"`{field}` |" in TEXT


def test_the_settings_of_the_base_are_a_record_that_a_manifest_can_have() -> None:
    value = json.loads(example("manifest"))
    value["base"]["config"] = json.loads(example("settings"))
    config = Manifest.from_bytes(rfc8785.dumps(value)).base.config
    assert config is not None
    assert config.all == {name: setting for half in value["base"]["config"].values() for name, setting in half.items()}


def test_how_texts_were_read_is_a_record_that_a_manifest_can_have() -> None:
    value = json.loads(example("manifest"))
    value["base"]["tokenizer"] = json.loads(example("tokenizer"))
    assert json.loads(Manifest.from_bytes(rfc8785.dumps(value)).to_bytes()) == value


def test_the_configuration_is_the_one_that_follows_from_the_example() -> None:
    """Its bytes are part of the schema: other bytes would make every published version invalid."""
    manifest = Manifest.from_bytes(golden.load("manifest")["canonical"].encode())
    assert config_of(manifest).decode() == example("config")


def test_the_lines_and_the_fingerprint_are_the_published_ones() -> None:
    published = golden.load("fingerprint")
    assert example("fingerprint").replace("→", "\t") == "".join(published["lines"])
    assert published["fingerprint"] in TEXT


GOLDEN_ROW = re.compile(
    r"\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\w+) \| ([0-9a-f ]+) \| ([0-9a-f ]+) \| `(sha256:\w+)` \|"
)


# (stream, row) for each row of the table in the stream's own section.
GOLDEN_ROWS = [
    (stream, row)
    for stream in STREAMS
    for row in GOLDEN_ROW.findall(TEXT.partition(f"### `{stream}`\n")[2].partition("\n##")[0])
]


@pytest.mark.parametrize(
    ("stream", "row"), GOLDEN_ROWS, ids=lambda value: value if isinstance(value, str) else "-".join(value[:5])
)
def test_the_golden_pairs_are_the_committed_ones(stream: str, row: tuple[str, ...]) -> None:
    seed, rank, width, height = map(int, row[:4])
    recipe = ProjectionRecipe(stream, seed, rank, width, height, row[4]).to_dict()
    [pair] = [pair for pair in golden.load(stream.replace("/", "-"))["pairs"] if pair["recipe"] == recipe]
    assert (pair["A_first"], pair["B_first"], pair["digest"]) == (row[5].split(), row[6].split(), row[7])


def test_the_tables_of_golden_pairs_were_found() -> None:
    assert [stream for stream, _ in GOLDEN_ROWS] == ["peft-mt19937/1"] * 5 + ["philox4x32-10/1"] * 6
    assert MAX_SEED == 2**53 - 1


KNOWN_ANSWER = re.compile(r"\| ([0-9a-f]{8}(?: [0-9a-f]{8}){3}) \| ([0-9a-f]{8} [0-9a-f]{8}) \| ([0-9a-f ]{35}) \|")


def test_the_known_answers_are_those_of_the_generator() -> None:
    rows = [[[int(word, 16) for word in cell.split()] for cell in row] for row in KNOWN_ANSWER.findall(TEXT)]
    assert len(rows) == 3
    for counter, key, output in rows:
        assert list(philox.philox4x32(tuple(counter), tuple(key))) == output


def test_the_stored_pair_is_one_that_is_read(tmp_path: Path) -> None:
    file = tmp_path / "projection.bin"
    file.write_bytes(bytes.fromhex(example("stored")))
    [digest] = re.findall(r"has the digest `(sha256:\w+)`\.\n\n- In a folder", TEXT)
    pair = prove(ProjectionRecipe(STORED, None, 1, 2, 1), digest, source=file)
    assert (pair.A.tolist(), pair.B.tolist()) == ([[1.0, -0.5]], [[0.25]])


def test_the_reserved_words_are_listed() -> None:
    [sentence] = re.findall(r"\*\*No namespace\*\*: (.*)", TEXT)
    assert set(re.findall(r"`([a-z]+)`", sentence)) == RESERVED_NAMESPACES


def test_every_code_that_vera_can_raise_is_listed() -> None:
    """Codes are contract: whoever adds one writes it down."""
    sources = "".join(path.read_text() for path in (ROOT / "vera").glob("*.py"))
    raised = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', sources)) - {"VERA_ERROR", "ARCHIVE_INVALID", "DATA_INVALID"}
    raised |= {
        code for path in (ROOT / "vera" / "nn").rglob("*.py") for code in re.findall(r'code="(\w+)"', path.read_text())
    }
    raised -= {name for name in raised if name.startswith("F8_") or name in TASK_TYPES.values()}
    listed = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", TEXT.partition("## Error codes")[2]))
    assert raised == listed
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.VeraError)]
    assert {error.code for error in classes} - listed == {
        "VERA_ERROR", "ARCHIVE_INVALID", "DATA_INVALID",
    }  # fmt: skip
