"""What a card says to machines: the YAML that it begins with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hub.domain.front_matter import front_matter
from hub.domain.reported import reported_scores
from hub.domain.views.versions import ReportedScore
from hub.errors import Malformed

# Rendering takes milliseconds per ten kilobytes, and holds up everybody while it does.
MAX_RENDERED = 64 * 1024
MAX_TAGS = 32
_TAG = re.compile(r"[a-z0-9][a-z0-9 ._:/+-]{0,63}")
_MAX_NAME = 200
_MAX_LICENSE = 64


@dataclass(frozen=True)
class CardFacts:
    """What a card says of its adapter to machines. `warnings` say what of it cannot be used."""

    tags: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    license: str | None = None
    reported: tuple[ReportedScore, ...] = ()
    warnings: tuple[str, ...] = ()


def read_facts(markdown: str) -> CardFacts:
    """The tags, data sets and license of the YAML that the card begins with, if it does."""
    try:
        facts = front_matter(markdown)
    except Malformed as error:
        return CardFacts(warnings=(f"Nothing of what the card says to machines is used. {error}",))
    return facts_of(facts)


def facts_of(facts: Mapping[str, object]) -> CardFacts:
    """The tags, data sets, license and scores of a card's YAML."""
    tags, warnings = checked_tags(_texts(facts.get("tags")))
    license_name = next(iter(_texts(facts.get("license"))), None)
    datasets = tuple(dict.fromkeys(name for name in _texts(facts.get("datasets")) if is_name(name)))[:MAX_TAGS]
    license_name = license_name[:_MAX_LICENSE] if license_name else None
    return CardFacts(tags, datasets, license_name, reported_scores(facts), warnings)


def checked_tags(texts: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tags that can be used, in small letters and each once, and a warning for those that cannot."""
    tags = dict.fromkeys(text.strip().lower() for text in texts)
    good = [tag for tag in tags if _TAG.fullmatch(tag)]
    left_out = [tag[:70] for tag in tags if tag not in good] + good[MAX_TAGS:]
    if not left_out:
        return tuple(good), ()
    rule = f"a tag has at most 64 letters, digits and any of ._:/+- and spaces, and there are {MAX_TAGS} at most"
    return tuple(good[:MAX_TAGS]), (f"These tags were left out, since {rule}: {', '.join(map(repr, left_out[:8]))}.",)


def is_name(text: str) -> bool:
    """True for what can be the name of a data set."""
    return 0 < len(text) <= _MAX_NAME and text.isprintable()


def _texts(value: object) -> list[str]:
    """A text, or the texts of a list, as cards have either."""
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]
