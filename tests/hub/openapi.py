"""The description of the API as the last release had it: `python -m tests.hub.openapi` writes it anew."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hub.app import create_app
from hub.settings import Settings

GOLDEN = Path(__file__).parents[1] / "golden" / "openapi.json"


def described(settings: Settings) -> str:
    """What `/openapi.json` says, a line for each thing, without the number of the release."""
    app = create_app(settings)
    description = app.openapi()
    app.state.services.database.close()
    description["info"].pop("version")
    return json.dumps(description, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(described(Settings(data_dir=Path(folder))))
