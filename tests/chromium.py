"""Finds Chromium for the browser tests, or says in one line why they will be skipped. Never fails the build.

As root on a Debian-like system that lacks it, it is installed from the system's packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Runs as root and in containers, draws without a GPU, and calls nobody.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
INSTALL_TIMEOUT_S = 300


def find() -> str | None:
    """The path of an installed Chromium, or None."""
    found = (shutil.which(name) for name in NAMES)
    return next((path for path in ("/usr/bin/chromium", *found) if path and Path(path).exists()), None)


def why_not_installable() -> str | None:
    """Why this user cannot install it here, or None."""
    if shutil.which("apt-get") is None:
        return "it can only be installed by hand on this system"
    if os.geteuid() != 0:
        return "installing it needs root (apt-get install chromium)"
    return None


def install() -> str | None:
    """Installs Debian's chromium quietly. Gives why that failed, or None."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ("apt-get", "update", "-qq"),
        ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"),
    ):
        try:
            subprocess.run(command, env=environment, capture_output=True, timeout=INSTALL_TIMEOUT_S, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            return f"`{' '.join(command)}` failed ({type(error).__name__})"
    return None if find() else "the package brought no chromium"


def main() -> None:
    if find():
        return
    problem = why_not_installable()
    if problem is None:
        print("Installing Chromium for the browser tests ...")
        problem = install()
    if problem:
        print(f"Browser tests will be skipped: Chromium is not installed, and {problem}.")


if __name__ == "__main__":
    main()
