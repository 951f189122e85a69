"""Hugging Face's endpoints for data sets, as much of them as its client asks for a download."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

FilesByPath = dict[str, bytes]


@dataclass
class DatasetServer:
    """`repositories` gives the files of each revision of each data set; a revision's commit is the hash of its files."""

    repositories: dict[str, dict[str, FilesByPath]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    served: list[str] = field(default_factory=list)

    def publish(self, dataset: str, files: FilesByPath, revision: str = "main") -> str:
        """Its commit."""
        commit = hashlib.sha1(repr(sorted(files.items())).encode(), usedforsecurity=False).hexdigest()
        revisions = self.repositories.setdefault(dataset, {})
        revisions[revision] = revisions[commit] = {".gitattributes": b"", **files}
        return commit

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        prefix = 2 if parts[:2] == ["api", "datasets"] else 1
        dataset, (kind, revision, *rest) = "/".join(parts[prefix : prefix + 2]), (*parts[prefix + 2 :], "", "")[:5]
        if dataset in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if dataset not in self.repositories:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        revision = revision or "main"
        files = self.repositories[dataset].get(revision)
        if files is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        commit = next(name for name, held in self.repositories[dataset].items() if len(name) == 40 and held is files)
        if kind == "resolve":
            return self._file(files, "/".join(part for part in rest if part), commit)
        return 200, {"Content-Type": "application/json"}, json.dumps(_described(dataset, kind, files, commit)).encode()

    def _file(self, files: FilesByPath, path: str, commit: str) -> tuple[int, dict[str, str], bytes]:
        if path not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        self.served.append(path)
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{_oid(files[path])}"'}, files[path]


def _described(dataset: str, kind: str, files: FilesByPath, commit: str) -> object:
    if kind == "tree":
        return [{"type": "file", "path": path, "oid": _oid(data), "size": len(data)} for path, data in files.items()]
    return {"id": dataset, "sha": commit, "siblings": [{"rfilename": path} for path in files]}


def _oid(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@contextmanager
def serve(server: DatasetServer) -> Iterator[str]:
    """`server` on a free port of 127.0.0.1. Gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            status, headers, body = server.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD = _answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()
