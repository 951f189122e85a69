"""The torch floor: layers, the bank of adapters on a live model, proof of a live base, training."""

import logging

# transformers imports torchao where it is installed, and torchao then warns of its libraries for GPUs, on a CPU too.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
