"""Everything that a client may send has a stated limit: what is longer is refused with a sentence, before anything is kept."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from hub.access.notes import Notes
from hub.api import schemas
from hub.api.schemas import Body
from hub.domain.jobs import MAX_ENVIRONMENT
from hub.domain.registering import MAX_DEFINITION
from hub.hf import schemas as of_the_other_wire
from hub.storage.shelf import Shelf
from tests.builders import make_archive, make_suite
from tests.hub.harness import Hub, code_of
from tests.signing import shown

Schema = Mapping[str, Any]
# What may be in it is for the one who sends it to say; its bytes are counted, and its description says how many it may have.
COUNTED_IN_BYTES = {"SuiteRegistration.definition", "ResultReport.environment"}
# A file: counted with the body, whose limit the operator sets.
FILES = {"CommittedFile.content"}
BODIES = [
    model
    for module in (schemas, of_the_other_wire)
    for _, model in inspect.getmembers(module, inspect.isclass)
    if issubclass(model, BaseModel) and model.__module__ == module.__name__ and model is not Body
]


def unlimited(schema: Schema, where: str) -> Iterator[str]:
    """The texts, lists and objects in a JSON schema that may be of any length; what is named elsewhere is looked at there."""
    for each in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from unlimited(each, where)
    match schema.get("type"):
        case "string" if not schema.keys() & {"maxLength", "pattern", "enum", "const"}:
            yield where
        case "array":
            yield from [] if "maxItems" in schema else [where]
            yield from unlimited(schema.get("items", {}), where)
        case "object":
            for name, each in schema.get("properties", {}).items():
                yield from unlimited(each, f"{where}.{name}")
            if "properties" not in schema:
                yield from [] if "maxProperties" in schema else [where]
                further = schema.get("additionalProperties")
                yield from unlimited(further if isinstance(further, dict) else {}, where)


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
def test_every_text_list_and_object_in_a_body_has_a_limit(model: type[BaseModel]) -> None:
    answers = {"Health", "WorkerRegistered"}  # what the hub says, and nobody sends

    found = set(unlimited(model.model_json_schema(), model.__name__)) if model.__name__ not in answers else set()

    assert found - COUNTED_IN_BYTES - FILES == set()


def test_every_parameter_and_every_part_of_a_push_has_a_limit(sqlite_hub: Hub) -> None:
    paths = sqlite_hub.client.get("/openapi.json").json()["paths"]
    operations = [operation for each in paths.values() for operation in each.values()]
    asked = [each for operation in operations for each in operation.get("parameters", ()) if each["in"] == "query"]
    parts = paths["/api/v1/adapters/{namespace}/{name}/versions"]["post"]["requestBody"]["content"]
    said = parts["multipart/form-data"]["schema"]["properties"]

    assert asked
    assert [found for each in asked for found in unlimited(each["schema"], each["name"])] == []
    assert [name for name, each in said.items() if "contentMediaType" not in each and [*unlimited(each, name)]] == []


def test_what_is_longer_is_refused_with_a_sentence(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker()
    sqlite_hub.push(make_archive())
    job = worker.must_claim()
    suite: dict[str, Any] = make_suite("demo/large", labels=("x", "y"))
    suite["definition"]["note"] = "x" * MAX_DEFINITION
    registration = {"name": "w", "suites": [suite], **shown("w", worker.headers["Authorization"])}

    defined = sqlite_hub.post("/worker/register", registration, worker.headers)
    rows = [["w", "F32", [1], "0" * 64, "a note"]]
    base = sqlite_hub.post("/bases", {"name": "x", "revision": None, "tensors": rows}, sqlite_hub.headers())
    answered = worker.finish(job, outputs=["x" * (schemas.MAX_OUTPUT + 1)] + ["b"] * 7)
    elsewhere = worker.finish(job, environment={"note": "x" * MAX_ENVIRONMENT})

    assert (defined.status_code, base.status_code, answered.status_code, elsewhere.status_code) == (422,) * 4
    assert code_of(answered) == (422, "BODY_INVALID")
    assert f"at most {schemas.MAX_OUTPUT} characters" in answered.json()["detail"]
    assert f"{MAX_ENVIRONMENT:,} bytes" in elsewhere.json()["detail"]
    assert "at most 4 items" in base.json()["detail"]


def test_of_the_notes_of_base_models_the_oldest_make_way(tmp_path: Path) -> None:
    notes = Notes(Shelf.from_url(tmp_path.as_uri(), "kept"), most=3, max_bytes=100)
    commits = [f"{number:040x}" for number in range(6)]

    for at, commit in enumerate(commits[:5]):
        notes.keep("org/model", commit, b"0123456789")
        (path,) = tmp_path.rglob(f"{commit}.json")
        os.utime(path, (at, at))
    there = [notes.read("org/model", commit) is not None for commit in commits]
    notes.keep("org/model", commits[5], b"0" * 95)

    assert there == [False, False, True, True, True, False]
    assert [notes.read("org/model", commit) is not None for commit in commits] == [False] * 5 + [True]
