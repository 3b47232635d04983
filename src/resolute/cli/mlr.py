"""``resolute mlr``: multi-low-resolution sets on disk."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from resolute.cli.overrides import parse, take_settings
from resolute.core.config import override, unknown_name
from resolute.core.errors import ConfigError
from resolute.data.benchmark import MLR, DataConfig, open_split, resolved_policy
from resolute.data.catalogue import find_dataset
from resolute.data.manifest import verify
from resolute.data.mlr import PRESETS
from resolute.data.written import rebuild, write
from resolute.engine.config import RunConfig


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words, build, rebuild or verify.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.

    Raises:
        ConfigError: if the words do not fit together.
    """
    parser.usage = (
        "resolute mlr build --data NAME --root ROOT --out DIR [--preset NAME] [--data.mlr.F V]\n"
        "       resolute mlr rebuild --manifest FILE --data NAME --root ROOT --out DIR\n"
        "       resolute mlr verify DIR"
    )
    add = parser.add_argument
    add("action", choices=("build", "rebuild", "verify"))
    add("folder", type=Path, nargs="?", help="for verify: a folder that build wrote")
    add("--data", metavar="NAME", default="viper", help="data set (default: viper)")
    add("--root", default="", help="folder of the data set")
    add("--out", type=Path, metavar="DIR", help="where to write")
    add("--preset", default="default", help=f"{', '.join(PRESETS)} (default: default)")
    add("--trial", type=int, default=0, help="which split (default: 0)")
    add("--seed", type=int, default=0, help="seed of splits and rates (default: 0)")
    add("--manifest", type=Path, help="for rebuild: the manifest.json to follow")
    own, changes = take_settings(words)
    options = parse(parser, own)
    if options.action == "verify":
        if options.folder is None:
            raise ConfigError("mlr verify: expected a folder")
        print(f"{options.folder}: {verify(options.folder)}")
        return 0
    if options.out is None:
        raise ConfigError(f"mlr {options.action}: expected --out DIR")
    data = _settings(options, changes)
    if options.action == "rebuild":
        if options.manifest is None:
            raise ConfigError("mlr rebuild: expected --manifest FILE")
        originals = open_split(replace(data, name=data.name.removeprefix(MLR)))
        print(rebuild(options.manifest, originals, options.out))
        return 0
    split = open_split(data)
    print(split.name)
    for note in split.notes:
        print(f"  {note}")
    print(write(split, options.out, policy=resolved_policy(data), seed=data.seed))
    print("train on it: resolute train METHOD --data mlr-written --data.root DIR")
    return 0


def _settings(options: argparse.Namespace, changes: dict[str, str]) -> DataConfig:
    base = options.data.removeprefix(MLR)
    find_dataset(base)
    if options.preset not in PRESETS:
        raise ConfigError(unknown_name("preset", options.preset, list(PRESETS)))
    data = DataConfig(
        name=MLR + base,
        root=options.root,
        trial=options.trial,
        seed=options.seed,
        mlr=PRESETS[options.preset],
    )
    return override(RunConfig(data=data), changes).data
