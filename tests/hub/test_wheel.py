"""What `pip install vera-hub` brings: all of the three packages, the migrations inside, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from hub.db.migrating import REVISION
from tests.hub.processes import serving

ROOT = Path(__file__).parents[2]
PACKAGES = ("vera", "sdk", "hub")
VERA_HUB = [sys.executable, "-c", "from sdk.cli.main import main; main()"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "-w", str(folder), "--retries", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "No matching distribution found for hatchling" in built.stderr:
        pytest.skip("building needs hatchling, and no package index answers")
    assert built.returncode == 0, built.stderr
    (file,) = folder.iterdir()
    with zipfile.ZipFile(file) as archive:
        yield archive


@pytest.fixture(scope="module")
def installed(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, as it lies in somebody's environment."""
    folder = tmp_path_factory.mktemp("site-packages")
    wheel.extractall(folder)
    return folder


@pytest.fixture
def environment(installed: Path) -> dict[str, str]:
    """Imports come from the unpacked wheel before anything else, and never from the working directory."""
    return {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}


def _files_below(folder: str, name_inside: str) -> set[str]:
    files = (file for file in (ROOT / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {f"{name_inside}/{file.relative_to(ROOT / folder).as_posix()}" for file in files}


def test_the_wheel_holds_the_three_packages_and_the_migrations(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}

    expected = set().union(*(_files_below(package, package) for package in PACKAGES))
    assert held == expected | _files_below("migrations", "hub/_migrations")
    assert {name.partition("/")[0] for name in held} == set(PACKAGES)
    assert any(name.startswith(f"hub/_migrations/versions/{REVISION}") for name in held)


def test_the_migrations_of_an_installed_hub_are_its_own(installed: Path, environment: dict[str, str]) -> None:
    code = "import hub.db.migrating as m; print(m.migrations_folder())"

    said = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )

    assert Path(said.stdout.strip()) == installed / "hub" / "_migrations"


def test_an_installed_hub_migrates_and_answers(tmp_path: Path, environment: dict[str, str]) -> None:
    with serving(tmp_path, environment=environment, command=VERA_HUB) as server:
        assert httpx2.get(f"{server.url}/healthz").json()["status"] == "ok"
        assert httpx2.get(f"{server.url}/static/hub.css").status_code == 200
        assert "Vera Hub" in httpx2.get(server.url, headers={"Accept": "text/html"}, follow_redirects=True).text
        assert server.stop() == 0
