"""The command line's profile: which hubs this user has logged into. `vera-hub serve` writes itself into it.

{"default_url": "http://127.0.0.1:8000", "hubs": {"http://127.0.0.1:8000": {"token": "vhp_…", "user": "demo"}}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from hub.app import is_loopback
from hub.db.folder import prepare_folder, write_secret
from hub.errors import StartRefused
from vera.locks import alone_with

PROFILE_FILE = "profile.json"


@dataclass(frozen=True)
class Login:
    user: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class Profile:
    """The logins by the URL of the hub. `default_url` is the hub of commands that name none."""

    logins: Mapping[str, Login]
    default_url: str | None = None


@dataclass(frozen=True)
class Moved:
    """Commands mean another hub from now on. `before` is the one they meant, where one was chosen."""

    before: str | None


def folder() -> Path:
    """Where the profile is: VERA_HUB_CONFIG, or the system's folder for settings."""
    chosen = os.environ.get("VERA_HUB_CONFIG")
    return Path(chosen) if chosen else platformdirs.user_config_path("vera-hub")


def read(where: Path) -> Profile:
    """The profile in the folder, an empty one when there is none. Raises StartRefused for a broken one."""
    try:
        fields = json.loads((where / PROFILE_FILE).read_bytes())
        logins = {str(url): Login(str(hub["user"]), str(hub["token"])) for url, hub in fields["hubs"].items()}
        return Profile(logins, str(fields["default_url"]))
    except FileNotFoundError:
        return Profile({})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StartRefused(
            f"{where / PROFILE_FILE} is not a profile of vera-hub: move it away, and a new one is written.",
            code="PROFILE_INVALID",
            exit_code=1,
        ) from error


def remember(where: Path, url: str, login: Login) -> Moved | None:
    """Writes the login of this hub into the profile in `where`, and says whether the default became another hub.

    An entry with the same token is this hub at an earlier address, and goes. This hub becomes the
    default unless that is one on another machine. Other processes that write the profile wait meanwhile.
    """
    prepare_folder(where)
    with alone_with(where / PROFILE_FILE):
        before = read(where)
        after = _with(before, url, login)
        _write(where, after)
    return None if after.default_url == before.default_url else Moved(before.default_url)


def _with(known: Profile, url: str, login: Login) -> Profile:
    others = {at: each for at, each in known.logins.items() if each.token != login.token and at != url}
    keeps_default = known.default_url in others and not _is_here(known.default_url)
    default_url = known.default_url if keeps_default else url
    return Profile({**others, url: login}, default_url)


def _write(where: Path, profile: Profile) -> None:
    hubs = {at: {"token": each.token, "user": each.user} for at, each in profile.logins.items()}
    data = json.dumps({"default_url": profile.default_url, "hubs": hubs}, indent=2)
    write_secret(where / PROFILE_FILE, f"{data}\n")


def _is_here(url: str | None) -> bool:
    return is_loopback(urlsplit(url or "").hostname or "")
