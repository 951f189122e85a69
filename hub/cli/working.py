"""`vera-hub worker`: the evaluation worker in this terminal."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hub.api.middleware import LOOPBACK_NAMES


def work(name: str | None, client: Any, token_file: Path, *, is_own_hub: bool) -> int:
    """Works until SIGTERM or Ctrl-C, and gives the exit status. `client` is the command line's configuration.

    Without VERA_HUB_TOKEN, the token is the one that the hub on this machine left in `token_file`. It goes
    to another machine only when `is_own_hub` says that the file is that hub's.
    """
    from hub.worker.main import main

    may_use_file = is_own_hub or urlsplit(client.url).hostname in LOOPBACK_NAMES
    if "VERA_HUB_TOKEN" not in os.environ and may_use_file and token_file.is_file():
        client = replace(client, token=token_file.read_text().strip())
    return main(name, client)
