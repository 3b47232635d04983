"""``resolute convert``: a weight file becomes an untrained run folder."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from resolute.cli.overrides import parse, take_settings
from resolute.core.config import override
from resolute.core.errors import ConfigError
from resolute.engine.config import RunConfig


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and convert.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.

    Raises:
        ConfigError: if the words do not fit together.
    """
    parser.usage = "resolute convert FILE [--out DIR] [--model.backbone NAME] [--model.FIELD VALUE]"
    parser.epilog = (
        "The backbone is recognised by names and shapes, a ResNet's stem by the toolbox that wrote "
        "the file; name the backbone where that fails. Score the result: resolute evaluate DIR "
        "--data.name mlr-viper --data.root ROOT"
    )
    parser.add_argument("file", type=Path, help="weights: Torchreid's, FastReID's, safetensors")
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder (runs/FILE)")
    own, changes = take_settings(words)
    options = parse(parser, own)
    for path in changes:
        if not path.startswith("model."):
            raise ConfigError(f"--{path}: only settings of the model can be given here")

    from resolute.engine.convert import convert
    from resolute.models.pretrained import recognise

    file = options.file.expanduser()
    base = RunConfig() if "model.backbone" in changes else RunConfig(model=recognise(file))
    model = override(base, changes).model
    folder = options.out or Path("runs") / file.name.split(".")[0]
    print(convert(file, folder, model=model))
    print(f"{folder}: untrained; score it with: resolute evaluate {folder} --data.root ROOT")
    return 0
