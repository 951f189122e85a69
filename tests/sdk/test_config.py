from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from sdk.client import Hub
from sdk.config import DEFAULT_URL, PROFILE_FILE, Config, Login, Profile, check_url
from sdk.errors import Misconfigured

SECRET = "vhp_" + "S" * 46


def resolve(folder: Path, *, url: str | None = None, **environ: str) -> Config:
    return Config.resolve({"VERA_HUB_CONFIG": str(folder), "VERA_HUB_CACHE": str(folder / "cache"), **environ}, url=url)


def test_without_anything_the_hub_is_this_machine_and_nobody_is_logged_in(tmp_path: Path) -> None:
    config = resolve(tmp_path)

    assert (config.url, config.token, config.offline) == (DEFAULT_URL, None, False)


def test_an_argument_goes_before_the_environment_and_that_before_the_profile(tmp_path: Path) -> None:
    Profile("http://profile.test", {}).write(tmp_path)

    assert resolve(tmp_path).url == "http://profile.test"
    assert resolve(tmp_path, VERA_HUB_URL="http://env.test/").url == "http://env.test"
    assert resolve(tmp_path, url="http://argument.test", VERA_HUB_URL="http://env.test").url == "http://argument.test"


def test_the_profile_comes_back_as_it_was_written_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    profile = Profile().with_login("http://hub.test", Login(SECRET, "demo"))

    profile.write(tmp_path / "new" / "folder")

    assert Profile.read(tmp_path / "new" / "folder") == profile
    assert stat.S_IMODE((tmp_path / "new" / "folder" / PROFILE_FILE).stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [PROFILE_FILE]


def test_a_token_is_found_by_the_url_of_its_hub(tmp_path: Path) -> None:
    Profile().with_login("http://a.test", Login(SECRET, "demo")).write(tmp_path)

    assert resolve(tmp_path).token == SECRET
    assert resolve(tmp_path, url="http://A.test/").token == SECRET
    assert resolve(tmp_path, url="http://b.test").token is None


def test_a_token_never_goes_to_another_hub(tmp_path: Path) -> None:
    config = resolve(tmp_path, VERA_HUB_URL="http://a.test", VERA_HUB_TOKEN=SECRET)

    assert config.at_host(None).token == SECRET
    assert config.at_host("a.test").token == SECRET
    assert config.at_host("b.test").token is None


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("hub.example.org", "https://hub.example.org"),
        ("localhost:8000", "http://localhost:8000"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("127.0.0.1.evil.test", "https://127.0.0.1.evil.test"),
        ("lab.test:8000", "http://lab.test:8000"),
    ],
)
def test_a_host_is_reached_by_https_unless_it_is_this_machine_or_known(tmp_path: Path, host: str, url: str) -> None:
    Profile().with_login("http://lab.test:8000", Login(SECRET, "demo")).with_login(
        "http://a.test", Login("x", "y")
    ).write(tmp_path)

    assert resolve(tmp_path).at_host(host).url == url


def test_no_repr_shows_a_token(config: Config) -> None:
    secret = replace(config, token=SECRET)

    shown = [
        repr(secret),
        repr(Hub(secret)),
        repr(Login(SECRET, "demo")),
        repr(Profile(logins={"u": Login(SECRET, "d")})),
    ]

    assert not any("S" * 8 in text for text in shown)


@pytest.mark.parametrize(
    "data", ["", "[]", "{", '{"hubs": []}', '{"default_url": "ftp://x", "hubs": {}}', "[" * 100_000]
)
def test_a_broken_profile_is_said_to_be_broken_with_what_to_do(tmp_path: Path, data: str) -> None:
    (tmp_path / PROFILE_FILE).write_text(data)

    with pytest.raises(Misconfigured, match="vera-hub login"):
        resolve(tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "hub.test",
        "ftp://hub.test",
        "http://",
        "http://user:pw@hub.test",
        "http://hub.test?x=1",
        "http://a\nb",
        "http://[",
        "http://x:99999",
    ],
)
def test_what_is_not_the_url_of_a_hub_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(Misconfigured, match="looks like") as error:
        check_url(url)

    assert "pw" not in str(error.value)


@pytest.mark.parametrize("token", ["two words", "line\nend", "ünicode", "nul\0"])
def test_a_token_that_cannot_be_one_is_refused_without_showing_it(tmp_path: Path, token: str) -> None:
    with pytest.raises(Misconfigured) as error:
        resolve(tmp_path, VERA_HUB_TOKEN=token)

    assert token not in str(error.value)


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("0", False), ("", False), ("No", False)])
def test_offline_is_on_unless_it_says_no(tmp_path: Path, value: str, offline: bool) -> None:
    assert resolve(tmp_path, VERA_HUB_OFFLINE=value).offline is offline
