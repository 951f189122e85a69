"""What a hub answers about aliases."""

from __future__ import annotations

from dataclasses import dataclass

from sdk.models.answer import Answer


@dataclass(frozen=True)
class Alias(Answer):
    """What an alias means. `revision` grows with every move; a protected one takes a maintainer to move."""

    name: str
    version: int
    ref: str
    digest: str
    protected: bool
    revision: int
    updated_at: str
    updated_by: str


@dataclass(frozen=True)
class AliasMove(Answer):
    """One move of an alias, from and to versions by number; None is "not set". It meant `after` until the next one,
    at `until`; None when there was none yet, or the hub is an older one."""

    revision: int
    before: int | None
    after: int | None
    at: str
    by: str
    until: str | None = None
