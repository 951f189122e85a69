"""The VeRA method: recipes, projections, manifests and archives, without torch.

`vera.nn` is the torch floor: layers, attaching, training. Nothing here imports it.
"""

__version__ = "0.1.0"
