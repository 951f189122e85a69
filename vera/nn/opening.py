"""From a checkpoint on disk to the live model that an adapter was trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vera.data import TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_REGRESSION
from vera.errors import BaseUnreadable, VeraError
from vera.fingerprint import INDEX_FILE, SINGLE_FILE
from vera.manifest import CONFIG_FILE, Manifest
from vera.peft_format import FEATURE_EXTRACTION, QUESTION_ANSWERING, TAGGING, has_own_head, head_outputs

_MOST_SAID = 300  # characters of what transformers says
_NAMES_WEIGHTS = "transformers_weights"  # of config.json, or a part of it: the file that transformers reads instead
# Of transformers, what opens a base with the head of a task.
_CLASSES = {
    TEXT_CLASSIFICATION: "AutoModelForSequenceClassification",
    TEXT_REGRESSION: "AutoModelForSequenceClassification",
    TAGGING: "AutoModelForTokenClassification",
    QUESTION_ANSWERING: "AutoModelForQuestionAnswering",
}


def open_base(path: Path, manifest: Manifest, options: Mapping[str, Any] | None = None) -> Any:
    """The model of the checkpoint at `path`, of the class that the adapter was trained on, in evaluation mode.

    That is the bare base for a head that pools its hidden states, the model of its task with as many
    outputs as the head has for one of its own, and a language model for what generates. `options` are
    more of those of `from_pretrained`, such as the dtype. What the checkpoint does not hold is not trained: `attach` refuses to answer with it.
    """
    import transformers

    own = class_of_own_head(manifest)
    if own is not None:
        return _open_with_head(getattr(transformers, own), path, manifest, options or {})
    if _answers_in_texts(path, manifest):
        return open_language_model(path, options or {}).eval()
    return open_bare(path, options or {}).eval()


def open_bare(path: Path, options: Mapping[str, Any]) -> Any:
    """The checkpoint at `path` without a head."""
    from transformers import AutoModel

    return _opened(AutoModel, path, options)


def _opened(opener: Any, path: Path, options: Mapping[str, Any]) -> Any:
    """What a class of transformers opens `path` as. No code that lies there is run, and nobody is asked whether to.

    Raises BaseUnreadable.
    """
    if (path / CONFIG_FILE).exists():
        # transformers opens the base that it names in place of this one, and puts the adapter on that.
        raise BaseUnreadable(
            f"{path} holds an adapter of PEFT beside its weights ({CONFIG_FILE}), and would be opened as another model: move that "
            "file away, or give the folder of the base alone.",
            path=str(path),
        )
    _check_weights_are_those_hashed(path)
    try:
        return opener.from_pretrained(path, local_files_only=True, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())
        why = (
            "it brings code of its own, which is not run here: open it yourself (trust_remote_code=True) and give the live model."
            if "trust_remote_code" in said
            else said[:_MOST_SAID]
        )
        raise BaseUnreadable(f"{path} cannot be opened as a model: {why}", path=str(path)) from error


def _check_weights_are_those_hashed(path: Path) -> None:
    """Raises BaseUnreadable where transformers would read another file than `vera.fingerprint.checkpoint_files` has: a base that is then
    held quantised or rounded has nothing left by which that could be told."""
    hashed = SINGLE_FILE if (path / SINGLE_FILE).is_file() else INDEX_FILE
    if others := [name for name in _weights_named_in(_config_at(path)) if name != hashed]:
        raise BaseUnreadable(
            f"transformers would read the weights of {path} from {others[0]}, which its config.json names, and {hashed} is what was "
            f"proven: take {_NAMES_WEIGHTS} out of config.json, or give a folder with those weights alone.",
            path=str(path),
            found=str(others[0]),
            expected=hashed,
        )


def _config_at(path: Path) -> object:
    """What config.json spells; nothing where it cannot be read, which transformers says better."""
    try:
        return json.loads((path / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _weights_named_in(config: object) -> Iterator[object]:
    """Whatever a configuration or a part of it, which may be all that a class is given, says of the file with its weights."""
    if isinstance(config, dict):
        if config.get(_NAMES_WEIGHTS) is not None:
            yield config[_NAMES_WEIGHTS]
        for part in config.values():
            yield from _weights_named_in(part)


def _answers_in_texts(path: Path, manifest: Manifest) -> bool:
    is_bare = manifest.task is not None and (
        manifest.task.pooling is not None or manifest.task.kind == FEATURE_EXTRACTION
    )
    return not is_bare and (_was_trained_to_generate(manifest) or can_generate(path))


def can_generate(path: Path) -> bool:
    """Whether the checkpoint at `path` was saved with a language-modelling head of a decoder."""
    import transformers

    return _generates(_opened(transformers.AutoConfig, path, {}))


def open_language_model(path: Path, options: Mapping[str, Any]) -> Any:
    """The checkpoint at `path` with its language-modelling head.

    Raises VeraError (HEAD_UNTRAINED) when it has none, as an encoder: transformers would draw one at random.
    """
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        model, found = _opened(AutoModelForCausalLM, path, {"output_loading_info": True, **options})
    if drawn := sorted(found["missing_keys"]):
        raise VeraError(
            f"The checkpoint {path} cannot generate: it has no {', '.join(drawn[:3])} of a {type(model).__name__}, which "
            "would be drawn at random. Give a decoder that was saved with its language-modelling head.",
            code="HEAD_UNTRAINED",
            missing=drawn[:20],
        )
    return model


def class_of_own_head(manifest: Manifest) -> str | None:
    """The class of transformers that opens the model whose own head the adapter has; None where the task does not tell."""
    task = manifest.task
    return _CLASSES.get(task.kind) if task is not None and has_own_head(manifest) else None


def outputs_of_own_head(manifest: Manifest) -> int | None:
    """How many outputs that model has; None where there is none, or its head does not tell."""
    if class_of_own_head(manifest) is None:
        return None
    return head_outputs({tensor.name: tensor.shape for tensor in manifest.head})


def _open_with_head(opener: Any, path: Path, manifest: Manifest, options: Mapping[str, Any]) -> Any:
    import transformers

    outputs, labels = outputs_of_own_head(manifest), manifest.task.labels if manifest.task else ()
    options = {**({} if outputs is None else {"num_labels": outputs}), **options}
    if labels:
        options |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    with _unremarked(transformers), torch.random.fork_rng():
        model = _opened(opener, path, options)
    return model.eval()


@contextmanager
def _unremarked(transformers: Any) -> Iterator[None]:
    """Without transformers' advice to train the head that it has drawn: the adapter brings a trained one."""
    logging = transformers.utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _was_trained_to_generate(manifest: Manifest) -> bool:
    return manifest.task is not None and manifest.task.kind == TEXT_GENERATION


def _generates(config: Any) -> bool:
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.architectures or ())
