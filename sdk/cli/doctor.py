"""`doctor`: what this machine needs, looked at one by one, each with what to do when it is missing."""

from __future__ import annotations

import ctypes
import platform
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, pass_app
from sdk.errors import HubError, Misconfigured

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.config import Config

OLDEST_PYTHON = (3, 11)
# Tokens expire and certificates begin to the second; half a minute is what the hub forgives.
MAX_SKEW_S = 30.0
DISTRIBUTION = "vera-hub"
PACKAGES = ("vera", "sdk", "hub")


class Health(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    what: str
    health: Health
    sentence: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def doctor(app: App, *, as_json: bool) -> None:
    """Check that everything this machine needs is there.

    Exit status 1 when something is missing that the hub cannot be used without.
    """
    checks = list(examine(app))
    if as_json:
        terminal.say_json(checks)
    else:
        for check in checks:
            terminal.say(f"{check.health:<5} {check.what:<10} {clean(check.sentence)}")
    if any(check.health is Health.FAIL for check in checks):
        raise click.exceptions.Exit(1)


def examine(app: App) -> Iterator[Check]:
    """Every check, in the order in which one would look. What is broken is said, and the rest looked at all the same."""
    yield check_python()
    yield check_torch()
    yield check_gpu()
    yield check_packages()
    config, settings = _configure(app)
    yield from settings
    if config is None:
        return
    yield check_cache(config)
    yield check_bases(config)
    if config.offline:
        yield Check("hub", Health.WARN, "VERA_HUB_OFFLINE is set: only what is in the cache can be used.")
        return
    with app.hub_at(config) as hub:
        hub_check = _asking("hub", lambda: _check_hub(hub))
        yield hub_check
        if hub_check.health is not Health.FAIL:
            yield _asking("token", lambda: _check_token(hub))
            yield _asking("clock", lambda: _check_clock(hub))


def _configure(app: App) -> tuple[Config | None, list[Check]]:
    """The settings, without the profile when that is broken, and what is to be said of both."""
    from sdk.config import Config, Profile

    try:
        return app.config, [check_profile(app.config)]
    except Misconfigured as error:
        broken = Check("settings", Health.FAIL, str(error))
    try:
        return Config.resolve(url=app.url, profile=Profile()), [broken]
    except Misconfigured:
        return None, [broken]


def check_python() -> Check:
    have = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        return Check("python", Health.FAIL, f"Python {have} is too old: install 3.11 or newer.")
    return Check("python", Health.OK, f"Python {have}")


def check_torch() -> Check:
    """Whether torch is installed; it is not imported, which would take seconds."""
    if util.find_spec("torch") is None:
        return Check(
            "torch", Health.WARN, "not installed: `train` and `sdk.load` need it, `pip install 'vera-hub[torch]'`."
        )
    return Check("torch", Health.OK, f"torch {metadata.version('torch')}")


def check_gpu() -> Check:
    """Which GPU the driver has, asked of the driver itself: importing torch for it would take seconds."""
    names = _cuda_devices()
    if not names:
        return Check("gpu", Health.OK, "none that CUDA can use: everything works on the CPU, large models slowly.")
    if util.find_spec("torch") is not None and "+cpu" in metadata.version("torch"):
        return Check("gpu", Health.WARN, f"{names[0]}, and this build of torch is for CPUs only: install one for CUDA.")
    return Check("gpu", Health.OK, ", ".join(names))


def _cuda_devices() -> list[str]:
    count, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    names = []
    for device in range(count.value):
        if driver.cuDeviceGetName(name, len(name), device) == 0:
            names.append(name.value.decode(errors="replace"))
    return names


def check_packages() -> Check:
    """Whether `vera`, `sdk` and `hub` are ours: the names are short, and another package may have them too."""
    by_name = metadata.packages_distributions()
    for name in PACKAGES:
        others = sorted(set(by_name.get(name, ())) - {DISTRIBUTION})
        if others:
            return Check(
                "packages",
                Health.FAIL,
                f"{others[0]} is installed here and has a package {name} too, so one of them has overwritten the other: "
                f"`pip uninstall {others[0]}`, install {DISTRIBUTION} again, or give each an environment of its own.",
            )
    here = Path(__file__).parents[2]
    for name in PACKAGES:
        spec = util.find_spec(name)
        found = Path(spec.origin).parents[1] if spec and spec.origin else None
        if found != here:
            return Check(
                "packages",
                Health.FAIL,
                f"`import {name}` finds {found or 'nothing'} instead of {here}: "
                "another package has the same name, so use a virtual environment of its own.",
            )
    return Check("packages", Health.OK, f"{', '.join(PACKAGES)} are all from {here}")


def check_profile(config: Config) -> Check:
    from sdk.config import PROFILE_FILE

    path = config.folder / PROFILE_FILE
    if not path.exists():
        return Check("profile", Health.WARN, f"{path} is not there: `vera-hub serve` or `vera-hub login` writes it.")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Check("profile", Health.WARN, f"{path} holds tokens and others can read it: `chmod 600 {path}`.")
    return Check("profile", Health.OK, str(path))


def check_cache(config: Config) -> Check:
    from sdk.files import write_atomically

    probe = config.cache / ".doctor"
    try:
        write_atomically(probe, b"")
        probe.unlink()
    except OSError as error:
        return Check(
            "cache",
            Health.FAIL,
            f"{config.cache} cannot be written ({error.strerror}): make room, or set VERA_HUB_CACHE.",
        )
    return Check("cache", Health.OK, str(config.cache))


def check_bases(config: Config) -> Check:
    """Whether the bases that are remembered are still where they were."""
    from sdk.bases import list_known

    try:
        known = list_known(config)
    except Misconfigured as error:
        return Check("bases", Health.FAIL, str(error))
    gone = [base for base in known if not base.is_here]
    if gone:
        return Check(
            "bases",
            Health.WARN,
            f"{gone[0].name} is not at {gone[0].path} any more: `vera-hub base add PATH --name {gone[0].name}`.",
        )
    return Check("bases", Health.OK, f"{len(known)} known" if known else "none known yet: `vera-hub base add` adds one")


def _check_hub(hub: Hub) -> Check:
    health = hub.health()
    return Check("hub", Health.OK, f"{hub.config.url} answers, version {health.version}")


def _check_token(hub: Hub) -> Check:
    if hub.config.token is None:
        return Check("token", Health.WARN, "none: reading works, pushing does not. `vera-hub login` saves one.")
    account = hub.whoami()
    return Check("token", Health.OK, f"{account.name}: {', '.join(account.scopes)}")


def _check_clock(hub: Hub) -> Check:
    skew_s = hub.clock_skew_s()
    if skew_s is None:
        return Check("clock", Health.WARN, "the hub does not say what time it is.")
    if abs(skew_s) > MAX_SKEW_S:
        which = "ahead of" if skew_s > 0 else "behind"
        return Check(
            "clock", Health.WARN, f"the hub's clock is {abs(skew_s):.0f} s {which} this machine's: set one right."
        )
    return Check("clock", Health.OK, f"within {MAX_SKEW_S:.0f} s of the hub's")


def _asking(what: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except HubError as error:
        return Check(what, Health.FAIL, str(error))
