"""Command-line words of the form ``--section.field value`` as settings."""

import argparse
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resolute.core.config import explain, unknown_name, walk
from resolute.core.errors import ConfigError


def take_settings(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Part the settings ``--section.field value`` from a verb's own words.

    Args:
        words: for example ``["ftwa", "--data.root", "viper", "--method.flip=true"]``.

    Returns:
        The other words, and the settings' texts by dotted path.

    Raises:
        ConfigError: if a setting has no value.
    """
    own: list[str] = []
    settings: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        path, has_value, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "." not in path:
            own.append(word)
            continue
        if not has_value:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"--{path}: expected a value, for example --{path}=VALUE")
            value = rest.pop(0)
        settings[path.replace("-", "_")] = value
    return own, settings


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Parse a verb's own words; name the nearest option where one is unknown.

    Args:
        parser: of the verb.
        words: without settings, see :func:`take_settings`.

    Returns:
        The options.

    Raises:
        ConfigError: if a word is left over.
    """
    # Intermixed: argparse's own way loses optional words that stand behind an option.
    options, rest = parser.parse_known_intermixed_args(list(words))
    for word in rest:
        if word.startswith("--"):
            known = [o for a in parser._actions for o in a.option_strings if o.startswith("--")]
            raise ConfigError(unknown_name("option", word.partition("=")[0], known))
        raise ConfigError(f"unexpected word {word!r}: settings read --section.field value")
    return options


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings from a TOML or JSON file as dotted paths.

    Args:
        path: the file; tables are sections. A run's ``config.json`` will do.

    Returns:
        Values by dotted path.

    Raises:
        ConfigError: if the file is missing or not TOML or JSON.
    """
    is_json = path.suffix == ".json"
    try:
        tables = json.loads(path.read_text()) if is_json else tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read settings {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not {'JSON' if is_json else 'TOML'}: {error}") from None
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: expected sections with settings, got {tables!r}")
    return dict(_flatten(tables, ""))


def _flatten(tables: dict[str, Any], where: str) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in tables.items():
        if isinstance(value, dict):
            flat += _flatten(value, f"{where}{key}.")
        else:
            flat.append((f"{where}{key}", value))
    return flat


def settings_help(config: Any, *, title: str) -> str:
    """List every setting with its default and its source.

    Args:
        config: the settings whose values are the defaults.
        title: heading.

    Returns:
        Text for the end of ``--help``.
    """
    values = dict(walk(config))
    lines = [title]
    for path, text in explain(config):
        if "." not in path:
            continue
        value = values[path]
        shown = ",".join(str(v) for v in value) if isinstance(value, tuple) else str(value)
        lines.append(f"  --{path} {shown or chr(34) * 2}\n        {text}")
    return "\n".join(lines)
