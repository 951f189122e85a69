"""Where `vera-hub` gets bases and data sets from while HF_ENDPOINT sends other tools to a hub of adapters: two servers that listen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.machines import Done, make_machine
from tests.hf.conftest import Wire
from tests.hf.test_relayed import WEIGHTS, Relayed, relayed

__all__ = ["relayed"]  # a fixture


def add_base(folder: Path, hub: Wire, **environment: str) -> Done:
    """`vera-hub base add tests/tiny` of somebody who uses `hub`, whose token their HF_TOKEN is."""
    token = hub.hub.token()
    mine = {"VERA_HUB_URL": hub.url, "VERA_HUB_TOKEN": token, "HF_TOKEN": token, "HF_HOME": str(folder / "hf")}
    return make_machine(folder / "machine").run("base", "add", "tests/tiny", **mine, **environment)


def downloaded(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in (folder / "hf").rglob("snapshots/*/model.safetensors")]


def test_a_base_comes_from_where_the_setting_says_and_no_token_of_the_hub_goes_there(
    wire: Wire, relayed: Relayed, tmp_path: Path
) -> None:
    # The other hub refuses a token that it does not know.
    done = add_base(tmp_path, wire, HF_ENDPOINT=wire.url, VERA_HUB_BASE_ENDPOINT=relayed.url)
    assert done.status == 0, done.err
    assert downloaded(tmp_path) == [WEIGHTS]


def test_a_base_comes_through_the_hub_that_passes_it_on(relayed: Relayed, tmp_path: Path) -> None:
    done = add_base(tmp_path, relayed, HF_ENDPOINT=relayed.url)
    assert done.status == 0, done.err
    assert downloaded(tmp_path) == [WEIGHTS]
    assert relayed.theirs.fetched("model.safetensors") == 1


def test_a_mirror_that_is_no_hub_of_adapters_is_asked_for_bases(wire: Wire, relayed: Relayed, tmp_path: Path) -> None:
    mirror = {"HF_ENDPOINT": relayed.url, "HF_TOKEN": relayed.hub.token()}
    token = wire.hub.token()
    machine = make_machine(
        tmp_path / "machine", VERA_HUB_URL=wire.url, VERA_HUB_TOKEN=token, HF_HOME=str(tmp_path / "hf")
    )
    done = machine.run("base", "add", "tests/tiny", **mirror)
    assert done.status == 0, done.err
    assert downloaded(tmp_path) == [WEIGHTS]


@pytest.mark.parametrize(
    ("endpoint", "token", "expected"),
    [
        ("the hub", "vhp_ours", "https://huggingface.co False"),
        ("the hub", "hf_theirs", "https://huggingface.co hf_theirs"),
        ("https://hf-mirror.example", "hf_theirs", "https://hf-mirror.example None"),
    ],
)
def test_without_a_setting_bases_and_data_sets_come_from_hugging_face(
    wire: Wire, tmp_path: Path, endpoint: str, token: str, expected: str
) -> None:
    script = (
        "from sdk.config import Config; from sdk.endpoints import download_options, for_data\n"
        "base, data = download_options('lab/unknown', config=Config.resolve()), for_data(Config.resolve())\n"
        "print(base['endpoint'], base['token'])\n"
        "print(data.url, data.token)"
    )
    environment = {
        **os.environ, "HF_ENDPOINT": wire.url if endpoint == "the hub" else endpoint, "HF_TOKEN": token,
        "VERA_HUB_URL": wire.url, "VERA_HUB_CONFIG": str(tmp_path), "VERA_HUB_CACHE": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == [expected, expected]
