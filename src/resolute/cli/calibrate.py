"""``resolute calibrate``: what distances and images of a run are worth."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from resolute.cli.overrides import parse, take_settings

if TYPE_CHECKING:
    from resolute.inference.calibration import Calibration


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and calibrate.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.
    """
    parser.usage = (
        "resolute calibrate RUN [--data NAME --data.root ROOT [--validation-identities N]]"
    )
    parser.epilog = (
        "Without --data, the people are those that the run held out of training "
        "(--data.validation N at training). Another data set lends its test identities, or N of "
        "its training identities. The run's own test identities are refused."
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="run folder; calibration.json is written there")
    add("--data", metavar="NAME", help="another data set")
    add("--validation-identities", type=int, metavar="N", help="people to hold out of its training")
    add("--prior", type=float, default=0.5, help="stated chance of one person (default: 0.5)")
    own, overrides = take_settings(words)
    options = parse(parser, own)
    changes: dict[str, Any] = dict(overrides)
    if options.data:
        changes["data.name"] = options.data
    if options.validation_identities is not None:
        changes["data.validation"] = options.validation_identities

    from resolute.engine.calibrate import calibrate
    from resolute.engine.memory import keep_freed_memory

    keep_freed_memory()
    print("\n".join(_lines(calibrate(options.run, overrides=changes, prior=options.prior))))
    return 0


def _lines(found: "Calibration") -> list[str]:
    low, middle, high = found.heights
    lines = [
        f"calibrated on {found.data}",
        f"  {found.num_same} pairs of one person, {found.num_different} of two; heights "
        f"{low:.0f} to {high:.0f} pixels, median {middle:.0f}",
        f"  {found.curve.kind} curve, log loss {found.log_loss:.3f} (0.693 knows nothing)",
    ]
    for t in found.thresholds:
        few = ", few" if t.num_negatives < 10 else ""
        lines.append(
            f"  distance below {t.distance:.4f}: false matches {t.false_match_rate:g}, true "
            f"matches {100 * t.match_rate:.1f} % ({t.num_negatives} pairs behind it{few})"
        )
    fit = found.reliability
    if fit is None:
        return [*lines, "  reliability: not fitted, all queries went one way"]
    return [
        *lines,
        f"  reliability from {', '.join(fit.features)}: {fit.num_queries} queries, Rank-1 "
        f"{100 * fit.rank1:.1f} %, log loss {fit.log_loss:.3f} against "
        f"{fit.log_loss_constant:.3f} without",
    ]
