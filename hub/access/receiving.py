"""Request bodies as they come: counted, and given up when they do not."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

from fastapi import Request

from hub.access.intake import Intake
from hub.access.once import HEADER
from hub.errors import TooLarge, TooSlow


async def chunks(request: Request, limit: int, intake: Intake) -> AsyncIterator[bytes]:
    """The body as it comes; of one that is to be done once, its hash is then in `request.state.sent`. Raises TooLarge
    beyond `limit` bytes, before reading when the length is declared, and TooSlow when it comes slower than `intake` allows."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and len(declared) < 19 and int(declared) > limit:
        raise _too_large(limit)
    stream, received, began = aiter(request.stream()), 0, asyncio.get_running_loop().time()
    sent = hashlib.sha256() if HEADER in request.headers else None
    while True:
        try:
            async with asyncio.timeout_at(intake.next_due(began, received)):
                chunk = await anext(stream)
        except StopAsyncIteration:
            if sent is not None:
                request.state.sent = sent.hexdigest()
            return
        except TimeoutError as error:
            raise TooSlow("The body came too slowly or stopped coming: send the request again.") from error
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        if sent is not None:
            sent.update(chunk)
        yield chunk


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than the {limit:,} bytes that are allowed here.", limit=limit)
