"""Suites that are built in, over a copy of their data as it is published."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hub.worker import instructions, suites
from hub.worker.e2e import E2E
from hub.worker.errors import NotComputed, SuiteError
from tests.data.dataset_server import DatasetServer, serve
from tests.worker.test_instructions import needs_packages
from vera.data.huggingface import Endpoint
from vera.errors import DataError

ROWS = [
    {"key": 1, "prompt": "Write.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"num_words": None}]},
    {
        "key": 2,
        "prompt": "Write more.",
        "instruction_id_list": ["length_constraints:number_words", "startend:quotation"],
        "kwargs": [{"num_words": 3, "relation": "at least"}, {}],
    },
]


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    folder = tmp_path / "instruct" / "ifeval"
    folder.mkdir(parents=True)
    (folder / "ifeval_input_data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


@needs_packages
def test_ifeval_is_read_as_it_is_published(datasets: Path) -> None:
    (suite,) = suites.named(["instruct/ifeval"], datasets=datasets).values()
    assert suite.request(datasets)["texts"] == ["Write.", "Write more."]
    assert suite.request(datasets)["chat"] is True
    assert suite.grade(["Fine.", '"one two three"']) == [1, 1]
    assert suite.grade(["So, fine.", "one"]) == [0, 0]
    assert "instruct/ifeval" in suites.available(datasets).suites


def test_without_its_packages_ifeval_is_not_among_the_suites(datasets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(instructions._PACKAGES, "no_such_module", "no-such-package")
    assert "instruct/ifeval" not in suites.available(datasets).suites
    with pytest.raises(NotComputed, match=r"pip install 'vera-hub\[ifeval\]'"):
        suites.named(["instruct/ifeval"], datasets=datasets)


FACTS = [
    ("name[Aroma], food[Thai]", "Aroma serves Thai."),
    ("name[Aroma], food[Thai]", "Thai food: Aroma."),
    ("name[Zizzi]", "Zizzi."),
]
# As `vera.data.load_questions(…).digest` has it of these rows.
E2E_OF_FACTS = "sha256:61b7f628b3f42981ecee1888aaf728d4cb248bfd1f6e305bb40f5d0d54b962c8"


def challenge(folder: Path, facts: list[tuple[str, str]] = FACTS) -> Path:
    """A folder of data sets with E2E's test set as the challenge publishes it."""
    (folder / "e2e" / "nlg").mkdir(parents=True, exist_ok=True)
    with (folder / "e2e" / "nlg" / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("mr", "ref"), *facts])
    return folder


def at_hugging_face(facts: list[tuple[str, str]] = FACTS) -> bytes:
    texts, references = zip(*facts, strict=True)
    file = io.BytesIO()
    pq.write_table(pa.table({"meaning_representation": list(texts), "human_reference": list(references)}), file)
    return file.getvalue()


@pytest.fixture
def e2e(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> suites.SuiteFile:
    """The suite, over a few rows, and a machine with nothing in its cache."""
    pytest.importorskip("sacrebleu", reason="the extra nlg is not installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    stated = replace(E2E, sha256=E2E_OF_FACTS)
    monkeypatch.setattr(suites, "BUILT_IN_SUITES", (stated,))
    return stated


def test_e2e_is_one_leaderboard_wherever_its_items_are_read(tmp_path: Path, e2e: suites.SuiteFile) -> None:
    copied = suites.load_suite(e2e, datasets=challenge(tmp_path))
    fake = DatasetServer()
    fake.publish("tuetschek/e2e_nlg", {"e2e_nlg.py": b"raise SystemExit"})
    fake.publish("tuetschek/e2e_nlg", {"default/test/0000.parquet": at_hugging_face()}, revision="refs/convert/parquet")
    with serve(fake) as url:
        fetched = suites.load_suite(e2e, endpoint=Endpoint(url, token=False))
        huggingface_hub.close_session()

    assert fetched.declaration() == copied.declaration()
    assert copied.declaration()["definition"]["data"] == {
        "source": "tuetschek/e2e_nlg@refs/convert/parquet", "split": "test", "digest": E2E_OF_FACTS
    }  # fmt: skip
    assert copied.items == 2
    assert copied.request(tmp_path)["texts"] == ["name[Aroma], food[Thai]", "name[Zizzi]"]
    assert list(suites.available(tmp_path).suites) == ["e2e/nlg"]


def test_other_items_under_its_name_are_refused_and_no_reason_not_to_start(
    tmp_path: Path, e2e: suites.SuiteFile
) -> None:
    challenge(tmp_path, FACTS[:2])
    with pytest.raises(SuiteError, match=rf"over data with {E2E_OF_FACTS}, and the items of nlg has sha256:"):
        suites.named(["e2e/nlg"], datasets=tmp_path)
    assert not suites.available(tmp_path).suites


def test_where_e2e_is_not_there_both_ways_to_get_it_are_said(tmp_path: Path, e2e: suites.SuiteFile) -> None:
    with serve(DatasetServer()) as url:
        fetching = pytest.raises(
            DataError, match=r"(?s)no data set of that name .*FOLDER/e2e/nlg .*`--datasets FOLDER`"
        )
        with fetching:
            suites.named(["e2e/nlg"], endpoint=Endpoint(url, token=False))
        huggingface_hub.close_session()
    with pytest.raises(DataError, match=r"hf download tuetschek/e2e_nlg .*--revision refs/convert/parquet"):
        suites.load_suite(e2e, offline=True)


def test_without_java_e2e_is_ranked_and_what_is_missing_is_told(
    tmp_path: Path, e2e: suites.SuiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = suites.available(challenge(tmp_path))
    assert list(found.suites) == ["e2e/nlg"]
    assert list(found.lacks["e2e/nlg"]) == ["meteor", "rouge_l", "cider"]
