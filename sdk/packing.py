"""`sdk.pack`: hundreds or thousands of adapters of one kind on a live model, for batches whose rows are of many customers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sdk import finding
from sdk.live import held_of
from vera.archive import vectors_of
from vera.errors import BaseMismatch, ProjectionMismatch, VeraError
from vera.manifest import VERA
from vera.nn.attach import backbone_of, bank_on
from vera.nn.configured import check_model
from vera.nn.serving.bank import PackedBank

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.config import Config
    from vera.manifest import Manifest
    from vera.nn.attach import Attached

DEFAULT_CAPACITY = 1024


def pack(
    model: Any, ref: str | Path, *, capacity: int = DEFAULT_CAPACITY, max_rows: int = 1024, dtype: Any = None,
    run: Callable[[], object] | None = None, stack: bool = False, fuse: bool = False,
) -> Packed:  # fmt: skip
    """Room on `model` for `capacity` adapters like `ref`, which `sdk.load` has put on it: of the same base, matrices and modules.

    Inside a `with` block of what this gives, row i of a batch goes through the adapter that `use` named for it. On a
    GPU a base in bfloat16 or float16 answers such batches through kernels of this project, and from captured CUDA graphs
    too. The vectors are held in `dtype`, that of the base by default; `max_rows` bounds a batch.

    With `stack` the weights of modules with one input are moved to stand above the matrix A in memory, which makes batches of
    some 64 rows and more quicker and takes one more A for each such group of modules. Nothing that reads a module sees a difference, but
    a CUDA graph captured before would go on reading where the weights were. `Packed.bank.unstack` undoes it.

    With `fuse` the gate and the up of an MLP and its activation are one kernel on a GPU, where that is measured to be quicker: whoever
    watches or replaces one of them, with a hook, say, has the MLP go its own way again. An MLP counts as one when it answers random inputs
    as down(act(gate x) * up x) does, to the bit; VeraWarning tells of others. Nothing of it outlives the block.

    `run` is one pass of the model, of any inputs, by which it is seen which modules share an input; models of
    transformers know some by themselves. Raises VeraError: ADAPTER_NOT_LOADED, ADAPTER_AMBIGUOUS, TARGET_UNSUPPORTED.
    """
    bank, backbone = bank_on(model), backbone_of(model)
    held = held_of(bank, ref)
    packed = PackedBank(
        bank, held.attached.name, capacity=capacity, max_rows=max_rows, dtype=dtype, stack=stack, fuse=fuse,
        run=run or (lambda: backbone(**_some_inputs(backbone))),
    )  # fmt: skip
    return Packed(packed, held.attached, str(ref))


class Packed:
    """Adapters of one kind on a model, by the references they were loaded under. Made by `sdk.pack`."""

    def __init__(self, bank: PackedBank, like: Attached, ref: str) -> None:
        self.bank, self._like, self._attached = bank, like.manifest, like
        self._names = {ref: like.manifest.digest}

    def load(self, ref: str | Path, *, config: Config | None = None, hub: Hub | None = None) -> None:
        """Fetches the adapter `ref`, or reads it from a folder, and puts it here, in place of the one used longest ago when there is no room.

        The base is not looked at again: what was proven for the first adapter is proven for every one that names the
        same base and the same matrices. Raises HubError and VeraError: BaseMismatch, ProjectionMismatch, METHOD_MISMATCH,
        HEAD_UNSUPPORTED, DIMS_MISMATCH, BANK_FULL.
        """
        archive = finding.find(ref, config=config, hub=hub).archive
        self._check(str(ref), archive.manifest)
        self.bank.put(archive.manifest.digest, vectors_of(archive))
        self._names[str(ref)] = archive.manifest.digest

    def use(self, refs: Sequence[str | Path | None]) -> None:
        """From the next pass on row i of a batch goes through `refs[i]`, as it was loaded here last; None is the bare base.

        Nothing is waited for, and a captured graph goes on with it, rows that are not named with the bare base. Weights that were
        exchanged since are stacked again; a graph that is replayed before has the old ones, and of a reference that was loaded anew the
        version from before (docs/serving.md says what a replay sees). Raises VeraError (ADAPTER_NOT_LOADED, ROWS_MISMATCH,
        TARGET_REPLACED) and changes nothing then.
        """
        self.bank.use([None if ref is None else self._names.get(str(ref), str(ref)) for ref in refs])

    def unload(self, ref: str | Path) -> None:
        """Forgets `ref`. Raises VeraError (ADAPTER_NOT_LOADED, ADAPTER_IN_USE)."""
        self.bank.remove(self._names.get(str(ref), str(ref)))
        self._names.pop(str(ref), None)

    def __len__(self) -> int:
        return len(self.bank.packing)

    def __enter__(self) -> Self:
        self.bank.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bank.__exit__(kind, error, trace)

    def _check(self, ref: str, manifest: Manifest) -> None:
        like = self._like
        if manifest.base.fingerprint != like.base.fingerprint:
            raise BaseMismatch(
                f"{ref} was trained on {manifest.base.name} ({manifest.base.fingerprint}), and this model is {like.base.name} "
                f"({like.base.fingerprint}): load it on a model of its own base."
            )
        if self._attached.base.kind != "none":
            check_model(self._attached.bank.model, manifest.base)
        if manifest.projection_digest != like.projection_digest:
            raise ProjectionMismatch(
                f"{ref} has the matrices {manifest.projection_digest}, and the adapters here share {like.projection_digest}: "
                "use sdk.load_many and sdk.rows, which mix adapters of any matrices.",
                expected=like.projection_digest,
                got=manifest.projection_digest,
            )
        if manifest.method != VERA:
            raise VeraError(
                f"{ref} is of the method {manifest.method}, and {VERA} is packed: use sdk.load_many and sdk.rows.",
                code="METHOD_MISMATCH",
            )
        if manifest.head:
            raise VeraError(
                f"{ref} has a task head, and adapters are packed without: use sdk.load_many and sdk.rows.",
                code="HEAD_UNSUPPORTED",
            )


def _some_inputs(model: Any) -> dict[str, Any]:
    inputs = getattr(model, "dummy_inputs", None)
    if not isinstance(inputs, dict):
        raise VeraError(
            f"{type(model).__name__} does not say what it can be given: pass run=lambda: model(...), one pass of any inputs.",
            code="INPUTS_UNKNOWN",
        )
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in inputs.items()}
