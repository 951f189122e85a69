"""One more process of a hub: on its address, its database and its log. `vera-hub serve --processes` starts it, and nobody else.

It is the same server. What is once for a hub (its folder's lock, the schema, the local account, the evaluation worker,
turning over the log) stays with the first process, which ends the others when it ends.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hub.app import create_app
from hub.cli import listening
from hub.cli.logs import configure_logs
from hub.errors import StartRefused
from hub.settings import Settings

# In the environment, since settings may hold the password of a database.
_SETTINGS, _LOG_FILE = "VERA_HUB_JOINED_SETTINGS", "VERA_HUB_JOINED_LOG"

log = logging.getLogger("hub.beside")


def one_more(settings: Settings, log_file: Path | None) -> tuple[Sequence[str], Mapping[str, str]]:
    """The command that starts one, and what it needs in its environment. Without a log file it logs to the terminal."""
    environment = {_SETTINGS: settings.model_dump_json()} | ({_LOG_FILE: str(log_file)} if log_file else {})
    return (sys.executable, "-m", "hub.cli.joining"), environment


def main() -> None:
    settings = Settings.model_validate_json(os.environ.pop(_SETTINGS))
    file = os.environ.pop(_LOG_FILE, None)
    listening.begin_process()
    configure_logs(Path(file) if file else None, rotates=False)
    app = create_app(settings)
    with listening.listen(settings.host, settings.port, is_shared=True) as listener:
        listening.Server(app, ready=lambda: log.info("a further process listens"), leaving=lambda: None).run([listener])


if __name__ == "__main__":
    try:
        main()
    except StartRefused as error:
        sys.exit(str(error))
