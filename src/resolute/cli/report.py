"""``resolute report``: one page about runs, to open without a network."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from resolute.cli.overrides import parse, take_settings
from resolute.core.errors import ConfigError


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and write the page.

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
        "resolute report RUN [RUN ...] [--out FILE] [--images N|none] [--strips DIR] "
        "[--section.field VALUE ...]"
    )
    parser.epilog = (
        "Several runs of one method are several trials: mean and deviation are drawn. Images are\n"
        "embedded anew; unseen rates, HR queries and fusions come from each run's result.json.\n"
        "The page opens without a network and sends nothing. Settings change what is shown:\n"
        "--data.root ROOT, --method.fusion mean."
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="run folders")
    add("--out", type=Path, metavar="FILE", default=Path("report.html"), help="(report.html)")
    add(
        "--images",
        metavar="N|none",
        default="3",
        help="best, median and worst queries shown, of each kind; none = without pictures (3)",
    )
    add("--top", type=int, metavar="K", default=10, help="gallery images per query (10)")
    add("--strips", type=Path, metavar="DIR", help="also draw one PNG per query into DIR/RUN")
    add(
        "--false-match-rates",
        metavar="R,R",
        default="0.01,0.001,0.0001",
        help="thresholds drawn with the distances (0.01,0.001,0.0001)",
    )
    own, overrides = take_settings(words)
    options = parse(parser, own)
    num_queries = 3 if options.images == "none" else _number(options.images)
    try:
        rates = [float(text) for text in options.false_match_rates.split(",")]
    except ValueError:
        raise ConfigError(
            f"--false-match-rates: expected numbers, got {options.false_match_rates!r}"
        ) from None

    from resolute.engine.memory import keep_freed_memory
    from resolute.report.exhibit import Asked
    from resolute.report.write import write_report

    keep_freed_memory()
    has_pictures = options.images != "none"
    strips = options.strips.expanduser() if options.strips else None
    file = write_report(
        options.runs,
        options.out,
        overrides=overrides,
        asked=Asked(num_queries=num_queries, top=options.top, strips=strips),
        rates=rates,
        has_pictures=has_pictures,
    )
    held = "contains pictures of people" if has_pictures else "no pictures"
    print(f"{file}: {file.stat().st_size / 2**20:.1f} MB, {held}")
    if strips:
        print(f"{strips}: ranked strips, contain pictures of people")
    return 0


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"--images: expected a whole number or none, got {text!r}")
    return int(text)
