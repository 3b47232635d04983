"""The page of kept results: one Markdown table per benchmark, made from ``results/*.json``."""

from collections.abc import Sequence
from pathlib import Path

from resolute.core.errors import ConfigError
from resolute.engine.result import Result
from resolute.evaluation.summary import Spread, Summary
from resolute.methods.variants import TITLES

_HEAD = """# Results

Made by `resolute results` from the JSON files under `results/`; a test fails when the two
differ. Each file holds the settings, split digest, start weights, versions and the command of its
run.

Scores are percent. LR queries against the HR gallery under the protocol; `r = 8` is a rate that is
not in training; `HR query` is the undegraded query, outside the protocol. ± is the standard
deviation over trials.
"""


def read_results(folder: Path) -> list[Result]:
    """Read all kept results.

    Args:
        folder: holds JSON files, at any depth.

    Returns:
        Results in the order of their paths.

    Raises:
        ConfigError: if there is none, or one cannot be read.
    """
    paths = sorted(folder.rglob("*.json"))
    if not paths:
        raise ConfigError(f"{folder}: expected result files, found none; run resolute evaluate")
    return [Result.read(path) for path in paths]


def results_page(results: Sequence[Result]) -> str:
    """Lay out results as Markdown.

    Args:
        results: of any benchmarks and methods; trials and seeds of one method are one row.

    Returns:
        The page.
    """
    benchmarks: dict[str, list[Result]] = {}
    for result in results:
        benchmarks.setdefault(_benchmark(result), []).append(result)
    parts = [_HEAD, *(_section(name, members) for name, members in sorted(benchmarks.items()))]
    return "\n".join(parts)


def _benchmark(result: Result) -> str:
    parts = result.data.split("/")
    return "/".join(part for part in parts if not part.startswith("trial"))


def _section(name: str, results: Sequence[Result]) -> str:
    rows: dict[tuple[int, str, str], list[Result]] = {}
    for result in results:
        trained = "" if result.training["steps"] else ", untrained"
        method = result.method if trained == "" else "embedding as it is"
        order = list(TITLES).index(result.method) if not trained else -1
        rows.setdefault((order, f"{method}{trained}", result.start["name"]), []).append(result)
    rates = sorted({r for x in results for r in x.scores["protocol"].per_rate}, key=float)
    head = ["method", "start", "trials", "Rank-1", "Rank-5", "Rank-10", "mAP"]
    head += [f"r = {rate}" for rate in rates] + ["r = 8", "HR query", "parameters", "minutes"]
    lines = [f"## {name}", "", _row(head), _row(["---"] * len(head))]
    lines += [_row(_cells(*key[1:], members, rates)) for key, members in sorted(rows.items())]
    commands = dict.fromkeys(f"    {member.command}" for member in results)
    versions = dict.fromkeys(
        ", ".join(f"{k} {v}" for k, v in sorted(member.versions.items())) for member in results
    )
    return "\n".join([*lines, "", "Commands:", "", *commands, "", *versions, ""])


def _cells(method: str, start: str, results: Sequence[Result], rates: Sequence[str]) -> list[str]:
    summary = Summary.of([result.scores["protocol"] for result in results])
    scores = [summary.ranks.get(1), summary.ranks.get(5), summary.ranks.get(10), summary.mean_ap]
    scores += [summary.per_rate.get(rate, {}).get("rank1") for rate in rates]
    for name in ("r=8", "hr"):
        reports = [result.scores[name] for result in results if name in result.scores]
        scores.append(Summary.of(reports).ranks[1] if reports else None)
    trials = sorted({(r.config["data"]["trial"], r.config["train"]["seed"]) for r in results})
    minutes = sum(r.training.get("duration_s", 0.0) for r in results) / len(results) / 60
    return [
        f"`{method}`" if method in TITLES else method,
        start,
        ", ".join(f"{trial}" if not seed else f"{trial} (seed {seed})" for trial, seed in trials),
        *(_percent(score) for score in scores),
        f"{results[0].num_parameters:,}",
        f"{minutes:.0f}" if minutes else "–",
    ]


def _percent(score: Spread | None) -> str:
    if score is None:
        return "–"
    spread = f" ± {100 * score.std:.1f}" if score.std is not None else ""
    return f"{100 * score.mean:.1f}{spread}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
