"""HTML and SVG by small functions: whatever is not already markup is escaped."""

import html
import re
from collections.abc import Iterable, Sequence


class Markup(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


Child = str | Markup | Iterable["Child"]

# What may not stand in an HTML document, even escaped.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
_VOID = frozenset({"br", "col", "hr", "img", "meta"})


def escape(text: str) -> Markup:
    """Turn text into markup that shows it.

    Args:
        text: anything, names of files too.

    Returns:
        The text with everything escaped that has a meaning in HTML, also within quotes; characters
        that no page may hold become U+FFFD.

    Examples:
        >>> escape('a<b & "c"')
        'a&lt;b &amp; &quot;c&quot;'
    """
    if isinstance(text, Markup):
        return text
    printable = text.encode("utf-8", "replace").decode()  # undecodable bytes of file names
    return Markup(html.escape(_FORBIDDEN.sub("\ufffd", printable)))


def element(tag: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """Write an element.

    Args:
        tag: name of the element.
        *children: text, markup, or lists of them.
        **attributes: by name; a trailing underscore is dropped (``class_``), others become hyphens.
            None and False leave the attribute out, True gives it no value.

    Returns:
        Markup.

    Examples:
        >>> element("p", "1 < 2", class_="note")
        '<p class="note">1 &lt; 2</p>'
    """
    parts = [tag]
    for key, value in attributes.items():
        word = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(f'{word}=""')
        elif value is not None and value is not False:
            parts.append(f'{word}="{escape(_number(value))}"')
    opening = f"<{' '.join(parts)}>"
    if tag in _VOID:
        return Markup(opening)
    return Markup(f"{opening}{join(children)}</{tag}>")


def join(children: Iterable[Child]) -> Markup:
    """Put markup and text together.

    Args:
        children: text, markup, or lists of them.
    """
    return Markup("".join(escape(c) if isinstance(c, str) else join(c) for c in children))


def table(
    head: Sequence[Child], rows: Iterable[Sequence[Child]], *, caption: str, num_text: int = 1
) -> Markup:
    """Write a table that scrolls inside its own box, by keyboard too.

    Args:
        head: column heads; the first column holds the names of the rows.
        rows: cells.
        caption: what the table shows.
        num_text: first columns that hold words, not numbers.
    """

    def cell(tag: str, column: int, content: Child) -> Markup:
        kind = "words" if column < num_text else None
        scope = {"td": None, "th": "col"}[tag]
        return element(tag, content, class_=kind, scope=scope)

    columns = element("tr", [cell("th", column, content) for column, content in enumerate(head)])
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            [cell("td", column, content) for column, content in enumerate(row[1:], start=1)],
        )
        for row in rows
    ]
    content = element("table", element("thead", columns), element("tbody", body))
    box = element("div", content, class_="scroll", role="region", tabindex="0", aria_label=caption)
    return element("figure", element("figcaption", caption), box, class_="table")


def _number(value: str | float) -> str:
    if isinstance(value, str):
        return value
    text = f"{value:.2f}"  # a hundredth of a pixel
    return text.rstrip("0").rstrip(".") if "." in text else text
