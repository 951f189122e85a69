"""Bases: registered once, by the hash of every tensor."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import make_archive, make_base
from tests.hub.harness import Hub, code_of
from tests.hub.test_catalog import _all_pages


def _register(hub: Hub, rows: object, name: object = "acme/encoder", revision: object = None) -> Any:
    return hub.post("/bases", {"name": name, "revision": revision, "tensors": rows}, hub.headers())


def test_a_base_is_registered_by_its_tensor_table(hub: Hub) -> None:
    base = make_base()

    answer = _register(hub, base.to_rows(), revision="main")

    assert answer.status_code == 201
    registered = answer.json()
    assert registered["fingerprint"] == base.value
    assert (registered["name"], registered["revision"], registered["dtype"]) == ("acme/encoder", "main", "float32")
    assert registered["tensor_count"] == 5
    assert registered["parameters"] == 32 * 12 + 12 * 12 + 12 + 12 * 20 + 20
    assert registered["size_bytes"] == 4 * registered["parameters"]
    assert registered["adapter_count"] == 0
    assert hub.get(f"/bases/{base.value}").json() == {**registered, "tensors": base.to_rows()}


def test_a_known_base_keeps_its_name(hub: Hub) -> None:
    rows = make_base().to_rows()
    _register(hub, rows, "acme/encoder")

    again = _register(hub, list(reversed(rows)), "someone/else")

    assert (again.status_code, again.json()["name"]) == (200, "acme/encoder")


def test_a_base_counts_its_adapters(hub: Hub) -> None:
    fingerprint = hub.register_base()
    hub.push(make_archive(seed=1), "one")
    hub.push(make_archive(seed=2), "two")

    assert hub.get(f"/bases/{fingerprint}").json()["adapter_count"] == 2


def test_bases_are_listed_by_name_page_by_page(hub: Hub) -> None:
    for salt, name in (("1", "b"), ("2", "a"), ("3", "b"), ("4", "c")):
        hub.register_base(make_base(salt=salt), name)

    assert _all_pages(hub, "/bases?limit=3", "name") == [["a", "b", "b"], ["c"]]
    assert [base["name"] for base in hub.get("/bases?name=b").json()["items"]] == ["b", "b"]


def test_a_base_that_is_not_there_is_not_found(sqlite_hub: Hub) -> None:
    for fingerprint in (make_base().value, "vbf1:", "x" * 500):
        assert code_of(sqlite_hub.get(f"/bases/{fingerprint}")) == (404, "BASE_UNKNOWN")


GOOD = ["a.weight", "F32", [2, 2], "0" * 64]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [GOOD, GOOD],
        [GOOD[:3]],
        [[*GOOD, 1]],
        [["a\tF32", *GOOD[1:]]],
        [["", *GOOD[1:]]],
        [["x" * 513, *GOOD[1:]]],
        [[7, *GOOD[1:]]],
        [["a", "F33", [2], "0" * 64]],
        [["a", "F32", [-1], "0" * 64]],
        [["a", "F32", [1 << 41], "0" * 64]],
        [["a", "F32", [True], "0" * 64]],
        [["a", "F32", [1.5], "0" * 64]],
        [["a", "F32", "22", "0" * 64]],
        [["a", "F32", [1] * 9, "0" * 64]],
        [["a", "F32", [2], "0" * 63 + "G"]],
        [["a", "F32", [2], None]],
        "not rows",
        [["a"], "b"],
    ],
)
def test_a_table_that_no_checkpoint_has_is_refused(sqlite_hub: Hub, rows: object) -> None:
    status, code = code_of(_register(sqlite_hub, rows))

    assert (status, code) in ((422, "BASE_TABLE_INVALID"), (422, "BODY_INVALID"))
    assert sqlite_hub.get("/bases").json()["items"] == []


@pytest.mark.parametrize("name", ["", "x" * 201, "line\nbreak", "\u202eevil", 7, None])
def test_a_base_needs_a_printable_name(sqlite_hub: Hub, name: object) -> None:
    assert _register(sqlite_hub, [GOOD], name).status_code == 422


def test_a_scalar_tensor_is_a_tensor(sqlite_hub: Hub) -> None:
    answer = _register(sqlite_hub, [["scale", "BF16", [], "0" * 64]])

    assert (answer.json()["parameters"], answer.json()["size_bytes"], answer.json()["dtype"]) == (1, 2, "bfloat16")
