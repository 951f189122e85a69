"""A commit as it comes: one JSON object a line, the header first, then what it adds and takes away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool

from hub.domain.committing import Changes
from hub.domain.drafting import check_path
from hub.errors import Invalid, Malformed
from hub.hf.schemas import CommitHeader, CommittedFile, FileLine, RemovedPath

# Beyond this, decoding takes long enough for other requests to notice.
_TAKEN_AT_ONCE = 16 * 1024
Sent = TypeVar("Sent", bound=BaseModel)


@dataclass
class CommitReader:
    """Takes in the lines of a commit, each decoded as soon as it is whole: one is held twice, and never the body."""

    header: CommitHeader | None = None
    added: dict[str, bytes] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)

    async def read(self, body: AsyncIterator[bytes]) -> Changes:
        """The changes in `body`. Raises Malformed and Invalid."""
        line = bytearray()
        async for chunk in body:
            *ended, rest = chunk.split(b"\n")
            for end in ended:
                line += end
                await self._take_in(line)
                line = bytearray()
            line += rest
        await self._take_in(line)
        if self.header is None:
            raise _malformed("it has no header")
        message = f"{self.header.summary.strip()}\n\n{self.header.description.strip()}".strip()
        return Changes(message, self.added, tuple(self.removed), self.header.parentCommit)

    async def _take_in(self, line: bytearray) -> None:
        """Beside the event loop, where others would notice: a line may be a file of 64 MiB in base64."""
        if len(line) < _TAKEN_AT_ONCE:
            self._take(line)
        else:
            await run_in_threadpool(self._take, line)

    def _take(self, line: bytearray) -> None:
        if not line.strip():
            return
        key, value = _key_and_value(line)
        if (key == "header") == (self.header is not None):
            raise _malformed("its first line, and no other, is the header")
        match key:
            case "header":
                self.header = _read(CommitHeader, value)
            case "file":
                self._add(_read_file(line))
            case "deletedFile" | "deletedFolder":
                self.removed.append(_read(RemovedPath, value).path.rstrip("/"))
            case "lfsFile":
                raise Invalid(
                    "Files are sent inside the commit here, and not to a store beside it: send them as this hub's "
                    "preupload says.",
                    code="LFS_UNSUPPORTED",
                )
            case _:
                raise _malformed(f"it does {key[:40]!r}, which is not done here")

    def _add(self, file: CommittedFile) -> None:
        check_path(file.path)  # before its bytes are kept
        if file.path in self.added:
            raise _malformed(f"it sends {file.path} twice")
        self.added[file.path] = file.content


def refuse_pull_request(query: Mapping[str, str]) -> None:
    """Raises Invalid."""
    if query.get("create_pr", "") not in ("", "0", "false", "False"):
        raise Invalid("There are no pull requests here: commit to main.", code="PULL_REQUESTS_UNSUPPORTED")


def _key_and_value(line: bytearray) -> tuple[str, object]:
    # This parser: ours looks at every character, and a line may have 90 million.
    try:
        item = from_json(line)
        key, value = item["key"], item["value"]
    except (ValueError, KeyError, TypeError) as error:
        raise _malformed('one of its lines is not {"key": …, "value": …}') from error
    if not isinstance(key, str):
        raise _malformed("one of its keys is no text")
    return key, value


def _read(shape: type[Sent], value: object) -> Sent:
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise _misshapen(error) from error


def _read_file(line: bytearray) -> CommittedFile:
    try:
        return FileLine.model_validate_json(line).value
    except ValidationError as error:
        raise _misshapen(error) from error


def _misshapen(error: ValidationError) -> Malformed:
    first = error.errors(include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return _malformed(f"{where or 'a line'}: {first['msg']}")


def _malformed(what: str) -> Malformed:
    return Malformed(f"This is no commit as clients send it: {what}.", code="COMMIT_INVALID")
