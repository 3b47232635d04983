"""Are these two images one person? Every query with every gallery image, by one threshold.

Ranking compares distances of one query; verification compares all of them with one number, as an
alarm or a join of two tracks does.

Letters: Q queries, G gallery, P positive pairs, B bins.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.distance import distance_rows
from resolute.core.errors import ConfigError, ProtocolError, ShapeError
from resolute.core.types import Embedding, Labels
from resolute.evaluation.candidates import Candidates
from resolute.evaluation.diagnosis import check_queries
from resolute.evaluation.protocol import Protocol

FALSE_POSITIVE_RATES = (1e-1, 1e-2, 1e-3, 1e-4)
NUM_BINS = 100

Rows = Iterable[tuple[slice, NDArray[np.floating]]]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """What the best threshold at a false-positive rate gives.

    Attributes:
        fpr: the rate asked for, a fraction.
        tpr: share of positive pairs accepted; None where fewer than one negative pair may be
            accepted, so that the set cannot tell.
        threshold: largest distance that is accepted; None likewise, or where nothing is.
        num_false: negative pairs accepted there; below about 10 the point is a guess.
        num_allowed: negative pairs that the rate allows, not rounded.
    """

    fpr: float
    tpr: float | None
    threshold: float | None
    num_false: int
    num_allowed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What one threshold for all pairs can do.

    Attributes:
        num_positive: pairs of one identity.
        num_negative: pairs of two identities.
        points: by falling false-positive rate.
        equal_error_rate: error where misses and false alarms are equally frequent.
        equal_error_threshold: the distance there.
        area: chance that a positive pair is nearer than a negative one, ties half (AUC).
        edges: borders of the histograms' bins, rising from 0, shape (B + 1,).
        positives: positive pairs per bin, shape (B,).
        negatives: negative pairs per bin, shape (B,).
    """

    num_positive: int
    num_negative: int
    points: tuple[OperatingPoint, ...]
    equal_error_rate: float
    equal_error_threshold: float
    area: float
    edges: tuple[float, ...]
    positives: tuple[int, ...]
    negatives: tuple[int, ...]

    def to_mapping(self) -> dict[str, Any]:
        """Turn it into what JSON can hold."""
        mapping = asdict(self)
        for name in ("points", "edges", "positives", "negatives"):
            mapping[name] = list(mapping[name])
        return mapping

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Verification":
        """Read back what :meth:`to_mapping` gave.

        Args:
            mapping: as read from JSON.

        Raises:
            ProtocolError: if fields are missing or unknown.
        """
        values = dict(mapping)
        try:
            values["points"] = tuple(OperatingPoint(**point) for point in values["points"])
            for name in ("edges", "positives", "negatives"):
                values[name] = tuple(values[name])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ProtocolError(
                f"not a verification of this version ({error}); evaluate again to get one"
            ) from None


def verify(
    protocol: Protocol,
    distances: NDArray[np.floating] | tuple[Embedding, Embedding],
    query: Labels,
    gallery: Labels,
    *,
    rates: Sequence[float] = FALSE_POSITIVE_RATES,
    num_bins: int = NUM_BINS,
) -> Verification:
    """Score all pairs of a query and a gallery image by one threshold.

    The pairs are those that the protocol's camera rule leaves, without junk; distractors are
    negative. Galleries are not drawn: every gallery image counts. The distances are gone
    through twice, a few rows at a time: first the positive ones are kept, then the negative ones
    are counted between them, which gives every number exactly.

    Args:
        protocol: for its camera rule and its distractors.
        distances: a matrix, shape (Q, G), or the embeddings of queries and gallery.
        query: labels of the Q queries.
        gallery: labels of the G gallery images.
        rates: false-positive rates, each in 0..1.
        num_bins: number of equal bins B of the histograms, >= 1.

    Returns:
        The scores.

    Raises:
        ConfigError: if a rate or the number of bins is out of range.
        ProtocolError: if there is no positive or no negative pair, a distance is not finite, or
            queries are junk or distractors.
        ShapeError: if the distances are not (Q, G), or embeddings do not fit together.
    """
    if num_bins < 1 or not all(0 < rate <= 1 for rate in rates):
        raise ConfigError(
            f"verification: expected at least 1 bin and rates in 0..1, got {num_bins} and "
            f"{tuple(rates)}"
        )
    shape = tuple(map(len, distances)) if isinstance(distances, tuple) else distances.shape
    if shape != (len(query), len(gallery)):
        raise ShapeError(
            f"distances: expected {len(query)} queries and {len(gallery)} gallery images, got "
            f"{shape}"
        )
    check_queries(query, gallery, has_distractors=protocol.distractors == "zero")
    pairs = _Pairs(_again(distances), query, gallery, protocol.camera_rule)
    positives, num_negative, largest = pairs.positives()
    if not len(positives) or not num_negative:
        raise ProtocolError(
            "verification: expected pairs of one identity and of two, got "
            f"{len(positives)} and {num_negative}"
        )
    edges = np.linspace(0, largest if largest > 0 else 1, num_bins + 1)
    steps, inverse = np.unique(positives, return_inverse=True)
    hits = np.bincount(inverse.reshape(-1))
    below, equal, histogram = pairs.count_negatives(steps, edges)
    false = below + equal  # negatives accepted by a threshold at each step
    true = np.cumsum(hits)
    error_rate, error_threshold = _equal_error(
        steps, true / len(positives), below / num_negative, false / num_negative
    )
    return Verification(
        num_positive=len(positives),
        num_negative=num_negative,
        points=tuple(
            _point(rate, steps, true, false, num_negative) for rate in sorted(rates)[::-1]
        ),
        equal_error_rate=error_rate,
        equal_error_threshold=error_threshold,
        # Per positive pair: the negatives farther away, and half of those as far.
        area=float(1 - (hits * (below + equal / 2)).sum() / len(positives) / num_negative),
        edges=tuple(edges.tolist()),
        positives=tuple(np.histogram(positives, edges)[0].tolist()),
        negatives=tuple(histogram.tolist()),
    )


@dataclass(frozen=True, slots=True)
class _Pairs:
    rows: Callable[[], Rows]
    query: Labels
    gallery: Labels
    camera_rule: str

    def positives(self) -> tuple[Floats, int, float]:
        """Gather distances of positive pairs, and count the negative ones; also the largest.

        Raises:
            ProtocolError: if a distance is not finite.
        """
        found: list[NDArray[np.floating]] = []
        num_negative, largest = 0, 0.0
        for position, row, matches, is_negative in self._each():
            if not np.isfinite(row).all():
                raise ProtocolError(f"distances: not finite in the row of query {position}")
            found.append(row[matches])
            num_negative += int(np.count_nonzero(is_negative))
            for part in (matches, is_negative):
                largest = max(largest, float(row[part].max(initial=0)))
        return np.concatenate(found).astype(np.float64), num_negative, largest

    def count_negatives(self, steps: Floats, edges: Floats) -> tuple[Counts, Counts, Counts]:
        """Count negatives below and at each step, and per bin between the edges."""
        below = np.zeros(len(steps) + 1, dtype=np.int64)
        up_to = np.zeros(len(steps) + 1, dtype=np.int64)
        histogram = np.zeros(len(edges) - 1, dtype=np.int64)
        for _, row, _, is_negative in self._each():
            values = np.sort(row[is_negative]).astype(np.float64)  # sorted, the search is fast
            # A negative lies below every step after its place: places are summed up at the end.
            below += np.bincount(np.searchsorted(steps, values, "right"), minlength=len(below))
            up_to += np.bincount(np.searchsorted(steps, values, "left"), minlength=len(up_to))
            histogram += np.diff(np.searchsorted(values, edges[:-1]), append=len(values))
        num_below = np.cumsum(below)[:-1]
        return num_below, np.cumsum(up_to)[:-1] - num_below, histogram

    def _each(
        self,
    ) -> Iterable[tuple[int, NDArray[np.floating], NDArray[np.int64], NDArray[np.bool_]]]:
        candidates = Candidates(
            self.gallery.pids, self.gallery.camids, camera_rule=self.camera_rule
        )
        is_negative = np.empty(len(self.gallery), dtype=bool)
        for rows, block in self.rows():
            for position, row in zip(range(rows.start, rows.stop), block, strict=True):
                pid, camid = int(self.query.pids[position]), int(self.query.camids[position])
                matches, removed = candidates.of_query(pid, camid)
                is_negative[:] = True
                is_negative[candidates.junk] = False
                is_negative[removed] = False
                is_negative[candidates.of_identity(pid)] = False
                yield position, row, matches, is_negative


def _again(distances: NDArray[np.floating] | tuple[Embedding, Embedding]) -> Callable[[], Rows]:
    if isinstance(distances, tuple):
        sides = distances
        return lambda: distance_rows(*sides)
    matrix = distances
    return lambda: [(slice(0, len(matrix)), matrix)]


def _point(
    rate: float, steps: Floats, true: Counts, false: Counts, num_negative: int
) -> OperatingPoint:
    allowed = rate * num_negative
    # A hair of tolerance: 0.1 * 30 is 3.0000000000000004 in binary, and 0.7 * 10 less than 7.
    can_accept = math.floor(allowed + 1e-9)
    at = int(np.searchsorted(false, can_accept, "right")) - 1  # last step that is allowed
    if can_accept < 1:
        return OperatingPoint(fpr=rate, tpr=None, threshold=None, num_false=0, num_allowed=allowed)
    is_any = at >= 0
    return OperatingPoint(
        fpr=rate,
        tpr=float(true[at] / true[-1]) if is_any else 0.0,
        threshold=float(steps[at]) if is_any else None,
        num_false=int(false[at]) if is_any else 0,
        num_allowed=allowed,
    )


def _equal_error(
    steps: Floats, accepted: Floats, just_below: Floats, up_to: Floats
) -> tuple[float, float]:
    """Find where the curve of misses over false alarms crosses the diagonal, straight between."""
    alarms = np.concatenate([[0], np.stack([just_below, up_to], axis=1).ravel(), [1]])
    before = np.concatenate([[0], accepted[:-1]])
    misses = np.concatenate([[1], 1 - np.stack([before, accepted], axis=1).ravel(), [0]])
    gaps = misses - alarms  # falling from 1 to -1
    at = int(np.flatnonzero(gaps <= 0)[0])
    share = gaps[at - 1] / (gaps[at - 1] - gaps[at])
    rate = alarms[at - 1] + share * (alarms[at] - alarms[at - 1])
    return float(rate), float(steps[min((at - 1) // 2, len(steps) - 1)])
