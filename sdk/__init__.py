"""The client of a Vera Hub.

    import sdk

    model = sdk.load(base, "org/adapter@v3")
    print(sdk.verify(base, "org/adapter@v3"))
    sdk.push("my-adapter")
    sdk.pull("org/adapter@prod", to="adapter")
    sdk.export(base, "org/adapter@prod", to="merged")

Several adapters on one model:

    sdk.load_many(model, ["org/a", "org/b@v2"])
    sdk.activate(model, "org/a")
    with sdk.using(model, "org/a"):  # of several threads, each through its own
        ...
    with sdk.rows(model, ["org/a", "org/b@v2", None]):
        ...
    sdk.unload(model, "org/a")

Trained by your own loop:

    sdk.new(base, "my-adapter", rank=256)
    model = sdk.load(base, "./my-adapter")
    with sdk.training(model) as vectors:
        ...
    sdk.save(model, "my-adapter")

Thousands of one kind, for a GPU that serves many customers at once:

    with sdk.pack(model, "org/a", capacity=4096) as packed:
        packed.load("org/b")
        packed.use(["org/a", "org/b", None])
        ...

`import sdk` costs nothing: each name is imported when it is first used, and only what works on a
live model needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdk.beginning import new
    from sdk.client import Hub
    from sdk.config import Config
    from sdk.exporting import export
    from sdk.fetching import pull
    from sdk.live import activate, rows, training, unload, using
    from sdk.loading import load, load_many
    from sdk.packing import pack
    from sdk.pushing import push
    from sdk.saving import save
    from sdk.verifying import Verification, verify

__all__ = [
    "Config",
    "Hub",
    "Verification",
    "activate",
    "export",
    "load",
    "load_many",
    "new",
    "pack",
    "pull",
    "push",
    "rows",
    "save",
    "training",
    "unload",
    "using",
    "verify",
]

_ROOMS = {
    "Config": "sdk.config",
    "Hub": "sdk.client",
    "Verification": "sdk.verifying",
    "activate": "sdk.live",
    "export": "sdk.exporting",
    "load": "sdk.loading",
    "load_many": "sdk.loading",
    "new": "sdk.beginning",
    "pack": "sdk.packing",
    "pull": "sdk.fetching",
    "push": "sdk.pushing",
    "rows": "sdk.live",
    "save": "sdk.saving",
    "training": "sdk.live",
    "unload": "sdk.live",
    "using": "sdk.live",
    "verify": "sdk.verifying",
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
