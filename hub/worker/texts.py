"""What generated texts are worth beside their references: an outcome of every item, as its metric needs it.

BLEU and NIST are over lower-case tokens of mteval-v13a, as the E2E challenge's script has them. METEOR, ROUGE-L and CIDEr
are those of `pycocoevalcap`, over tokens of the Penn Treebank's kind without punctuation: its jars need Java. Where
something is missing a metric is not computed, and no other number takes its place.

How rare an n-gram is (NIST, CIDEr) is counted once, over the references of the whole set, so that an item is worth the same in
every resample.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hub.scoring.metrics import Outcome
from hub.scoring.overlaps import BLEU_ORDERS, METEOR_COLUMNS, NIST_ORDERS
from hub.worker.errors import NotComputed

_PACKAGES = ("sacrebleu", "pycocoevalcap")
_WITH_JAVA = ("meteor", "rouge_l", "cider")
_TOKENIZER = (
    "-cp",
    "stanford-corenlp-3.4.1.jar",
    "edu.stanford.nlp.process.PTBTokenizer",
    "-preserveLines",
    "-lowerCase",
)
_METEOR = ("-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm")
_JAVA_LIMIT_S = 900.0

Ngram = tuple[str, ...]


def require(metric: str) -> None:
    """Raises NotComputed when this machine cannot compute `metric`."""
    package = "pycocoevalcap" if metric in _WITH_JAVA else "sacrebleu"
    if importlib.util.find_spec(package) is None:
        raise NotComputed(f"{metric} needs the package {package}: pip install 'vera-hub[nlg]' where the worker runs.")
    if metric in _WITH_JAVA and shutil.which("java") is None:
        raise NotComputed(f"{metric} needs Java: install a Java runtime (8 or newer) where the worker runs.")


def versions() -> dict[str, str]:
    """Those of the packages that score, for the environment of a result."""
    from importlib.metadata import version

    return {package: version(package) for package in _PACKAGES if importlib.util.find_spec(package) is not None}


class Texts:
    """What was written for each item, beside its references (one or more)."""

    def __init__(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        self.written = [" ".join(text.split()) for text in written]
        self.references = [[" ".join(text.split()) for text in some] for some in references]

    def outcomes(self, metric: str) -> list[Outcome]:
        """Raises NotComputed."""
        require(metric)
        return _OUTCOMES[metric](self)

    def bleu(self) -> list[Outcome]:
        from sacrebleu.metrics.bleu import BLEU

        scorer = BLEU(lowercase=True, tokenize="13a", effective_order=True)
        scores = [scorer.sentence_score(*each) for each in zip(self.written, self.references, strict=True)]
        return [
            [score.sys_len, score.ref_len, *score.counts[:BLEU_ORDERS], *score.totals[:BLEU_ORDERS]] for score in scores
        ]

    def nist(self) -> list[Outcome]:
        written = [_tokens(text) for text in self.written]
        references = [[_tokens(text) for text in some] for some in self.references]
        information = _information(tokens for some in references for tokens in some)
        return [_nist_of(*each, information) for each in zip(written, references, strict=True)]

    def meteor(self) -> list[Outcome]:
        written, references = self._treebank
        asked = [" ||| ".join(["SCORE", *some, text]) for text, some in zip(written, references, strict=True)]
        answers = [line.split() for line in _java(_METEOR, "meteor", asked)]
        if any(len(numbers) != METEOR_COLUMNS for numbers in answers):
            raise NotComputed(f"METEOR answered something else than {METEOR_COLUMNS} numbers for an item.")
        return [_meteor_of([float(number) for number in numbers]) for numbers in answers]

    def rouge_l(self) -> list[Outcome]:
        return self._coco("rouge.rouge", "Rouge")

    def cider(self) -> list[Outcome]:
        return self._coco("cider.cider", "Cider")

    def _coco(self, module: str, scorer: str) -> list[Outcome]:
        written, references = self._treebank
        scoring = getattr(importlib.import_module(f"pycocoevalcap.{module}"), scorer)()
        _, each = scoring.compute_score(dict(enumerate(references)), {n: [text] for n, text in enumerate(written)})
        return [float(value) for value in each]

    @cached_property
    def _treebank(self) -> tuple[list[str], list[list[str]]]:
        """All texts in the tokens of the Penn Treebank's kind, with a space between them and without punctuation."""
        punctuation = importlib.import_module("pycocoevalcap.tokenizer.ptbtokenizer").PUNCTUATIONS
        flat = [*self.written, *(text for some in self.references for text in some)]
        lines = iter(
            " ".join(token for token in line.replace("|||", " ").split() if token not in punctuation)
            for line in _java(_TOKENIZER, "tokenizer", flat)
        )
        written = [next(lines) for _ in self.written]
        return written, [[next(lines) for _ in some] for some in self.references]


_OUTCOMES: Mapping[str, Callable[[Texts], list[Outcome]]] = {
    "bleu": Texts.bleu,
    "nist": Texts.nist,
    "meteor": Texts.meteor,
    "rouge_l": Texts.rouge_l,
    "cider": Texts.cider,
}
METRICS = tuple(_OUTCOMES)


def _tokens(text: str) -> list[str]:
    tokenizer: Any = importlib.import_module("sacrebleu.tokenizers.tokenizer_13a").Tokenizer13a()
    tokens: list[str] = tokenizer(text.lower()).split()
    return tokens


def _ngrams(tokens: Sequence[str], n: int) -> Counter[Ngram]:
    return Counter(tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1))


def _information(references: Iterable[Sequence[str]]) -> dict[Ngram, float]:
    """Of each n-gram: how many bits its last token adds to those before it, among all references (Doddington 2002)."""
    counts: Counter[Ngram] = Counter()
    for tokens in references:
        counts[()] += len(tokens)
        for n in range(1, NIST_ORDERS + 1):
            counts.update(_ngrams(tokens, n))
    return {ngram: math.log2(counts[ngram[:-1]] / count) for ngram, count in counts.items() if ngram}


def _nist_of(
    written: Sequence[str], references: Sequence[Sequence[str]], information: Mapping[Ngram, float]
) -> Outcome:
    gained, there = [], []
    for n in range(1, NIST_ORDERS + 1):
        ours, theirs = _ngrams(written, n), Counter[Ngram]()
        for tokens in references:
            theirs |= _ngrams(tokens, n)
        gained.append(math.fsum(information[ngram] * count for ngram, count in (ours & theirs).items()))
        there.append(ours.total())
    return [*gained, *there, math.fsum(map(len, references)) / len(references)]


def _meteor_of(numbers: list[float]) -> Outcome:
    lengths, chunks, matches = numbers[0:2], numbers[20], numbers[21:23]
    is_reference = matches == lengths and chunks == 1
    return [*numbers[:20], 0.0 if is_reference else chunks, *matches]


def _java(arguments: Sequence[str], folder: str, lines: Sequence[str]) -> list[str]:
    """What a jar of `pycocoevalcap` answers to `lines`, one line to each. Raises NotComputed."""
    spec = importlib.util.find_spec(f"pycocoevalcap.{folder}")
    assert spec is not None
    beside = Path(next(iter(spec.submodule_search_locations or ())))
    command = ["java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", *arguments]
    try:
        ran = subprocess.run(
            command, input="".join(f"{line}\n" for line in lines), cwd=beside, check=True,
            capture_output=True, encoding="utf-8", timeout=_JAVA_LIMIT_S,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        raise NotComputed(f"Java failed at {arguments[-1]}: {error}.") from error
    answers = ran.stdout.removesuffix("\n").split("\n")
    if len(answers) != len(lines):
        raise NotComputed(f"Java answered {len(answers)} lines to {len(lines)}.")
    return answers
