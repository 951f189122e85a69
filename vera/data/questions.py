"""One part of a set, whole and in its order, with the right answer of each item: what an evaluation asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vera.data import huggingface, places
from vera.data.columns import Wanted
from vera.data.dividing import Item, numbered, ordered_labels, require_repetition
from vera.data.examples import IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION, Examples, Source, items_digest
from vera.data.huggingface import Endpoint
from vera.data.layouts import Layout, lay_out
from vera.data.places import Place
from vera.data.reading import Part, read_part
from vera.data.records import spelled, task_of, to_items, without_hidden
from vera.data.sources import BUILT_IN, find_place
from vera.data.tables import SUFFIXES
from vera.errors import DataError

_WITH_LABELS = (TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION)


@dataclass(frozen=True)
class Questions:
    """Items and their right answers. `labels` is empty for regression and generation; `notes` say what was left out."""

    name: str
    task: str
    labels: tuple[str, ...]
    examples: Examples
    source: Source
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def digest(self) -> str:
        """`sha256:…` over the items in canonical JSON, as `Split.heldout_digest` of the same ones."""
        return items_digest(self.examples, self.labels)

    @property
    def files_digest(self) -> str | None:
        """`sha256:…` of the one file that was read, or of the list of them as sha256sum writes it; None for none."""
        files = {path: digest.removeprefix("sha256:") for path, digest in self.source.files.items()}
        if len(files) == 1:
            return f"sha256:{next(iter(files.values()))}"
        return places.digest_of_list(files.items()) if files else None


def load_questions(
    source: str,
    *,
    task: str,
    split: str | None = None,
    text: str | None = None,
    label: str | None = None,
    image: str | None = None,
    labels: Sequence[str] = (),
    limit: int | None = None,
    offline: bool = False,
    endpoint: Endpoint | None = None,
) -> Questions:
    """The items of `split` of `source`, which is named as for `vera.data.load`; of the one split there is, when None.

    `labels` are all labels there may be, in the order in which whole-number labels stand for them; otherwise those
    that the data names, or those that are there. Raises DataError, for a label beside them as well.
    """
    wanted = Wanted(task, text, label, image)
    if source in BUILT_IN:
        return _built_in(source, task)
    place, config = find_place(source, offline, endpoint)
    name = place.name if config is None else f"{place.name}:{config}"
    layout = _named_file(place, split) or place.layout or lay_out(place.paths, place.card, config=config, where=name)
    part = read_part(place, layout, _chosen(layout, split, name), wanted, limit)
    if part.hides_labels:
        raise DataError(f"{name} has no {part.columns.target or 'text'} in {part.title}: choose a split that has.")
    task = task_of(part.columns, wanted, part.targets, name)
    items, notes = _items(part, task, labels, name)
    known = _labels(items, task, labels or part.names, name)
    files = Source(name, part.files, place.dataset, place.revision, config)
    return Questions(name, task, known, numbered(items, known), files, (*layout.notes, *notes))


def _built_in(source: str, task: str) -> Questions:
    found = BUILT_IN[source]()
    if task != found.task:
        raise DataError(f"{source} is for {found.task}, and {task} was asked for.")
    return Questions(source, task, found.labels, found.heldout, found.source or Source(source), found.notes)


def _named_file(place: Place, split: str | None) -> Layout | None:
    """The one file that is called as the split, such as `validation_matched.parquet`: names of files that say the
    same part of a set would be read together otherwise."""
    if split is None or place.dataset is not None:
        return None
    named = [path for path in place.paths if Path(path).stem == split and path.lower().endswith(SUFFIXES)]
    return Layout({split: (named[0],)}) if len(named) == 1 else None


def _chosen(layout: Layout, split: str | None, where: str) -> str:
    splits = tuple(layout.splits)
    if split is None and len(splits) == 1:
        return splits[0]
    if split not in splits:
        listed = ", ".join(each or "(the files whose names say none)" for each in splits)
        what = "more than one split" if split is None else f"no split {split!r}"
        raise DataError(f"{where} has {what}: say which of these is asked: {listed}.")
    return split


def _items(part: Part, task: str, labels: Sequence[str], name: str) -> tuple[list[Item], list[str]]:
    names = part.names or _numbered_by(part.targets, labels)
    targets = without_hidden(part.targets, names)
    notes = list(part.notes)
    if missing := sum(target is None for target in targets):
        notes.append(f"{missing} rows without {part.columns.target or 'text'} left out of {part.title}")
    return to_items(part.records, targets, task, names, f"{name}, {part.title},"), notes


def _numbered_by(targets: Iterable[object], labels: Sequence[str]) -> tuple[str, ...]:
    """`labels` where the numbers of a column stand for them; nothing where each label of it is one of them as it is written."""
    are_written = all(target is None or spelled(target) in labels for target in targets)
    return () if are_written else tuple(labels)


def _labels(items: Sequence[Item], task: str, stated: Sequence[str], name: str) -> tuple[str, ...]:
    if task not in _WITH_LABELS:
        return ()
    present = {str(item.target) for item in items}
    if stated and (beside := sorted(present - set(stated))):
        raise DataError(f"{name} has the label {beside[0]!r}, which is none of {', '.join(stated)}.")
    if not stated:
        require_repetition(name, sorted(present), len(items))
    return tuple(stated) or ordered_labels(present)


def is_pinned(source: str) -> bool | None:
    """Whether the data set of Hugging Face that `source` names is named at a commit; None for what is no such set."""
    if source in BUILT_IN or Path(source).expanduser().exists() or source.lower().endswith(SUFFIXES):
        return None
    ref = huggingface.DatasetRef.parse(source)
    if ref is None:
        return None
    return ref.revision is not None and len(ref.revision) == 40 and set(ref.revision) <= set("0123456789abcdef")
