"""``resolute export``: a run as a file that trackers, Triton or OpenVINO open."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from resolute.cli.overrides import parse, take_settings
from resolute.core.config import attribute_texts, override
from resolute.core.errors import ConfigError
from resolute.export import config as choices
from resolute.export.config import ExportConfig

if TYPE_CHECKING:
    from resolute.export.artifact import Written
    from resolute.export.samples import Samples

_CHOICES = {
    "format": get_args(choices.Format),
    "artifact": get_args(choices.Artifact),
    "preset": (*get_args(choices.PresetName), "all"),
    "branch": get_args(choices.Branch),
    "precision": get_args(choices.Precision),
}


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and export.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.

    Raises:
        ConfigError: if the words do not fit together.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = "resolute export RUN [--format onnx|openvino] [--artifact tracker|full] [...]"
    parser.epilog = (
        "The gate of branch auto and the ranges of int8 are measured on drawn people, or on the\n"
        "run's own training images: --data.root ROOT. Settings of matching change with the file:\n"
        "--method.fusion hr keeps one stream. Every file is compared with torch, then kept.\n"
        "Score it: resolute evaluate RUN/export/full.onnx --data.root ROOT"
    )
    parser.add_argument("run", metavar="RUN", help="run folder, model file or name of a model")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder (default: RUN/export; of a shipped model none)",
    )
    texts = attribute_texts(ExportConfig)
    for name, known in _CHOICES.items():
        text = f"{' | '.join(known)} (default: {known[0]}): {texts[name]}"
        parser.add_argument(f"--{name}", metavar="NAME", help=text)
    own, changes = take_settings(words)
    options = parse(parser, own)
    settings = {n: v for n in _CHOICES if (v := getattr(options, n)) is not None}
    if settings.get("preset") == "all":
        settings["preset"] = get_args(choices.PresetName)
    config = override(ExportConfig(), settings)
    method = {p.removeprefix("method."): v for p, v in changes.items() if p.startswith("method.")}
    data = {p: v for p, v in changes.items() if p.startswith("data.")}
    for path in set(changes) - set(data) - {f"method.{name}" for name in method}:
        raise ConfigError(f"--{path}: only settings of method and data can be given here")

    from resolute.export.artifact import export

    for chatty in ("onnxscript", "onnx_ir"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    samples = _training_images(options.run, data) if data else None
    for written in export(options.run, config, out=options.out, samples=samples, overrides=method):
        _tell(written)
    return 0


def _training_images(run: str, data: Mapping[str, str]) -> "Samples":
    from resolute.data.benchmark import open_split
    from resolute.engine.run import read_config
    from resolute.export.samples import of_records
    from resolute.inference.load import find_model

    config = override(read_config(find_model(run).parent), data)
    split = open_split(config.data)
    return of_records(split.train, source=split.name)


def _tell(written: "Written") -> None:
    from resolute.inference.sidecar import read_sidecar

    graph = written.files[0]
    sidecar = read_sidecar(graph)
    size = sum(path.stat().st_size for path in written.files) / 2**20
    print(f"{graph}  {size:.1f} MiB in {len(written.files)} files, sha256 {sidecar.hr.sha256[:12]}")
    for row in written.parity:
        print(f"  {row}")
    if written.gate:
        gate = written.gate
        print(
            f"  auto: HR above sharpness {gate.threshold:.3f}; right for {gate.hr_right:.0%} of "
            f"{gate.num_hr} HR and {gate.lr_right:.0%} of {gate.num_lr} LR images "
            f"({gate.measured_on})"
        )
    if written.native_cosine is not None:
        print(f"  native size thrown away: mean cosine {written.native_cosine:.4f} with it kept")
