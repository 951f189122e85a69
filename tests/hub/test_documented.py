"""What the documentation calls a setting is one, and each setting is somewhere in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hub.settings import Settings

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"VERA_HUB_[A-Z_]*[A-Z]")
SETTINGS = {f"VERA_HUB_{name.upper()}" for name in Settings.model_fields}
# For tests alone.
UNDOCUMENTED = {"VERA_HUB_WEBHOOK_ALLOW_LOOPBACK"}
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "ci").iterdir()), ROOT / "README.md", ROOT / "docker-compose.yml"]  # fmt: skip


def read_somewhere() -> set[str]:
    """The variables that the code reads, or the programs that the pages name do."""
    code = [file for room in ("hub", "sdk", "vera", "tests") for file in (ROOT / room).rglob("*.py")]
    return SETTINGS | {
        name for file in code for name in re.findall(r"[\"'](VERA_HUB_[A-Z_]*[A-Z])[\"']", file.read_text())
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_no_setting_that_nobody_reads(page: Path) -> None:
    assert sorted(set(NAME.findall(page.read_text())) - read_somewhere()) == []


def test_every_setting_of_a_hub_is_in_the_documentation() -> None:
    named = {name for page in PAGES for name in NAME.findall(page.read_text())}

    assert sorted(SETTINGS - named - UNDOCUMENTED) == []
