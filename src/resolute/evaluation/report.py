"""The result of one evaluation as a value.

All scores are fractions 0..1; percent exist only where text is made.

Letters: Q queries, T draws, R ranks.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ProtocolError
from resolute.core.types import Labels
from resolute.evaluation.metrics import QueryScores, cmc

RANKS = (1, 5, 10, 20)

Metric = Literal["rank1", "map"]  # what is kept of every identity

# Lower edges of the bins of native query height, in pixels. Around 64, 42, 32 and 16 lie the
# 128-pixel images of the MLR sets at rates 2, 3, 4 and 8 [ours].
HEIGHT_EDGES = (1, 24, 32, 48, 64, 96, 128, 256)

_PAIRS = frozenset({"per_identity", "per_identity_ap"})

# More different rates than this are continuous ones: they are told apart to the whole number.
_MANY_RATES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Scores of the queries that share a rate or a range of heights.

    Attributes:
        count: number of queries scored.
        rank1: fraction with a match at rank 1.
        rank5: fraction with a match at rank 5 or better.
        rank10: fraction with a match at rank 10 or better.
        mean_ap: mean average precision, in the protocol's definition.
    """

    count: int
    rank1: float
    rank5: float
    rank10: float
    mean_ap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one evaluation found.

    Attributes:
        protocol: printed name of the protocol, with every setting that differs from its preset.
        trial: number of the trial.
        seed: seed of the draws.
        num_query: number of queries given.
        num_valid: number of queries the means are over.
        num_gallery: number of gallery images, without junk.
        num_draws: number of galleries drawn; 0 where the whole gallery is used.
        has_identical_draws: whether nothing could be drawn, so that one draw stands for all.
        cmc: fraction of queries with a match at rank 1, 2, ... or better.
        ap: definition of ``mean_ap``: ``step`` or ``trapezoid``.
        mean_ap_step: mAP by the definition ``step``.
        mean_ap_trapezoid: mAP by the definition ``trapezoid``.
        mean_inp: mINP.
        std: standard deviation over draws (ddof = 1) of what depends on them: ``rank1`` ..
            ``rank20``, ``mean_ap``, ``mean_inp``; empty where nothing is drawn.
        per_rate: scores by down-sampling rate of the query, lowest first.
        per_height: scores by native height of the query in pixels, lowest first.
        per_identity: pairs of identity and its mean Rank-1, by identity.
        per_identity_ap: the same of its mean AP, in the protocol's definition; empty in reports of
            before it was kept.
    """

    protocol: str
    trial: int
    seed: int
    num_query: int
    num_valid: int
    num_gallery: int
    num_draws: int
    has_identical_draws: bool
    cmc: tuple[float, ...]
    ap: str
    mean_ap_step: float
    mean_ap_trapezoid: float
    mean_inp: float
    std: Mapping[str, float]
    per_rate: Mapping[str, Group]
    per_height: Mapping[str, Group]
    per_identity: tuple[tuple[int, float], ...]
    per_identity_ap: tuple[tuple[int, float], ...] = ()

    @property
    def mean_ap(self) -> float:
        """Mean average precision in the protocol's definition."""
        return self.mean_ap_step if self.ap == "step" else self.mean_ap_trapezoid

    @property
    def ranks(self) -> dict[int, float]:
        """CMC at the ranks 1, 5, 10 and 20 that the list is long enough for."""
        return {rank: self.cmc[rank - 1] for rank in RANKS if rank <= len(self.cmc)}

    def by_identity(self, metric: Metric = "rank1") -> dict[int, float]:
        """Mean score of each identity, the unit that intervals resample.

        Args:
            metric: Rank-1, or the average precision in the protocol's definition.

        Raises:
            ProtocolError: if the report does not keep it.
        """
        if not self.keeps(metric):
            raise ProtocolError(
                "mAP by person is not in this report, which is of before it was kept: score anew "
                "with `resolute evaluate RUN` or `resolute table ... --rescore`"
            )
        return dict(self._of_identities(metric))

    def keeps(self, metric: Metric) -> bool:
        """Whether :meth:`by_identity` knows a metric.

        Args:
            metric: as there.
        """
        return bool(self._of_identities(metric))

    def _of_identities(self, metric: Metric) -> tuple[tuple[int, float], ...]:
        return self.per_identity if metric == "rank1" else self.per_identity_ap

    def to_mapping(self) -> dict[str, Any]:
        """Turn the report into what JSON can hold."""
        mapping = asdict(self)
        mapping["cmc"] = list(self.cmc)
        for name in _PAIRS:
            mapping[name] = [list(pair) for pair in mapping[name]]
        return mapping

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Report":
        """Read back what :meth:`to_mapping` gave.

        Args:
            mapping: the report as read from JSON.

        Raises:
            ProtocolError: if fields are missing or unknown.
        """
        values = dict(mapping)
        try:
            for name in ("per_rate", "per_height"):
                values[name] = {key: Group(**group) for key, group in values[name].items()}
            values["cmc"] = tuple(values["cmc"])
            for name in _PAIRS & values.keys():
                values[name] = tuple((pid, mean) for pid, mean in values[name])
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProtocolError(
                f"not a report of this version ({error}); evaluate again to get one"
            ) from None


def group_by_rate(scores: QueryScores, labels: Labels, *, ap: str) -> dict[str, Group]:
    """Score the queries of each down-sampling rate.

    Args:
        scores: of Q queries.
        labels: their labels.
        ap: definition of the average precision.
    """
    rates = labels.rates
    if len(np.unique(rates)) > _MANY_RATES:
        rates = np.rint(rates)
    return {f"{r:g}": _group(scores, rates == r, ap=ap) for r in np.unique(rates)}


def group_by_height(scores: QueryScores, labels: Labels, *, ap: str) -> dict[str, Group]:
    """Score the queries of each bin of native height; empty bins are left out.

    Args:
        scores: of Q queries.
        labels: their labels; height 0 means unknown.
        ap: definition of the average precision.
    """
    bins = np.searchsorted(HEIGHT_EDGES, labels.heights, side="right")
    return {_bin_name(b): _group(scores, bins == b, ap=ap) for b in np.unique(bins).tolist()}


def mean_by_identity(
    values: NDArray[np.floating] | NDArray[np.bool_], labels: Labels
) -> tuple[tuple[int, float], ...]:
    """Average a score over the queries and draws of each identity.

    Args:
        values: of Q queries in T draws, shape (Q, T).
        labels: labels of the Q queries.
    """
    pids, index = np.unique(labels.pids, return_inverse=True)
    means = np.bincount(index, weights=values.mean(axis=1)) / np.bincount(index)
    return tuple(zip(pids.tolist(), means.tolist(), strict=True))


def std_over_draws(
    scores: QueryScores, curves: NDArray[np.float64], *, ap: str, has_drawn_ap: bool
) -> dict[str, float]:
    """Compute how much one draw differs from the next.

    Args:
        scores: of Q queries in T draws.
        curves: CMC of each draw, shape (T, R).
        ap: definition of the average precision.
        has_drawn_ap: whether AP and INP were computed on the drawn lists too.

    Returns:
        Standard deviations by name (ddof = 1; 0 for a single draw, which stands for all).
    """
    num_draws, num_ranks = curves.shape
    values = {f"rank{r}": curves[:, r - 1] for r in RANKS if r <= num_ranks}
    if has_drawn_ap:
        values["mean_ap"] = chosen_ap(scores, ap).mean(axis=0)
        values["mean_inp"] = scores.inp.mean(axis=0)
    return {k: float(np.std(v, ddof=1)) if num_draws > 1 else 0.0 for k, v in values.items()}


def chosen_ap(scores: QueryScores, ap: str) -> NDArray[np.float64]:
    """Pick the average precision by its definition, shape (Q, T).

    Args:
        scores: of Q queries in T draws.
        ap: ``step`` or ``trapezoid``.
    """
    return scores.ap_step if ap == "step" else scores.ap_trapezoid


def _group(scores: QueryScores, mask: NDArray[np.bool_], *, ap: str) -> Group:
    part = scores.take(mask)
    curve = cmc(part.first_ranks, max_rank=10).mean(axis=0)  # (10,)
    return Group(
        count=len(part.first_ranks),
        rank1=float(curve[0]),
        rank5=float(curve[4]),
        rank10=float(curve[9]),
        mean_ap=float(chosen_ap(part, ap).mean()),
    )


def _bin_name(index: int) -> str:
    if index == 0:
        return "unknown"
    if index == 1:
        return f"<{HEIGHT_EDGES[1]}"
    if index == len(HEIGHT_EDGES):
        return f">={HEIGHT_EDGES[-1]}"
    return f"{HEIGHT_EDGES[index - 1]}-{HEIGHT_EDGES[index] - 1}"
