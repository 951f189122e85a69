"""Routes that write to the database, in one thread from the session's beginning to its commit.

SQLite is written by one at a time (`hub.db.turns`), and whoever waits for the turn holds one of the threads there are:
who has it must not need another one to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from sqlalchemy.orm import Session

from hub.access.once import IdempotencyKey, done_once
from hub.access.services import HubParts, Services
from hub.auth.policy import Principal
from hub.domain import accounts


class WritingRoute(APIRoute):
    """A route that may ask for a session by `Writing`: it is open while the route runs, and committed when it returns."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint if iscoroutinefunction(endpoint) else _opening(endpoint), **options)


@dataclass(frozen=True)
class _Unopened:
    session: AbstractContextManager[Session]


def _opening(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(endpoint)
    def run(**values: Any) -> Any:
        with ExitStack() as opened:
            for name, value in values.items():
                if isinstance(value, _Unopened):
                    values[name] = opened.enter_context(value.session)
            return endpoint(**values)

    return run


async def write_session(request: Request, parts: HubParts, idempotency_key: IdempotencyKey = None) -> _Unopened:
    """A session that is committed when the route returns, with its answer where the request has a key, of whoever may
    still write after the body has come."""
    return _Unopened(_written(request, parts, idempotency_key))


@contextmanager
def _written(request: Request, parts: Services, idempotency_key: str | None) -> Iterator[Session]:
    with parts.database.writing() as session:
        principal: Principal | None = getattr(request.state, "principal", None)
        if principal is not None:
            accounts.require_still(session, principal)
        with done_once(request, session, idempotency_key):
            yield session


@contextmanager
def writing_as(parts: Services, principal: Principal) -> Iterator[Session]:
    """A session of a route's own that is committed at the end, of whoever may still write after the body has come."""
    with parts.database.writing() as session:
        accounts.require_still(session, principal)
        yield session


Writing = Annotated[Session, Depends(write_session)]
