"""PEFT against this hub, as its users run it: nothing but HF_ENDPOINT says where the adapters are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.hf import peft_user, programs
from tests.hf.conftest import Wire
from tests.tiny import load_tiny_bert, write_tiny_bert, write_tiny_llama
from tests.tiny_adapters import make_tiny
from vera import fingerprint
from vera.archive import Archive
from vera.nn.attach import attach


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, wire: Wire) -> Path:
    """A tiny model on this machine, which the hub knows by its hash."""
    folder = write_tiny_bert(tmp_path_factory.mktemp("base") / "bert")
    wire.hub.register_base(fingerprint.of_files(folder), "tests/tiny-bert")
    return folder


@pytest.fixture(scope="module")
def published(wire: Wire, base: Path) -> Archive:
    """demo/for-peft, which its author has pushed without PEFT."""
    archive = make_tiny(fingerprint.of_files(base), seed=3)
    assert wire.hub.push(archive, "for-peft").status_code == 201
    return archive


@pytest.fixture(scope="module")
def answers(
    wire: Wire, base: Path, published: Archive, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, torch.Tensor]:
    """What the adapters answer to whoever uses them with PEFT."""
    folder = tmp_path_factory.mktemp("user")
    done = programs.run(
        "peft_user.py", base, folder / "answers.pt", url=wire.url, token=wire.hub.token(), home=folder / "home"
    )
    assert done.returncode == 0, done.stderr
    return dict(torch.load(folder / "answers.pt"))


def test_peft_answers_as_the_adapter_was_published(
    base: Path, published: Archive, answers: dict[str, torch.Tensor]
) -> None:
    model = load_tiny_bert(base)
    attach(model, published, fingerprint.of_files(base))
    with torch.no_grad():
        ours = model(input_ids=peft_user.IDS, attention_mask=torch.ones_like(peft_user.IDS)).last_hidden_state
    # The same products in another order, in float32.
    torch.testing.assert_close(answers["for-peft"], ours, rtol=1e-4, atol=1e-5)


def test_what_peft_pushes_is_what_peft_gets_back(wire: Wire, base: Path, answers: dict[str, torch.Tensor]) -> None:
    version = wire.hub.get("/adapters/demo/by-peft/versions/v1").json()
    assert version["manifest"]["base"]["fingerprint"] == fingerprint.of_files(base).value
    assert (version["stored_projection"], version["manifest"]["projection"]["seed"]) == (None, 0)
    torch.testing.assert_close(answers["by-peft"], answers["before"], rtol=1e-5, atol=1e-6)


def test_what_a_trainer_pushes_is_what_peft_gets_back(wire: Wire, tmp_path: Path) -> None:
    base = write_tiny_llama(tmp_path / "llama")
    wire.hub.register_base(fingerprint.of_files(base), "tests/tiny-llama")
    out = tmp_path / "answers.pt"
    done = programs.run("trainer_user.py", base, out, url=wire.url, token=wire.hub.token(), home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    answers = torch.load(out)
    assert not torch.allclose(answers["v1"], answers["base"])
    torch.testing.assert_close(answers["v1"], answers["before"], rtol=1e-5, atol=1e-6)
    assert "Not kept: training_args.bin (a pickle" in done.stderr
    beside = set(wire.api().list_repo_files("demo/by-trainer")) - set(
        wire.api().list_repo_files("demo/by-trainer", revision="v1")
    )
    assert beside == {"chat_template.jinja", "tokenizer.json", "tokenizer_config.json"}
