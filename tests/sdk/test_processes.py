"""Several real processes with one cache and one folder of settings, and one that is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdk import housekeeping
from sdk.bases import list_known
from sdk.config import Config, Profile
from tests.builders import make_archive
from tests.sdk.fakes import FakeHub, serve
from vera.manifest import CONFIG_FILE

PROCESSES = 4
ARCHIVE = make_archive(seed=1)

FETCHING = """
import sys
from pathlib import Path
from sdk.config import Config
from sdk.fetching import fetch
config = Config(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[2]) / "cache")
print(fetch("demo/a@v1", config=config).archive.manifest.digest)
"""
REMEMBERING = """
import sys
from pathlib import Path
from sdk.bases import KnownBase, remember
from sdk.config import Config, Login, Profile
folder, number = Path(sys.argv[1]), sys.argv[2]
config = Config("http://hub.test", folder, folder / "cache")
for turn in range(20):
    remember(KnownBase(f"base-{number}-{turn}", folder, "vbf1:0"), config=config)
    Profile.remember(folder, f"http://hub-{number}-{turn}.test", Login("vhp_x", "demo"))
"""
# Writes one file after the other until it is killed.
WRITING = """
import os, sys
from pathlib import Path
from sdk.cache import Cache
cache = Cache(Path(sys.argv[1]))
print("begun", flush=True)
while True:
    cache.keep_blob(os.urandom(1 << 22))
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outputs(processes: list[subprocess.Popen[str]]) -> list[str]:
    finished = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    assert [status for *_, status in finished] == [0] * len(processes), finished
    return [out for out, *_ in finished]


@pytest.fixture
def url(fake: FakeHub) -> Iterator[str]:
    fake.publish("demo/a", ARCHIVE)
    with serve(fake) as at:
        yield at


def test_processes_that_fetch_the_same_at_once_all_get_it_and_leave_one_whole_copy(url: str, tmp_path: Path) -> None:
    got = outputs([start(FETCHING, url, tmp_path) for _ in range(PROCESSES)])

    assert got == [f"{ARCHIVE.manifest.digest}\n"] * PROCESSES
    (version,) = housekeeping.list_versions(tmp_path / "cache")
    kept = [data for path, data in ARCHIVE.files.items() if path != CONFIG_FILE]  # which follows from the manifest
    assert (version.is_complete, version.size_bytes) == (True, sum(map(len, kept)))
    assert housekeeping.verify(tmp_path / "cache").files == len(kept)
    assert list((tmp_path / "cache").rglob(".tmp-*")) == []


def test_no_process_overwrites_what_another_has_just_remembered(tmp_path: Path) -> None:
    outputs([start(REMEMBERING, tmp_path, number) for number in range(3)])

    assert len(list_known(Config("http://hub.test", tmp_path, tmp_path))) == 3 * 20
    assert len(Profile.read(tmp_path).logins) == 3 * 20


def test_a_process_that_is_killed_while_it_writes_leaves_no_damaged_file(tmp_path: Path) -> None:
    for _ in range(3):
        process = start(WRITING, tmp_path)
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.15)
        process.kill()
        process.communicate()

    checked = housekeeping.verify(tmp_path)
    leftovers = list(tmp_path.rglob(".tmp-*"))
    housekeeping.prune(tmp_path, everything=True)

    assert checked.files > 0
    assert (checked.damaged, leftovers) == ((), [])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    holding = (
        "import sys, time; from pathlib import Path; from vera.locks import alone_with\n"
        "with alone_with(Path(sys.argv[1]) / 'bases.json'):\n    print('held', flush=True); time.sleep(60)"
    )
    process = start(holding, tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()

    outputs([start(REMEMBERING, tmp_path, 0)])

    assert len(json.loads((tmp_path / "bases.json").read_text())["bases"]) == 20
