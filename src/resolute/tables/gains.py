"""What each part gives: every row against the row that differs from it in one thing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resolute.core.errors import ProtocolError
from resolute.core.rng import Streams
from resolute.engine.result import Result
from resolute.evaluation.intervals import check_protocols
from resolute.evaluation.paired import Difference, paired_difference
from resolute.evaluation.report import Metric

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
    ("ftwa-plus", "ftwa_r", "T taught, HR space alone"),
    ("ftwa-plus", "ftwa_b-twins", "second space, taught T"),
    ("ftwa-plus", "baseline-twins", "all modules of FTWA+"),
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
        difference: of the metric asked for, with both intervals.
        gap: of the same between HR and LR queries of the control, all that modules for resolution
            can win; None where HR queries were not scored, or are the score.
        beyond: the difference less that of HR queries, person by person: what is closed of the gap.
            None where either lacks HR queries, or they are the score.
        trained_in: numbers and device that the control was trained in, where they are not the
            row's; else empty.
    """

    row: str
    control: str
    part: str
    difference: Difference
    gap: Difference | None
    beyond: Difference | None
    trained_in: str

    @property
    def share_of_gap(self) -> float | None:
        """The gain over the gap; None where the gap cannot be told from none."""
        if self.gap is None or self.gap.low <= 0:
            return None
        return self.difference.mean / self.gap.mean


def gains(
    results: Sequence[Result], *, score: str = "protocol", metric: Metric = "rank1"
) -> list[Gain]:
    """Compare rows with their controls over the cells that both have.

    Args:
        results: trained cells of one benchmark, start and set of changes.
        score: which of their scores; cells without it are left out.
        metric: what is compared of it; cells that do not keep it by person are left out.

    Returns:
        One gain per pair of rows that have a trial and seed in common.

    Raises:
        ProtocolError: if two cells of one trial and seed have other queries or protocols.
    """
    by_row: dict[str, dict[tuple[int, int], Result]] = {}
    for result in results:
        if score in result.scores and result.scores[score].keeps(metric):
            by_row.setdefault(result.method, {})[place(result)] = result
    found = []
    for row, control, part in CONTROLS:
        ours, theirs = by_row.get(row, {}), by_row.get(control, {})
        places = sorted(ours.keys() & theirs.keys())
        if places:
            pairs = [(theirs[p], ours[p]) for p in places]
            found.append(_gain(row, control, part, pairs, score, metric))
    return found


def place(result: Result) -> tuple[int, int]:
    """Return trial and seed of a cell.

    Args:
        result: of a trained cell.
    """
    return result.config["data"]["trial"], result.config["train"]["seed"]


def difference(
    before: Sequence[Result],
    score_before: str,
    after: Sequence[Result],
    score_after: str,
    *,
    metric: Metric = "rank1",
) -> Difference:
    """Compare one score of some cells with one of the cells in the same places.

    Args:
        before: the cells to compare with.
        score_before: name of their score.
        after: cells of the same trials and seeds, in the same order.
        score_after: name of theirs.
        metric: of both.

    Returns:
        The second less the first, with both intervals.

    Raises:
        ProtocolError: if two cells of one place have other people or protocols, or a cell does not
            keep the metric by person.
    """
    theirs = [cell.scores[score_before] for cell in before]
    ours = [cell.scores[score_after] for cell in after]
    check_protocols(theirs, ours)
    return _paired(
        before,
        [_by_identity(cell, score_before, metric) for cell in before],
        [_by_identity(cell, score_after, metric) for cell in after],
    )


def beyond_hr(
    before: Sequence[Result], after: Sequence[Result], score: str, *, metric: Metric = "rank1"
) -> Difference | None:
    """Compare a gain with that of undegraded queries, which have nothing for resolution to win.

    Args:
        before: the cells to compare with.
        after: cells of the same trials and seeds, in the same order.
        score: which of their scores.
        metric: of it.

    Returns:
        The gain of the score less the gain of ``hr``, person by person, with both intervals: how
        much of the gap between both is closed, be it that HR queries lose [ours]. None where a
        cell lacks ``hr`` or has it of other people, or it is the score.

    Raises:
        ProtocolError: if two cells of one place have other people or protocols, or a cell does not
            keep the metric by person.
    """
    if score == "hr" or not all("hr" in cell.scores for cell in (*before, *after)):
        return None
    for name in (score, "hr"):
        check_protocols([c.scores[name] for c in before], [c.scores[name] for c in after])
    gaps = [[_less_hr(cell, score, metric) for cell in cells] for cells in (before, after)]
    if not all(gap for side in gaps for gap in side):
        return None
    return _paired(before, *gaps)


def _gain(
    row: str,
    control: str,
    part: str,
    pairs: Sequence[tuple[Result, Result]],
    score: str,
    metric: Metric,
) -> Gain:
    controls, ours = zip(*pairs, strict=True)
    has_gap = score != "hr" and all("hr" in cell.scores for cell in controls)
    others = sorted(
        {before.trained_in for before, now in pairs if before.trained_in != now.trained_in}
    )
    return Gain(
        row=row,
        control=control,
        part=part,
        difference=difference(controls, score, ours, score, metric=metric),
        gap=difference(controls, score, controls, "hr", metric=metric) if has_gap else None,
        beyond=beyond_hr(controls, ours, score, metric=metric),
        trained_in="; ".join(others),
    )


def _paired(
    before: Sequence[Result],
    theirs: Sequence[Mapping[int, float]],
    ours: Sequence[Mapping[int, float]],
) -> Difference:
    return paired_difference(
        theirs,
        ours,
        streams=Streams(0),
        halves=[place(cell)[0] for cell in before],
        num_train=_num_train(before[0].measures),
    )


def _less_hr(cell: Result, score: str, metric: Metric) -> dict[int, float]:
    scored, undegraded = (_by_identity(cell, name, metric) for name in (score, "hr"))
    if scored.keys() != undegraded.keys():
        return {}
    return {pid: scored[pid] - undegraded[pid] for pid in scored}


def _by_identity(cell: Result, score: str, metric: Metric) -> dict[int, float]:
    try:
        return cell.scores[score].by_identity(metric)
    except ProtocolError as error:
        trial, seed = place(cell)
        raise ProtocolError(f"{cell.method}, trial {trial}, seed {seed}: {error}") from None


def _num_train(measures: Mapping[str, Mapping[str, int]]) -> int | None:
    return measures["identities"]["train"] if "identities" in measures else None
