"""A grid of words: what the terminal, Markdown and the report lay out alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from resolute.evaluation.paired import Difference
from resolute.evaluation.report import Metric
from resolute.evaluation.summary import Spread

NOTHING = "–"
METRICS: dict[Metric, str] = {"rank1": "Rank-1", "map": "mAP"}
BEYOND = "beyond HR queries"
DIFFERING = ("cells", "gain", "95 % over identities", "95 % corrected t", "same sign")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A titled table of words.

    Attributes:
        title: what it shows.
        head: names of its columns.
        rows: cells, each row as long as the head.
        notes: sentences below it.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def markdown(grid: Grid, *, level: int) -> str:
    """Lay out a grid as Markdown.

    Args:
        grid: what to lay out.
        level: of its heading, 1 and up.

    Returns:
        Heading, table and notes, with a line break at the end.
    """
    lines = [f"{'#' * level} {grid.title}", "", _row(grid.head), _row(["---"] * len(grid.head))]
    lines += [_row(row) for row in grid.rows]
    for note in grid.notes:
        lines += ["", note]
    return "\n".join([*lines, ""])


def percent(score: Spread | float | None, *, digits: int = 1) -> str:
    """Word a fraction in percent, with its deviation where there is one.

    Args:
        score: mean and deviation, or a plain fraction; None where there is no score.
        digits: after the point.

    Examples:
        >>> percent(0.678), percent(Spread(mean=0.5, std=0.011)), percent(None)
        ('67.8', '50.0 ± 1.1', '–')
    """
    if score is None:
        return NOTHING
    if isinstance(score, float):
        return f"{100 * score:.{digits}f}"
    spread = f" ± {100 * score.std:.{digits}f}" if score.std is not None else ""
    return f"{100 * score.mean:.{digits}f}{spread}"


def signed(fraction: float | None) -> str:
    """Word a difference in points, with its sign.

    Args:
        fraction: of a score; None where there is none.

    Examples:
        >>> signed(0.0123), signed(-0.0004), signed(None)
        ('+1.2', '0.0', '–')
    """
    if fraction is None:
        return NOTHING
    text = f"{100 * fraction:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def differing(found: Difference) -> tuple[str, ...]:
    """Word a difference and what speaks for it.

    Args:
        found: the difference.

    Returns:
        Cells of the columns ``DIFFERING``.
    """
    return (
        str(found.num_cells),
        signed(found.mean),
        f"{signed(found.low)} to {signed(found.high)}",
        NOTHING if found.t_low is None else f"{signed(found.t_low)} to {signed(found.t_high)}",
        f"{100 * found.same_sign:.0f} %",
    )


def interval(found: Difference | None) -> str:
    """Word a difference with its interval over identities.

    Args:
        found: the difference; None where there is none.
    """
    if found is None:
        return NOTHING
    return f"{signed(found.mean)} ({signed(found.low)} to {signed(found.high)})"


def claim(found: Difference) -> str:
    """Word whether a difference may be claimed.

    Args:
        found: the difference.
    """
    if not found.has_cells:
        return "too few cells"
    return "yes" if found.is_claim else "no"


def numbers(values: Sequence[int]) -> str:
    """Word a set of numbers, runs of three and more by their ends.

    Args:
        values: not negative.

    Examples:
        >>> numbers([0, 1, 2, 3, 7]), numbers([4])
        ('0–3, 7', '4')
    """
    runs: list[list[int]] = []
    for value in sorted(set(values)):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    words = [f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(words)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
