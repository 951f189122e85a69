"""Which files are which part of a set: by the card of a data set, or by the names of files and folders.

The rules are those of Hugging Face's own loader
(https://huggingface.co/docs/hub/datasets-file-names-and-splits), with one difference: where it would
pick one of several readings, this asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from vera.data.tables import SUFFIXES
from vera.errors import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_WORDS = {
    TRAIN: ("train", "training"),
    VALIDATION: ("validation", "valid", "val", "dev"),
    TEST: ("test", "testing", "eval", "evaluation"),
}
WHOLE = ""  # the split of files whose names say none

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?")
_DATA_FOLDER = "data"
# Files with the suffix of a table that hold no data.
_ABOUT = re.compile(r"(?i)(readme|licen[cs]e|requirements|dataset_infos?|config|state|metadata)\.(txt|json|csv|jsonl)")
# Options of a card under which a table would be read as something else than it is.
_READER_OPTIONS = {"sep", "delimiter", "names", "column_names", "header", "skiprows", "field", "encoding", "quotechar"}


@dataclass(frozen=True)
class Layout:
    """The files of each split, by its name, and what the card says the numbers of labels stand for."""

    splits: Mapping[str, tuple[str, ...]]
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """The splits to read: `heldout` in order of preference. None of them: the one split there is, divided by hash."""

    train: str
    heldout: tuple[str, ...] = ()


def lay_out(paths: Iterable[str], card: Mapping[str, Any], *, config: str | None, where: str) -> Layout:
    """The splits among `paths`, relative and with slashes. Raises DataError when that cannot be told."""
    visible = sorted(path for path in paths if not any(part.startswith(".") for part in path.split("/")))
    declared = _declared(card)
    if declared:
        chosen = _choose_config(declared, config, where)
        return Layout(_declared_splits(chosen, visible, where), _names_in_card(card, chosen.get("config_name")))
    return _by_names(visible, config, where, _names_in_card(card, config))


def choose_splits(splits: Sequence[str], *, train: str | None, heldout: str | None, where: str) -> Chosen:
    """Which split is trained on and which is held out: those asked for, else by their names. Raises DataError."""
    for asked in (train, heldout):
        if asked is not None and asked not in splits:
            raise DataError(f"{where} has no split {asked!r}: its splits are {_listed(splits)}.")
    if train is not None and train == heldout:
        raise DataError(f"{train!r} cannot be both trained on and held out: choose two splits, or leave one out.")
    if len(splits) == 1:
        return Chosen(splits[0])
    first = train or _named(TRAIN, [split for split in splits if split != heldout], where)
    if first is None:
        raise DataError(f"{where} has no training split among {_listed(splits)}: say which one it is.")
    rest = [split for split in splits if split != first]
    if heldout is not None:
        others = [split for split in rest if split != heldout and part_of(split) == VALIDATION]
        return Chosen(first, (heldout, *others) if len(others) == 1 else (heldout,))
    found = (_named(part, rest, where) for part in (TEST, VALIDATION))
    return Chosen(first, tuple(split for split in found if split is not None))


def part_of(name: str) -> str | None:
    """Which part a name speaks of, as a word of its own: `my-dev_2.csv` is for validation. Raises DataError for two."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    parts = [part for part, synonyms in _WORDS.items() if words & set(synonyms)]
    if len(parts) > 1:
        raise DataError(f"The name {name!r} says both {parts[0]} and {parts[1]}: rename it.")
    return parts[0] if parts else None


def is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES)


def image_class(path: str) -> str:
    """The label of an image: the folder it lies in. Raises DataError when that is no class."""
    parent = PurePosixPath(path).parent.name
    if not parent or part_of(parent):
        raise DataError(f"{path} lies in no folder of a class: put each image into a folder named for its label.")
    return parent


def is_nested_class(path: str) -> bool:
    """Whether the folder of an image's class lies in one that is neither the set nor one of its parts."""
    around = PurePosixPath(path).parts[:-2]
    return bool(around) and part_of(around[-1]) is None


def _named(part: str, splits: Sequence[str], where: str) -> str | None:
    named = [split for split in splits if part_of(split) == part]
    exact = [split for split in named if split.lower() in _WORDS[part]]
    if len(exact or named) > 1:
        raise DataError(f"{where} has more than one {part} split, {_listed(exact or named)}: say which to use.")
    return next(iter(exact or named), None)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(name or "(the files whose names say none)" for name in names)


def _declared(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    configs = card.get("configs")
    found = [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []
    return [config for config in found if "data_files" in config or "data_dir" in config]


def _choose_config(declared: Sequence[Mapping[str, Any]], config: str | None, where: str) -> Mapping[str, Any]:
    by_name = {str(entry.get("config_name", "default")): entry for entry in declared}
    default = [name for name, entry in by_name.items() if entry.get("default") is True] or ["default"]
    asked = config or (next(iter(by_name)) if len(by_name) == 1 else default[0])
    if asked not in by_name:
        what = f"has no configuration {config!r}" if config else "has more than one configuration"
        raise DataError(f"{where} {what}: add one of these after a colon: {', '.join(sorted(by_name))}.")
    chosen = by_name[asked]
    if options := sorted(_READER_OPTIONS & set(chosen)):
        raise DataError(
            f"{where} is to be read with {', '.join(options)}, which its card sets: convert it to .csv first."
        )
    return chosen


def _declared_splits(config: Mapping[str, Any], paths: Sequence[str], where: str) -> dict[str, tuple[str, ...]]:
    folder = str(config.get("data_dir") or "").strip("/")
    inside = f"{folder}/" if folder not in ("", ".") else ""
    if "data_files" not in config:
        return dict(_by_names([path for path in paths if path.startswith(inside)], None, where, {}).splits)
    splits: dict[str, tuple[str, ...]] = {}
    for split, patterns in _patterns(config["data_files"]):
        globs = [_glob(inside + pattern.removeprefix("./")) for pattern in patterns]
        files = tuple(path for path in paths if any(glob.fullmatch(path) for glob in globs))
        _require_readable(files, patterns, where)
        splits[split] = (*splits.get(split, ()), *files)
    return splits


def _patterns(data_files: object) -> list[tuple[str, list[str]]]:
    """The patterns of each split, in the four ways a card may write them."""
    if isinstance(data_files, dict):
        return [(str(split), _strings(patterns)) for split, patterns in data_files.items()]
    if isinstance(data_files, list) and data_files and all(isinstance(entry, dict) for entry in data_files):
        return [(str(entry.get("split", TRAIN)), _strings(entry.get("path"))) for entry in data_files]
    return [(TRAIN, _strings(data_files))]


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


_GLOB_PARTS = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])")
_AS_REGEX = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _glob(pattern: str) -> re.Pattern[str]:
    """`pattern` as a regular expression for whole paths; the name of a folder stands for all that is in it."""
    parts = (
        _AS_REGEX.get(part) or (part.replace("[!", "[^", 1) if part.startswith("[") else re.escape(part))
        for part in _GLOB_PARTS.split(pattern.rstrip("/"))
    )
    return re.compile(f"{''.join(parts)}(?:/.*)?")


def _require_readable(files: Sequence[str], patterns: Sequence[str], where: str) -> None:
    unreadable = next((file for file in files if not file.lower().endswith((*SUFFIXES, *IMAGE_SUFFIXES))), None)
    if unreadable or not files:
        what = f"{unreadable}, which is not one of {', '.join(SUFFIXES)}" if unreadable else "no file"
        raise DataError(f"{where}: its card means {what}, by {', '.join(patterns)}. Download and convert it first.")


def _by_names(paths: Sequence[str], config: str | None, where: str, names: Mapping[str, tuple[str, ...]]) -> Layout:
    data = _one_format(paths, where)
    inside = _inside_config(data, config, where)
    splits: dict[str, tuple[str, ...]] = {}
    for path in inside:
        split = _split_of(path)
        splits[split] = (*splits.get(split, ()), path)
    notes = _said(splits)
    if any(part_of(split) == TRAIN for split in splits):
        splits.pop(WHOLE, None)
    return Layout(splits, names, notes)


def _said(splits: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    unnamed = splits.get(WHOLE, ())
    if not unnamed or len(splits) == len(unnamed) == 1 or is_image(unnamed[0]):
        return ()
    listed = ", ".join(unnamed[:5]) + (f" and {len(unnamed) - 5} more" if len(unnamed) > 5 else "")
    return (f"read as one set: {listed}" if len(splits) == 1 else f"not read, as no split is in the name: {listed}",)


def _one_format(paths: Sequence[str], where: str) -> list[str]:
    """The files of the first format there is: where a set lies there twice, it is read once."""
    data = [path for path in paths if not _ABOUT.fullmatch(PurePosixPath(path).name)]
    for suffix in SUFFIXES:
        if suffix == ".txt" and (images := [path for path in data if is_image(path)]):
            return images
        if found := [path for path in data if path.lower().endswith(suffix)]:
            return found
    if images := [path for path in data if is_image(path)]:
        return images
    listed = ", ".join(paths[:5]) or "nothing"
    raise DataError(f"{where} has no file of rows ({', '.join(SUFFIXES)}) and no images: there is {listed}.")


def _inside_config(paths: Sequence[str], config: str | None, where: str) -> list[str]:
    """The files of one configuration: where a card names none, each folder that is not a split is one."""
    folders = sorted({path.split("/")[0] for path in paths if "/" in path and not is_image(path)})
    configs = [folder for folder in folders if folder != _DATA_FOLDER and part_of(folder) is None]
    if config is not None and not any(path.startswith(f"{config}/") for path in paths):
        raise DataError(f"{where} has no configuration {config!r}: there is {', '.join(configs) or 'only one'}.")
    if config is None and len(configs) > 1:
        raise DataError(f"{where} has more than one set of data: add one of these after a colon: {', '.join(configs)}.")
    return list(paths) if config is None else [path for path in paths if path.startswith(f"{config}/")]


def _split_of(path: str) -> str:
    """The split a path names: a shard's own, else the word in the file's name, else that in the nearest folder's.

    An image's own name and folder are not asked: the folder is its class.
    """
    name = PurePosixPath(path)
    if is_image(path):
        return next((part for part in map(part_of, name.parts[:-2]) if part), WHOLE)
    if shard := _SHARD.fullmatch(name.stem):
        return shard["split"]
    parents = (parent.name for parent in name.parents)
    return next((part for part in map(part_of, (name.stem, *parents)) if part), WHOLE)


def _names_in_card(card: Mapping[str, Any], config: object) -> dict[str, tuple[str, ...]]:
    """What `dataset_info` in the card says the numbers of labels stand for."""
    info = card.get("dataset_info")
    infos = info if isinstance(info, list) else [info]
    wanted = [
        entry for entry in infos if isinstance(entry, dict) and (len(infos) == 1 or entry.get("config_name") == config)
    ]
    features = wanted[0].get("features") if wanted else None
    found: dict[str, tuple[str, ...]] = {}
    for feature in features if isinstance(features, list) else []:
        kind = feature.get("dtype") if isinstance(feature, dict) else None
        names = kind.get("class_label", {}).get("names") if isinstance(kind, dict) else None
        if isinstance(names, dict) and all(str(key).isdecimal() for key in names):
            found[str(feature.get("name"))] = tuple(str(names[key]) for key in sorted(names, key=int))
        elif isinstance(names, list):
            found[str(feature.get("name"))] = tuple(map(str, names))
    return found
