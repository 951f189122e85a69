"""Launching a kernel of Triton again and again.

Triton binds, specialises and looks a kernel up at every launch, 60 µs of Python for one with as many arguments as those
here have, and asks the driver about every tensor's address. Who launches again with arguments of the same kind keeps what was
launched, and gives the addresses that are others than the last time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor
from triton import knobs
from triton.runtime.errors import OutOfResources


class WorkspaceTooSmall(Exception):
    """A sum would be split over more programs than there is room for their partial sums."""


# A kernel that needs more of its processor's memory than the GPU has, or more of the memory that kernels share than is kept for them.
DOES_NOT_FIT = (OutOfResources, WorkspaceTooSmall)
_IS_KNOWN = triton.__version__.startswith("3.6.")  # how a compiled kernel is launched is no promise of Triton's
_STREAM = 3  # its place among what a launch is given: after the three sizes of the grid


class Repeat:
    """A launch that was made once, with other tensors at `places` of its arguments: as well aligned, and on the same device."""

    def __init__(
        self, compiled: Any, grid: tuple[int, ...], arguments: Sequence[Tensor | int], constants: Mapping[str, Any],
        places: Sequence[int],
    ) -> None:  # fmt: skip
        assert isinstance(arguments[0], Tensor)
        self._device, run = arguments[0].get_device(), compiled.run
        self._current_stream = triton.runtime.driver.active.get_current_stream
        # Triton's `run` makes what memory a kernel wants beside its arguments, and then launches. These want none.
        wants_none = not (run.global_scratch_size or run.profile_scratch_size)
        self._launch = run.launch if wants_none else run
        beside = [run.launch_cooperative_grid, run.launch_pdl, None, None] if wants_none else []
        head = [*(*grid, 1, 1)[:_STREAM], None, compiled.function, *beside, compiled.packed_metadata, None, None, None]
        # An address that Triton is given as a number it takes as it is.
        addresses = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
        self._arguments = [*head, *addresses, *constants.values()]
        self._places = [len(head) + place for place in places]

    def __call__(self, *addresses: int) -> None:
        arguments = self._arguments.copy()
        arguments[_STREAM] = self._current_stream(self._device)
        for place, address in zip(self._places, addresses, strict=False):
            arguments[place] = address
        self._launch(*arguments)


# Of each kernel, by its name, the launch to repeat for the arguments of one place that launches it. Whoever passes it on
# promises that they are the same from launch to launch but for the addresses of tensors, and those as well aligned.
Repeats = dict[str, Repeat]


def launch(
    kernel: Any, grid: tuple[int, ...], arguments: Sequence[Tensor | int], constants: Mapping[str, Any], *, warps: int,
    stages: int, overlaps: bool = False, known: Repeats | None = None, places: Sequence[int] = (),
) -> None:  # fmt: skip
    """Launch `kernel` on the device of its first argument. `constants` are its constexprs, in the order of its signature.

    With `overlaps` it may begin before the kernel that it follows has ended (programmatic dependent launch). `known` is
    given what repeats it with other tensors at `places`.
    """
    assert isinstance(arguments[0], Tensor)
    if arguments[0].is_cuda and arguments[0].get_device() != torch.cuda.current_device():
        with torch.cuda.device_of(arguments[0]):
            launch(kernel, grid, arguments, constants, warps=warps, stages=stages, overlaps=overlaps)
        return
    made = kernel[grid](*arguments, **constants, num_warps=warps, num_stages=stages, launch_pdl=overlaps)
    if _IS_KNOWN and known is not None and made is not None:
        known[kernel.__name__] = Repeat(made, grid, arguments, constants, places)


def may_repeat(x: Tensor) -> bool:
    """Whether launches on the device of `x` may be repeated: it is the current one, and no profiler wants to be told."""
    return x.get_device() == torch.cuda.current_device() and not knobs.runtime.launch_enter_hook.calls


@cache
def has_gdc() -> bool:
    """Whether a kernel may begin before the one it follows has ended (programmatic dependent launch)."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0)
