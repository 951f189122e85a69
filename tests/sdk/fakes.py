"""A hub in memory, for what a real one would not do on request: lie, break and be slow."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2

from sdk.client import Hub
from sdk.config import Config
from vera.archive import Archive
from vera.bundle import MEDIA_TYPE, bundle
from vera.manifest import CONFIG_FILE

URL = "http://hub.test"
TOKEN = "vhp_" + "T" * 46
NOW = "2030-01-02T03:04:05Z"


@dataclass
class FakeHub:
    """Serves the archives that were published, and notes every request.

    `first` are answers given before anything else, one per request; `blobs` may be spoiled. `canned`
    are answers by method and path: one, or several in turn of which the last stays.
    """

    versions: dict[str, list[Archive]] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[httpx2.Request] = field(default_factory=list)
    first: list[httpx2.Response | Exception] = field(default_factory=list)
    change_version: Callable[[dict[str, Any]], None] = lambda version: None
    # What a hub of today does to the files that it sends with a version; an older one, None, sends JSON.
    change_bundle: Callable[[dict[str, bytes]], None] | None = None
    user: str = "demo"
    canned: dict[str, list[object]] = field(default_factory=dict)

    def publish(self, adapter_id: str, archive: Archive) -> str:
        """The archive as the next version of the adapter; its reference."""
        numbered = self.versions.setdefault(adapter_id, [])
        numbered.append(archive)
        self.blobs |= {hashlib.sha256(data).hexdigest(): data for data in archive.files.values()}
        return f"{adapter_id}@v{len(numbered)}"

    def http(self) -> httpx2.Client:
        return httpx2.Client(transport=httpx2.MockTransport(self.handle))

    @property
    def paths(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if self.first:
            first = self.first.pop(0)
            if isinstance(first, Exception):
                raise first
            return first
        canned = self.canned.get(f"{request.method} {request.url.path}")
        if canned:
            value = canned.pop(0) if len(canned) > 1 else canned[0]
            return value if isinstance(value, httpx2.Response) else answer(value)
        return self._answer(request.method, request.url.path.strip("/").split("/"), request)

    def _answer(self, method: str, parts: list[str], request: httpx2.Request) -> httpx2.Response:
        match method, parts:
            case "GET", ["api", "v1", "whoami"]:
                return answer({"name": self.user, "kind": "user", "scopes": ["repo:push"]})
            case "GET", ["api", "v1", "adapters", owner, name] if f"{owner}/{name}" in self.versions:
                return answer(self._detail(owner, name))
            case "GET", ["api", "v1", "adapters", owner, name, "versions", selector]:
                return self._resolve(f"{owner}/{name}", selector, request.url.params.get("digest"))
            case "GET", ["api", "v1", "adapters", _, _, "blobs", sha256] if sha256 in self.blobs:
                return httpx2.Response(200, content=self.blobs[sha256])
            case "POST", ["api", "v1", "adapters", owner, name, "versions"]:
                return self._push(f"{owner}/{name}", request)
        return problem(404, "NOT_FOUND", f"There is no {request.url.path} here.")

    def _detail(self, owner: str, name: str) -> dict[str, Any]:
        archives = self.versions[f"{owner}/{name}"]
        versions = [version_json(f"{owner}/{name}", number, archive) for number, archive in enumerate(archives, 1)]
        base = archives[-1].manifest.base
        return {
            "id": f"{owner}/{name}", "namespace": owner, "name": name, "latest": len(versions), "task": None,
            "base": {"name": base.name, "fingerprint": base.fingerprint}, "created_at": NOW, "updated_at": NOW,
            "versions": versions[::-1],
        }  # fmt: skip

    def _resolve(self, adapter_id: str, selector: str, digest: str | None) -> httpx2.Response:
        for number, archive in enumerate(self.versions.get(adapter_id, []), 1):
            version = version_json(adapter_id, number, archive)
            latest = len(self.versions[adapter_id])
            named = {f"v{number}", version["commit"], version["digest"]}
            named |= {"latest"} if number == latest else set()
            named |= {alias for alias, at in self.aliases.items() if at == number}
            if selector in named:
                if digest not in (None, version["digest"]):
                    return problem(409, "DIGEST_MISMATCH", "It is another version.")
                self.change_version(version)
                return answer(version) if self.change_bundle is None else self._bundled(version, archive)
        return problem(404, "VERSION_UNKNOWN", f"{adapter_id} has no {selector}.")

    def _bundled(self, version: Mapping[str, Any], archive: Archive) -> httpx2.Response:
        files = {path: data for path, data in archive.files.items() if path != CONFIG_FILE}
        assert self.change_bundle is not None
        self.change_bundle(files)
        said = {key: version[key] for key in ("version", "commit", "digest", "yanked", "deprecated") if key in version}
        return httpx2.Response(
            200, content=bundle(json.dumps(said).encode(), files), headers={"content-type": MEDIA_TYPE}
        )

    def _push(self, adapter_id: str, request: httpx2.Request) -> httpx2.Response:
        files = parts_of(request)
        known = [archive.files for archive in self.versions.get(adapter_id, [])]
        if files in known:
            number, status = known.index(files) + 1, 200
        else:
            from vera.archive import inspect

            self.publish(adapter_id, inspect(files))
            number, status = len(known) + 1, 201
        version = version_json(adapter_id, number, self.versions[adapter_id][number - 1])
        self.change_version(version)
        return answer(version, status=status)


@contextmanager
def serve(fake: FakeHub) -> Iterator[str]:
    """`fake` on a free port of 127.0.0.1, for clients in another process. Gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            request = httpx2.Request(self.command, f"{URL}{self.path}", headers=dict(self.headers), content=body)
            response = fake.handle(request)
            self.send_response(response.status_code)
            for name in ("content-type", "retry-after", "location"):
                if name in response.headers:
                    self.send_header(name, response.headers[name])
            self.send_header("content-length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        do_GET = do_POST = do_PUT = _pass_on

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def hub_for(fake: FakeHub, config: Config) -> Hub:
    return Hub(config, http=fake.http())


def answer(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> httpx2.Response:
    return httpx2.Response(status, content=json.dumps(value).encode(), headers=dict(headers or {}))


def problem(
    status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **facts: object
) -> httpx2.Response:
    body = {
        "type": "about:blank",
        "title": "",
        "status": status,
        "code": code,
        "detail": detail,
        "facts": {"at": 1, **facts},
    }
    return answer(body, status=status, headers={"content-type": "application/problem+json", **(headers or {})})


def version_json(adapter_id: str, number: int, archive: Archive) -> dict[str, Any]:
    manifest = archive.manifest
    return {
        "version": number,
        "ref": f"{adapter_id}@v{number}",
        "digest": manifest.digest,
        "weights_digest": f"sha256:{manifest.weights.sha256}",
        "commit": hashlib.sha256(f"{adapter_id}{number}{manifest.digest}".encode()).hexdigest()[:40],
        "rank": manifest.recipe.rank,
        "parameters": manifest.parameters,
        "vector_bytes": manifest.weights.vector_bytes,
        "head_bytes": manifest.weights.head_bytes,
        "size_bytes": archive.size_bytes,
        "lora_bytes": manifest.lora_bytes(),
        "message": None,
        "created_at": NOW,
        "created_by": "demo",
        "id": adapter_id,
        "manifest": json.loads(archive.files["vera.json"]),
        "files": [
            {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
            for path, data in archive.files.items()
        ],
        "card_html": "",
        "evaluations": [],
        "warnings": [],
    }


def evaluation_json(**changes: object) -> dict[str, Any]:
    return {
        "id": "01E",
        "ref": "demo/a@v1",
        "version_digest": f"sha256:{'0' * 64}",
        "suite": "demo/topics",
        "spec_digest": f"sha256:{'1' * 64}",
        "state": "done",
        "score": 0.8,
        "interval": [0.75, 0.84],
        "metric": "accuracy",
        "items": 400,
        "attempts": 1,
        "position": None,
        "reason": None,
        "worker": "w",
        "created_at": NOW,
        "started_at": NOW,
        "finished_at": NOW,
        "environment": {},
        **changes,
    }


def parts_of(request: httpx2.Request) -> dict[str, bytes]:
    """The files of a multipart push."""
    boundary = request.headers["content-type"].partition("boundary=")[2].encode()
    files = {}
    for part in request.content.split(b"--" + boundary)[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0].decode()
        if b"filename=" in head:
            files[name] = body.removesuffix(b"\r\n")
    return files
