"""DVoRA: a direction and a magnitude for each output, of which VeRA trains the direction.

    W' = m ⊙ (W + ΔW) / ‖W + ΔW‖        DoRA: Liu et al. 2024, equation 5, with VeRA's ΔW

The norm is one per output, over the inputs. As in section 4.3 of that paper it is taken as a
constant in the backward pass, which changes little and saves the memory of its graph.
"""

# B batch, T tokens, I in_features, O out_features, R rank

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vera.errors import TargetError
from vera.nn.layer import SharedProjection, VeraDelta, scaled_projection
from vera.nn.linear import is_quantized, linear_size, weight_of, weight_rows
from vera.nn.offloading import check_at_hand

_NORM_ELEMENTS = 1 << 22  # rows of W + ΔW are made in runs of this many values: 16 MB, whatever the layer


class DvoraDelta(VeraDelta):
    """What DVoRA adds to one linear map: (g - 1) ⊙ W x + g ⊙ ΔW x, with g = m / ‖W + ΔW‖.

    W x is what the map itself gives, so the base is computed once. The magnitude starts at ‖W‖, and
    g is then exactly 1: a new delta adds exactly nothing. The weight is read where it lies and never
    written. Raises TargetError (TARGET_UNSUPPORTED) when it is quantised.
    """

    def __init__(
        self, shared: SharedProjection, module: nn.Module, module_name: str, trained: Mapping[str, Tensor] | None = None
    ) -> None:
        _check_readable(module, module_name)
        super().__init__(shared, *linear_size(module), trained)
        self._module = (module,)  # in a tuple: it belongs to the model
        self._kept: tuple[object, Tensor] | None = None
        self.magnitude = nn.Parameter(trained["magnitude"] if trained else self._norms_of_weight())

    @property
    def module(self) -> nn.Module:
        return self._module[0]

    def forward(self, x_BTI: Tensor, plain_BTO: Tensor) -> Tensor:
        gain_O = self.gain()
        direction_BTO = scaled_projection(self.shared, x_BTI, self.lambda_d, gain_O * self.lambda_b)
        return direction_BTO + rescaled(self.module, plain_BTO, gain_O)

    def adapted(self, weight_OI: Tensor) -> Tensor:
        direction_OI = super().adapted(weight_OI)
        return self._over(_norms(direction_OI))[:, None] * direction_OI

    def gain(self) -> Tensor:
        """m / ‖W + ΔW‖ (out_features), float32. An output whose weights are all zero stays zero."""
        return self._over(self._norm())

    def _over(self, norm_O: Tensor) -> Tensor:
        return self.magnitude / torch.where(norm_O == 0, torch.ones_like(norm_O), norm_O)

    def _norm(self) -> Tensor:
        """‖W + ΔW‖ (out_features), without a graph; kept from pass to pass while nothing it depends on changes.

        Training measures it at every pass: some optimisers write through `.data`, which nothing tells.
        So does a compiled model, whose graph cannot ask what has changed: merge to answer fast there.
        """
        if torch.compiler.is_compiling():
            return self._measured()
        if torch.is_grad_enabled() and (self.lambda_b.requires_grad or self.lambda_d.requires_grad):
            self._kept = None
            return self._measured()
        state = _state_of(self.lambda_b, self.lambda_d, weight_of(self.module))
        if self._kept is None or state is None or self._kept[0] != state:
            with torch.inference_mode(False):  # a tensor made in inference mode could never be trained with
                self._kept = state, self._measured()
        return self._kept[1]

    @torch.no_grad()
    def _measured(self) -> Tensor:
        """In float32, from W + ΔW itself: O·R·I multiplications, as many as R tokens cost in the base.

        ‖W‖² + 2 Σ W ⊙ ΔW + ‖ΔW‖² needs O·R² when B ⊙ W Aᵀ (O x R) is kept for every module, which is
        faster for a rank far below I only, and would not give ‖W‖ to the last bit where ΔW is 0.
        """
        A_RI, B_OR = self.factors()
        runs = zip(self._weight_runs(), torch.split(B_OR, self._run_rows), strict=True)
        with torch.autocast(A_RI.device.type, enabled=False):  # it would round ΔW
            return torch.cat([_norms(torch.addmm(W.float(), B, A_RI)) for W, B in runs])

    def _norms_of_weight(self) -> Tensor:
        return torch.cat([_norms(W.float()) for W in self._weight_runs()]).detach()

    def _weight_runs(self) -> Sequence[Tensor]:
        return torch.split(weight_rows(self.module), self._run_rows)

    @property
    def _run_rows(self) -> int:
        return max(1, _NORM_ELEMENTS // self.in_features)

    @property
    def kept_bytes(self) -> int:
        """Memory of the norms that are kept between passes."""
        return self._kept[1].nbytes if self._kept else 0


def rescaled(module: nn.Module, plain_BTO: Tensor, gain_O: Tensor) -> Tensor:
    """(g - 1) ⊙ W x, from what `module` gives, W x + bias. The gain is one per batch, (O,), or one per row, (B, 1, O)."""
    bias_O = getattr(module, "bias", None)  # an embedding has none
    product_BTO = plain_BTO
    if isinstance(bias_O, Tensor):
        in_output = bias_O.to(plain_BTO.dtype)  # as it was added: under autocast, rounded
        product_BTO = plain_BTO - in_output.to(torch.promote_types(plain_BTO.dtype, gain_O.dtype))
    return (gain_O - 1) * product_BTO


def _norms(rows: Tensor) -> Tensor:
    """The norm of each row. Of one layout, so that equal rows have norms equal to the last bit."""
    norms: Tensor = torch.linalg.vector_norm(rows.contiguous(), dim=1)
    return norms


def _state_of(*tensors: Tensor) -> object:
    """Equal while none of `tensors` is changed or moved. None for tensors that do not count their changes."""
    if any(tensor.is_inference() for tensor in tensors):
        return None
    return [(id(tensor), tensor.data_ptr(), tensor.dtype, tensor._version) for tensor in tensors]


def _check_readable(module: nn.Module, module_name: str) -> None:
    linear_size(module)
    check_at_hand(module, module_name, needed_for="DVoRA")
    if is_quantized(module):
        raise TargetError(
            f"The weight of {module_name} is quantised ({type(weight_of(module)).__name__}, {weight_of(module).dtype}), and DVoRA "
            "needs the norms of its rows: load the base in a float dtype, or use the method vera.",
            code="TARGET_UNSUPPORTED",
            module=module_name,
        )
