"""``resolute datasets check``: what stands in a folder, against the published counts."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from resolute.cli.overrides import parse
from resolute.data.catalogue import DATASETS
from resolute.data.check import SetCheck, check


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words, check and print.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        0 if every data set found can be used, else 2.
    """
    parser.usage = (
        "resolute datasets check ROOT [--name NAME] [--full]   |   resolute datasets list"
    )
    parser.add_argument("action", choices=("check", "list"))
    parser.add_argument("root", type=Path, nargs="?", help="folder with one or several data sets")
    parser.add_argument("--name", default="", help="look for this data set alone")
    parser.add_argument("--full", action="store_true", help="decode every image, not a sample")
    options = parse(parser, words)
    if options.action == "list":
        for name, info in DATASETS.items():
            print(f"{name:<26}{info.title}; {info.terms}")
        return 0
    if options.root is None:
        parser.error("datasets check: expected the folder of the data sets")
    report = check(options.root, options.name, full=options.full)
    for found in report.sets:
        _print(found)
    return 0 if report.is_usable else 2


def _print(found: SetCheck) -> None:
    console = Console(soft_wrap=True)
    console.print(f"[bold]{found.name}[/]: {DATASETS[found.name].title}")
    if found.error:
        console.print(f"  cannot be read: {found.error}", markup=False)
        return
    table = Table("role", "identities", "published", "images", "published", header_style="bold")
    for role in found.roles:
        published = role.published
        table.add_row(
            role.role,
            str(role.found.identities),
            _shown(published.identities if published else None),
            str(role.found.images),
            _shown(published.images if published else None),
        )
    console.print(table)
    for note in found.notes:
        console.print(f"  {note}", markup=False)
    for message in found.broken:
        console.print(f"  broken: {message}", markup=False)
    console.print(
        f"  decoded {found.num_decoded} of {found.num_images} images, {len(found.broken)} broken"
    )


def _shown(count: int | None) -> str:
    return "–" if count is None else str(count)
