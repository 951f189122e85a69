"""Data sets of Hugging Face: read at a commit through its real client, from its cache without the network, never run."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from tests.data.dataset_server import DatasetServer, serve
from vera import data
from vera.data.huggingface import Endpoint
from vera.errors import DataError

URL_PATH = "/{repo_id}/resolve/{revision}/{filename}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DatasetServer]:
    """What Hugging Face has, for a client with an empty cache. `HF_ENDPOINT` is read at import, hence the constants."""
    fake = DatasetServer()
    with serve(fake) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}{URL_PATH}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        yield fake
        huggingface_hub.close_session()


def rows(n: int, prefix: str = "text") -> list[dict[str, object]]:
    return [{"sentence": f"{prefix} {i}", "label": i % 2} for i in range(n)]


def parquet(items: list[dict[str, object]], names: list[str] | None = None) -> bytes:
    table = pa.Table.from_pylist(items)
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}, "sentence": {"_type": "Value"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def glue() -> dict[str, bytes]:
    """Two configurations laid out as `datasets` pushes them, one with a secret test set."""
    hidden = [{**row, "label": -1} for row in rows(5, "secret")]
    names = ["unacceptable", "acceptable"]
    card = (
        "---\nconfigs:\n"
        "- config_name: cola\n  data_files:\n  - split: train\n    path: cola/train-*\n"
        "  - split: validation\n    path: cola/validation-*\n  - split: test\n    path: cola/test-*\n"
        "- config_name: other\n  data_files: other/*.jsonl\n---\n# GLUE\n"
    )
    return {
        "README.md": card.encode(),
        "cola/train-00000-of-00002.parquet": parquet(rows(10), names),
        "cola/train-00001-of-00002.parquet": parquet(rows(10, "more"), names),
        "cola/validation-00000-of-00001.parquet": parquet(rows(6, "held"), names),
        "cola/test-00000-of-00001.parquet": parquet(hidden, names),
        "other/rows.jsonl": "\n".join(json.dumps(row) for row in rows(100)).encode(),
    }


def test_a_data_set_is_read_at_its_commit(server: DatasetServer) -> None:
    commit = server.publish("org/glue", glue())
    split = data.load("org/glue:cola")
    assert split.labels == ("unacceptable", "acceptable")
    assert (len(split.train), split.heldout.texts[0], split.heldout.classes[:2]) == (20, "held 0", (0, 1))
    assert split.notes == ("test not used: it has no labels, or keeps them secret",)
    assert split.source is not None
    stated = split.source.to_dict()
    assert (stated["dataset"], stated["revision"], stated["config"]) == ("org/glue", commit, "cola")
    assert len(stated["files"]) == 3
    assert "other/rows.jsonl" not in server.served


def test_a_revision_is_what_it_was(server: DatasetServer) -> None:
    before = server.publish("org/glue", glue())
    server.publish("org/glue", {"train.csv": b"text,label\n" + b"a,x\nb,y\n"})
    split = data.load(f"org/glue@{before}:other")
    assert split.source is not None
    assert split.source.revision == before
    assert len(split.train) + len(split.heldout) == 100


def test_what_is_in_the_cache_needs_no_network(server: DatasetServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.publish("org/glue", glue())
    online = data.load("org/glue:cola")
    assert data.load("org/glue:cola", offline=True) == online
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert data.load("org/glue:cola") == online


@pytest.mark.parametrize("cached", [False, True])
def test_offline_names_the_two_ways_on(server: DatasetServer, cached: bool) -> None:
    server.publish("org/glue", glue())
    if cached:  # but another part of it
        data.load("org/glue:other")
    with pytest.raises(DataError, match=r"hf download org/glue --repo-type dataset.* or give a file or folder"):
        data.load("org/glue:cola", offline=True)


def test_another_hub_can_be_asked_than_the_client_s_own(server: DatasetServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.publish("org/glue", glue())
    there = Endpoint(constants.ENDPOINT, token=False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")

    assert len(data.load("org/glue:cola", endpoint=there).train) == 20
    with pytest.raises(DataError, match=rf"no data set of that name at {re.escape(there.url)} that you may read"):
        data.load("org/none", endpoint=there)


def test_a_limit_leaves_later_files_where_they_are(server: DatasetServer) -> None:
    server.publish("org/glue", glue())
    split = data.load("org/glue:cola", limit=8)
    assert len(split.train) == 8
    assert "the first 8 rows of train read" in split.notes
    assert "cola/train-00001-of-00002.parquet" not in server.served


def test_a_program_is_never_run_and_the_copy_without_it_is_named(server: DatasetServer) -> None:
    server.publish("org/old", {"old.py": b"raise SystemExit", "data.csv": b"text,label\na,x\n"})
    server.publish("org/old", {"default/train/0000.parquet": parquet(rows(100))}, revision="refs/convert/parquet")
    with pytest.raises(DataError, match=r"old\.py, and programs of data sets are never run here.* try org/old@refs"):
        data.load("org/old")
    assert len(data.load("org/old@refs/convert/parquet").train) > 50


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])  # numbers, and numbers as text
def test_names_of_labels_stand_in_the_card_too(server: DatasetServer, suffix: str) -> None:
    card = (
        "---\ndataset_info:\n  features:\n  - name: sentence\n    dtype: string\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': bad\n          '1': good\n---\n"
    )
    json_lines = "\n".join(json.dumps(row) for row in rows(50))
    csv_lines = "\n".join(["sentence,label", *(f"{row['sentence']},{row['label']}" for row in rows(50))])
    lines = (json_lines if suffix == "jsonl" else csv_lines).encode()
    server.publish("org/named", {"README.md": card.encode(), f"train.{suffix}": lines})
    assert data.load("org/named").labels == ("bad", "good")


@pytest.mark.parametrize(("source", "sentence"), [
    ("org/none", r"no file or folder org/none here, and no data set of that name at http://127\.0\.0\.1:\d+ that you may read"),
    ("org/glue@v9", "no revision v9"),
    ("org/secret", "given to those who ask"),
    ("org/glue", "more than one configuration: add one of these after a colon: cola, other"),
    ("org/glue:sst2", "no configuration 'sst2'"),
    ("org/zipped", "no file of rows"),
])  # fmt: skip
def test_what_cannot_be_had_is_a_sentence(server: DatasetServer, source: str, sentence: str) -> None:
    server.publish("org/glue", glue())
    server.publish("org/zipped", {"data.zip": b"PK"})
    server.gated.add("org/secret")
    with pytest.raises(DataError, match=sentence):
        data.load(source)


def test_a_hub_that_is_away_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9 cannot be asked"):
        data.load("org/glue:cola")
    huggingface_hub.close_session()
