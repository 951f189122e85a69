"""One request to a server with OpenAI's API, which is no hub: the judge of an evaluation, say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdk.errors import Unavailable


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    content: bytes


def ask(url: str, body: Mapping[str, Any], *, key: str | None, timeout_s: float) -> Reply:
    """What the server at `url` (`https://…/v1`) replies to a chat. Raises Unavailable when it cannot be reached."""
    import httpx2

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx2.post(f"{url}/chat/completions", json=dict(body), headers=headers, timeout=timeout_s)
    except httpx2.HTTPError as error:
        raise Unavailable(f"{url} could not be reached ({type(error).__name__}).") from error
    return Reply(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.content)
