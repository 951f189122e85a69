"""How much memory a worker says it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.worker import memory


def test_without_a_gpu_it_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))

    assert memory.available() == pytest.approx(int(total.split()[1]) * 1024, rel=0.01)


def test_with_several_it_is_the_smallest_that_is_visible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`nvidia-smi` of a machine with two, as a program in the PATH."""
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\ncase "$*" in *"-i 1"*) echo 81559;; *) printf "81559\\n24564\\n";; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    assert memory.available() == 24564 << 20
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert memory.available() == 81559 << 20
