"""``resolute train``: train a method on a data set."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from resolute.cli.evaluate import score_runs
from resolute.cli.overrides import parse, read_settings, settings_help, take_settings
from resolute.cli.scores import print_table, scores_table
from resolute.core.config import override
from resolute.core.errors import ConfigError
from resolute.engine.config import RunConfig
from resolute.methods.variants import VARIANTS
from resolute.recipes.catalogue import FLAVOURS, find_recipe

DATA = "mlr-viper"


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and train.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.

    Raises:
        ConfigError: if the settings do not fit together.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = (
        "resolute train METHOD --data NAME --data.root ROOT [--recipe NAME] [--out DIR] "
        "[--section.field VALUE ...]"
    )
    shown = next((word for word in words if word in VARIANTS), "ftwa")
    parser.epilog = settings_help(
        find_recipe(shown, DATA),
        title=f"settings (defaults of: train {shown} --data {DATA}; [source]):",
    )
    add = parser.add_argument
    add("method", help="a method; `resolute recipes` lists them")
    add("--data", metavar="NAME", help=f"data set (default: the --config file's, or {DATA})")
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
    add("--evaluate", action="store_true", help="score the run afterwards, as resolute evaluate")
    add("--quiet", action="store_true", help="no progress bar")
    own, settings = take_settings(words)
    options = parse(parser, own)

    filed = {} if options.config is None else read_settings(options.config)
    data = options.data or filed.get("data.name", DATA)
    for name, kept, asked in (
        ("method", filed.get("name", options.method), options.method),
        ("data set", filed.get("data.name", data), data),
    ):
        if kept != asked:
            raise ConfigError(
                f"{options.config}: settings of the {name} {kept}, asked for {asked}: other rows "
                "are compared by recipe and options, not by another run's file"
            )
    root = settings.get("data.root", filed.get("data.root", ""))
    config = find_recipe(options.method, data, options.recipe, root=root)
    config = override(override(config, filed), settings)
    folder = options.out or (
        f"runs/{config.name}-{config.data.name}-t{config.data.trial}-s{config.train.seed}"
    )
    return _train(config, Path(folder), options, command_of(words))


_SOURCES = "--data.also_train"


def command_of(words: Sequence[str]) -> str:
    """Word the command that makes a run again, without where files stand on this machine.

    Args:
        words: what followed the verb.

    Returns:
        One line; run folder and data folder by placeholder, other files by name.
    """
    placeholders = {"--out": "RUN", "--data.root": "ROOT", "--data.cache": "CACHE"}
    shown: list[str] = []
    for word in words:
        option, has_value, value = word.partition("=")
        last = shown[-1] if shown else ""
        if last in placeholders:
            shown.append(placeholders[last])
        elif last == _SOURCES:
            shown.append(_without_roots(word))
        elif option == _SOURCES and has_value:
            shown.append(f"{option}={_without_roots(value)}")
        elif has_value and option in placeholders:
            shown.append(f"{option}={placeholders[option]}")
        elif word not in ("--resume", "--resume-changed", "--quiet", "--evaluate"):
            shown.append(f"{option}{has_value}{Path(value).name}" if "/" in value else word)
            if "/" in word and not has_value:
                shown[-1] = Path(word).name
    if not any(word.startswith("--out") for word in shown):
        shown += ["--out", "RUN"]
    return shlex.join(["resolute", "train", *shown])


def _without_roots(sources: str) -> str:
    names = [source.partition("=")[0].strip() for source in sources.strip("[]() ").split(",")]
    return ",".join(f"{name}=ROOT" for name in names)


def _train(config: RunConfig, folder: Path, options: argparse.Namespace, command: str) -> int:
    # Torch is loaded here, after every setting was checked.
    from rich.console import Console

    from resolute.engine.distributed import world
    from resolute.engine.memory import keep_freed_memory
    from resolute.engine.progress import make_progress
    from resolute.engine.run import train

    keep_freed_memory()
    if options.resume and options.resume_changed:
        raise ConfigError("--resume and --resume-changed: choose one")
    resume = "exact" if options.resume else "changed" if options.resume_changed else "no"
    progress = None if options.quiet else make_progress(Console(stderr=True))
    try:
        result = train(
            config,
            folder,
            resume=resume,  # type: ignore[arg-type]  # one of its three words
            progress=progress,
            command=command,
        )
    except KeyboardInterrupt:
        print(f"resolute: interrupted; go on with: --resume --out {folder}", file=sys.stderr)
        return 130
    if world().is_main:
        print(
            f"{folder}: {result.steps} steps in {result.duration_s:.0f} s, "
            f"{result.images_per_s:.1f} images/s; score it with: resolute evaluate {folder}"
        )
        if options.evaluate:
            rows, title = score_runs([str(folder)], {})
            print_table(scores_table(title, rows))
    return 0
