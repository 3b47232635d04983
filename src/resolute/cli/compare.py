"""``resolute compare``: is this one person?"""

import argparse
import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from resolute.cli.overrides import parse

if TYPE_CHECKING:
    from resolute.inference.compare import Comparison, Side


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and compare.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.
    """
    parser.usage = "resolute compare A.jpg B.jpg --model RUN [--prior P] [--json]"
    parser.epilog = (
        "Several images of one person are divided by commas: a1.jpg,a2.jpg; a file whose name "
        "holds a comma is given alone. The probability "
        "starts from the prior: of two images from a crowd of 1000 it is about 0.001."
    )
    add = parser.add_argument
    add("a", metavar="A", help="image or images of one person")
    add("b", metavar="B", help="image or images of one person")
    add("--model", required=True, metavar="RUN", help="run folder, exported file or shipped name")
    add("--resolution", default="auto", help="hr, lr or auto (default: auto)")
    add("--prior", type=float, help="chance of one person before looking (the calibration's)")
    add("--runtime", default="", help="of an exported file: onnxruntime or openvino")
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)

    from resolute.inference.load import load

    model = load(options.model, runtime=options.runtime)
    found = model.compare(
        _images(options.a),
        _images(options.b),
        resolution=options.resolution,
        prior=options.prior,
    )
    if options.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        print("\n".join(_lines(found)))
    return 0


def _images(word: str) -> list[str]:
    # A long list is no file: its name would be longer than a system allows.
    with contextlib.suppress(OSError):
        if Path(word).expanduser().is_file():
            return [word]
    return word.split(",")


def _lines(found: "Comparison") -> list[str]:
    lines = [f"distance     {found.distance:.4f}"]
    if found.probability is None:
        lines.append("probability  unknown: not calibrated (resolute calibrate RUN)")
    else:
        lines.append(
            f"probability  {found.probability:.4f} that it is one person, from a prior of "
            f"{found.prior:g}; calibrated on {found.calibrated_on}"
        )
    lines += [f"{name}            {_side(side)}" for name, side in (("a", found.a), ("b", found.b))]
    return lines + [f"warning      {text}" for text in found.warnings]


def _side(side: "Side") -> str:
    height, width = side.native_size
    words = f"{height} x {width} pixels, detail of {side.effective_height:.0f}"
    if side.num_images > 1:
        words = f"{side.num_images} images, the largest {words}"
    if side.reliability is not None:
        words += f", reliability {side.reliability:.2f}"
    return words
