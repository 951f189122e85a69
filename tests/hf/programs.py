"""Programs that are told nothing but HF_ENDPOINT and HF_TOKEN."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run(
    program: str, *arguments: object, url: str, token: str, home: Path, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """A program of tests/hf to its end, with `home` for all that the client keeps."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))},
        "HF_ENDPOINT": url,
        "HF_TOKEN": token,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [python, str(Path(__file__).parent / program), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
