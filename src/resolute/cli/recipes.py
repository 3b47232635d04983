"""``resolute recipes``: list methods, data sets and what each recipe sets."""

import argparse
import json
from collections.abc import Sequence

from resolute.cli.overrides import parse, take_settings
from resolute.core.config import to_mapping, walk
from resolute.core.errors import ConfigError
from resolute.data.benchmark import benchmark_names
from resolute.methods.variants import TITLES
from resolute.recipes.catalogue import FLAVOURS, find_recipe


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and print.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.

    Raises:
        ConfigError: if a name is unknown, or a setting is given.
    """
    parser.usage = "resolute recipes [METHOD] [--data NAME] [--recipe NAME] [--json]"
    parser.epilog = "A set that `resolute mlr build` wrote: --data mlr-written --data.root DIR"
    parser.add_argument("method", nargs="?", help="print every setting of this method's recipe")
    parser.add_argument("--data", default="mlr-viper", help="data set (default: mlr-viper)")
    parser.add_argument("--recipe", default="recommended", help=", ".join(FLAVOURS))
    parser.add_argument("--json", action="store_true", help="as JSON, to edit and train with")
    own, settings = take_settings(words)
    options = parse(parser, own)
    root = settings.pop("data.root", "")
    for path in settings:
        raise ConfigError(f"--{path}: recipes are printed as they are; train takes settings")
    if options.method is None:
        print(
            "A recipe is method x data set x flavour:\n"
            "  resolute train METHOD --data NAME --recipe FLAVOUR"
        )
        print("\nmethods")
        for name, title in TITLES.items():
            print(f"  {name:<16}{title}")
        print("\ndata sets (mlr-NAME is the multi-low-resolution benchmark built on NAME)")
        print("  " + ", ".join(benchmark_names()))
        print("\nflavours")
        for name, words in FLAVOURS.items():
            print(f"  {name:<16}{words}")
        return 0
    config = find_recipe(options.method, options.data, options.recipe, root=root)
    if options.json:
        print(json.dumps(to_mapping(config), indent=1))
    else:
        for path, value in walk(config):
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            print(f"{path} = {shown}")
    return 0
