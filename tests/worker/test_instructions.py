"""Instructions that a program checks: the same verdicts as lm-evaluation-harness gives, by its own functions."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hub.scoring import metrics
from hub.worker import instructions
from hub.worker.instructions import Instruction, instructions_of, is_followed_loosely
from vera.errors import VeraError

has_packages = all(importlib.util.find_spec(name) for name in ("langdetect", "nltk", "punkt"))
needs_packages = pytest.mark.skipif(not has_packages, reason="the extra ifeval is not installed")

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("keywords:existence", {"keywords": ["cat", "blue sea"]}),
    ("keywords:frequency", {"keyword": " cat ", "frequency": 2, "relation": "at least"}),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "less than"}),
    ("keywords:forbidden_words", {"forbidden_words": ["dog", "sea"]}),
    ("keywords:letter_frequency", {"letter": "T", "let_frequency": 5, "let_relation": "at least"}),
    ("keywords:letter_frequency", {"letter": "e", "let_frequency": 9, "let_relation": "less than"}),
    ("language:response_language", {"language": "de"}),
    ("language:response_language", {"language": "en"}),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "at least"}),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"}),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 3}),
    ("length_constraints:number_words", {"num_words": 12, "relation": "at least"}),
    ("length_constraints:number_words", {"num_words": 12, "relation": "less than"}),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Weather"},
    ),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "the"}),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}),
    ("detectable_format:constrained_response", {}),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2}),
    ("detectable_format:json_format", {}),
    ("detectable_format:title", {}),
    ("combination:two_responses", {}),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say where the cat is."}),
    ("startend:end_checker", {"end_phrase": "Is there anything else?"}),
    ("startend:quotation", {}),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"}),
    ("change_case:english_capital", {}),
    ("change_case:english_lowercase", {}),
    ("punctuation:no_comma", {}),
]
PIECES = [
    "The cat sat by the blue sea, and the cat slept.", "the dog ran far away from the old house", "***", "\n", "\n\n",
    "Weather, in short, is fine.", "'weather' they said", "* one thing", "- another thing", "** bold **", "*a* and *b*",
    "P.S. Bring tea.", "p. p. s remember", "[name] of [place]", "SECTION 1", "SECTION 2", "SECTION 1 the cat SECTION 2 the dog", "<<A title>>", "<< >>",
    "My answer is maybe.", '{"cat": [1, 2]}', "```json", "```", "******", '"', "Say where the cat is.",
    "Is there anything else?", "DR. SMITH AND NASA WENT HOME.", "Dr. Smith met Mr. Jones at 5 p.m. on Main St. He left!",
    "Die Katze schläft heute am Meer und der Hund läuft weit weg.", "12 345", "A cat. A Cat! A CAT?", "!!", "*",
    "A cat.\n***\nA dog.\n***\nA bird.", "The fish swam.\n\nWeather: fine.", '"said the cat"',
]  # fmt: skip


def written(count: int) -> list[str]:
    """Pieces put together, the same ones every time, and each alone."""
    rng = random.Random(11)
    joined = [
        "".join(piece + rng.choice(["\n", " ", "\n\n", ""]) for piece in rng.choices(PIECES, k=rng.randint(2, 7)))
        for _ in range(count)
    ]
    return ["", *PIECES, *(text.upper() for text in joined[:4]), *(text.lower() for text in joined[:4]), *joined]


def write_punkt(folder: Path) -> None:
    """The parameters that the package has, as nltk's own tokenizer reads them."""
    from punkt.data import english

    folder.mkdir(parents=True)
    tables = {
        "abbrev_types.txt": english.ABBREV_TYPES,
        "sent_starters.txt": english.SENT_STARTERS,
        "collocations.tab": ["\t".join(pair) for pair in english.COLLOCATIONS],
        "ortho_context.tab": [f"{word}\t{number}" for word, number in english.ORTHO_CONTEXT.items()],
    }
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(sorted(lines)), encoding="utf-8")


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    import langdetect
    import nltk

    data = tmp_path_factory.mktemp("nltk")
    write_punkt(data / "tokenizers" / "punkt_tab" / "english")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nltk.data, "path", [str(data)])
        patch.setattr(langdetect.DetectorFactory, "seed", 0)
        from lm_eval.tasks.ifeval import utils

        yield utils


def verdicts(harness: ModuleType, kinds: list[str], arguments: list[dict[str, Any]], text: str) -> list[list[bool]]:
    asked = SimpleNamespace(instruction_id_list=kinds, kwargs=arguments, prompt="", key=0)
    return [
        test(asked, text).follow_instruction_list
        for test in (harness.test_instruction_following_strict, harness.test_instruction_following_loose)
    ]


@needs_packages
@pytest.mark.filterwarnings("ignore")  # of the harness's own imports
def test_each_kind_of_instruction_is_judged_as_the_harness_judges_it(harness: ModuleType) -> None:
    kinds, arguments = [kind for kind, _ in ASKED], [given for _, given in ASKED]
    ours = [Instruction(kind, given) for kind, given in ASKED]
    assert {each.kind for each in ours} == set(instructions._RULES)
    seen: dict[tuple[str, int], set[bool]] = {}
    for text in written(24):
        strict, loose = verdicts(harness, kinds, arguments, text)
        assert [each.is_followed(text) for each in ours] == strict, text
        assert [is_followed_loosely(each, text) for each in ours] == loose, text
        for number, (kind, _) in enumerate(ASKED):
            seen.setdefault((kind, number), set()).add(strict[number])
    assert [kind for kind, both in seen.items() if len(both) < 2] == []  # each was followed, and was not


def test_the_four_scores_are_of_prompts_and_of_instructions() -> None:
    asked = [
        instructions_of(["punctuation:no_comma", "startend:quotation"], [{}, {}]),
        instructions_of('["detectable_format:title"]', '[{"num_words": null}]'),
    ]
    texts = ['Here:\n"one two"', "no title, at all"]
    outcomes = {metric: instructions.outcomes(metric, asked, texts) for metric in instructions.METRICS}
    assert outcomes == {
        "ifeval": [0, 0],
        "ifeval_loose": [1, 0],
        "ifeval_instructions": [(1, 2), (0, 1)],
        "ifeval_instructions_loose": [(2, 2), (0, 1)],
    }
    assert {metric: metrics.score(metric, each) for metric, each in outcomes.items()} == pytest.approx(
        {"ifeval": 0, "ifeval_loose": 1 / 2, "ifeval_instructions": 1 / 3, "ifeval_instructions_loose": 2 / 3}
    )


def test_a_letter_that_is_none_is_counted_too() -> None:
    asked = Instruction("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "at least"})
    assert asked.is_followed("#one #two")
    assert not asked.is_followed("#one")


@pytest.mark.parametrize(
    ("kinds", "arguments", "said"),
    [
        (["keywords:exists"], [{}], "'keywords:exists' is no instruction of IFEval: there are keywords:existence,"),
        (["keywords:existence"], [{"keywords": None}], "keywords:existence needs keywords"),
        (["punctuation:no_comma"], [], "as many instructions as arguments, and has 1 and 0"),
        ("no_comma", [{}], "'no_comma' is no list in JSON"),
        (
            ["length_constraints:number_words"],
            [{"num_words": 3, "relation": "about"}],
            "the relation 'about', which is none of less than, at least",
        ),
    ],
    ids=["kind", "argument", "length", "no JSON", "relation"],
)
def test_what_cannot_be_checked_is_said_before_anything_is_run(kinds: Any, arguments: Any, said: str) -> None:
    with pytest.raises(VeraError, match=said.replace("[", r"\[")):
        instructions_of(kinds, json.dumps(arguments))
