"""The bodies that clients of this wire send. What they send beyond it changes nothing here, and is let pass."""

from __future__ import annotations

from base64 import b64decode
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hub.domain.ignoring import MAX_RULES
from hub.domain.views.adapters import AccessState
from vera.archive import MAX_BYTES
from vera.manifest import CARD_FILE

Text = Annotated[str, Field(max_length=200)]
Path = Annotated[str, Field(max_length=1000)]
# What is kept of both is shorter, and is refused with a sentence: this is what is taken in.
Message = Annotated[str, Field(max_length=10_000)]
Kind = Literal["model", "dataset", "space", "kernel", "bucket"]
Seen = Literal["public", "private"]


class Sent(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class NewRepository(Sent):
    """`organization` null is whoever asks. Older clients say `private`, newer ones `visibility`."""

    name: Text
    organization: Text | None = None
    type: Kind | None = None
    private: bool | None = None
    visibility: Seen | None = None

    @property
    def is_private(self) -> bool:
        return bool(self.private) or self.visibility == "private"


class OldRepository(Sent):
    name: Text
    organization: Text | None = None
    type: Kind | None = None


class Renaming(Sent):
    fromRepo: Text  # noqa: N815  # as they spell it
    toRepo: Text  # noqa: N815
    type: Kind | None = None


class RepositorySettings(Sent):
    private: bool | None = None
    visibility: Seen | None = None
    gated: Literal["auto", "manual", False] | None = None

    @property
    def is_private(self) -> bool | None:
        return self.private if self.visibility is None else self.visibility == "private"


class FileToCome(Sent):
    """`sample` is base64 of the first 512 bytes."""

    path: Path
    size: Annotated[int, Field(ge=0)]
    sample: Annotated[str, Field(max_length=1024)] = ""

    @property
    def beginning(self) -> bytes:
        try:
            return b64decode(self.sample)
        except ValueError:
            return b""


class FilesToCome(Sent):
    files: Annotated[list[FileToCome], Field(max_length=1000)]
    gitIgnore: Annotated[str, Field(max_length=MAX_RULES)] | None = None  # noqa: N815  # as they spell it


class Card(Sent):
    content: Annotated[str, Field(max_length=MAX_BYTES[CARD_FILE])]


class NewTag(Sent):
    tag: Text


class NewBranch(Sent):
    startingPoint: Text | None = None  # noqa: N815  # as they spell it


class Squashing(Sent):
    message: Annotated[str, Field(max_length=1000)] | None = None


class AccessGrant(Sent):
    user: Text


class AccessHandling(Sent):
    user: Text | None = None
    requestId: Text | None = None  # noqa: N815  # as they spell it
    status: AccessState
    rejectionReason: Annotated[str, Field(max_length=1000)] | None = None  # noqa: N815


# -- The lines of a commit ------------------------------------------------------------------------


class CommitHeader(Sent):
    summary: Message
    description: Message = ""
    parentCommit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}$")] | None = None  # noqa: N815  # as they spell it


class CommittedFile(Sent):
    """`content` is base64 in JSON, and is decoded where the JSON is read: Python's own takes five times as long."""

    model_config = ConfigDict(val_json_bytes="base64")

    path: Path
    content: bytes
    encoding: Literal["base64"] = "base64"


class FileLine(Sent):
    value: CommittedFile


class RemovedPath(Sent):
    path: Path
