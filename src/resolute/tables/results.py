"""The page of kept results: per benchmark the scores and what they tell."""

import re
from collections.abc import Sequence
from pathlib import Path

from resolute.core.errors import ConfigError
from resolute.engine.result import Result
from resolute.tables.layout import markdown
from resolute.tables.rows import benchmark_of
from resolute.tables.sections import grids

_HEAD = """# Results

Made by `resolute results` from the JSON files under `results/`; a test fails when the two
differ. Each file holds the settings, split digest, start weights, versions and the command of its
run.

Scores are percent. LR queries against the HR gallery under the protocol; `r = 8` is a rate that is
not in training unless a row's note says so; `HR query` is the undegraded query, outside the
protocol. ± is the standard deviation over trials and seeds.
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
        raise ConfigError(
            f"{folder}: expected result files, found none; fill it with resolute table"
        )
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
        benchmarks.setdefault(benchmark_of(result), []).append(result)
    return "\n".join([_HEAD, *(_section(members) for _, members in sorted(benchmarks.items()))])


def _section(results: Sequence[Result]) -> str:
    first, *others = grids(results)
    parts = [markdown(first, level=2), *(markdown(grid, level=3) for grid in others)]
    versions = dict.fromkeys(
        ", ".join(f"{k} {v}" for k, v in sorted(member.versions.items())) for member in results
    )
    lines = ["Commands:", "", *(f"    {c}" for c in commands(results)), "", *versions, ""]
    return "\n".join([*parts, "\n".join(lines)])


def commands(results: Sequence[Result]) -> list[str]:
    """List the commands that give results again; those of one table become one.

    Args:
        results: in any order.

    Returns:
        Commands in the order of their first result.
    """
    lines = [result.command for result in results]
    for option in ("trials", "seeds", "rows"):
        lines = _joined(lines, option)
    return lines


def _joined(lines: Sequence[str], option: str) -> list[str]:
    """Make one of the lines that differ in the value of one option."""
    values: dict[str, dict[str, None]] = {}
    for line in lines:
        found = re.search(rf"--{option} (\S+)", line)
        rest = line.replace(found[0], f"--{option} @", 1) if found else line
        values.setdefault(rest, {})[found[1] if found else ""] = None
    return [
        rest.replace(f"--{option} @", f"--{option} {','.join(sorted(known, key=_as_number))}", 1)
        for rest, known in values.items()
    ]


def _as_number(text: str) -> int:
    return int(text) if text.isdigit() else 0  # words stay in the order of the table
