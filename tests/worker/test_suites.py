"""Suite files: what they say is what is asked and graded, and what is wrong with one is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hub.cli import suite as suite_command
from hub.scoring import metrics
from hub.worker import suites
from hub.worker.errors import SuiteError
from hub.worker.glue import GLUE
from hub.worker.suite_files import METRICS, read_suite
from tests.worker.suite_files import write_file, write_suite
from vera.errors import DataError

ANIMALS = "text,label\nit purrs,cat\nit barks,dog\nit meows,cat\n"


def test_a_suite_of_labels_asks_the_texts_and_grades_the_answers(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, ANIMALS)
    declared = suite.declaration()

    assert suite.request(tmp_path)["texts"] == ["it purrs", "it barks", "it meows"]
    assert '"cat"' not in json.dumps(suite.request(tmp_path))
    assert suite.grade(["cat", "cat", "cat"]) == [1, 0, 1]
    assert (declared["metric"], declared["items"], declared["labels"]) == ("accuracy", 3, ["cat", "dog"])
    assert declared["baselines"]["majority"] == pytest.approx(2 / 3)
    assert declared["definition"]["data"]["source"] == "items.csv"


def test_f1_is_of_the_positive_label(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, ANIMALS, metric="f1", positive="dog")
    assert suite.grade(["dog", "dog", "cat"]) == [(0, 1), (1, 1), (0, 0)]
    assert metrics.score("f1", suite.grade(["dog", "dog", "cat"])) == pytest.approx(2 / 3)


def test_numbers_stand_for_the_labels_a_suite_names(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path, "a,b,label\nx,y,1\nz,w,0\n", text="a,b", labels=["no", "yes", "maybe"], metric="matthews"
    )
    assert suite.request(tmp_path) == {"task": "text-classification", "texts": ["x", "z"], "pairs": ["y", "w"]}
    assert suite.grade(["yes", "maybe"]) == [(1, 1), (0, 2)]


def test_a_suite_of_values_keeps_the_right_value_beside_the_answer(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, "a,b,score\nx,y,2.5\nz,w,4\n", task="text-regression", text="a,b", label="score")
    assert suite.grade(["2.0", "3.5"]) == [(2.5, 2.0), (4.0, 3.5)]
    with pytest.raises(SuiteError, match="no finite number"):
        suite.grade(["nan", "1"])


def test_a_suite_of_completions_asks_for_every_token_of_them(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, "prompt,completion\nthe cat,sleeps\n", task="text-generation", max_length=32)
    assert suite.request(tmp_path)["completions"] == ["sleeps"]
    assert suite.grade(["12.5 7"]) == [(12.5, 7.0)]
    assert suite.declaration()["definition"]["max_length"] == 32


def test_images_are_asked_for_under_names_that_say_nothing(tmp_path: Path) -> None:
    from PIL import Image

    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        Image.new("RGB", (2, 2), "red" if label == "cat" else "blue").save(tmp_path / "pets" / label / "1.png")
    with pytest.raises(SuiteError, match="sha256: sha256:") as caught:
        suites.load_suite(read_suite(pets_file(tmp_path, sha256=None)))
    suite = suites.load_suite(
        read_suite(pets_file(tmp_path, sha256=str(caught.value).split("sha256: ")[1].rstrip("`")))
    )

    paths = [Path(path) for path in suite.request(tmp_path)["images"]]
    assert [path.name for path in paths] == ["0000000", "0000001"]
    assert [path.read_bytes()[:4] for path in paths] == [b"\x89PNG"] * 2
    assert suite.grade(["cat", "cat"]) == [1, 0]


def pets_file(folder: Path, *, sha256: str | None) -> Path:
    path = folder / "pets.yaml"
    lines = ["name: tests/pets", "title: Pets", "task: image-classification", "data: pets"]
    path.write_text("\n".join([*lines, *([f"sha256: {sha256}"] if sha256 else [])]))
    return path


def test_changed_data_is_refused_and_its_new_sha256_is_another_definition(tmp_path: Path) -> None:
    before = write_suite(tmp_path, ANIMALS).declaration()["definition"]
    path = tmp_path / "suite.yaml"
    (tmp_path / "items.csv").write_text(ANIMALS.replace("purrs", "hisses"))
    with pytest.raises(SuiteError, match="begins a new leaderboard"):
        suites.load_suite(read_suite(path))
    after = write_suite(tmp_path, ANIMALS.replace("purrs", "hisses")).declaration()["definition"]
    assert before["data"]["digest"] != after["data"]["digest"]


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ({"task": "poetry"}, "must be one of text-classification"),
        ({"metric": "bleu"}, "measured by accuracy"),
        ({"metric": "f1"}, "`positive` names"),
        ({"metric": "f1", "positive": "bird"}, "none of the labels cat, dog"),
        ({"name": "Tickets"}, "family/task"),
        ({"colour": "red"}, "the key 'colour' is unknown"),
        ({"title": None}, "title is missing"),
        ({"limit": "ten"}, "not a whole number"),
        ({"sha256": None}, "Add this line"),
        ({"sha256": f"sha256:{'0' * 64}"}, "take the same data again"),
        ({"labels": ["cat"]}, "the label dog"),
        ({"data": "org/set@main"}, "pinned to a commit, .* or say the `sha256` of its items"),
        ({"text": "txet"}, "no column 'txet'"),
        ({"split": "test"}, "no split 'test'"),
    ],
)
def test_what_is_wrong_with_a_suite_is_said(tmp_path: Path, stated: dict[str, object], says: str) -> None:
    path = write_file(tmp_path, ANIMALS, **stated) if "data" not in stated else elsewhere(tmp_path, stated)
    with pytest.raises((SuiteError, DataError), match=says):
        suites.named([str(path)])


def elsewhere(folder: Path, stated: dict[str, object]) -> Path:
    path = write_file(folder, ANIMALS)
    lines = path.read_text().replace("items.csv", str(stated["data"])).splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("sha256")))
    return path


def test_a_data_set_that_is_not_here_is_a_sentence_with_two_ways_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    path = elsewhere(tmp_path, {"data": f"org/set@{'0' * 40}"})
    with pytest.raises(DataError, match=r"(?s)hf download org/set.*file or folder of your own"):
        suites.load_suite(read_suite(path), offline=True)


def test_a_column_of_identifiers_is_no_column_of_labels(tmp_path: Path) -> None:
    rows = "".join(f"text {number},id-{number}\n" for number in range(30))
    with pytest.raises(DataError, match="30 labels for 30 items"):
        write_suite(tmp_path, f"text,label\n{rows}")


def test_glue_is_ten_suites_that_a_folder_of_copies_gives(tmp_path: Path) -> None:
    folder = tmp_path / "glue" / "mnli"
    folder.mkdir(parents=True)
    rows = "premise,hypothesis,label\nIt rains.,It is wet.,0\nIt rains.,It is dry.,2\n"
    (folder / "validation_matched.csv").write_text(rows)
    (folder / "validation_mismatched.csv").write_text(rows.replace("rains", "snows"))

    matched, other = (suites.named([name], datasets=tmp_path)[name] for name in ("glue/mnli", "glue/mnli-mm"))

    assert len(GLUE) == 10
    beside = {stated.name: stated.also for stated in GLUE if stated.also}
    assert beside == {"glue/mrpc": ("accuracy",), "glue/qqp": ("accuracy",), "glue/stsb": ("spearman",)}
    assert all(stated.metric in METRICS[stated.task] for stated in GLUE)
    assert matched.questions.labels == ("entailment", "neutral", "contradiction")
    assert matched.request(tmp_path)["texts"] == ["It rains."] * 2
    assert other.request(tmp_path)["texts"] == ["It snows."] * 2
    assert matched.grade(["entailment", "neutral"]) == [1, 0]


def test_two_suites_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write_file(tmp_path, ANIMALS)
    (tmp_path / "again.yml").write_text(path.read_text())
    with pytest.raises(SuiteError, match="Two suites are called tests/suite"):
        suites.named([str(tmp_path)])


def test_suite_check_shows_what_would_be_asked(tmp_path: Path) -> None:
    path = write_file(tmp_path, ANIMALS, also=["f1_macro"])
    shown = CliRunner().invoke(suite_command, ["check", str(path), "--show", "1"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "text-classification, by accuracy, f1_macro" in shown.output
    assert "it purrs → cat" in shown.output
    assert "it barks" not in shown.output


def test_suite_check_shows_a_prompt_with_several_references_once(tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu", reason="the extra nlg is not installed")
    rows = "text,completion\na cafe,It is a cafe.\na cafe,A cafe.\na pub,It is a pub.\n"
    path = write_file(tmp_path, rows, task="text-generation", text="text", label="completion", metric="bleu")

    shown = CliRunner().invoke(suite_command, ["check", str(path)], catch_exceptions=False).output

    assert "items.csv, 2 items" in shown
    assert [line.split(maxsplit=2)[1:] for line in shown.splitlines() if line.startswith("  item ")] == [
        ["1", "a cafe → It is a cafe."],
        ["2", "a pub → It is a pub."],
    ]


def test_who_sees_items_is_part_of_the_definition_and_hidden_outputs_stay_here(tmp_path: Path) -> None:
    plain, public, hidden = (
        write_suite(tmp_path, ANIMALS, items=items) for items in (None, "public", "hidden")
    )  # fmt: skip
    assert "items" not in plain.declaration()["definition"]
    assert public.declaration()["definition"]["items"] == "public"
    reply = {"outputs": ["cat", "dog", "dog"], "environment": {}}
    assert public.results(reply).outputs == ["cat", "dog", "dog"]
    assert hidden.results(reply).outputs == ["", "", ""]
    assert hidden.results(reply).outcomes == [1, 1, 0]
    with pytest.raises(SuiteError, match="its items are 'secret'"):
        write_suite(tmp_path, ANIMALS, items="secret")


def test_what_is_shown_of_a_suite_is_the_sha256_that_its_file_says(tmp_path: Path) -> None:
    from hub.cli.working import suite_lines

    path = write_file(tmp_path, "text,label\nthe cat,a\nthe dog,b\n")
    (said,) = [line for line in path.read_text().splitlines() if line.startswith("sha256: ")]
    lines = suite_lines(str(path), datasets=None, shown=0)
    assert f"  sha256    {said.removeprefix('sha256: ')}" in lines
