"""`make test-hf`: the walk on several releases of huggingface_hub, each in an environment of its own, against one hub.

Run as `python -m tests.hf.clients FOLDER [RELEASE …]`: the environments stay in FOLDER for the next time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from hub.settings import Settings
from tests.builders import make_archive
from tests.contract.serving import listening
from tests.hf.programs import run
from tests.hub.harness import start
from vera import archive

# The last for old transformers, the last generation that negotiated stores for large files, the oldest that
# transformers 5 takes, and the newest.
RELEASES = ("0.36.2", "1.15.0", "1.31.0", "newest")


def python_with(release: str, folder: Path) -> str:
    """The interpreter of an environment that has this release of the client and nothing of ours."""
    place = folder / release
    python = place / "bin" / "python"
    if not python.exists() or release == "newest":
        venv.create(place, with_pip=True, clear=True)
        wanted = "huggingface_hub" if release == "newest" else f"huggingface_hub=={release}"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted], check=True)
    return str(python)


def main(folder: str, *releases: str) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        hub = start(Settings(data_dir=place / "hub"))
        hub.register_base()
        with listening(hub.app) as url:
            for number, release in enumerate(releases or RELEASES):
                adapter = place / f"adapter-{number}"
                archive.write_folder(make_archive(seed=number), adapter)
                python = python_with(release, Path(folder))
                arguments = {"url": url, "token": hub.token(), "home": place / f"home-{number}", "python": python}
                done = run("walk.py", adapter, f"demo/walk-{number}", **arguments)
                print(done.stdout.strip() if done.returncode == 0 else f"{release}: failed\n{done.stderr}", flush=True)
                failed += done.returncode != 0
        hub.database.close()
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
