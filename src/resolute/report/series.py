"""Runs of one method on one benchmark are its trials: one line in every chart."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resolute.engine.settings import in_common
from resolute.evaluation.report import Report
from resolute.evaluation.summary import Spread, Summary
from resolute.report.exhibit import Exhibit
from resolute.report.material import (
    Curve,
    HeightBin,
    cmc_curves,
    over_trials,
    rank1_by_height,
    wilson,
)
from resolute.report.pairs import DistanceCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Rank-1 of queries that the protocol does not have.

    Attributes:
        name: ``r=8`` or ``hr``.
        height: about how high they are, in pixels.
        count: queries, over all trials.
        rank1: mean Rank-1.
        interval: 95 % Wilson interval of one trial's queries.
    """

    name: str
    height: float
    count: int
    rank1: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One method on one benchmark.

    Attributes:
        label: what charts and tables call it.
        number: decides its colour and dash pattern.
        exhibits: its trials, at least one.
    """

    label: str
    number: int
    exhibits: tuple[Exhibit, ...]

    @property
    def first(self) -> Exhibit:
        """The trial whose pictures are shown."""
        return self.exhibits[0]

    def reports(self, name: str) -> list[Report]:
        """Collect the reports of a score over the trials that have it.

        Args:
            name: ``protocol``, ``r=8``, ``hr`` or ``fusion=mean``.
        """
        return [e.scores[name] for e in self.exhibits if name in e.scores]

    def curves(self, max_rank: int) -> dict[str, Curve]:
        """Compute CMC curves, over all queries and per rate.

        Args:
            max_rank: number of ranks, fewer where the gallery is smaller.
        """
        return over_trials(
            cmc_curves(
                exhibit.found.first_ranks,
                exhibit.rates,
                max_rank=min(max_rank, len(exhibit.found.report.cmc)),
            )
            for exhibit in self.exhibits
        )

    def heights(self) -> list[HeightBin]:
        """Compute Rank-1 by native height of the query."""
        return rank1_by_height(
            np.concatenate([exhibit.heights for exhibit in self.exhibits]),
            np.concatenate([(e.found.first_ranks == 1).mean(axis=1) for e in self.exhibits]),
            num_trials=len(self.exhibits),
        )

    def outside(self) -> list[Outside]:
        """Collect Rank-1 at unseen rates and of undegraded queries, from the lowest."""
        original = np.concatenate([e.heights * e.rates for e in self.exhibits])
        points = []
        for name in dict.fromkeys(name for e in self.exhibits for name in e.scores):
            if name != "hr" and not name.startswith("r="):
                continue
            reports = self.reports(name)
            rank1 = Summary.of(reports).ranks[1].mean
            count = sum(report.num_valid for report in reports)
            rate = 1.0 if name == "hr" else float(name.removeprefix("r="))
            points.append(
                Outside(
                    name=name,
                    height=max(1.0, float(np.median(original)) / rate),
                    count=count,
                    rank1=rank1,
                    interval=wilson(rank1, count / len(reports)),
                )
            )
        return sorted(points, key=lambda point: point.height)

    def distances(self) -> DistanceCounts:
        """Count the distances of all trials together."""
        counts = self.first.found.distances
        for exhibit in self.exhibits[1:]:
            counts = counts.joined(exhibit.found.distances)
        return counts

    def spread(self, name: str, score: str) -> Spread | None:
        """Summarise a score: deviation over trials; of a single one over its gallery draws.

        Args:
            name: see :meth:`reports`.
            score: ``rank1``, ``rank5``, ``rank10``, ``mean_ap`` or ``r=`` and a rate for Rank-1.

        Returns:
            Fractions; None where there is no such score.
        """
        reports = self.reports(name)
        if not reports:
            return None
        summary = Summary.of(reports)
        if score.startswith("r="):
            return summary.per_rate.get(score.removeprefix("r="), {}).get("rank1")
        values = {f"rank{rank}": spread for rank, spread in summary.ranks.items()}
        found = {**values, "mean_ap": summary.mean_ap}.get(score)
        if found is None or len(reports) > 1 or reports[0].has_identical_draws:
            return found
        return Spread(mean=found.mean, std=reports[0].std.get(score))


def chapters(exhibits: Sequence[Exhibit]) -> dict[str, list[Series]]:
    """Sort runs by benchmark and, within it, by method.

    Runs of one method, start and set of settings that differ in trial or seed are one series. Of
    several sets of settings, or of one trial and seed run twice, each is a series, told by the
    folder of its first run.

    Args:
        exhibits: runs in the order given.

    Returns:
        Series by the title of their benchmark, numbered from 0 in each.
    """
    benchmarks: dict[str, list[Exhibit]] = {}
    for exhibit in exhibits:
        title = f"{exhibit.benchmark}, protocol {exhibit.found.report.protocol}"
        benchmarks.setdefault(title, []).append(exhibit)
    return {title: _series(members) for title, members in benchmarks.items()}


def _series(exhibits: Sequence[Exhibit]) -> list[Series]:
    groups: dict[tuple[str, str, str, int], list[Exhibit]] = {}
    taken: Counter[tuple[str, str, str, int, int]] = Counter()
    for exhibit in exhibits:
        method = exhibit.method if exhibit.is_trained else f"{exhibit.method} (untrained)"
        kind = (method, exhibit.start, str(in_common(exhibit.provenance["settings"])))
        cell = (*kind, exhibit.trial, exhibit.seed)
        groups.setdefault((*kind, taken[cell]), []).append(exhibit)
        taken[cell] += 1
    starts = {(method, start) for method, start, *_ in groups}
    num_starts = Counter(method for method, _ in starts)
    num_groups = Counter((method, start) for method, start, *_ in groups)
    named: list[tuple[str, list[Exhibit]]] = []
    for (method, start, *_), members in groups.items():
        label = method if num_starts[method] == 1 else f"{method} from {start}"
        if num_groups[method, start] > 1:
            label = f"{label}, run {members[0].name}"
        named.append((label, members))
    return [
        Series(label=label, number=number, exhibits=tuple(members))
        for number, (label, members) in enumerate(named)
    ]
