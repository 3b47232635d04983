"""``resolute convert``: a weight file becomes an untrained run, an OpenVINO graph a weight file."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from resolute.cli.overrides import parse, take_settings
from resolute.core.config import override
from resolute.core.errors import ConfigError
from resolute.data.benchmark import DataConfig
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
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = (
        "resolute convert FILE [--out DIR] [--model.backbone NAME] [--model.FIELD VALUE]\n"
        "       resolute convert GRAPH.xml [--out FILE.safetensors] [--data NAME --data.root ROOT]"
    )
    parser.epilog = (
        "The backbone is recognised by names and shapes, a ResNet's stem by the toolbox that\n"
        "wrote the file; name the backbone where that fails. Score the result:\n"
        "resolute evaluate DIR --data.name mlr-viper --data.root ROOT\n\n"
        "GRAPH.xml is Open Model Zoo's person-reidentification-retail-0277, with its .bin beside\n"
        "it. Its batch norms are folded; to train it they need the statistics of images, best of\n"
        "those it is to be trained on: name them with --data (default: the drawn people)."
    )
    parser.add_argument("file", type=Path, help="weights: Torchreid's, FastReID's, safetensors")
    parser.add_argument("--out", type=Path, metavar="PATH", help="runs/FILE, or FILE.safetensors")
    parser.add_argument("--data", metavar="NAME", help="of a graph: measured on its training part")
    own, changes = take_settings(words)
    options = parse(parser, own)
    file = options.file.expanduser()
    if file.suffix == ".xml":
        return _unfold(file, options, changes)
    if options.data:
        raise ConfigError("--data: only an OpenVINO graph (.xml) is measured on images")
    for path in changes:
        if not path.startswith("model."):
            raise ConfigError(f"--{path}: only settings of the model can be given here")

    from resolute.engine.convert import convert
    from resolute.engine.run import CONFIG_NAME
    from resolute.models.pretrained import recognise

    base = RunConfig() if "model.backbone" in changes else RunConfig(model=recognise(file))
    model = override(base, changes).model
    folder = options.out or Path("runs") / file.name.split(".")[0]
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG_NAME).exists():
        raise ConfigError(f"{folder}: holds other files; name a folder of its own with --out")
    print(convert(file, folder, model=model))
    print(f"{folder}: untrained; score it with: resolute evaluate {folder} --data.root ROOT")
    return 0


def _unfold(graph: Path, options: argparse.Namespace, changes: dict[str, str]) -> int:
    for path in changes:
        if not path.startswith("data."):
            raise ConfigError(f"--{path}: of an OpenVINO graph only settings of data can be given")

    from resolute.engine.unfold import unfold

    data = override(RunConfig(data=DataConfig(name=options.data or "synthetic")), changes).data
    out = options.out or Path(f"{graph.stem}.safetensors")
    print(unfold(graph, out, data=data))
    print(f"start from it: --model.weights {out}; score it as it is: resolute convert {out}")
    return 0
