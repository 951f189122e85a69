"""`vera.lock`: which version each reference of a project means, pinned by everything that proves it.

    {
      "schema": "vera-lock/1",
      "adapters": {
        "org/adapter@prod": {
          "version": 3,
          "digest": "sha256:…",
          "commit": "…",
          "base": {"name": "org/base", "fingerprint": "vbf1:…"},
          "projection": "sha256:…"
        }
      }
    }

Equal locks are equal bytes: references are sorted and the layout is fixed, so a change is a small
diff. The digest alone decides what is loaded; base and projection say what a reader wants to know,
and are compared with what was fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.cache import Resolution, selector_of
from sdk.errors import LockMismatch, Misconfigured
from sdk.files import read_bounded, write_atomically
from vera import strict_json
from vera.errors import VeraError
from vera.fingerprint import SCHEME
from vera.ref import AdapterRef

if TYPE_CHECKING:
    from sdk.fetching import Fetched
    from vera.manifest import Manifest

LOCK_FILE = "vera.lock"
SCHEMA = "vera-lock/1"

_MAX_LOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class Locked:
    """What one reference means. Valid by construction: ValueError or RefError otherwise."""

    ref: str
    resolution: Resolution
    base_name: str
    base: str
    projection: str

    def __post_init__(self) -> None:
        parsed = AdapterRef.parse(self.ref)
        if str(parsed) != self.ref:
            raise ValueError(f"{self.ref} is written {parsed}")
        if not self.base.startswith(f"{SCHEME}:") or not self.projection.startswith("sha256:"):
            raise ValueError(f"{self.ref} pins no base or no projection")

    @classmethod
    def of(cls, fetched: Fetched) -> Locked:
        """The pin of a version that was fetched and checked."""
        manifest = fetched.archive.manifest
        return cls(
            str(fetched.resolved.ref), fetched.resolved.resolution,
            manifest.base.name, manifest.base.fingerprint, manifest.projection_digest,
        )  # fmt: skip

    @property
    def parsed(self) -> AdapterRef:
        return AdapterRef.parse(self.ref)

    def answers_to(self, ref: AdapterRef) -> bool:
        """Whether `ref` is this reference, or names the version it is locked to."""
        names = {selector_of(self.parsed), *self.resolution.selectors}
        return selector_of(ref) in names and ref.digest in (None, self.resolution.digest)

    def check(self, manifest: Manifest) -> None:
        """Raises LockMismatch unless base and projection are those of `manifest`, whose digest is the locked one."""
        for what, locked, found in (
            ("base", self.base, manifest.base.fingerprint),
            ("projection", self.projection, manifest.projection_digest),
        ):
            if locked != found:
                raise LockMismatch(
                    f"{LOCK_FILE} pins the {what} {locked} for {self.ref}, and the version it pins has {found}: "
                    f"the file was edited by hand. Lock it again with `vera-hub lock {self.ref}`.",
                    facts={"ref": self.ref, "expected": locked, "got": found},
                )

    def to_json(self) -> dict[str, object]:
        return {
            "version": self.resolution.version,
            "digest": self.resolution.digest,
            "commit": self.resolution.commit,
            "base": {"name": self.base_name, "fingerprint": self.base},
            "projection": self.projection,
        }


@dataclass(frozen=True)
class Lock:
    """The pins of a project, sorted by reference. `where` is the file they are from, for messages."""

    adapters: tuple[Locked, ...] = ()
    where: Path = field(default=Path(LOCK_FILE), compare=False)

    @classmethod
    def read(cls, path: Path | str = LOCK_FILE) -> Lock:
        """The lock in the file `path`. Raises Misconfigured (LOCK_INVALID) when there is none."""
        data = read_bounded(Path(path), _MAX_LOCK_BYTES)
        if data is None:
            raise Misconfigured(
                f"There is no lock at {Path(path).absolute()}: make one with `vera-hub lock REF`.",
                code="LOCK_INVALID",
                facts={"path": str(path)},
            )
        return cls.parse(data, Path(path))

    @classmethod
    def parse(cls, data: bytes, where: Path = Path(LOCK_FILE)) -> Lock:
        try:
            fields = strict_json.loads(data, max_depth=6)
            return cls(_parse_adapters(fields), where)
        except (ValueError, KeyError, TypeError, VeraError) as error:
            raise Misconfigured(
                f"{where} is not a lock of the schema {SCHEMA} ({error}): make it again with `vera-hub lock REF…`.",
                code="LOCK_INVALID",
                facts={"path": str(where)},
            ) from error

    def to_bytes(self) -> bytes:
        adapters = {locked.ref: locked.to_json() for locked in self.adapters}
        return f"{json.dumps({'schema': SCHEMA, 'adapters': adapters}, indent=2, ensure_ascii=False)}\n".encode()

    def write(self, path: Path | str) -> None:
        write_atomically(Path(path).absolute(), self.to_bytes(), mode=0o644)

    def with_pins(self, pins: Iterable[Locked]) -> Lock:
        """This lock with `pins` added, or in the place of those of the same references."""
        by_ref = {locked.ref: locked for locked in (*self.adapters, *pins)}
        return Lock(tuple(by_ref[ref] for ref in sorted(by_ref)), self.where)

    def find(self, ref: AdapterRef) -> Locked:
        """The pin of `ref`. Raises LockMismatch when the adapter is pinned to something else, or not at all."""
        same = [locked for locked in self.adapters if _adapter_of(locked.parsed) == _adapter_of(ref)]
        for locked in same:
            if locked.answers_to(ref):
                return locked
        if not same:
            raise LockMismatch(
                f"{self.where} does not pin {ref}: add it with `vera-hub lock {ref}`.",
                code="LOCK_MISSING",
                facts={"ref": str(ref)},
            )
        pinned = ", ".join(f"{e.ref} → v{e.resolution.version} ({e.resolution.digest})" for e in same)
        raise LockMismatch(
            f"{ref} is asked for and {self.where} pins {pinned}: ask for that one, or lock anew with `vera-hub lock {ref}`.",
            facts={"ref": str(ref), "expected": [e.resolution.digest for e in same], "got": str(ref)},
        )


def lock_for(locked: bool | str | Path) -> Lock | None:
    """What the argument `locked` of `sdk.load` means: False no lock, True `vera.lock` here, else the file."""
    if locked is False:
        return None
    return Lock.read(LOCK_FILE if locked is True else locked)


def _adapter_of(ref: AdapterRef) -> tuple[str | None, str]:
    return ref.host, ref.adapter_id


def _parse_adapters(fields: Any) -> tuple[Locked, ...]:
    match fields:
        case {"schema": "vera-lock/1", "adapters": dict(adapters)} if len(fields) == 2:
            return tuple(_parse_pin(ref, adapters[ref]) for ref in sorted(adapters))
    raise ValueError("it is not an object of schema and adapters")


def _parse_pin(ref: str, pin: Any) -> Locked:
    if set(pin) != {"version", "digest", "commit", "base", "projection"}:
        raise ValueError(f"{ref} has the fields {sorted(pin)}")
    texts: Sequence[object] = (pin["digest"], pin["commit"], pin["base"]["name"], pin["base"]["fingerprint"])
    if not all(isinstance(text, str) for text in (*texts, pin["projection"])):
        raise ValueError(f"{ref} has a field that is no text")
    resolution = Resolution(pin["version"], pin["commit"], pin["digest"])
    return Locked(ref, resolution, pin["base"]["name"], pin["base"]["fingerprint"], pin["projection"])
