"""huggingface_hub's own tests of a hub, run against this one: what `docs/hf-compat.md` says of them.

Run as `python -m tests.hf.conformance CHECKOUT FOLDER [PYTEST_OPTION …]`, where CHECKOUT is huggingface_hub's repository
at RELEASE and FOLDER is where the environment stays for the next time. The checkout is pointed at a hub of this process.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from hub.settings import Settings
from tests.contract.serving import listening
from tests.hf.clients import python_with
from tests.hub.harness import Hub, start

RELEASE = "1.28.0"
_PLUGINS = ("pytest", "pytest-env", "pytest-mock", "pytest-rerunfailures", "pytest-vcr", "jinja2", "numpy", "pillow")
# Those that ask the staging hub for something; the others are about huggingface.co or about the client alone.
CLASSES = (
    "TestHfApiRepoFileExists", "TestHfApiEndpoints", "TestCommitApi", "TestHfApiUploadEmptyFile", "TestHfApiDeleteFolder",
    "TestHfApiListRepoTree", "TestHfApiTagEndpoint", "TestHfApiBranchEndpoint", "TestHfApiDeleteFiles", "TestHfApiPublicStaging",
    "TestHfApiPrivate", "TestCommitInBackground", "TestListGitRefs", "TestListGitCommits", "TestSquashHistory", "TestHfApiAuthCheck",
)  # fmt: skip


def point_at(checkout: Path, url: str, hub: Hub) -> None:
    """Writes the hub's address, and users and tokens of it, where the tests look for theirs."""
    values = {
        "ENDPOINT_STAGING": url, "USER": "tester", "FULL_NAME": "tester", "TOKEN": hub.token("tester"),
        "OTHER_USER": "other", "OTHER_TOKEN": hub.token("other"),
    }  # fmt: skip
    file = checkout / "tests" / "testing_constants.py"
    text = file.read_text()
    for name, value in values.items():
        text = re.sub(rf'^{name} = ".*"$', f'{name} = "{value}"', text, flags=re.MULTILINE)
    file.write_text(text)
    project = checkout / "pyproject.toml"
    text = re.sub(r'"(HUGGINGFACE_CO_STAGING=1|HF_ENDPOINT=[^"]*)"', f'"HF_ENDPOINT={url}"', project.read_text())
    project.write_text(text)


def main(checkout: str, folder: str, *options: str) -> int:
    python = python_with(RELEASE, Path(folder))
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_PLUGINS], check=True)
    with tempfile.TemporaryDirectory() as temporary:
        hub = start(Settings(data_dir=Path(temporary)))
        with listening(hub.app) as url:
            point_at(Path(checkout), url, hub)
            tests = [f"tests/test_hf_api.py::{name}" for name in CLASSES]
            command = [python, "-m", "pytest", "-q", "-rA", "--tb=line", "-p", "no:cacheprovider", *options, *tests]
            status = subprocess.run(command, cwd=checkout, check=False).returncode
        hub.database.close()
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
