"""Vocabulary: strict YAML. A mapping becomes a frozen dataclass; what does not fit is an error
that names the place, the known keys and the cure."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from perception_bev.errors import ConfigError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Range:
    """Limits of a number, inclusive: `period_ms: Annotated[float, Range(1, 10_000)]`."""

    low: float
    high: float


def load_yaml(path: str | Path) -> Any:
    """The content of a YAML file; ConfigError when it is missing or not YAML."""
    try:
        return yaml.load(Path(path).read_text(), _StrictLoader)
    except FileNotFoundError as err:
        raise ConfigError(f"{path}: no such file") from err
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as err:
        raise ConfigError(f"{path}: not readable as YAML: {err}") from err


class _StrictLoader(yaml.SafeLoader):
    """YAML wants keys to differ; PyYAML keeps the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value
                if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load(path: str | Path, cls: type[T]) -> T:
    """Read a YAML file as `cls`; errors begin with the file's name."""
    return build(cls, load_yaml(path), str(path))


def build(cls: type[T], value: Any, where: str) -> T:
    """Make `cls` (a dataclass) from a mapping; `where` names the place in errors."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected keys ({', '.join(_keys(cls))}), got {_show(value)}")
    hints = typing.get_type_hints(cls, include_extras=True)
    _refuse_unknown(cls, value, where)
    _refuse_missing(cls, value, where)
    made = {key: convert(hints[key], item, f"{where}: {key}" if ":" not in where else
                         f"{where}.{key}") for key, item in value.items()}
    try:
        return cls(**made)
    except ConfigError as err:
        raise ConfigError(f"{where}: {err}") from err


def convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type `hint`, or ConfigError."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _in_range(convert(args[0], value, where), args[1:], where)
    if origin in (Union, types.UnionType):
        return _first_that_fits(args, value, where)
    if origin is Literal:
        return _one_of(args, value, where)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected names with values, got {_show(value)}")
        return {str(key): convert(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is tuple:
        return _tuple(args, value, where)
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is Any or (hint is type(None) and value is None):
        return value
    if hint in (int, bool, str) and type(value) is hint:
        return value
    raise ConfigError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {_show(value)}")


def _in_range(value: Any, limits: tuple, where: str) -> Any:
    for limit in limits:
        if isinstance(limit, Range) and value is not None and not limit.low <= value <= limit.high:
            raise ConfigError(f"{where}: {value} is outside {limit.low} .. {limit.high}")
    return value


def _one_of(choices: tuple, value: Any, where: str) -> Any:
    if value not in choices:
        raise ConfigError(f"{where}: {_show(value)} is none of {', '.join(map(str, choices))}")
    return value


def _first_that_fits(hints: tuple, value: Any, where: str) -> Any:
    by_kind = _kinds(hints)
    if by_kind:
        return convert(_kind_of(by_kind, value, where), value, where)
    errors = []
    for hint in hints:
        try:
            return convert(hint, value, where)
        except ConfigError as err:
            errors.append((dataclasses.is_dataclass(hint) and isinstance(value, Mapping), str(err)))
    for is_near, text in errors:
        if is_near:
            raise ConfigError(text)
    raise ConfigError("; or ".join(text for _, text in errors))


def _kinds(hints: tuple) -> dict[str, type]:
    """Dataclasses that tell themselves apart by `kind: Literal[...]`; empty: these do not."""
    if not all(dataclasses.is_dataclass(hint) for hint in hints):
        return {}
    said = [typing.get_type_hints(hint).get("kind") for hint in hints]
    if not all(get_origin(kind) is Literal for kind in said):
        return {}
    return {name: hint for hint, kind in zip(hints, said, strict=True) for name in get_args(kind)}


def _kind_of(by_kind: dict[str, type], value: Any, where: str) -> type:
    """The dataclass that `value` names; without this, errors would be of the wrong one."""
    if not isinstance(value, Mapping) or "kind" not in value:
        raise ConfigError(f"{where}: expected keys with a kind ({', '.join(by_kind)}), "
                          f"got {_show(value)}")
    kind = value["kind"]
    if isinstance(kind, str) and kind in by_kind:
        return by_kind[kind]
    near = difflib.get_close_matches(str(kind), by_kind, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise ConfigError(f"{where}: unknown kind {_show(kind)}{hint}; known: {', '.join(by_kind)}")


def _tuple(args: tuple, value: Any, where: str) -> tuple:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where}: expected a list, got {_show(value)}")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if len(value) != len(args):
        raise ConfigError(f"{where}: expected {len(args)} values, got {len(value)}")
    pairs = zip(args, value, strict=True)
    return tuple(convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(pairs))


def _keys(cls: type) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if f.init]


def _refuse_unknown(cls: type, value: Mapping, where: str) -> None:
    known = _keys(cls)
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise ConfigError(f"{where}: unknown key '{key}'{hint}; known: {', '.join(known)}")


def _refuse_missing(cls: type, value: Mapping, where: str) -> None:
    missing = [f.name for f in dataclasses.fields(cls)
               if f.init and f.name not in value and f.default is dataclasses.MISSING
               and f.default_factory is dataclasses.MISSING]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(missing)}")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
