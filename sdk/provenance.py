"""Where a version is made: the git commit of the working folder and the CI run, as far as either is there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sdk.models.versions import Source

_GIT_TIMEOUT_S = 5.0
# The address of the job, by the names that CI systems give it.
_RUN_VARIABLES = ("CI_JOB_URL", "CIRCLE_BUILD_URL", "BUILDKITE_BUILD_URL", "BUILD_URL")


def source_here(folder: Path | None = None, environment: Mapping[str, str] | None = None) -> Source | None:
    """What a push from `folder` (the working folder) can say of its source, None when that is nothing.

    The commit only when no tracked file differs from it: anything else would name what was not used.
    """
    commit = _clean_commit(folder or Path.cwd())
    run = _run_of(os.environ if environment is None else environment)
    return Source(commit=commit, run=run) if commit or run else None


def _clean_commit(folder: Path) -> str | None:
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit or _git(folder, "status", "--porcelain", "--untracked-files=no") != "":
        return None
    return commit


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says, None when it is not there, not asked in a repository, or too slow."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _run_of(environment: Mapping[str, str]) -> str | None:
    """The address of the CI run. One with a user in it is left out: it may hold a secret."""
    found = (environment.get(name) for name in _RUN_VARIABLES)
    run = _github_run(environment) or next((address for address in found if address), None)
    if run is None or not run.startswith(("https://", "http://")) or "@" in urlsplit(run).netloc:
        return None
    return run


def _github_run(environment: Mapping[str, str]) -> str | None:
    parts = [environment.get(name) for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else None
