"""Launching a kernel of Triton again and again.

Triton binds, specialises and looks a kernel up at every launch, 40 µs of Python for one with as many arguments as those
here have. What was compiled for arguments of these values, dtypes and alignments is kept here, and launched directly.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import triton
from torch import Tensor
from triton import knobs

_COMPILED: dict[Hashable, Any] = {}
_IS_KNOWN = triton.__version__.startswith("3.6.")  # how a compiled kernel is launched is no promise of Triton's


def launch(
    kernel: Any, grid: tuple[int, ...], arguments: Sequence[Tensor | int], constants: Mapping[str, Any], *, warps: int,
    stages: int, overlaps: bool = False,
) -> None:  # fmt: skip
    """Launch `kernel` on the device of its first argument. `constants` are its constexprs, in the order of its signature.

    With `overlaps` it may begin before the kernel that it follows has ended (programmatic dependent launch).
    """
    assert isinstance(arguments[0], Tensor)
    if arguments[0].is_cuda and arguments[0].get_device() != torch.cuda.current_device():
        with torch.cuda.device_of(arguments[0]):
            launch(kernel, grid, arguments, constants, warps=warps, stages=stages, overlaps=overlaps)
        return
    key = (
        kernel.__name__, arguments[0].device, warps, stages, overlaps, *constants.values(),
        *[a if isinstance(a, int) else (a.dtype, a.data_ptr() % 16) for a in arguments],
    )  # fmt: skip
    compiled = _COMPILED.get(key)
    if compiled is None or knobs.runtime.launch_enter_hook.calls:  # a profiler wants to be told
        made = kernel[grid](*arguments, **constants, num_warps=warps, num_stages=stages, launch_pdl=overlaps)
        if _IS_KNOWN and made is not None:
            _COMPILED[key] = made
        return
    stream = triton.runtime.driver.active.get_current_stream(arguments[0].get_device())
    across = (*grid, 1, 1)[:3]
    compiled.run(
        *across, stream, compiled.function, compiled.packed_metadata, None, None, None, *arguments, *constants.values()
    )
