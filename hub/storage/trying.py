"""Whether an object store does what a hub needs of it, before anybody relies on that."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from datetime import timedelta

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, from_url

from hub.errors import StartRefused
from hub.storage.objects import said_by

log = logging.getLogger(__name__)

# Beside the blobs, which it is none of. It stays: a key need not be allowed to delete.
_NAME = "vera-hub.txt"
_TEXT = b"A Vera Hub keeps its large files here, below blobs/. It writes this one to see whether it may.\n"
# Without it, a start would wait three minutes for a store that is not there.
_PATIENCE = timedelta(seconds=10)

# What a store says that will say the same tomorrow, and where to look then. The client knows two of these as types of their own,
# and not the same ones for writing and for reading.
_REFUSALS = {
    re.compile(r"status code: 40[13]\b"): (
        "Look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and at what that key may: read and write objects there, and for "
        "`vera-hub admin gc` list and delete them."
    ),
    re.compile(r"status code: 404\b"): "Is the bucket there? Look at VERA_HUB_BLOB_URL, and at AWS_ENDPOINT.",
    re.compile("Received redirect"): "Look at AWS_REGION, in which the bucket is, and at AWS_ENDPOINT.",
    re.compile("builder error"): "An AWS_ENDPOINT without TLS is asked only with AWS_ALLOW_HTTP=true.",
    re.compile(r"status code: (?!408|429)4\d\d\b"): "Look at AWS_ENDPOINT and AWS_REGION.",
}
_FOLDER = "Look at who may write in the folder that VERA_HUB_BLOB_URL names."


def try_store(url: str) -> None:
    """Writes one small object to the store and reads it, with the requests by which blobs are kept and given.

    Raises StartRefused when the store refuses that. One that does not answer is a warning in the log: what is in the
    database is given without it, and it may be back before somebody needs more.
    """
    if url.startswith("memory:"):
        return
    try:
        store = _impatient(url)
        with suppress(AlreadyExistsError):  # the store knows who asks before it says so
            obstore.put(store, _NAME, _TEXT, mode="create")
        obstore.get(store, _NAME).bytes()
    except (BaseError, OSError) as error:
        said = said_by(error)
        advice = _FOLDER if url.startswith("file:") else _advice_on(said)
        if advice is None:
            log.warning("the blob store does not answer", extra={"url": url, "said": said})
            return
        raise StartRefused(
            f"The object store {url} refuses what a hub does there: {said.rstrip('.')}. {advice}",
            code="BLOB_STORE_REFUSED",
            exit_code=8,
        ) from error


def _advice_on(said: str) -> str | None:
    return next((advice for pattern, advice in _REFUSALS.items() if pattern.search(said)), None)


def _impatient(url: str) -> ObjectStore:
    if url.startswith("file:"):
        return from_url(url, mkdir=True)
    return from_url(url, retry_config={"max_retries": 2, "retry_timeout": _PATIENCE})
