"""Settings as frozen dataclasses, filled alike by code, TOML files and the command line.

A default and its explanation exist once: in the dataclass and its ``Attributes:`` section.
"""

import dataclasses
import difflib
import inspect
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from resolute.core.errors import ConfigError

_MOST_THREADS = 1024

T = TypeVar("T")


@runtime_checkable
class Sectioned(Protocol):
    """Settings in which the class of a section depends on another value."""

    def section_types(self, mapping: Mapping[str, Any]) -> Mapping[str, type]:
        """Give the class of each such section, as a class method.

        Args:
            mapping: the settings as plain values.
        """


@runtime_checkable
class Preset(Protocol):
    """Settings whose ``name`` picks where they start from."""

    def presets(self) -> Mapping[str, Any]:
        """Give such settings by name, as a static method."""


def to_mapping(config: Any) -> dict[str, Any]:
    """Turn a settings dataclass into plain nested dictionaries (tuples become lists).

    Args:
        config: a dataclass instance.

    Returns:
        What JSON and TOML can hold.
    """
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def from_mapping(cls: type[T], mapping: Mapping[str, Any], *, where: str = "") -> T:
    """Build a settings dataclass from nested dictionaries; missing keys keep their defaults.

    Args:
        cls: the dataclass to build.
        mapping: values by field name; text is converted to the field's type.
        where: dotted path of the section, for messages.

    Returns:
        The settings.

    Raises:
        ConfigError: if a key is unknown or a value has the wrong type.
    """
    hints = _hints(cls)
    if isinstance(cls, Sectioned):
        hints |= cls.section_types(mapping)
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        path = f"{where}{key}"
        if key not in hints:
            raise ConfigError(unknown_name("setting", path, [f"{where}{k}" for k in hints]))
        values[key] = _convert(hints[key], value, path)
    return cls(**values)


def override(config: T, overrides: Mapping[str, Any]) -> T:
    """Replace settings by dotted path.

    The ``name`` of a section with presets brings all of its settings, before any other is set.

    Args:
        config: settings to start from; not changed.
        overrides: values by dotted path, for example ``{"data.root": "~/viper"}``.

    Returns:
        New settings, checked like any others.

    Raises:
        ConfigError: if a path is unknown or a value has the wrong type.
    """
    known = dict(walk(config))
    nested: dict[str, Any] = to_mapping(config)
    for path in sorted(overrides, key=lambda path: not path.endswith(".name")):
        value = overrides[path]
        if path not in known:
            raise ConfigError(unknown_name("setting", path, list(known)))
        *sections, name = path.split(".")
        level, settings = nested, config
        for section in sections:
            level, settings = level[section], getattr(settings, section)
        others = {p for p in known if p.startswith(path.removesuffix("name"))} - overrides.keys()
        if name == "name" and isinstance(settings, Preset) and others:
            presets = settings.presets()
            if value not in presets:
                raise ConfigError(f"{path}: " + unknown_name("preset", value, list(presets)))
            level.update(to_mapping(presets[value]))
        level[name] = value
    return from_mapping(type(config), nested)


def walk(config: Any, *, where: str = "") -> Iterator[tuple[str, Any]]:
    """List every leaf setting as (dotted path, value).

    Args:
        config: a dataclass instance.
        where: prefix of the paths.

    Yields:
        Pairs in the order of the fields.
    """
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from walk(value, where=f"{where}{f.name}.")
        else:
            yield f"{where}{f.name}", value


def explain(config: Any, *, where: str = "") -> Iterator[tuple[str, str]]:
    """List every leaf setting as (dotted path, text of its ``Attributes:`` entry).

    Args:
        config: a dataclass instance.
        where: prefix of the paths.

    Yields:
        Pairs in the order of the fields.
    """
    texts = attribute_texts(type(config))
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from explain(value, where=f"{where}{f.name}.")
        else:
            yield f"{where}{f.name}", texts.get(f.name, "")


def attribute_texts(cls: type) -> dict[str, str]:
    """Read the ``Attributes:`` section of a class docstring and of those it derives from.

    Args:
        cls: a documented class.

    Returns:
        One line of text per attribute.
    """
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        texts |= _attribute_texts(inspect.cleandoc(base.__doc__ or ""))
    return texts


def _attribute_texts(doc: str) -> dict[str, str]:
    _, _, section = doc.partition("Attributes:\n")
    texts: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            name, text = start.groups()
            texts[name] = text
        elif name and line.startswith("        "):
            texts[name] += " " + line.strip()
        elif line.strip() and not line.startswith(" "):
            break
    return texts


def unknown_name(kind: str, name: str, known: list[str]) -> str:
    """Word the message for a name that does not exist, with the nearest ones that do.

    Args:
        kind: what was looked up, for example ``method``.
        name: what was asked for.
        known: all valid names.

    Returns:
        One line.
    """
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    tail = [k for k in known if k.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    if tail or near:
        return f"unknown {kind} {name!r}: did you mean {(tail or near)[0]!r}?"
    return f"unknown {kind} {name!r}: choose one of {', '.join(known)}"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}: expected a section with keys, got {value!r}")
        return from_mapping(hint, value, where=f"{path}.")  # type: ignore[arg-type]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in args:
            raise ConfigError(
                f"{path}: " + unknown_name("value", str(value), [str(a) for a in args])
            )
        return value
    if origin is tuple:
        return _convert_tuple(args, value, path)
    if origin in (typing.Union, types.UnionType):
        raise ConfigError(f"{path}: settings have one type each, not a union")
    return _convert_leaf(hint, value, path)


def _convert_tuple(args: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = _parts(value, is_text=args[0] is str)
    elif not isinstance(value, list | tuple):
        value = [value]
    if args[-1] is not Ellipsis and len(args) != len(value):
        raise ConfigError(f"{path}: expected {len(args)} values divided by commas, got {value!r}")
    return tuple(_convert(args[0], v, path) for v in value)


def _parts(text: str, *, is_text: bool) -> list[str]:
    """Divide a list on one line; what is itself text may hold spaces and brackets, as paths do."""
    text = text.strip()
    if text[:1] + text[-1:] in ("[]", "()"):
        text = text[1:-1]
    parts = text.split(",") if is_text else re.split(r"[,\s]+", text)
    return [part.strip() for part in parts if part.strip()]


def check_threads(threads: int) -> None:
    """Check a number of threads.

    Args:
        threads: 0 leaves the choice to who runs them.

    Raises:
        ConfigError: if it is negative, or more than any machine has.
    """
    if not 0 <= threads <= _MOST_THREADS:
        raise ConfigError(f"threads: expected 0 (chosen for you) to {_MOST_THREADS}, got {threads}")


def _convert_leaf(hint: type, value: Any, path: str) -> Any:
    if hint is bool:
        words = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
        if isinstance(value, bool):
            return value
        if str(value).lower() in words:
            return words[str(value).lower()]
        raise ConfigError(f"{path}: expected true or false, got {value!r}")
    if hint is int and isinstance(value, float) and not value.is_integer():
        raise ConfigError(f"{path}: expected a whole number, got {value!r}")
    if hint is str and not isinstance(value, str):
        raise ConfigError(f"{path}: expected text, got {value!r}")
    if hint in (int, float) and isinstance(value, bool):
        raise ConfigError(f"{path}: expected a number, got {value!r}")
    try:
        found = hint(value)
        if hint is float and math.isnan(found):
            raise ValueError
        return found
    except (TypeError, ValueError, OverflowError):
        kind = {"int": "a whole number", "float": "a number"}.get(hint.__name__, hint.__name__)
        raise ConfigError(f"{path}: expected {kind}, got {value!r}") from None
