"""Mean and deviation over the reports of several trials."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from resolute.core.errors import ProtocolError
from resolute.evaluation.report import RANKS, Group, Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A mean over trials and how far they lie apart.

    Attributes:
        mean: over the trials.
        std: standard deviation (ddof = 1); None with fewer than two trials.
    """

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise numbers.

        Args:
            values: at least one.

        Examples:
            >>> Spread.of([1, 2, 3])
            Spread(mean=2.0, std=1.0)
        """
        mean = math.fsum(values) / len(values)
        return cls(mean=mean, std=float(np.std(values, ddof=1)) if len(values) > 1 else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Mean and standard deviation over the reports of several trials.

    Attributes:
        protocol: printed name of the protocol, the same in all.
        num_trials: number of reports.
        ap: definition of ``mean_ap``.
        ranks: CMC at the ranks that every report has.
        mean_ap: mAP.
        mean_inp: mINP.
        per_rate: by rate, then ``rank1``, ``rank5``, ``rank10``, ``mean_ap``, over the trials
            where the rate occurs.
        per_height: the same by height of the query.
    """

    protocol: str
    num_trials: int
    ap: str
    ranks: Mapping[int, Spread]
    mean_ap: Spread
    mean_inp: Spread
    per_rate: Mapping[str, Mapping[str, Spread]]
    per_height: Mapping[str, Mapping[str, Spread]]

    @classmethod
    def of(cls, reports: Sequence[Report]) -> "Summary":
        """Summarise trials.

        Args:
            reports: one per trial.

        Raises:
            ProtocolError: if there is none, or their protocols differ.
        """
        names = sorted({(r.protocol, r.ap) for r in reports})
        if len(names) != 1:
            raise ProtocolError(f"summary: expected reports of one protocol, got {names}")
        ranks = [rank for rank in RANKS if all(rank in r.ranks for r in reports)]
        return cls(
            protocol=names[0][0],
            num_trials=len(reports),
            ap=names[0][1],
            ranks={rank: Spread.of([r.ranks[rank] for r in reports]) for rank in ranks},
            mean_ap=Spread.of([r.mean_ap for r in reports]),
            mean_inp=Spread.of([r.mean_inp for r in reports]),
            per_rate=_spread_groups([r.per_rate for r in reports]),
            per_height=_spread_groups([r.per_height for r in reports]),
        )

    def to_mapping(self) -> dict[str, Any]:
        """Turn the summary into what JSON can hold."""
        mapping = asdict(self)
        mapping["ranks"] = {str(rank): asdict(spread) for rank, spread in self.ranks.items()}
        return mapping


def _spread_groups(
    groups: Sequence[Mapping[str, Group]],
) -> dict[str, dict[str, Spread]]:
    names = dict.fromkeys(name for group in groups for name in group)
    return {
        name: {
            field: Spread.of([getattr(g[name], field) for g in groups if name in g])
            for field in ("rank1", "rank5", "rank10", "mean_ap")
        }
        for name in names
    }
