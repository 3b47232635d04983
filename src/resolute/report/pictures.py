"""Ranked strips on the page: pictures, or their places where pictures are left out."""

import base64
from collections.abc import Sequence

from resolute.report.draw import thumbnail
from resolute.report.html import Markup, element, join
from resolute.report.series import Series
from resolute.report.strips import Hit, Shot, Strip

_TITLES = {"best": "Best", "median": "Median", "worst": "Worst"}


def strips_section(series: Sequence[Series], *, has_pictures: bool) -> Markup:
    """Show the best, median and worst queries of each method's first trial.

    Args:
        series: methods of one benchmark.
        has_pictures: whether the images themselves are shown.
    """
    parts: list[Markup] = []
    for s in series:
        title = s.label
        if len(s.exhibits) > 1:
            title += f", run {s.first.name}"
        parts.append(element("h4", title))
        for kind, strips in s.first.strips.items():
            if strips:
                parts.append(element("h5", _TITLES[kind]))
            parts += [_strip(strip, has_pictures=has_pictures) for strip in strips]
    return join(parts)


def _strip(strip: Strip, *, has_pictures: bool) -> Markup:
    first, query = strip.first_match, strip.query
    found = f"first match at rank {first.rank}" if first else "no match in the gallery"
    title = f"Person {query.pid}, {query.size[0]} px high: {found}"
    words = [element("b", "query"), f"person {query.pid}", f"{query.size[0]} px", *_weights(query)]
    told = f"Query: {_told(query)}"
    cells = [_cell(query, told, words, kind="query", has_pictures=has_pictures)]
    before = 0
    for hit in strip.hits:
        if hit.rank > before + 1:
            cells.append(element("li", "…", class_="gap", aria_hidden="true"))
        before = hit.rank
        cells.append(_hit(hit, has_pictures=has_pictures))
    strip_list = element("ol", cells, class_="strip")
    return element(
        "div",
        element("p", title, " ", element("code", query.key), class_="query-title"),
        element("div", strip_list, class_="scroll", role="region", tabindex="0", aria_label=title),
        class_="query-block",
    )


def _hit(hit: Hit, *, has_pictures: bool) -> Markup:
    mark = "✓ match" if hit.is_match else "✗ wrong"
    words = [element("b", f"{hit.rank} {mark}"), f"person {hit.shot.pid}", f"d {hit.distance:.3f}"]
    words += _weights(hit.shot)
    if hit.share is not None:
        words.append(f"HR share {hit.share:.2f}")
    told = f"Rank {hit.rank}, {'match' if hit.is_match else 'wrong'}: {_told(hit.shot)}"
    told += f", distance {hit.distance:.3f}"
    kind = "match" if hit.is_match else "wrong"
    return _cell(hit.shot, told, words, kind=kind, has_pictures=has_pictures)


def _cell(
    shot: Shot, told: str, words: Sequence[Markup | str], *, kind: str, has_pictures: bool
) -> Markup:
    picture = element("span", "no picture", class_="picture none", aria_hidden="true")
    if has_pictures:
        media, content = thumbnail(shot.pixels)
        source = f"data:{media};base64,{base64.b64encode(content).decode()}"
        look = "picture small" if media == "image/png" else "picture"
        picture = element("img", src=source, alt=told, class_=look)
    lines = [element("span", word) for word in words]
    return element("li", picture, lines, class_=kind)


def _weights(shot: Shot) -> list[str]:
    if shot.quality is None:
        return []
    return [f"w {shot.quality[0]:.2f} | {shot.quality[1]:.2f}"]


def _told(shot: Shot) -> str:
    height, width = shot.size
    return f"person {shot.pid}, camera {shot.camid}, {height} by {width} pixels"
