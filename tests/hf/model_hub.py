"""A small hub of models over HTTP, as huggingface.co answers whoever reads: large files are elsewhere, behind a redirect."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 10_000


class Models(ThreadingHTTPServer):
    """`models` are files by name, and what happened is in `asked` (path and Authorization header)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.models: dict[str, dict[str, bytes]] = {}
        # Other names of models: the hub redirects from them.
        self.moved: dict[str, str] = {}
        self.told: dict[str, Any] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.damaged: str | None = None
        # Where large files are said to be, when not in the store that is here.
        self.redirect: str | None = None
        # Half of a large file is sent, and the rest once this is set.
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, name: str, files: dict[str, bytes] | Path) -> str:
        """Makes these the files of the model, and gives the commit."""
        if isinstance(files, Path):
            files = {each.name: each.read_bytes() for each in files.iterdir() if each.is_file()}
        self.models[name] = files
        return commit_of(files)

    def fetched(self, path: str) -> int:
        """How often a file was sent."""
        return sum(each.startswith("/store/") and each.endswith(f"/{path}") for each, _ in self.asked)


def commit_of(files: dict[str, bytes]) -> str:
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


def git_name(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serving_models() -> Iterator[Models]:
    hub = Models()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.may_go_on.set()
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Answering(BaseHTTPRequestHandler):
    server: Models

    def do_GET(self) -> None:
        hub, parts = self.server, urlsplit(self.path)
        hub.asked.append((parts.path, self.headers.get("authorization")))
        segments = [unquote(each) for each in parts.path.split("/")[1:]]
        if segments[0] == "store":
            self._send_large(segments[1:])
        elif segments[:2] == ["api", "models"]:
            at = segments.index("revision")
            self._describe("/".join(segments[2:at]), segments[at + 1], "blobs" in parse_qs(parts.query))
        else:
            at = segments.index("resolve")
            self._resolve("/".join(segments[:at]), segments[at + 1], "/".join(segments[at + 2 :]))

    def _describe(self, name: str, revision: str, with_blobs: bool) -> None:
        hub = self.server
        if name in hub.moved:
            return self._send(307, {"Location": f"/api/models/{hub.moved[name]}/revision/{revision}?blobs=true"})
        files = hub.models.get(name)
        if files is None:
            return self._send(401, {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", commit_of(files)):
            return self._send(404, {"X-Error-Code": "RevisionNotFound"})
        assert with_blobs
        rows = [_sibling(path, data) for path, data in files.items()]
        told = {"id": name, "modelId": name, "sha": commit_of(files), "private": False, "gated": False, "tags": []}
        return self._send(200, {}, json.dumps({**told, "downloads": 1, "siblings": rows, **hub.told}).encode())

    def _resolve(self, name: str, revision: str, path: str) -> None:
        files = self.server.models[name]
        assert revision == commit_of(files)
        headers = {"X-Repo-Commit": revision, "X-Xet-Hash": "0" * 64, "Link": '</xet>; rel="xet-auth"'}
        large = self.server.redirect or f"http://127.0.0.1:{self.server.server_address[1]}/store/{name}/{path}"
        self._send(302, {**headers, "Location": large})

    def _send_large(self, segments: list[str]) -> None:
        name, path = "/".join(segments[:2]), "/".join(segments[2:])
        data = self.server.models[name][path]
        if path == self.server.damaged:
            data = bytes([data[0] ^ 1]) + data[1:]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        half = len(data) // 2
        self.wfile.write(data[:half])
        self.server.may_go_on.wait(30)
        self.wfile.write(data[half:])

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _sibling(path: str, data: bytes) -> dict[str, Any]:
    row = {"rfilename": path, "size": len(data), "blobId": git_name(data)}
    if len(data) >= LARGE:
        large = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        row |= {"blobId": git_name(b"a pointer to it"), "lfs": large}
    return row
