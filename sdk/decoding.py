"""JSON from a hub into frozen dataclasses, checked against their annotations.

A hub may be newer than this client, or hostile: a field nobody knows is ignored, one that is
missing or of another kind is BadAnswer, and nothing further in has to look again.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from sdk.errors import BadAnswer

T = TypeVar("T")


def decode(value: object, kind: type[T]) -> T:
    """The JSON `value` as the dataclass `kind`. Raises BadAnswer, naming the field."""
    decoded: T = _decode(value, kind, kind.__name__)
    return decoded


def _decode(value: object, kind: Any, where: str) -> Any:
    if kind is Any or kind is object:
        return value
    if dataclasses.is_dataclass(kind):
        return _decode_object(value, kind, where)
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (inner,) = (arg for arg in args if arg is not types.NoneType)
        return None if value is None else _decode(value, inner, where)
    if origin is tuple:
        return _decode_list(value, args, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _decode_mapping(value, args[1], where)
    return _decode_scalar(value, kind, where)


def _decode_object(value: object, kind: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _unexpected(where, "an object", value)
    hints, fields = _hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            fields[field.name] = _decode(value[field.name], hints[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise _unexpected(f"{where}.{field.name}", "there", None)
    return kind(**fields)


def _decode_list(value: object, args: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    is_open = len(args) == 2 and args[1] is Ellipsis
    if not isinstance(value, list) or not (is_open or len(value) == len(args)):
        raise _unexpected(where, "a list" if is_open else f"a list of {len(args)}", value)
    kinds = [args[0]] * len(value) if is_open else args
    return tuple(_decode(item, kind, f"{where}[{i}]") for i, (item, kind) in enumerate(zip(value, kinds, strict=True)))


def _decode_mapping(value: object, kind: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unexpected(where, "an object", value)
    return {key: _decode(item, kind, f"{where}.{key[:40]}") for key, item in value.items()}


def _decode_scalar(value: object, kind: type, where: str) -> object:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise _unexpected(where, f"a {kind.__name__}", value)
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _unexpected(where: str, wanted: str, got: object) -> BadAnswer:
    return BadAnswer(
        f"The hub's answer cannot be used: {where} must be {wanted} and is {repr(got)[:60]}. "
        "Is it a Vera Hub, and not a newer one than this vera-hub?",
        facts={"field": where},
    )
