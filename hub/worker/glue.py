"""GLUE (Wang et al. 2018) as suites: the validation sets, whose labels are public, at one revision of the data.

The metrics are those of the benchmark; where it has two (F1 and accuracy for MRPC and QQP, Pearson and Spearman for
STS-B), the one named first here ranks, and the other stands beside it.
"""

from __future__ import annotations

from hub.worker.suite_files import SuiteFile
from vera.data import TEXT_CLASSIFICATION, TEXT_REGRESSION

REVISION = "nyu-mll/glue@bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
_ENTAILMENT = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")


def _suite(
    task: str, title: str, text: str, labels: tuple[str, ...], metric: str = "accuracy",
    *, config: str | None = None, split: str = "validation", positive: str | None = None, also: tuple[str, ...] = (),
) -> SuiteFile:  # fmt: skip
    return SuiteFile(
        name=f"glue/{task}", title=title, task=TEXT_CLASSIFICATION if labels else TEXT_REGRESSION,
        data=f"{REVISION}:{config or task}", folder=f"glue/{config or task}", split=split, text=text, label="label",
        labels=labels, metric=metric, positive=positive, also=also,
    )  # fmt: skip


GLUE = (
    _suite("cola", "Is the sentence acceptable English?", "sentence", ("unacceptable", "acceptable"), "matthews"),
    _suite("sst2", "Is the sentence of a film review positive?", "sentence", ("negative", "positive")),
    _suite(
        "mrpc", "Do the two sentences say the same?", "sentence1,sentence2", ("not_equivalent", "equivalent"), "f1",
        positive="equivalent", also=("accuracy",),
    ),
    _suite("stsb", "How alike are the two sentences, from 0 to 5?", "sentence1,sentence2", (), "pearson", also=("spearman",)),
    _suite(
        "qqp", "Do the two questions ask the same?", "question1,question2", ("not_duplicate", "duplicate"), "f1",
        positive="duplicate", also=("accuracy",),
    ),
    _suite(
        "mnli", "Does the premise entail the hypothesis? (matched genres)", "premise,hypothesis", _NLI,
        split="validation_matched",
    ),
    _suite(
        "mnli-mm", "Does the premise entail the hypothesis? (other genres)", "premise,hypothesis", _NLI,
        config="mnli", split="validation_mismatched",
    ),
    _suite("qnli", "Does the sentence answer the question?", "question,sentence", _ENTAILMENT),
    _suite("rte", "Does the first sentence entail the second?", "sentence1,sentence2", _ENTAILMENT),
    _suite("wnli", "Does the pronoun mean that?", "sentence1,sentence2", ("not_entailment", "entailment")),
)  # fmt: skip
