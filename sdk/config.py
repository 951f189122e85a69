"""Which hub, as whom, and where things are kept: resolved once, then passed along as a value.

| environment       | what                                 | otherwise                          |
|-------------------|--------------------------------------|------------------------------------|
| VERA_HUB_URL      | the hub                              | the profile's, or this machine's   |
| VERA_HUB_TOKEN    | the token for that hub               | the profile's for that hub         |
| VERA_HUB_CACHE    | folder of downloaded files           | the system's folder for caches     |
| VERA_HUB_CONFIG   | folder of the profile and the bases  | the system's folder for settings   |
| VERA_HUB_OFFLINE  | 1: never use the network             | 0                                  |
| VERA_HUB_BASE_ENDPOINT | where base models come from     | `sdk.endpoints` finds out          |

The profile is `profile.json`, mode 0600. `vera-hub serve` and `vera-hub login` write it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from sdk.errors import Misconfigured
from sdk.files import read_bounded, write_atomically
from vera.locks import alone_with

DEFAULT_URL = "http://127.0.0.1:8000"
PROFILE_FILE = "profile.json"

_APP = "vera-hub"
_FALSE = {"", "0", "false", "no", "off"}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_MAX_PROFILE_BYTES = 1 << 20


@dataclass(frozen=True)
class Login:
    """A token and whose it is. The token is in no repr."""

    token: str = field(repr=False)
    user: str


@dataclass(frozen=True)
class Profile:
    """The logins of this machine's user, by the URL of the hub."""

    default_url: str = DEFAULT_URL
    logins: Mapping[str, Login] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Profile:
        """The profile in `folder`; an empty one when there is none. Raises Misconfigured."""
        path = folder / PROFILE_FILE
        data = read_bounded(path, _MAX_PROFILE_BYTES)
        if data is None:
            return cls()
        try:
            fields = json.loads(data)
            logins = {url: Login(str(login["token"]), str(login["user"])) for url, login in fields["hubs"].items()}
            return cls(check_url(fields["default_url"]), logins)
        except (Misconfigured, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Misconfigured(
                f"{path} is not a profile of vera-hub: remove it and run `vera-hub login`.", facts={"path": str(path)}
            ) from error

    def write(self, folder: Path) -> None:
        hubs = {url: {"token": login.token, "user": login.user} for url, login in self.logins.items()}
        data = json.dumps({"default_url": self.default_url, "hubs": hubs}, indent=2)
        write_atomically(folder / PROFILE_FILE, f"{data}\n".encode(), mode=0o600)

    def with_login(self, url: str, login: Login) -> Profile:
        """This profile with `login` for the hub at `url`, which becomes the default."""
        return Profile(url, {**self.logins, url: login})

    @classmethod
    def remember(cls, folder: Path, url: str, login: Login) -> None:
        """Keeps `login` in the profile in `folder`; its hub becomes the default. Several processes may do so at once."""
        with alone_with(folder / PROFILE_FILE):
            cls.read(folder).with_login(url, login).write(folder)

    @classmethod
    def forget(cls, folder: Path, url: str) -> None:
        """Takes the login for the hub at `url` out of the profile in `folder`."""
        with alone_with(folder / PROFILE_FILE):
            profile = cls.read(folder)
            kept = {at: login for at, login in profile.logins.items() if at != url}
            cls(profile.default_url, kept).write(folder)

    def url_of_host(self, host: str) -> str:
        """The hub that `vera://host/…` means: a known one, else HTTPS, and HTTP for this machine itself."""
        for url in self.logins:
            if urlsplit(url).netloc == host:
                return url
        return check_url(f"{'http' if is_loopback(f'http://{host}') else 'https'}://{host}")


@dataclass(frozen=True)
class Config:
    """Everything the client needs to know. `folder` holds the profile, `cache` what can be fetched again."""

    url: str
    folder: Path
    cache: Path
    token: str | None = field(default=None, repr=False)
    offline: bool = False
    # None: `sdk.endpoints` finds out.
    base_endpoint: str | None = None

    @classmethod
    def resolve(
        cls, environ: Mapping[str, str] | None = None, *, url: str | None = None, profile: Profile | None = None
    ) -> Config:
        """The configuration that `environ` (the process's own by default) and the profile give.

        `url` goes before both; `profile` is used instead of the one that is kept. Raises Misconfigured.
        """
        env = os.environ if environ is None else environ
        folder = _folder(env.get("VERA_HUB_CONFIG"), "user_config_path")
        profile = Profile.read(folder) if profile is None else profile
        chosen = check_url(url or env.get("VERA_HUB_URL") or profile.default_url)
        login = profile.logins.get(chosen)
        return cls(
            url=chosen,
            folder=folder,
            cache=_folder(env.get("VERA_HUB_CACHE"), "user_cache_path"),
            token=check_token(env.get("VERA_HUB_TOKEN") or (login.token if login else "")),
            offline=env.get("VERA_HUB_OFFLINE", "").strip().lower() not in _FALSE,
            base_endpoint=check_url(env["VERA_HUB_BASE_ENDPOINT"], "VERA_HUB_BASE_ENDPOINT")
            if env.get("VERA_HUB_BASE_ENDPOINT")
            else None,
        )

    def at_host(self, host: str | None) -> Config:
        """The configuration for the hub of a `vera://host/…` reference; this one without a host.

        A token goes to the hub it was made for and to no other.
        """
        if host is None or urlsplit(self.url).netloc == host:
            return self
        profile = Profile.read(self.folder)
        url = profile.url_of_host(host)
        login = profile.logins.get(url)
        return replace(self, url=url, token=login.token if login else None)


def check_url(text: str, said_by: str = "VERA_HUB_URL") -> str:
    """`text` as the URL of a hub, without a slash at its end. Raises Misconfigured."""
    try:
        parts = urlsplit(text.strip())
        is_url = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or "@" in parts.netloc or parts.query or parts.fragment or not text.isprintable():
        raise Misconfigured(
            "The URL of a hub looks like http://127.0.0.1:8000 or https://hub.example.org, without user, "
            f"query or fragment: check {said_by}.",
            code="URL_INVALID",
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def check_token(text: str) -> str | None:
    """`text` as a token, None when it is empty. Raises Misconfigured, without the token in the sentence."""
    token = text.strip()
    if not (token.isascii() and all(" " < char < "\x7f" for char in token)):
        raise Misconfigured(
            "The token holds characters no token has: copy it again, as one line.", code="TOKEN_INVALID"
        )
    return token or None


def is_loopback(url: str) -> bool:
    """True when `url` is on this machine."""
    return urlsplit(url).hostname in _LOOPBACK


def _folder(chosen: str | None, default: str) -> Path:
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # 18 ms, and seldom needed where the environment says it

    path: Path = getattr(platformdirs, default)(_APP, appauthor=False)
    return path
