"""Request bodies: counted while they come, and read only when the caller may send one."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from hub.access.intake import Intake
from hub.access.receiving import chunks
from hub.access.services import Services, services
from hub.auth.policy import Principal
from hub.errors import Invalid, Malformed, Unsupported
from vera import strict_json

MAX_JSON_DEPTH = 16
# Beyond this, parsing takes long enough for other requests to notice.
_PARSED_AT_ONCE = 16 * 1024
Model = TypeVar("Model", bound=BaseModel)


class JsonBody(Generic[Model]):
    """A dependency: the JSON body as `model`. Name it after the one that says who may send it.

    `size` names the limit: plain requests are small, tables of tensors and of outputs are not.
    """

    def __init__(self, model: type[Model], size: Literal["plain", "table"] = "plain") -> None:
        self.model = model
        self.size = size

    async def __call__(self, request: Request, parts: Annotated[Services, Depends(services)]) -> Model:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Unsupported("The body must be application/json.")
        if self.size == "plain":
            return await self._read(request, parts.settings.max_json_bytes, parts.intake)
        principal: Principal | None = request.state.principal
        async with parts.intake.place(principal.account_id if principal else None):
            return await self._read(request, parts.settings.max_table_bytes, parts.intake)

    async def _read(self, request: Request, limit: int, intake: Intake) -> Model:
        body = bytearray()
        async for chunk in chunks(request, limit, intake):
            body += chunk
        if len(body) < _PARSED_AT_ONCE:
            return self.parse(bytes(body))
        return await run_in_threadpool(self.parse, bytes(body))

    def parse(self, body: bytes) -> Model:
        """The model in `body`. Raises Malformed for what is not strict JSON and Invalid for another shape."""
        try:
            value = strict_json.loads(body, max_depth=MAX_JSON_DEPTH)
        except (ValueError, RecursionError) as error:
            raise Malformed(f"The body is not JSON as it should be: {error}.", code="JSON_INVALID") from error
        _check_texts(value)
        try:
            return self.model.model_validate(value)
        except ValidationError as error:
            wrong = [{"where": ".".join(map(str, e["loc"])), "what": e["msg"]} for e in error.errors()[:20]]
            sentence = "; ".join(f"{each['where'] or 'body'}: {each['what']}" for each in wrong[:3])
            raise Invalid(f"The body has another shape: {sentence}.", code="BODY_INVALID", errors=wrong) from error


def _check_texts(value: object) -> None:
    """Raises Malformed for text that a database cannot hold: NUL, or half of a surrogate pair."""
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise Malformed("The body holds a NUL character or half a character: leave it out.", code="JSON_INVALID")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)
