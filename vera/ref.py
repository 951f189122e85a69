"""References to adapters: `org/adapter@v3`, `org/adapter@prod`, `org/adapter@v3@sha256:…`.

    reference  = [ "vera://" [ host "/" ] ] adapter-id [ pin ]
    pin        = ( "@" selector [ "@" digest ] ) / ( "@" digest )
    adapter-id = namespace "/" name            ; lower case; the namespace has no dots
    selector   = version / alias / commit      ; v[1-9][0-9]{0,8} / word / 40 hex
    digest     = "sha256" ( ":" / "-" ) 64hex  ; never a prefix

No selector means `latest`: the highest version that is neither yanked nor a pre-release.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from vera.errors import RefError

MAX_ID_OCTETS = 96
LATEST = "latest"

_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,37}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_VERSION = re.compile(r"v[1-9][0-9]{0,8}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ALIAS = re.compile(r"[a-z](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_RESERVED_ALIAS = re.compile(r"v[0-9]+|latest|main|head|sha256.*|[0-9a-f]{7,40}")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[0-9]{1,5})?")

# Words that are routes of the hub, or files on some system, and so cannot be anybody's name.
RESERVED_NAMESPACES = frozenset(
    "admin api assets bases con docs favicon healthz hf hub leaderboards login logout metrics models "
    "new nul openapi settings signin static suites system vera www".split()
)


class SelectorKind(StrEnum):
    LATEST = "latest"
    VERSION = "version"
    COMMIT = "commit"
    ALIAS = "alias"
    DIGEST = "digest"


@dataclass(frozen=True)
class AdapterRef:
    """A parsed reference. `str()` gives its canonical form.

    `selector` is None when only the adapter, or only a digest, was named.
    """

    namespace: str
    name: str
    selector: str | None = None
    digest: str | None = None  # "sha256:<64 hex>"
    host: str | None = None

    @classmethod
    def parse(cls, text: str, *, default_namespace: str | None = None) -> AdapterRef:
        """The reference that `text` spells.

        `default_namespace` completes a bare name (`my-adapter` for the logged-in user).
        Raises RefError, naming the part that is wrong.
        """
        host, rest = _split_host(text)
        adapter_id, *pins = rest.split("@")
        namespace, name = _split_id(adapter_id, default_namespace, text)
        selector, digest = _split_pins(pins, text)
        return cls(namespace, name, selector, digest, host)

    @property
    def adapter_id(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def selector_kind(self) -> SelectorKind:
        if self.selector is None:
            return SelectorKind.DIGEST if self.digest else SelectorKind.LATEST
        return kind_of_selector(self.selector)

    @property
    def is_immutable(self) -> bool:
        """True when the reference can never mean another version."""
        return self.digest is not None or self.selector_kind in (SelectorKind.VERSION, SelectorKind.COMMIT)

    def __str__(self) -> str:
        prefix = f"vera://{self.host}/" if self.host else ""
        pins = "".join(f"@{pin}" for pin in (self.selector, self.digest) if pin)
        return f"{prefix}{self.adapter_id}{pins}"


def kind_of_selector(selector: str) -> SelectorKind:
    """What `selector` selects by. Raises RefError when it is none of the forms."""
    if selector == LATEST:
        return SelectorKind.LATEST
    if _VERSION.fullmatch(selector):
        return SelectorKind.VERSION
    if _COMMIT.fullmatch(selector):
        return SelectorKind.COMMIT
    if _DIGEST.fullmatch(selector):
        return SelectorKind.DIGEST
    if _ALIAS.fullmatch(selector) and not _RESERVED_ALIAS.fullmatch(selector):
        return SelectorKind.ALIAS
    raise RefError(
        f"{selector!r} selects nothing: write a version (v3), an alias (prod), `latest`, "
        "a 40-digit commit or a whole sha256 digest.",
        selector=selector,
    )


def check_adapter_id(namespace: str, name: str) -> None:
    """Raises RefError unless `namespace/name` may name an adapter."""
    check_namespace(namespace)
    if not _NAME.fullmatch(name):
        raise RefError(
            f"{name!r} cannot name an adapter: use 1 to 64 of a-z, 0-9, '-', '_' and '.', "
            "beginning and ending with a letter or digit.",
            code="NAME_INVALID",
            name=name,
        )
    if len(f"{namespace}/{name}") > MAX_ID_OCTETS:
        raise RefError(
            f"{namespace}/{name} is longer than {MAX_ID_OCTETS} characters: choose a shorter name.",
            code="NAME_INVALID",
            name=name,
        )


def check_namespace(namespace: str) -> None:
    """Raises RefError unless `namespace` may name a user or an organisation."""
    if not _NAMESPACE.fullmatch(namespace):
        raise RefError(
            f"{namespace!r} cannot name a user or organisation: use 1 to 39 of a-z, 0-9 and '-', "
            "beginning and ending with a letter or digit.",
            code="NAME_INVALID",
            name=namespace,
        )
    if namespace in RESERVED_NAMESPACES:
        raise RefError(
            f"{namespace!r} is a word the hub keeps for itself: choose another name.",
            code="NAME_INVALID",
            name=namespace,
        )


def fold_name(name: str) -> str:
    """`name` with everything that looks alike made one: names with equal folds may not coexist."""
    return name.translate(str.maketrans("01i", "oll", "-_."))


def _split_host(text: str) -> tuple[str | None, str]:
    if text.startswith("hf://"):
        raise RefError(
            f"{text!r} is on the Hugging Face Hub, which is not read yet: write owner/name for a Vera hub.", ref=text
        )
    if not text.startswith("vera://"):
        return None, text
    rest = text.removeprefix("vera://")
    host, _, tail = rest.partition("/")
    if tail.count("/") != 1:
        return None, rest
    if not _HOST.fullmatch(host):
        raise RefError(f"{host!r} in {text!r} is not a host name.", ref=text)
    return host, tail


def _split_id(adapter_id: str, default_namespace: str | None, text: str) -> tuple[str, str]:
    parts = adapter_id.split("/")
    if len(parts) == 1 and default_namespace is not None:
        parts = [default_namespace, *parts]
    if len(parts) != 2:
        raise RefError(
            f"{text!r} is not a reference: write it as owner/name or owner/name@v3.",
            ref=text,
        )
    check_adapter_id(*parts)
    return parts[0], parts[1]


def _split_pins(pins: list[str], text: str) -> tuple[str | None, str | None]:
    if not pins:
        return None, None
    if len(pins) > 2 or "" in pins:
        raise RefError(
            f"{text!r} has a broken pin: after the name comes @selector, @digest or @selector@digest.", ref=text
        )
    *selectors, last = pins
    digest = _DIGEST.fullmatch(last)
    if len(pins) == 2 and not digest:
        raise RefError(f"{last!r} in {text!r} is not a whole sha256 digest (sha256: and 64 hex digits).", ref=text)
    selector = selectors[0] if selectors else (None if digest else last)
    if selector is not None and kind_of_selector(selector) is SelectorKind.DIGEST:
        raise RefError(f"{text!r} names two digests: keep one.", ref=text)
    return selector, f"sha256:{digest[1]}" if digest else None
