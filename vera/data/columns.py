"""Which column of a table is which: those asked for, else those with a well-known name."""

from __future__ import annotations

from dataclasses import dataclass

from vera.data.examples import (
    IMAGE_CLASSIFICATION,
    TASKS,
    TEXT_CLASSIFICATION,
    TEXT_GENERATION,
    TEXT_REGRESSION,
)
from vera.data.tables import TEXT_LINE, Table
from vera.errors import DataError

LABELLED = "labelled text"  # classification or regression: their columns have the same names

# What columns are called in public data sets; the first that are all there are taken.
_INPUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    LABELLED: (
        ("sentence1", "sentence2"), ("question1", "question2"), ("premise", "hypothesis"), ("question", "sentence"),
        ("text1", "text2"), ("text",), ("sentence",), ("content",), ("review",),
    ),
    TEXT_GENERATION: (
        ("prompt",), ("instruction", "input"), ("instruction",), ("mr",), ("meaning_representation",),
        ("question",), ("input",),
    ),
    IMAGE_CLASSIFICATION: (("image",), ("img",), ("jpeg",), ("jpg",), ("png",)),
}  # fmt: skip
_TARGETS: dict[str, tuple[str, ...]] = {
    LABELLED: ("label", "labels", "class", "target", "score"),
    TEXT_GENERATION: ("completion", "response", "output", "ref", "human_reference", "answer"),
    IMAGE_CLASSIFICATION: ("label", "labels", "class", "target", "fine_label"),
}
_KINDS = {TEXT_CLASSIFICATION: LABELLED, TEXT_REGRESSION: LABELLED}


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; None is for us to find out. Of a text to generate, `label` may name several columns.
    Raises DataError when that is no task, or contradicts itself."""

    task: str | None = None
    text: str | None = None
    label: str | None = None
    image: str | None = None

    def __post_init__(self) -> None:
        if self.task is not None and self.task not in TASKS:
            raise DataError(f"{self.task!r} is not a task: it is one of {', '.join(TASKS)}.")
        if (self.image is not None and self.task not in (None, IMAGE_CLASSIFICATION)) or (
            self.text is not None and (self.image is not None or self.task == IMAGE_CLASSIFICATION)
        ):
            raise DataError(
                f"Items are texts or images: name a column of texts, or one of images for {IMAGE_CLASSIFICATION}."
            )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The ways the columns may be read, by what was asked for."""
        if self.task is not None:
            return (_KINDS.get(self.task, self.task),)
        if self.image is not None:
            return (IMAGE_CLASSIFICATION,)
        if self.label in _TARGETS[TEXT_GENERATION]:
            return (TEXT_GENERATION,)
        if self.text is not None and self.label is not None:
            return (LABELLED,)
        texts = (LABELLED, TEXT_GENERATION)
        return texts if self.text is not None else (*texts, IMAGE_CLASSIFICATION)


@dataclass(frozen=True)
class Columns:
    """The columns of a task. Without a `target`, the input is what is to be generated. Where several columns are the
    target, they are its `fields`."""

    kind: str
    inputs: tuple[str, ...]
    target: str | None
    fields: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        targets = self.fields or ((self.target,) if self.target is not None else ())
        return tuple(dict.fromkeys((*self.inputs, *targets)))


def find_columns(table: Table, wanted: Wanted) -> Columns:
    """The columns to read: those asked for, and for the rest those with a well-known name.

    Raises DataError, with the columns there are, when one is missing or there is more than one way.
    """
    missing = [name for name in (*_asked(wanted), *_targets(table, wanted)) if name not in table.columns]
    if missing:
        raise DataError(f"{table.path.name} has no column {missing[0]!r}. {_there_are(table)}.")
    ways = [columns for kind in wanted.kinds if (columns := _by_name(table, kind, wanted))]
    if not ways and (columns := _text_alone(table, wanted)):
        return columns
    if len(ways) != 1:
        found = "more than one way to read" if ways else "no way to tell"
        raise DataError(
            f"{table.path.name}: {found} what its columns are. {_there_are(table)}. "
            f"Name the texts (one column or two, or an image) and the label, and the task: {', '.join(TASKS)}."
        )
    return ways[0]


def _asked(wanted: Wanted) -> list[str]:
    return [name for name in (*_listed(wanted.text), wanted.image) if name is not None]


def _targets(table: Table, wanted: Wanted) -> tuple[str, ...]:
    """The column of the label, or those that it names with commas between them."""
    if wanted.label is None or wanted.label in table.columns or wanted.task != TEXT_GENERATION:
        return () if wanted.label is None else (wanted.label,)
    return _listed(wanted.label)


def _listed(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())


def _there_are(table: Table) -> str:
    return f"Its columns are {', '.join(table.columns)}"


def _by_name(table: Table, kind: str, wanted: Wanted) -> Columns | None:
    asked = _listed(wanted.image if kind == IMAGE_CLASSIFICATION else wanted.text)
    inputs = asked or next((names for names in _INPUTS[kind] if set(names) <= set(table.columns)), ())
    target = wanted.label or next((name for name in _TARGETS[kind] if name in table.columns), None)
    several = _targets(table, wanted)
    if len(several) > 1 and inputs:
        return Columns(kind, inputs, wanted.label, several)
    at_most = 1 if kind == IMAGE_CLASSIFICATION else 2 if kind == LABELLED else len(inputs)
    if not 1 <= len(inputs) <= at_most or target is None or target in inputs:
        return None
    return Columns(kind, inputs, target)


def _text_alone(table: Table, wanted: Wanted) -> Columns | None:
    """Text to go on writing: asked for as such, or all there is."""
    if TEXT_GENERATION not in wanted.kinds or wanted.label is not None:
        return None
    if wanted.task == TEXT_GENERATION and wanted.text is not None:
        return Columns(TEXT_GENERATION, _listed(wanted.text), None)
    return Columns(TEXT_GENERATION, (TEXT_LINE,), None) if table.columns == (TEXT_LINE,) else None
