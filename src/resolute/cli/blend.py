"""``resolute blend``: a trained run with a share of its start weights kept."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from resolute.cli.overrides import parse
from resolute.core.errors import ConfigError


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and blend.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.

    Raises:
        ConfigError: if the share is no number from 0 to 1.
    """
    parser.usage = "resolute blend RUN --keep-start SHARE [--weights FILE] [--out DIR]"
    parser.epilog = (
        "Nothing is trained: the model becomes (1 - SHARE) x trained + SHARE x start in the "
        "pre-trained layers. Choose the share on held-out identities (--data.validation)."
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--keep-start", metavar="SHARE", required=True, help="0 to 1")
    parser.add_argument("--weights", default="", metavar="FILE", help="its start weights, if moved")
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder (RUN-keepSHARE)")
    options = parse(parser, words)
    try:
        share = float(options.keep_start)
    except ValueError:
        raise ConfigError(f"--keep-start: expected a number, got {options.keep_start!r}") from None

    from resolute.engine.blend import blend

    folder = options.run.expanduser()
    out = options.out or folder.with_name(f"{folder.name}-keep{share:g}")
    blend(folder, out.expanduser(), share=share, weights=options.weights)
    print(f"{out}: keeps {share:g} of its start; score it with: resolute evaluate {out}")
    return 0
