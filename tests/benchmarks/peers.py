"""Other registries beside ours: MLflow, Debian's docker-registry and devpi, each installed in a throwaway folder.

Each is asked for what it has of ours: what a version is, a search, the 172 KB of its weights, and to take in a new
version of the same three files. A peer that cannot be had here is left out, and that is said.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import shutil
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from tests.benchmarks.wrk import CONNECTIONS, SECONDS, Row, load, unpacked

PORT = 8766
START_TIMEOUT_S = 120
METADATA, SEARCH, PULL, PUSH = "metadata", "search", "pull", "durable push"
# The least that ours is to be of the peer's rate.
GOALS = {
    ("MLflow", METADATA): 20.0,
    ("MLflow", SEARCH): 20.0,
    ("MLflow", PUSH): 15.0,
    ("docker-registry", METADATA): 1.3,
    ("docker-registry", PULL): 2.0,
    ("docker-registry", PUSH): 5.0,
}
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Artifact:
    """What everybody is given: weights, a manifest and a card."""

    weights: bytes
    manifest: bytes
    card: bytes

    def another(self, number: int) -> Artifact:
        """The same size, and like no other."""
        return Artifact(self.weights[:-8] + number.to_bytes(8, "big"), self.manifest, self.card)


def beside(folder: Path, artifact: Artifact) -> Iterator[Row]:
    """The rows of every peer that can be had."""
    for name, peer in PEERS.items():
        try:
            yield from peer(folder / name, artifact)
        except (subprocess.CalledProcessError, OSError, httpx2.HTTPError, TimeoutError) as error:
            said = getattr(error, "stderr", None) or error
            print(f"{name} was left out: {said!s:.300}", file=sys.stderr)


def compared(rows: Sequence[Row]) -> list[tuple[str, str, float, float, float | None]]:
    """What, which peer, our rate and theirs, and the least that the ratio is to be."""
    ours = {row.kind: row.per_second for row in rows if row.kind in (METADATA, SEARCH, PULL, PUSH)}
    return [
        (what, peer, ours[what] or 0, row.per_second or 0, GOALS.get((peer, what)))
        for row in rows
        for peer, _, what in [row.kind.partition(": ")]
        if peer in PEERS and what in ours
    ]


# -- Peers ----------------------------------------------------------------------------------------


def mlflow(folder: Path, artifact: Artifact) -> Iterator[Row]:
    """MLflow's tracking server with its registry in SQLite, which keeps artifacts as files and never syncs them."""
    program = _installed(folder, "mlflow", "mlflow")
    data = _emptied(folder / "data")
    storage = ["--backend-store-uri", f"sqlite:///{data}/mlflow.db", "--artifacts-destination", f"{data}/artifacts"]
    with _serving(folder, [program, "server", *storage, "--host", "127.0.0.1", "--port", str(PORT)]) as url:
        api, files = f"{url}/api/2.0/mlflow", f"{url}/api/2.0/mlflow-artifacts/artifacts"
        with _client() as client:
            run = _said(client.post(f"{api}/runs/create", json={"experiment_id": "0"}))["run"]["info"]
            _said(client.post(f"{api}/registered-models/create", json={"name": "measured"}))
        place = run["artifact_uri"].partition(":/")[2].lstrip("/")

        def push(ask: Ask, number: int) -> None:
            new = artifact.another(number)
            for path, data in (("weights", new.weights), ("manifest", new.manifest), ("card", new.card)):
                ask("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{place}/{number}/{path}", data, {})
            source = {"name": "measured", "source": f"{run['artifact_uri']}/{number}", "run_id": run["run_id"]}
            ask("POST", "/api/2.0/mlflow/model-versions/create", json.dumps(source).encode(), _JSON)

        push(_asking(url), 0)
        yield _load("MLflow", METADATA, f"{api}/model-versions/get?name=measured&version=1")
        yield _load("MLflow", SEARCH, f"{api}/registered-models/search?filter=name%20LIKE%20%27%25meas%25%27")
        yield _load("MLflow", PULL, f"{files}/{place}/0/weights")
        yield _pushes("MLflow", url, push)


def docker_registry(folder: Path, artifact: Artifact) -> Iterator[Row]:
    """Debian's docker-registry: a manifest and blobs, as files."""
    program = unpacked(folder, "docker-registry") / "usr/bin/docker-registry"
    data, settings = _emptied(folder / "data"), folder / "settings.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '127.0.0.1:{PORT}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{data}'}}, cache: {{blobdescriptor: inmemory}}}}\n"
    )
    with _serving(folder, [str(program), "serve", str(settings)]) as url:

        def blob(ask: Ask, data: bytes) -> dict[str, object]:
            began = urlsplit(ask("POST", "/v2/measured/blobs/uploads/", b"", {}))
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            ask("PUT", f"{began.path}?{began.query}&digest={digest}", data, _BYTES)
            return {"mediaType": "application/octet-stream", "digest": digest, "size": len(data)}

        def push(ask: Ask, number: int) -> None:
            new = artifact.another(number)
            config, *layers = (blob(ask, data) for data in (new.manifest, new.weights, new.card))
            manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": layers}
            ask("PUT", f"/v2/measured/manifests/v{number}", json.dumps(manifest).encode(), {"Content-Type": _MANIFEST})

        push(_asking(url), 0)
        digest = hashlib.sha256(artifact.another(0).weights).hexdigest()
        yield _load("docker-registry", METADATA, f"{url}/v2/measured/manifests/v0", {"Accept": _MANIFEST})
        yield _load("docker-registry", PULL, f"{url}/v2/measured/blobs/sha256:{digest}")
        yield _pushes("docker-registry", url, push)


def devpi(folder: Path, artifact: Artifact) -> Iterator[Row]:
    """devpi with an index of its own: a release of one file."""
    program = Path(_installed(folder, "devpi-server", "devpi-server"))
    data = ["--serverdir", str(_emptied(folder / "data"))]
    subprocess.run([program.with_name("devpi-init"), *data, "--no-root-pypi"], check=True, capture_output=True)
    with _serving(folder, [str(program), *data, "--port", str(PORT), "--offline-mode"]) as url, _client() as client:
        _said(client.put(f"{url}/bench", json={"password": "of-the-benchmark"}))
        login = _said(client.post(f"{url}/+login", json={"user": "bench", "password": "of-the-benchmark"}))
        mine = base64.b64encode(f"bench:{login['result']['password']}".encode()).decode()
        _said(
            client.put(f"{url}/bench/dev", json={"type": "stage", "bases": []}, headers={"X-Devpi-Auth": mine}),
        )

        def push(ask: Ask, number: int) -> None:
            body = _release(artifact.another(number).weights, f"1.{number}")
            ask(
                "POST",
                "/bench/dev/",
                body,
                {"X-Devpi-Auth": mine, "Content-Type": f"multipart/form-data; boundary={_EDGE}"},
            )

        push(_asking(url), 0)
        page = client.get(f"{url}/bench/dev/measured/1.0", headers={"Accept": "application/json"})
        link = next(each["href"] for each in _said(page)["result"]["+links"])
        yield _load("devpi", METADATA, str(page.url), {"Accept": "application/json"})
        yield _load("devpi", PULL, link)
        yield _pushes("devpi", url, push)


PEERS: dict[str, Callable[[Path, Artifact], Iterator[Row]]] = {
    "MLflow": mlflow,
    "docker-registry": docker_registry,
    "devpi": devpi,
}


# -- Having them ----------------------------------------------------------------------------------


def _installed(folder: Path, package: str, program: str) -> str:
    """The program of a package of PyPI, in an environment of its own; one that is there already is used again."""
    found = folder / "environment" / "bin" / program
    if not found.exists():
        venv.create(folder / "environment", with_pip=True)
        command = [found.with_name("pip"), "install", "-q", "--disable-pip-version-check", package]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    said = subprocess.run([found, "--version"], check=True, capture_output=True, text=True)
    print(f"{package}: {said.stdout.strip()}", file=sys.stderr)
    return str(found)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@contextmanager
def _serving(folder: Path, command: Sequence[str]) -> Iterator[str]:
    """The address at which `command` answers, until the block ends."""
    url = f"http://127.0.0.1:{PORT}"
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as process:
        try:
            _wait_for(url, process)
            yield url
        finally:
            process.terminate()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    due = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < due and process.poll() is None:
        try:
            httpx2.get(url)
        except httpx2.TransportError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"it does not answer at {url}")


# -- Asking them ----------------------------------------------------------------------------------

# Method, path, body and headers; the answer's Location.
Ask = Callable[[str, str, bytes, dict[str, str]], str]
_JSON, _BYTES = {"Content-Type": "application/json"}, {"Content-Type": "application/octet-stream"}
_EDGE = "bench-registry-peers"


def _client() -> httpx2.Client:
    return httpx2.Client(timeout=60)


def _said(answer: httpx2.Response) -> dict[str, dict]:  # type: ignore[type-arg]  # whatever a peer answers
    return dict(answer.raise_for_status().json())


def _load(peer: str, what: str, url: str, headers: dict[str, str] | None = None) -> Row:
    return load(f"{peer}: {what}", url, headers or {}, kind=f"{peer}: {what}")


def _pushes(peer: str, url: str, push: Callable[[Ask, int], None]) -> Row:
    """New versions, one after another from each of 16 threads with a connection of its own: `wrk` asks one thing at
    a time, and a push of these is several."""
    until = time.monotonic() + SECONDS

    def keep_pushing(mine: int) -> list[float]:
        ask, times, number = _asking(url), [], mine
        while (began := time.monotonic()) < until:
            push(ask, number)
            times.append(1000 * (time.monotonic() - began))
            number += CONNECTIONS
        return times

    began = time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        times = [each for found in pool.map(keep_pushing, range(1, CONNECTIONS + 1)) for each in found]
    cuts = statistics.quantiles(times, n=100)
    what = f"{peer}: {PUSH}"
    return Row(what, len(times) / (time.monotonic() - began), cuts[49], cuts[98], kind=what)


def _asking(url: str) -> Ask:
    """Requests over one connection. Raises HTTPError for a refusal."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)

    def ask(method: str, path: str, body: bytes, headers: dict[str, str]) -> str:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise httpx2.HTTPError(f"{method} {path} was answered {answer.status}: {said[:200]!r}")
        return answer.headers.get("Location", "")

    return ask


def _release(data: bytes, version: str) -> bytes:
    fields = {":action": "file_upload", "name": "measured", "version": version}
    parts = [
        f'--{_EDGE}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    file = f'--{_EDGE}\r\nContent-Disposition: form-data; name="content"; filename="measured-{version}.tar.gz"\r\n\r\n'
    return "".join([*parts, file]).encode() + data + f"\r\n--{_EDGE}--\r\n".encode()
