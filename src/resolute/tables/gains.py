"""What each part gives: every row against the row that differs from it in one thing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resolute.core.rng import Streams
from resolute.engine.result import Result
from resolute.evaluation.paired import Difference, paired_difference

# (row, control, what the row has that the control lacks). Against Baseline a part of any gain is
# only augmentation, so that rows with twins are compared with rows with twins [ours]: so are the
# other methods, each as a whole, before its own parts.
CONTROLS: tuple[tuple[str, str, str], ...] = (
    ("baseline-twins", "baseline", "twins"),
    ("ftwa_b", "baseline", "second encoder, no twins"),
    ("ftwa_b-twins", "baseline-twins", "second encoder"),
    ("ftwa_r-not", "ftwa_b-twins", "second space"),
    ("ftwa_r", "ftwa_r-not", "T (RAFT)"),
    ("ftwa-const", "ftwa_r", "SWA in training"),
    ("ftwa", "ftwa-const", "quality per image"),
    ("ftwa", "baseline-twins", "all modules"),
    ("sr-bicubic", "baseline-twins", "HR images alone, bicubic"),
    ("sr-net", "baseline-twins", "super-resolution first"),
    ("sing", "baseline-twins", "SING"),
    ("csr-gan", "baseline-twins", "CSR-GAN"),
    ("rife-ffsr", "baseline-twins", "RIFE and FFSR"),
    ("rife-ffsr", "rife", "FFSR"),
    ("rife-ffsr", "ffsr", "RIFE"),
    ("rain", "baseline-twins", "RAIN"),
    ("rain", "rain-single", "several levels"),
    ("rain", "rain-no-cls", "classifier"),
    ("rain", "rain-no-tri", "triplet loss"),
    ("rain", "rain-no-rec", "decoder"),
    ("rain", "rain-no-adv", "discriminators"),
    ("rain-single", "baseline-twins", "RAIN, one level"),
    ("cad-net", "baseline-twins", "CAD-Net"),
    ("cad-net", "cad-net-f", "vector g"),
    ("cad-net", "cad-net-g", "vector f"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """A row against its control.

    Attributes:
        row: method.
        control: method that differs in one thing, or has nothing of the method.
        part: that thing.
        difference: of Rank-1, with both intervals.
        share_of_gap: the gain over the control's gap between HR and LR queries, all that modules
            for resolution can win; None where the control has no such gap.
    """

    row: str
    control: str
    part: str
    difference: Difference
    share_of_gap: float | None


def gains(results: Sequence[Result]) -> list[Gain]:
    """Compare rows with their controls over the cells that both have.

    Args:
        results: trained cells of one benchmark, start and set of changes.

    Returns:
        One gain per pair of rows that have a trial and seed in common.

    Raises:
        ProtocolError: if two cells of one trial and seed have other queries.
    """
    by_row: dict[str, dict[tuple[int, int], Result]] = {}
    for result in results:
        by_row.setdefault(result.method, {})[place(result)] = result
    found = []
    for row, control, part in CONTROLS:
        ours, theirs = by_row.get(row, {}), by_row.get(control, {})
        places = sorted(ours.keys() & theirs.keys())
        if places:
            pairs = [(theirs[p], ours[p]) for p in places]
            found.append(_gain(row, control, part, pairs))
    return found


def place(result: Result) -> tuple[int, int]:
    """Return trial and seed of a cell.

    Args:
        result: of a trained cell.
    """
    return result.config["data"]["trial"], result.config["train"]["seed"]


def _gain(row: str, control: str, part: str, pairs: Sequence[tuple[Result, Result]]) -> Gain:
    before, after = (
        [dict(pair[side].scores["protocol"].per_identity) for pair in pairs] for side in (0, 1)
    )
    difference = paired_difference(
        before,
        after,
        streams=Streams(0),
        halves=[place(one)[0] for one, _ in pairs],
        num_train=_num_train(pairs[0][0].measures),
    )
    return Gain(
        row=row,
        control=control,
        part=part,
        difference=difference,
        share_of_gap=_share_of_gap([one for one, _ in pairs], difference.mean),
    )


def _num_train(measures: Mapping[str, Mapping[str, int]]) -> int | None:
    return measures["identities"]["train"] if "identities" in measures else None


def _share_of_gap(controls: Sequence[Result], gain: float) -> float | None:
    gaps = [
        one.scores["hr"].ranks[1] - one.scores["protocol"].ranks[1]
        for one in controls
        if "hr" in one.scores
    ]
    if len(gaps) < len(controls) or sum(gaps) <= 0:
        return None
    return gain / (sum(gaps) / len(gaps))
