"""``resolute train``: train a method on a data set."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from resolute.cli.overrides import parse_overrides, read_settings, settings_help
from resolute.core.config import override
from resolute.core.errors import ConfigError
from resolute.engine.config import RunConfig
from resolute.recipes.ftwa import FLAVOURS, find_recipe

FLAGS = ("--data", "--recipe", "--config", "--out", "--resume", "--quiet")


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and train.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = (
        "resolute train METHOD --data NAME --data.root ROOT [--recipe NAME] [--out DIR] "
        "[--section.field VALUE ...]"
    )
    parser.epilog = settings_help(
        find_recipe("ftwa", "mlr-viper"),
        title="settings (defaults of: train ftwa --data mlr-viper; [source]):",
    )
    add = parser.add_argument
    add("method", help="a method; `resolute recipes` lists them")
    add("--data", metavar="NAME", default="mlr-viper", help="data set (default: mlr-viper)")
    add(
        "--recipe",
        metavar="NAME",
        default="recommended",
        help=f"{', '.join(FLAVOURS)} (default: recommended)",
    )
    add("--config", metavar="FILE", type=Path, help="TOML or a run's config.json, over the recipe")
    add("--out", metavar="DIR", help="run folder (default: runs/METHOD-DATA-tTRIAL-sSEED)")
    add("--resume", action="store_true", help="go on from the folder's checkpoint, same bits")
    add("--resume-changed", action="store_true", help="go on with other settings or threads too")
    add("--quiet", action="store_true", help="no progress bar")
    options, rest = parser.parse_known_args(list(words))

    config = find_recipe(options.method, options.data, options.recipe)
    config = configure(config, options.config, rest)
    folder = options.out or (
        f"runs/{config.name}-{config.data.name}-t{config.data.trial}-s{config.train.seed}"
    )
    return _train(config, Path(folder), options)


def configure(config: RunConfig, file: Path | None, words: Sequence[str]) -> RunConfig:
    """Lay a settings file and command-line settings over a recipe.

    Args:
        config: the recipe.
        file: TOML file, or a run's config.json.
        words: the words left over.

    Returns:
        The effective settings.
    """
    if file is not None:
        config = override(config, read_settings(file))
    return override(config, parse_overrides(words, flags=FLAGS))


def _train(config: RunConfig, folder: Path, options: argparse.Namespace) -> int:
    # Torch is loaded here, after every setting was checked.
    from rich.console import Console

    from resolute.engine.memory import keep_freed_memory
    from resolute.engine.progress import make_progress
    from resolute.engine.run import train

    keep_freed_memory()
    if options.resume and options.resume_changed:
        raise ConfigError("--resume and --resume-changed: choose one")
    resume = "exact" if options.resume else "changed" if options.resume_changed else "no"
    progress = None if options.quiet else make_progress(Console(stderr=True))
    try:
        result = train(config, folder, resume=resume, progress=progress)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        print(f"resolute: interrupted; go on with: --resume --out {folder}", file=sys.stderr)
        return 130
    print(
        f"{folder}: {result.steps} steps in {result.duration_s:.0f} s, "
        f"{result.images_per_s:.1f} images/s; score it with: resolute evaluate {folder}"
    )
    return 0
