"""The static files. They are few and small, so they are read once and served from memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Asset:
    """One static file. `url` names its content, so a browser may keep it for ever."""

    name: str
    body: bytes
    media_type: str

    @property
    def url(self) -> str:
        return f"/static/{self.name}?v={hashlib.sha256(self.body).hexdigest()[:12]}"


@cache
def all_assets() -> Mapping[str, Asset]:
    """Every file that is served, by name. What is not here cannot be asked for, whatever the URL says."""
    files = (path for path in sorted(FOLDER.iterdir()) if path.suffix in MEDIA_TYPES)
    return {path.name: Asset(path.name, path.read_bytes(), MEDIA_TYPES[path.suffix]) for path in files}


def asset_url(name: str) -> str:
    """Where the page finds the static file `name`. Raises KeyError when there is none."""
    return all_assets()[name].url
