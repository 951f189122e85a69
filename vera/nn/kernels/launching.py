"""Launching a kernel of Triton again and again.

Triton binds, specialises and looks a kernel up at every launch, 60 µs of Python for one with as many arguments as those
here have. Who launches again with arguments of the same kind keeps what was compiled for them, which is launched directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor
from triton import knobs

# Of each kernel, by its name, what was compiled for the arguments of one place that launches it. Whoever passes it on
# promises that they are the same from launch to launch but for the addresses of tensors, and those as well aligned.
Compiled = dict[str, Any]
_IS_KNOWN = triton.__version__.startswith("3.6.")  # how a compiled kernel is launched is no promise of Triton's


def launch(
    kernel: Any, grid: tuple[int, ...], arguments: Sequence[Tensor | int], constants: Mapping[str, Any], *, warps: int,
    stages: int, overlaps: bool = False, known: Compiled | None = None,
) -> None:  # fmt: skip
    """Launch `kernel` on the device of its first argument. `constants` are its constexprs, in the order of its signature.

    With `overlaps` it may begin before the kernel that it follows has ended (programmatic dependent launch).
    """
    assert isinstance(arguments[0], Tensor)
    if arguments[0].is_cuda and arguments[0].get_device() != torch.cuda.current_device():
        with torch.cuda.device_of(arguments[0]):
            launch(kernel, grid, arguments, constants, warps=warps, stages=stages, overlaps=overlaps, known=known)
        return
    compiled = None if known is None else known.get(kernel.__name__)
    if compiled is None or knobs.runtime.launch_enter_hook.calls:  # a profiler wants to be told
        made = kernel[grid](*arguments, **constants, num_warps=warps, num_stages=stages, launch_pdl=overlaps)
        if _IS_KNOWN and known is not None and made is not None:
            known[kernel.__name__] = made
        return
    stream = triton.runtime.driver.active.get_current_stream(arguments[0].get_device())
    compiled.run(
        *(*grid, 1, 1)[:3], stream, compiled.function, compiled.packed_metadata, None, None, None,
        *arguments, *constants.values(),
    )  # fmt: skip


@cache
def has_gdc() -> bool:
    """Whether a kernel may begin before the one it follows has ended (programmatic dependent launch)."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0)
