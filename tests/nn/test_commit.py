"""A live model that was opened by its id is read with the tokenizer of the commit that the adapter names, and not the newest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.tiny import write_tiny_bert
from tests.tiny_adapters import make_tiny
from vera import archive as archives
from vera import fingerprint
from vera.manifest import WEIGHTS_FILE

ID, OLD, NEW = "org/tiny", "a" * 40, "b" * 40
PROGRAM = f"""
import json, sys
from pathlib import Path
from transformers import AutoModel
from vera import archive, fingerprint
from vera.nn.attach import attach
base = fingerprint.of_files(Path(sys.argv[1]))
def ids(folder):
    model = AutoModel.from_pretrained("{ID}", revision="{OLD}")
    return list(attach(model, archive.read_folder(Path(folder)), base).encode(["cat"])[0].ids)
print(json.dumps([ids(folder) for folder in sys.argv[2:]]))
"""


def test_the_tokenizer_is_of_the_commit_that_the_adapter_names(tmp_path: Path) -> None:
    stored = tmp_path / "hub" / "models--org--tiny"
    old = write_tiny_bert(stored / "snapshots" / OLD)
    new = stored / "snapshots" / NEW
    shutil.copytree(old, new)
    text = (new / "tokenizer.json").read_text()  # the words cat and dog change their numbers
    (new / "tokenizer.json").write_text(text.replace('"cat"', '"@"').replace('"dog"', '"cat"').replace('"@"', '"dog"'))
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text(NEW)
    plain = make_tiny(fingerprint.of_files(old), head=True)
    for name, revision in (("pinned", OLD), ("newest", None)):
        base = replace(plain.manifest.base, name=ID, revision=revision)
        archive = archives.seal(replace(plain.manifest, base=base), plain.files[WEIGHTS_FILE], plain.card)
        archives.write_folder(archive, tmp_path / name)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", PROGRAM, str(old), str(tmp_path / "pinned"), str(tmp_path / "newest")]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    pinned, newest = json.loads(done.stdout.splitlines()[-1])
    words = json.loads((old / "tokenizer.json").read_text())["model"]["vocab"]
    assert (pinned[1], newest[1]) == (words["cat"], words["dog"])
