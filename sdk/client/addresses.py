"""Where things are at a hub: the paths of docs/api.md."""

from __future__ import annotations

from urllib.parse import quote

from sdk.errors import BadAnswer
from vera.errors import RefError
from vera.ref import LATEST, AdapterRef


def segment(text: str) -> str:
    """`text` as one segment of a path, whatever stands in it."""
    if text in ("", ".", ".."):
        raise BadAnswer(f"{text!r} is no id of anything on a hub.")
    return quote(text, safe=":@")


def selector_of(ref: AdapterRef) -> str:
    return ref.selector or ref.digest or LATEST


def suite_path(name: str) -> str:
    family, slash, task = name.partition("/")
    if not slash or "/" in task or {family, task} & {"", ".", ".."}:
        raise RefError(
            f"{name!r} is not a suite: write it as family/task; `vera-hub suites` lists them.", code="SUITE_INVALID"
        )
    return f"{segment(family)}/{segment(task)}"


def webhooks_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{segment(namespace)}/webhooks"
