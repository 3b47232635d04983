"""Any results against any others: in the same trials and seeds, person by person."""

from collections.abc import Iterable, Mapping

from resolute.core.errors import ConfigError
from resolute.engine.result import Result
from resolute.engine.settings import FREE, leaves
from resolute.evaluation.paired import MIN_CELLS, SAME_SIGN
from resolute.evaluation.report import Metric
from resolute.evaluation.summary import Summary
from resolute.tables.gains import beyond_hr, difference, place
from resolute.tables.layout import (
    BEYOND,
    DIFFERING,
    METRICS,
    Grid,
    claim,
    differing,
    interval,
    percent,
)
from resolute.tables.rows import benchmark_of
from resolute.tables.settings import OF_CELL

Pair = tuple[Result, Result]  # what is compared with, what is compared

_MOST_SETTINGS = 6
# Which scores there are, not what they say; the protocol is compared itself.
_ROWS = tuple(
    f"evaluation.{name}"
    for name in ("unseen_rates", "hr_queries", "fusions", "flip", "rerank", "verification")
)


def paired(ours: Mapping[str, Result], theirs: Mapping[str, Result]) -> list[Pair]:
    """Pair results of one trial and seed.

    Args:
        ours: what is compared, by the name it is called in errors.
        theirs: what it is compared with.

    Returns:
        (theirs, ours) of every trial and seed that both have, in order.

    Raises:
        ConfigError: if the results are of several benchmarks, two of one side have one trial and
            seed, or none is in both sides.
    """
    benchmarks = {benchmark_of(result): name for name, result in [*theirs.items(), *ours.items()]}
    if len(benchmarks) > 1:
        told = "; ".join(f"{name} is of {benchmark}" for benchmark, name in benchmarks.items())
        raise ConfigError(f"{told}: only results of one benchmark can be compared")
    before, now = _by_place(theirs), _by_place(ours)
    places = sorted(before.keys() & now.keys())
    if not places:
        raise ConfigError(
            f"no trial and seed in both: {', '.join(ours)} {_told(now)}, "
            f"{', '.join(theirs)} {_told(before)}"
        )
    return [(before[p], now[p]) for p in places]


def unpaired(ours: Mapping[str, Result], theirs: Mapping[str, Result]) -> str:
    """Say which trials and seeds :func:`paired` leaves out, because one side alone has them.

    Args:
        ours: what is compared, by name.
        theirs: what it is compared with.

    Returns:
        A sentence; nothing where both have the same.
    """
    alone = {place(r) for r in ours.values()} ^ {place(r) for r in theirs.values()}
    told = ", ".join(f"trial {trial} seed {seed}" for trial, seed in sorted(alone))
    return f"Left out, as one side alone has it: {told}." if alone else ""


def versus_grid(
    pairs: list[Pair],
    scores: Iterable[str] = (),
    *,
    metric: Metric = "rank1",
    left_out: str = "",
) -> Grid:
    """Lay out what one side has over the other.

    Args:
        pairs: of :func:`paired`.
        scores: names of scores; by default the protocol's, those at unseen rates and those of
            undegraded queries, as far as all results have them.
        metric: what is compared of each.
        left_out: of :func:`unpaired`.

    Returns:
        One line per score.

    Raises:
        ConfigError: if a result lacks a score.
        ProtocolError: if two results of one place have other people or protocols, or a result does
            not keep the metric by person.
    """
    known = [name for name in pairs[0][0].scores if all(name in r.scores for p in pairs for r in p)]
    asked = list(scores) or [n for n in known if n in ("protocol", "hr") or n.startswith("r=")]
    for name in asked:
        if name not in known:
            raise ConfigError(f"score {name!r}: not in all results; they have {', '.join(known)}")
    theirs, ours = zip(*pairs, strict=True)
    title = METRICS[metric]
    found = []
    for name in asked:
        gained = difference(theirs, name, ours, name, metric=metric)
        summaries = [Summary.of([r.scores[name] for r in side]) for side in (ours, theirs)]
        means = [s.ranks[1] if metric == "rank1" else s.mean_ap for s in summaries]
        beyond = interval(beyond_hr(theirs, ours, name, metric=metric))
        found.append((name, *map(percent, means), *differing(gained), beyond, claim(gained)))
    return Grid(
        title=f"{benchmark_of(ours[0])}, {title}: {_name(ours)} over {_name(theirs)}",
        head=("score", title, f"other's {title}", *DIFFERING, BEYOND, "claim"),
        rows=tuple(found),
        notes=(
            f"They differ in: {'; '.join(_differences(*pairs[0])) or 'no setting'}.",
            *([left_out] if left_out else []),
            "95 % over identities: bootstrap over people, each with its differences in all trials "
            f"and seeds. A claim needs it to exclude zero, {MIN_CELLS} cells or more, and the same "
            f"sign in {100 * SAME_SIGN:.0f} % of them. `{BEYOND}`: the gain less what undegraded "
            "queries gain, person by person: what of the gap between both is closed.",
        ),
    )


def _by_place(results: Mapping[str, Result]) -> dict[tuple[int, int], Result]:
    names: dict[tuple[int, int], str] = {}
    for name, result in results.items():
        trial, seed = place(result)
        first = names.setdefault((trial, seed), name)
        if first != name:
            raise ConfigError(
                f"{first} and {name} are both of trial {trial}, seed {seed}: give one of them"
            )
    return {found: results[name] for found, name in names.items()}


def _told(places: Iterable[tuple[int, int]]) -> str:
    return "has " + ", ".join(f"trial {trial} seed {seed}" for trial, seed in sorted(places))


def _name(results: tuple[Result, ...]) -> str:
    return ", ".join(dict.fromkeys(result.method for result in results))


def _differences(theirs: Result, ours: Result) -> list[str]:
    """Word what tells two results apart; of other methods, their own settings are no news."""
    facts = [
        ("method", theirs.method, ours.method),
        ("start weights", theirs.start["name"], ours.start["name"]),
        ("trained in", theirs.trained_in, ours.trained_in),
    ]
    told = [_change(*fact) for fact in facts if fact[1] != fact[2]]
    try:
        before, now = leaves(theirs.config), leaves(ours.config)
    except ConfigError:
        return [*told, "settings of another version"]
    paths = [p for p in now if p not in (*FREE, *OF_CELL, *_ROWS)]
    if theirs.method != ours.method:
        paths = [p for p in paths if not p.startswith("method.")]
    changed = [_change(p, before.get(p), now[p]) for p in paths if before.get(p) != now[p]]
    more = len(changed) - _MOST_SETTINGS
    return [*told, *changed[:_MOST_SETTINGS], *([f"{more} more settings"] if more > 0 else [])]


def _change(what: str, before: object, now: object) -> str:
    return f"{what} {_word(now)} (other: {_word(before)})"


def _word(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text or "none"
