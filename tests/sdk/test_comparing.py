"""What differs between two adapters or two bases, and `vera-hub diff`, `base info` and `base diff`, which say it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sdk.bases import KnownBase, remember
from sdk.config import Config
from tests.builders import MODULES, make_archive, make_base
from tests.sdk.commands import run
from tests.sdk.fakes import URL, FakeHub, evaluation_json, serve, version_json
from tests.sdk.live.published import serve_base
from vera import archive as archives
from vera import tensorfile
from vera.adapter_difference import compare_adapters
from vera.archive import Archive, Vectors, pack, seal, vectors_of
from vera.base_difference import compare_bases

BEFORE = make_archive(seed=1, card="# One\nthe same\n")


def with_vectors(archive: Archive, vectors: Vectors) -> Archive:
    data, weights, head = pack(vectors)
    return seal(replace(archive.manifest, weights=weights, head=head), data, archive.card)


def test_an_adapter_does_not_differ_from_itself() -> None:
    found = compare_adapters(BEFORE, BEFORE)

    assert (found.changed, found.fields, found.card) == ((), (), "")
    assert found.same_projection
    assert len(found.vectors) == 2 * len(MODULES) + 2
    assert all(change.cosine == pytest.approx(1.0) for change in found.vectors)


def test_one_changed_vector_is_named_with_its_cosine_and_norms() -> None:
    vectors = vectors_of(BEFORE)
    name = MODULES[0][0]
    turned = vectors.lambda_d[name].copy()
    turned[0] = -turned[0]
    after = with_vectors(BEFORE, replace(vectors, lambda_d={**vectors.lambda_d, name: turned}))

    (change,) = compare_adapters(BEFORE, after).changed

    one, other = vectors.lambda_d[name].astype(np.float64), turned.astype(np.float64)
    assert change.name == f"{name} λd"
    assert change.cosine == pytest.approx(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
    assert change.norms == pytest.approx((np.linalg.norm(one), np.linalg.norm(other)))


@pytest.mark.parametrize(("scale", "cosine"), [(2, 1.0), (-1, -1.0), (0, None)])
def test_a_scaled_vector_keeps_its_direction_and_nothing_has_none(scale: float, cosine: float | None) -> None:
    vectors = vectors_of(BEFORE)
    scaled = {name: np.float32(scale) * array for name, array in vectors.lambda_b.items()}

    changes = compare_adapters(BEFORE, with_vectors(BEFORE, replace(vectors, lambda_b=scaled))).changed

    assert {change.name for change in changes} == {f"{name} λb" for name, *_ in MODULES}
    for change in changes:
        assert change.cosine == (None if cosine is None else pytest.approx(cosine))
        assert change.norms[1] == pytest.approx(abs(scale) * change.norms[0])


def test_another_rank_other_modules_card_and_labels_are_all_said() -> None:
    after = make_archive(seed=1, rank=4, modules=MODULES[:1], labels=("a", "c"), card="# Two\nthe same\n")

    found = compare_adapters(BEFORE, after, names=("one", "two"))

    fields = {field.name: (field.before, field.after) for field in found.fields}
    assert not found.same_projection
    assert fields["projection.rank"] == (8, 4)
    assert fields["task.labels"] == (["a", "b"], ["a", "c"])
    assert fields["modules"] == ([name for name, *_ in MODULES], [MODULES[0][0]])
    gone = next(change for change in found.vectors if change.name == f"{MODULES[1][0]} λb")
    assert (gone.norms[1], gone.cosine) == (None, None)
    assert found.card.splitlines()[:4] == ["--- one", "+++ two", "@@ -1,2 +1,2 @@", "-# One"]


def test_bases_differ_by_tensor() -> None:
    before = make_base()
    assert compare_bases(before, before).is_same

    other = compare_bases(before, make_base(salt="x"))
    cast = compare_bases(before, make_base(dtype="BF16"))
    smaller = compare_bases(before, make_base(MODULES[:1]))
    transposed = compare_bases(before, make_base(transposed=True))

    assert (other.same, len(other.changed)) == ((), 5)
    assert len(cast.recast) == 5
    assert smaller.only_before == (f"{MODULES[1][0]}.bias", f"{MODULES[1][0]}.weight")
    assert len(smaller.same) == 3
    assert transposed.reshaped == (f"{MODULES[1][0]}.weight",)


# -- The commands ---------------------------------------------------------------------------------


@pytest.fixture
def url(fake: FakeHub) -> Iterator[str]:
    fake.publish("demo/a", BEFORE)
    fake.publish("demo/a", make_archive(seed=2, card="# Two\n"))
    with serve(fake) as at:
        yield at


def test_diff_says_what_changed_and_what_it_did_to_the_scores(fake: FakeHub, url: str) -> None:
    scores = {1: evaluation_json(id="E1", score=0.8), 2: evaluation_json(id="E2", score=0.85)}
    fake.change_version = lambda version: version.update(evaluations=[scores[version["version"]]])
    fake.canned["GET /api/v1/evaluations/E2/comparison"] = [
        {
            "metric": "accuracy", "items": 400, "score": 0.85, "against_score": 0.8, "delta": 0.05,
            "interval": [0.01, 0.09], "p_value": 0.012, "only_better": 30, "only_worse": 10, "method": "m",
        }
    ]  # fmt: skip

    done, as_json = run(url, "diff", "demo/a@v1", "@v2"), run(url, "diff", "demo/a@v1", "demo/a@v2", "--json")

    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("demo/a@v1 → demo/a@v2\n  6 of 6 vectors differ:\n")
    assert "demo/topics: accuracy 0.8000 → 0.8500 (+0.0500, 95% interval [0.0100, 0.0900], p = 0.012)" in done.stdout
    assert "-# One" in done.stdout
    assert "+# Two" in done.stdout
    (score,) = json.loads(as_json.stdout)["evaluations"]
    assert (score["before"], score["after"], score["paired"]["p_value"]) == (0.8, 0.85, 0.012)


def test_diff_of_folders_needs_no_hub(tmp_path: Path) -> None:
    archives.write_folder(BEFORE, tmp_path / "a")
    archives.write_folder(make_archive(seed=1, rank=4, card="# One\nthe same\n"), tmp_path / "b")

    same = run("http://127.0.0.1:9", "diff", str(tmp_path / "a"), str(tmp_path / "a"))
    other = run("http://127.0.0.1:9", "diff", str(tmp_path / "a"), str(tmp_path / "b"))

    assert "All 6 vectors are equal." in same.stdout
    assert "They scale other matrices" in other.stdout
    assert "projection.rank: 8 → 4" in other.stdout


def test_info_lists_the_versions_of_the_adapter(fake: FakeHub, url: str) -> None:
    done, as_json = run(url, "info", "demo/a@v1"), run(url, "info", "demo/a@v1", "--json")

    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines if line and line[0] in ("v1", "v2")] == ["v2", "v1"]
    assert [version["version"] for version in json.loads(as_json.stdout)["versions"]] == [2, 1]


def test_info_of_a_version_that_is_here_already_shows_what_it_was_scored_since(fake: FakeHub, url: str) -> None:
    assert json.loads(run(url, "info", "demo/a@v1", "--json").stdout)["evaluations"] == []
    scored = {**version_json("demo/a", 1, BEFORE), "evaluations": [evaluation_json(id="E1", score=0.8)]}
    fake.canned["GET /api/v1/adapters/demo/a/versions/v1"] = [scored]
    assert [each["score"] for each in json.loads(run(url, "info", "demo/a@v1", "--json").stdout)["evaluations"]] == [
        0.8
    ]


def test_info_shows_a_yanked_version_with_a_warning(fake: FakeHub, url: str, tmp_path: Path) -> None:
    yanked = {**version_json("demo/a", 1, BEFORE), "yanked": "it is wrong"}
    fake.canned["GET /api/v1/adapters/demo/a/versions/v1"] = [yanked]

    done = run(url, "info", "demo/a@v1")

    assert done.exit_code == 0, done.output
    assert "demo/a@v1 was yanked (it is wrong)" in done.stderr
    assert "it is wrong" in run(url, "pull", "demo/a@v1", "--to", str(tmp_path / "a")).stderr


def test_base_info_and_diff_look_at_folders_names_and_what_the_hub_knows(
    fake: FakeHub, url: str, config: Config, tmp_path: Path
) -> None:
    for name, value in (("one", 1.0), ("two", 2.0)):
        (tmp_path / name).mkdir()
        weights = {"a.weight": np.ones((2, 3), "<f4"), "b.weight": np.full(4, value, "<f4")}
        (tmp_path / name / "model.safetensors").write_bytes(tensorfile.serialize(weights, "F32"))
    one = json.loads(run(url, "base", "info", str(tmp_path / "one"), "--json", "--tensors").stdout)
    remember(KnownBase("lab/one", tmp_path / "one", one["fingerprint"]), config=config)
    registered = make_base()
    serve_base(fake, registered)

    named = run(url, "base", "info", "lab/one")
    of_hub = run(url, "base", "info", registered.value, "--json")
    differ = run(url, "base", "diff", "lab/one", str(tmp_path / "two"))
    same = run(url, "base", "diff", "lab/one", str(tmp_path / "one"), "--json")
    unknown = run(url, "base", "info", "lab/unknown")

    assert (one["parameters"], one["tensor_count"], len(one["tensors"])) == (10, 2, 2)
    assert f"here as lab/one: {tmp_path / 'one'}" in named.stdout
    assert json.loads(of_hub.stdout)["tensor_count"] == len(registered.tensors)
    assert (differ.exit_code, differ.stdout.splitlines()[1:]) == (
        1,
        ["1 tensors are equal", "1 other values: b.weight"],
    )
    assert "fine-tune" in differ.stdout
    assert (same.exit_code, json.loads(same.stdout)["equal"]) == (0, 2)
    assert unknown.exit_code == 1
    assert "vera-hub base add" in unknown.stderr


# -- verify ---------------------------------------------------------------------------------------


def test_verify_proves_the_base_this_machine_knows_and_says_when_it_knows_none(
    fake: FakeHub, url: str, config: Config, tmp_path: Path
) -> None:
    from vera import fingerprint

    weights = {f"{name}.weight": np.ones((height, width), "<f4") for name, width, height in MODULES}
    (tmp_path / "model.safetensors").write_bytes(tensorfile.serialize(weights, "F32"))
    base = fingerprint.of_files(tmp_path)
    archive = make_archive(base=base)
    fake.publish("demo/mine", archive)

    alone = run(url, "verify", "demo/mine")
    remember(KnownBase("lab/mine", tmp_path, base.value), config=config)
    known = run(url, "verify", "demo/mine", "--json")
    wrong = run(url, "verify", "demo/a@v1", "--base", str(tmp_path))

    assert alone.exit_code == 0, alone.output
    assert "not looked at" in alone.stdout
    assert "--base PATH" in alone.stderr
    proven = json.loads(known.stdout)
    assert (proven["is_complete"], proven["base"]["digest"]) == (True, base.value)
    assert wrong.exit_code == 1
    assert base.value in wrong.stderr
    assert BEFORE.manifest.base.fingerprint in wrong.stderr


@pytest.mark.parametrize(
    "command",
    [
        "pull", "list", "info", "verify", "diff", "base list", "base info", "base diff", "lock", "sync", "cache list",
        "cache verify", "cache prune", "alias list", "alias show", "alias history", "eval", "leaderboard", "suites", "whoami", "doctor",
    ],
)  # fmt: skip
def test_what_reads_can_say_it_to_a_program(command: str) -> None:
    assert "--json" in run(URL, *command.split(), "--help").stdout
