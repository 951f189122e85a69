"""Texts beside their references: the published scores of the E2E challenge's example, and what they are functions of."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub.scoring import metrics, statistics
from hub.worker import suites, texts
from hub.worker.errors import NotComputed, SuiteError
from hub.worker.suite_files import read_suite
from hub.worker.texts import Texts
from tests.worker.suite_files import write_file, write_suite
from vera.gating import SIGNIFICANCE

EXAMPLE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "e2e_examples.json").read_text())
ROWS = "prompt,completion\nthe cat,it sleeps\nthe dog,it barks\nthe cat,the cat sleeps now\n"

has_packages = importlib.util.find_spec("sacrebleu") and importlib.util.find_spec("pycocoevalcap")
pytestmark = pytest.mark.skipif(not has_packages, reason="the extra nlg is not installed")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java here")


def example() -> Texts:
    items = EXAMPLE["items"]
    return Texts([item["written"] for item in items], [item["references"] for item in items])


@pytest.mark.parametrize(
    "metric", ["bleu", "nist", *(pytest.param(m, marks=needs_java) for m in ("meteor", "rouge_l", "cider"))]
)
def test_the_scores_of_the_challenges_example_are_the_published_ones(metric: str) -> None:
    outcomes = example().outcomes(metric)
    score, (low, high) = metrics.score(metric, outcomes), statistics.interval(metric, outcomes)
    assert score == pytest.approx(EXAMPLE["scores"][metric], abs=5e-6)  # as many digits as are published
    assert low < score < high


def test_bleu_of_counts_is_sacrebleus_of_texts() -> None:
    from sacrebleu.metrics import BLEU

    official = BLEU(lowercase=True, tokenize="13a")
    cases = {
        "no n-gram of four": (["the cat sat on a mat"], [["the cat lay on the mat"]]),
        "short": (["a dog", "the cat sat"], [["a dog runs far away"], ["the cat sat on the mat"]]),
        "right, and too short": (["the cat sat on"], [["the cat sat on the mat"]]),
        "right, and too long": (["the cat sat on the mat and"], [["the cat sat on"]]),
        "nothing": (["blue"], [["the cat sat on the mat"]]),
        "less than four tokens": (["the cat"], [["the cat"]]),
        "all": (["The cat sat on the mat."], [["the cat sat on the mat."]]),
    }
    for case, (written, references) in cases.items():
        streams = [list(each) for each in zip(*references, strict=True)]
        ours = metrics.score("bleu", Texts(written, references).outcomes("bleu"))
        assert ours == pytest.approx(official.corpus_score(written, streams).score / 100, abs=1e-12), case


def test_nist_is_what_its_definition_gives_by_hand() -> None:
    # References: a b, a c. 4 tokens, a twice: 1 bit for a, 2 for b; b after a: 1 bit.
    (outcome,) = Texts(["a b"], [["a b", "a c"]]).outcomes("nist")
    assert outcome == [3.0, 1.0, 0, 0, 0, 2, 1, 0, 0, 0, 2.0]
    assert metrics.score("nist", [outcome]) == pytest.approx(3 / 2 + 1)
    # two thirds of the reference's length cost one half: of 2 tokens one bit and a half each, and of 1 pair none
    (short,) = Texts(["a b"], [["a b c"]]).outcomes("nist")
    assert metrics.score("nist", [short]) == pytest.approx(0.5 * (2 * np.log2(3) / 2 + 0 / 1))


@needs_java
def test_meteor_of_summed_numbers_is_the_jars_own() -> None:
    from pycocoevalcap.meteor.meteor import Meteor

    references = [["the cat sat on the mat"], ["dogs run quickly"], ["a big house"], ["the cat sat on the mat"]]
    written = ["on the mat sat a cat", "a dog runs fast", "", "the cat sat on the mat"]
    outcomes = Texts(written, references).outcomes("meteor")
    jar = Meteor()
    official, each = jar.compute_score(dict(enumerate(references)), {n: [text] for n, text in enumerate(written)})
    for pipe in (jar.meteor_p.stdin, jar.meteor_p.stdout, jar.meteor_p.stderr):
        pipe.close()
    assert metrics.score("meteor", outcomes) == pytest.approx(official, abs=1e-9)
    assert [metrics.score("meteor", [one]) for one in outcomes] == pytest.approx(each, abs=1e-9)


@pytest.mark.parametrize("metric", ["bleu", "nist"])
def test_a_resample_of_texts_is_scored_as_its_texts_are(metric: str) -> None:
    outcomes = example().outcomes(metric)
    table, counts = np.array(outcomes, dtype=np.float64), np.array([[2, 0, 1, 3, 0, 1, 1, 0, 1, 1]], dtype=np.float64)
    repeated = [list(row) for row in np.repeat(table, counts[0].astype(int), axis=0)]
    assert metrics.known(metric).values(table, counts)[0] == pytest.approx(metrics.score(metric, repeated), rel=1e-12)


@pytest.mark.parametrize(
    "metric", ["bleu", "nist", *(pytest.param(m, marks=needs_java) for m in ("meteor", "rouge_l", "cider"))]
)
def test_worse_texts_are_proven_worse(metric: str) -> None:
    items = EXAMPLE["items"] * 4
    references = [item["references"] for item in items]
    good = Texts([item["written"] for item in items], references).outcomes(metric)
    poor = Texts([" ".join(reversed(item["written"].split())) + " yes" for item in items], references).outcomes(metric)
    compared = statistics.compare(good, poor, metric)
    assert compared.p_value < SIGNIFICANCE
    assert compared.delta > 0
    assert (compared.only_better, compared.only_worse) == (40, 0)
    assert statistics.compare(good, good, metric).p_value == 1.0


def test_prompts_that_are_the_same_are_one_item_with_several_references(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, ROWS, task="text-generation", metric="bleu", also=["nist"], beams=3)
    asked = suite.request(tmp_path)
    assert (asked["texts"], "completions" in asked) == (["the cat", "the dog"], False)
    assert asked["writing"] == {"max_new_tokens": 64, "beams": 3, "length_penalty": 1.0, "no_repeat_ngram": 0}
    assert suite.declaration()["items"] == 2
    assert metrics.score("bleu", suite.grade(["the cat sleeps now", "blue"])) > 0
    beside, missing = suite.grade_beside(["the cat sleeps now", "blue"])
    assert (list(beside), missing) == (["nist"], {})
    assert suite.declaration()["definition"]["writing"] == asked["writing"]
    assert suite.declaration()["definition"]["version"] == 2  # not the boards of texts that were written otherwise


def test_without_java_a_metric_is_not_computed_and_nothing_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    suite = write_suite(tmp_path, ROWS, task="text-generation", metric="bleu", also=["meteor", "rouge_l", "cider"])
    beside, missing = suite.grade_beside(["it sleeps", "it barks"])
    assert beside == {}
    assert list(missing) == ["meteor", "rouge_l", "cider"]
    assert "needs Java" in missing["meteor"]
    assert suite.not_computed == missing
    with pytest.raises(NotComputed, match="needs Java"):
        suites.load_suite(read_suite(write_file(tmp_path, ROWS, task="text-generation", metric="meteor")))


def test_of_several_suites_those_that_can_be_run_are_and_the_rest_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    stated = {"task": "text-generation", "data": "rows.csv"}
    for name, measured in (("whole", ["bleu"]), ("part", ["bleu", "meteor"]), ("none", ["rouge_l"])):
        path = write_file(tmp_path, ROWS, name=f"tests/{name}", metric=measured[0], also=measured[1:], **stated)
        path.rename(tmp_path / f"{name}.yaml")

    found = suites.runnable([str(tmp_path)])

    assert sorted(found.suites) == ["tests/part", "tests/whole"]
    assert {name: list(missing) for name, missing in found.lacks.items()} == {
        "tests/none": ["rouge_l"], "tests/part": ["meteor"]
    }  # fmt: skip
    assert "needs Java" in found.lacks["tests/none"]["rouge_l"]
    with pytest.raises(NotComputed, match="needs Java"):
        suites.runnable([str(tmp_path / "none.yaml")])


@pytest.mark.parametrize(
    ("stated", "wrong"),
    [
        ({"metric": "bleu", "also": ["perplexity"]}, "make two suites"),
        ({"metric": "bleu", "also": ["bleu"]}, "more than once"),
        ({"metric": "bleu", "also": ["matthews"]}, "is measured by"),
        ({"metric": "bleu", "also": ["accuracy"]}, "make two suites"),
        ({"metric": "bleu", "max_new_tokens": 256}, "leave room for the prompt"),
        ({"metric": "perplexity", "beams": 4}, "for texts that are written"),
        ({"metric": "bleu", "length_penalty": "long"}, "not a number"),
    ],
)
def test_a_suite_that_cannot_be_is_told_so(tmp_path: Path, stated: dict[str, Any], wrong: str) -> None:
    with pytest.raises(SuiteError, match=wrong):
        read_suite(write_file(tmp_path, ROWS, task="text-generation", **stated))


def test_a_suite_of_labels_may_have_metrics_beside_the_one_that_ranks(tmp_path: Path) -> None:
    rows = "text,label\nit purrs,cat\nit barks,dog\nit meows,cat\n"
    suite = write_suite(tmp_path, rows, metric="f1", positive="cat", also=["accuracy", "matthews"])
    beside, _ = suite.grade_beside(["cat", "cat", "dog"])
    assert beside == {"accuracy": [1, 0, 0], "matthews": [(0, 0), (1, 0), (0, 1)]}
    assert texts.METRICS == ("bleu", "nist", "meteor", "rouge_l", "cider")
