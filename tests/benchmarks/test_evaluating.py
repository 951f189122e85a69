"""What the benchmark of evaluations says of a command that cannot be."""

from __future__ import annotations

import pytest

from tests.benchmarks import evaluating


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(evaluating.torch.cuda, "is_available", lambda: False)

    with pytest.raises(SystemExit) as ended:
        evaluating.main(["--device", "cuda"])

    assert ended.value.code == 2
    assert "torch finds no GPU here" in capsys.readouterr().err
