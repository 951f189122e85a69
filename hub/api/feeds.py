"""Feeds of what becomes of adapters, as Atom (RFC 4287)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from fastapi import APIRouter, Request, Response

from hub.access.permission import Reader
from hub.access.services import Reading
from hub.api.responses import caching, is_known
from hub.domain import feeds
from hub.domain.views.record import FeedEntry
from hub.settings import Settings

router = APIRouter(prefix="/api/v1", tags=["Feeds"])

MEDIA_TYPE = "application/atom+xml"
_ATOM = "http://www.w3.org/2005/Atom"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What XML cannot spell (https://www.w3.org/TR/xml/#charsets).
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ATOM_BODY: dict[int | str, dict[str, Any]] = {200: {"content": {MEDIA_TYPE: {}}}}

ElementTree.register_namespace("", _ATOM)


@router.get("/adapters/{namespace}/{name}/feed", response_class=Response, responses=_ATOM_BODY)
def feed_of_adapter(request: Request, reader: Reader, namespace: str, name: str, session: Reading) -> Response:
    """What lately became of an adapter: its versions and aliases."""
    entries = feeds.of_adapter(session, reader, namespace, name)
    return _atom(request, f"{namespace}/{name}", f"/{namespace}/{name}", entries)


@router.get("/namespaces/{namespace}/feed", response_class=Response, responses=_ATOM_BODY)
def feed_of_namespace(request: Request, reader: Reader, namespace: str, session: Reading) -> Response:
    """What lately became of the adapters of a namespace: their versions and aliases."""
    entries = feeds.of_namespace(session, reader, namespace)
    return _atom(request, namespace, f"/?owner={namespace}", entries)


def _atom(request: Request, title: str, page: str, entries: Sequence[FeedEntry]) -> Response:
    root = _root_of(request)
    body = _spell(f"{root}{request.url.path}", title, f"{root}{page}", root, entries)
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', **caching(request)}
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, f"{MEDIA_TYPE}; charset=utf-8")


def _spell(address: str, title: str, page: str, root: str, entries: Sequence[FeedEntry]) -> bytes:
    feed = ElementTree.Element(f"{{{_ATOM}}}feed")
    _add(feed, "id", address)
    _add(feed, "title", f"{title} on Vera Hub")
    _add(feed, "updated", _when(entries[0].at if entries else _EPOCH))
    _add(feed, "link", rel="self", type=MEDIA_TYPE, href=address)
    _add(feed, "link", rel="alternate", type="text/html", href=page)
    _add(_add(feed, "author"), "name", "Vera Hub")
    for each in entries:
        entry = _add(feed, "entry")
        _add(entry, "id", f"{root}/{each.adapter}#{each.number}")
        _add(entry, "title", each.title)
        _add(entry, "updated", _when(each.at))
        _add(_add(entry, "author"), "name", each.author)
        _add(entry, "link", rel="alternate", type="text/html", href=f"{root}/{each.adapter}#{each.number}")
        _add(entry, "content", each.text or each.title, type="text")
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(feed, encoding="unicode").encode()


def _add(parent: ElementTree.Element, name: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, f"{{{_ATOM}}}{name}", attributes)
    child.text = None if text is None else _NOT_XML.sub("\ufffd", text)
    return child


def _when(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _root_of(request: Request) -> str:
    """How others reach this hub."""
    settings: Settings = request.app.state.services.settings
    return (settings.public_url or str(request.base_url)).rstrip("/")
