"""Grids of words on the terminal: divided where it is too narrow for them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.table import Table

from resolute.cli.scores import print_table, table_width

if TYPE_CHECKING:
    from resolute.tables.layout import Grid

_SHORT_HEAD = 8  # characters; such names of columns stay on one line


def print_grid(grid: "Grid") -> None:
    """Print a grid and its notes to the terminal, or to a file.

    Args:
        grid: what to print.
    """
    width = table_width()
    for part in fitted(grid, width):
        print_table(_laid_out(part, width))
    for note in grid.notes:
        print(note)


def fitted(grid: "Grid", width: int) -> list["Grid"]:
    """Divide a grid that is wider than the terminal, so that no word of it is cut.

    Args:
        grid: of any width.
        width: characters in a line.

    Returns:
        One or more grids, each with the first column, which names the rows.
    """
    needed = _widths(grid, is_narrow=True)
    parts: list[list[int]] = [[0]]
    for column in range(1, len(needed)):
        if len(parts[-1]) > 1 and _line(needed[i] for i in [*parts[-1], column]) > width:
            parts.append([0])
        parts[-1].append(column)
    return [
        replace(
            grid,
            title=grid.title if number == 0 else f"{grid.title}, further columns",
            head=tuple(grid.head[i] for i in part),
            rows=tuple(tuple(row[i] for i in part) for row in grid.rows),
        )
        for number, part in enumerate(parts)
    ]


def _widths(grid: "Grid", *, is_narrow: bool) -> list[int]:
    """Characters each column needs; narrow where words stand under each other."""
    widths = []
    for head, *cells in zip(grid.head, *grid.rows, strict=True):
        texts = [cell.replace("`", "") for cell in cells]
        pieces = [piece for text in texts for piece in (text.split() if is_narrow else [text])]
        whole = [text for text in texts if not any(map(str.isalpha, text))]  # numbers stay whole
        heads = head.split() if len(head) > _SHORT_HEAD else [head]
        widths.append(max(map(len, [*pieces, *whole, *heads])))
    return widths


def _line(widths: Iterable[int]) -> int:
    return sum(width + 3 for width in widths) + 1  # a space on each side, and the rules


def _laid_out(grid: "Grid", width: int) -> Table:
    table = Table(title=grid.title, title_justify="left", header_style="bold")
    widths = _widths(grid, is_narrow=False)
    if _line(widths) > width:
        widths = _widths(grid, is_narrow=True)
    for head, characters in zip(grid.head, widths, strict=True):
        table.add_column(head, width=characters)
    for row in grid.rows:
        table.add_row(*(cell.replace("`", "") for cell in row))
    return table
