"""The client of a Vera Hub.

    import sdk

    model = sdk.load(base, "org/adapter@v3")
    sdk.push("my-adapter")
    sdk.pull("org/adapter@prod", to="adapter")

`import sdk` costs nothing: each name is imported when it is first used, and only `load` needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.config import Config
    from sdk.fetching import pull
    from sdk.loading import load
    from sdk.pushing import push

__all__ = ["Config", "Hub", "load", "pull", "push"]

_ROOMS = {
    "Config": "sdk.config",
    "Hub": "sdk.client",
    "load": "sdk.loading",
    "pull": "sdk.fetching",
    "push": "sdk.pushing",
}


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_ROOMS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
