"""What an import may cost, how modules may be called, and where they are named. Who may import whom is in pyproject.toml."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("vera", "sdk", "hub")

TORCH = {"torch", "transformers", "safetensors", "peft", "sklearn", "scipy"}
# Modules that share a name with the standard library because no other word says it as well.
NAMESAKES = {"hub.scoring.statistics", "hub.db.types", "hub.cli.profile"}
SERVER = {"fastapi", "starlette", "sqlalchemy", "alembic", "uvicorn"}


def modules_of(package: str) -> list[str]:
    """Every module in `package`, by name, without importing any."""
    found = [package]
    for module in pkgutil.iter_modules([str(ROOT / package.replace(".", "/"))]):
        name = f"{package}.{module.name}"
        found += modules_of(name) if module.ispkg else [name]
    return found


def loaded_by(modules: Iterable[str]) -> set[str]:
    """The top-level packages that a fresh interpreter holds after importing `modules`."""
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, *modules], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert finished.returncode == 0, finished.stderr
    return set(finished.stdout.split())


def test_the_method_needs_no_torch() -> None:
    light = [name for name in modules_of("vera") if not name.startswith("vera.nn")]
    assert "vera.archive" in light
    assert not loaded_by(light) & (TORCH | SERVER | {"click", "httpx2"})


@pytest.mark.parametrize("module", ["sdk", "hub"])
def test_the_packages_themselves_are_light(module: str) -> None:
    assert not loaded_by([module]) & (TORCH | SERVER | {"httpx2", "huggingface_hub", "numpy"})


@pytest.mark.parametrize("module", ["hub.cli", "sdk.cli.main"])
def test_the_command_line_starts_without_torch_or_a_server(module: str) -> None:
    assert not loaded_by([module]) & (TORCH | SERVER)


def test_the_server_runs_without_torch() -> None:
    assert not loaded_by(["hub.app"]) & TORCH


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    names = [name for package in PACKAGES for name in modules_of(package)]
    assert not [name for name in names if name.rpartition(".")[2] in {"utils", "util", "helpers", "common", "misc"}]


def test_no_module_is_called_like_the_standard_library() -> None:
    names = [name for package in PACKAGES for name in modules_of(package)]
    namesakes = {name for name in names if name.rpartition(".")[2] in sys.stdlib_module_names}
    assert namesakes <= NAMESAKES


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_is_not_called_like_what_its_package_exports(package: str) -> None:
    """`sdk.load` is a function: a module `sdk/load.py` would take its place on import."""
    exported = getattr(__import__(package), "__all__", ())
    modules = {name.rpartition(".")[2] for name in modules_of(package)[1:]}
    assert not modules & set(exported)


def named_in_the_document() -> set[str]:
    """The modules on the map of docs/ARCHITECTURE.md: a folder begins a line, and what is in it stands below, indented."""
    _, house, _ = (ROOT / "docs" / "ARCHITECTURE.md").read_text().split("```", 2)
    named, room = set(), ""
    for line in house.strip().splitlines():
        if line.startswith(" "):
            without_glosses = re.sub(r"\([^)]*\)", "", line)
            named |= {f"{room}.{name.strip()}" for name in without_glosses.split("·") if name.strip()}
        else:
            room = line.split()[0].rstrip("/").replace("/", ".")
            named.add(room)
    return {name for name in named if name.partition(".")[0] in PACKAGES}


def test_the_document_names_every_module_and_no_other() -> None:
    names = {name for package in PACKAGES for name in modules_of(package)}
    assert named_in_the_document() == {name for name in names if not name.endswith(".__main__")}
