"""How a live base is configured: recorded when an adapter is trained on it, and compared before one is put on it."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from vera.base_config import BaseConfig, differences, is_same, part_like, refusal, settings_of
from vera.errors import BaseMismatch
from vera.manifest import BaseIdentity

_MOST_SAID = 8
_FIRST_SEEN: weakref.WeakKeyDictionary[nn.Module, dict[str, float]] = weakref.WeakKeyDictionary()


def record_of(config: Any) -> BaseConfig | None:
    """What `config`, a configuration of transformers, says of how its model computes; None for what is no configuration.

    Its class is asked what it would be without having been told.
    """
    if not _is_config(config):
        return None
    found = settings_of(config.to_dict())
    given = [name for name in found if name not in _by_itself(config, found, list(found))]
    # Such as the size of a head, which follows from that of the model: it is asked for by itself, and is given all the same
    # where it follows only from what is no default either.
    given = [name for name in given if not _by_itself(config, found, [name])]
    default = _by_itself(config, found, [name for name in found if name not in given])
    return BaseConfig({name: value for name, value in found.items() if name not in default}, default)


def config_at(path: Path) -> Any:
    """The configuration of the checkpoint at `path`, as the installed transformers understands it; None where it has none
    that can be read without running code of its own. Raises ImportError without transformers."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception:  # whatever is wrong with it is said by who opens it
        return None


def check_model(model: Any, base: BaseIdentity) -> None:
    """Raises BaseMismatch (BASE_CONFIG_MISMATCH) when `model` is configured to compute otherwise than the base that an adapter
    was trained on, whatever its weights; or when a number that one of its modules computes with (an epsilon, a scale) is not what
    it was when the model was first looked at here. Without a record or a configuration there is nothing to compare."""
    what = f"This {type(model).__name__}"
    check_config(getattr(model, "config", None), base, what)
    numbers = _numbers_of(model)
    first = _FIRST_SEEN.setdefault(model, numbers)
    changed = [name for name in first if numbers.get(name, first[name]) != first[name]]
    if changed and base.config is not None:
        said = "; ".join(f"{name} is {numbers[name]!r} and was {first[name]!r}" for name in changed[:_MOST_SAID])
        raise BaseMismatch(
            f"{what} was changed since it was first looked at here, and would answer otherwise with the very same weights: {said}"
            f"{f'; and {len(changed) - _MOST_SAID} more' if len(changed) > _MOST_SAID else ''}. Nothing was changed; set these back, or "
            f"open {base.name} again.",
            code="BASE_CONFIG_MISMATCH",
            fingerprint=base.fingerprint,
            settings={name: {"first": first[name], "found": numbers[name]} for name in changed},
        )


def check_config(config: Any, base: BaseIdentity, what: str) -> None:
    """`check_model` of the configuration alone, of `what`."""
    trained = base.config
    if trained is None or not _is_config(config):
        return
    config = _part_of(config, trained.all.get("model_type"))
    found = settings_of(config.to_dict())
    recorded = part_like(trained.all, found)
    new = [name for name in found if name not in recorded]
    if differing := differences(trained, found, _left_out(config, new) if new else {}):
        raise refusal(what, base, differing)


def _numbers_of(model: nn.Module) -> dict[str, float]:
    """The numbers by which its modules compute and that are no tensors, by name. Those of dropout change no answer, and whole numbers
    are left out: some models count with them."""
    return {
        f"{name}.{key}": value
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if type(value) is float and not key.startswith("_") and key != "p" and "drop" not in key
    }


def _is_config(config: Any) -> bool:
    return callable(getattr(config, "to_dict", None)) and bool(getattr(config, "model_type", None))


def _part_of(config: Any, model_type: object) -> Any:
    """`config`, or the one part of it that is of `model_type`."""
    if config.model_type == model_type:
        return config
    parts: list[Any] = [getattr(config, name, None) for name in getattr(config, "sub_configs", ())]
    alike = [part for part in parts if _is_config(part) and part.model_type == model_type]
    return alike[0] if len(alike) == 1 else config


def _by_itself(config: Any, found: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Those of `names` that are as `found` when the class is told none of them."""
    left_out = _left_out(config, names)
    return {name: found[name] for name in names if name in left_out and is_same(left_out[name], found[name])}


def _left_out(config: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """The settings of a configuration of the same class that is told everything else and not `names`; none where there is none."""
    told = copy.deepcopy(config.to_dict())
    for name in names:
        _drop(told, name)
    try:
        return settings_of(type(config)(**told).to_dict())
    except Exception:  # of classes from anywhere; what cannot be left out is no default
        return {}


def _drop(told: dict[str, Any], name: str) -> None:
    """Takes the setting of that dotted name out; a key may have dots of its own."""
    for key in list(told):
        if key == name:
            del told[key]
        elif isinstance(told[key], dict) and name.startswith(f"{key}."):
            _drop(told[key], name.removeprefix(f"{key}."))
