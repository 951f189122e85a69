"""The key that this machine's workers sign with, and the tokens that codes have brought: files of mode 0600 in the
configuration's folder.

    worker.key      the secret, base64, of whoever runs the worker alone
    worker.pub      the public key, for whoever checks a signature
    workers.json    {url of a hub: token}
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

from sdk.client import Hub
from sdk.config import Config
from sdk.errors import Unauthorized
from sdk.files import read_bounded, write_atomically
from vera.errors import SignatureError
from vera.locks import alone_with
from vera.signing import SigningKey

KEY_FILE, PUBLIC_FILE, TOKENS_FILE = "worker.key", "worker.pub", "workers.json"
_MAX_KEY_BYTES, _MAX_TOKENS_BYTES = 1024, 1 << 20


def key_in(folder: Path) -> SigningKey:
    """The key in `folder`, made now when there is none. Raises SignatureError for a file that is none, or that others can read."""
    path = folder / KEY_FILE
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with alone_with(path):
        key = _read(path)
        if key is None:
            key = SigningKey.generate()
            write_atomically(path, base64.b64encode(key.data) + b"\n", mode=0o600)
        public = f"{key.public}\n".encode()
        if read_bounded(folder / PUBLIC_FILE, _MAX_KEY_BYTES) != public:
            write_atomically(folder / PUBLIC_FILE, public, mode=0o644)
    return key


def enrol(config: Config, code: str, name: str) -> Config:
    """`config` with the token that `code` brings, which is kept for the next start. The code is good for nothing after, and
    where one that is good for nothing has let this machine in already, its token is used. Raises Unauthorized."""
    try:
        with Hub(replace(config, token=None)) as hub:
            token = hub.enrol_worker(code, name, key=key_in(config.folder))
    except Unauthorized as error:
        known = token_for(config)
        if error.code != "CODE_INVALID" or known is None:
            raise
        return replace(config, token=known)
    path = config.folder / TOKENS_FILE
    with alone_with(path):
        write_atomically(path, json.dumps({**_tokens(path), config.url: token}, indent=2).encode(), mode=0o600)
    return replace(config, token=token)


def token_for(config: Config) -> str | None:
    """The token that a code has brought for this hub, if one has."""
    return _tokens(config.folder / TOKENS_FILE).get(config.url)


def _read(path: Path) -> SigningKey | None:
    text = read_bounded(path, _MAX_KEY_BYTES)
    if text is None:
        return None
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SignatureError(
            f"{path} can be read by others, who could then sign in this worker's name: chmod 600 it, or remove it for a new key.",
            code="KEY_READABLE",
        )
    try:
        return SigningKey(base64.b64decode(text.strip(), validate=True))
    except (binascii.Error, ValueError) as error:
        raise SignatureError(f"{path} holds no key: remove it for a new one.", code="KEY_INVALID") from error


def _tokens(path: Path) -> dict[str, str]:
    try:
        found = json.loads(read_bounded(path, _MAX_TOKENS_BYTES) or b"{}")
    except ValueError:
        return {}
    return {str(url): str(token) for url, token in found.items()} if isinstance(found, dict) else {}
