"""The torch floor: layers, the bank of adapters on a live model, proof of a live base, training."""
