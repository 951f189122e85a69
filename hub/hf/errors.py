"""Refusals as clients of this wire know them: by `X-Error-Code`, and a sentence in `X-Error-Message`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import Request, Response

from hub.api.errors import Problem
from hub.hf.addresses import is_of_no_adapter, is_wire

# Their clients raise an exception of its own for each of these.
_THEIR_CODES: Mapping[str, str] = {
    "ADAPTER_UNKNOWN": "RepoNotFound",
    "VERSION_UNKNOWN": "RevisionNotFound",
    "VERSION_DELETED": "RevisionNotFound",
    "ALIAS_UNKNOWN": "RevisionNotFound",
    "FILE_UNKNOWN": "EntryNotFound",
    "ADAPTER_GATED": "GatedRepo",
    "BASE_GATED": "GatedRepo",
}
_MAX_HEADER = 1000


def as_refusal(request: Request, problem: Problem) -> Response | None:
    """The problem as this wire tells it; None at any other address."""
    if not is_wire(request.url.path):
        return None
    refused = refuse(problem)
    if problem.code == "ROUTE_UNKNOWN" and is_of_no_adapter(request.url.path):
        refused.headers["X-Error-Code"] = "RepoNotFound"
    return refused


def refuse(problem: Problem, more: Mapping[str, object] | None = None) -> Response:
    """The problem, and what `more` clients read from such a refusal."""
    body = {"error": problem.detail, "code": problem.code, "facts": problem.facts, **(more or {})}
    if problem.code == "ADAPTER_UNKNOWN":  # clients add what to do, in the sentence that their users look for
        body["error"] = "Repository not found"
    said = header_line(str(body["error"]))
    if problem.status == HTTPStatus.FORBIDDEN:  # clients set a full stop after this one
        said = said.removesuffix(".")
    headers = {"Cache-Control": "no-store", "X-Error-Message": said, **problem.headers}
    if problem.code in _THEIR_CODES:
        headers["X-Error-Code"] = _THEIR_CODES[problem.code]
    if "commit" in problem.facts:  # "this commit has no such file" is remembered, "there is no such file" is not
        headers["X-Repo-Commit"] = str(problem.facts["commit"])
    data = json.dumps(body, default=str).encode("ascii")
    return Response(data, problem.status, headers, "application/json")


def header_line(text: str) -> str:
    """`text` as a header may hold it."""
    return " ".join(text.split())[:_MAX_HEADER].encode("ascii", "replace").decode()
