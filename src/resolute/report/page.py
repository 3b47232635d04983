"""The page: chapters per benchmark, sections in them, and the head that lets nothing out."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from resolute.core.version import __version__
from resolute.report.accuracy import MAX_BANDS, cmc_section, height_section
from resolute.report.exhibit import Exhibit
from resolute.report.figures import percent
from resolute.report.html import Markup, element, escape, join, table
from resolute.report.pictures import strips_section
from resolute.report.separation import distance_section
from resolute.report.series import Series
from resolute.report.tables import scores_table
from resolute.report.training import training_section
from resolute.report.weights import weights_section

TITLE = "Resolute report"


def page(
    chapters: Mapping[str, Sequence[Series]], *, rates: Sequence[float], has_pictures: bool
) -> str:
    """Write the whole page.

    It holds everything it shows. Its content security policy forbids scripts, any request, and any
    style but its own, so that opening it tells nobody.

    Args:
        chapters: series by the title of their benchmark.
        rates: false-match rates to draw thresholds at, 0..1.
        has_pictures: whether images of the data set are shown.

    Returns:
        HTML, the same bytes for the same runs.
    """
    style = files("resolute.report").joinpath("page.css").read_text(encoding="utf-8")
    parts = [
        _chapter(f"c{number}", title, series, rates=rates, has_pictures=has_pictures)
        for number, (title, series) in enumerate(chapters.items(), start=1)
    ]
    body = element(
        "body",
        element("a", "Skip to the scores", href="#content", class_="skip"),
        _header(chapters, has_pictures=has_pictures),
        element("main", parts, id="content", tabindex="-1"),
        element("footer", element("p", f"Made by resolute report, version {__version__}.")),
    )
    html = element("html", _head(style), "\n", body, lang="en")
    return f"<!doctype html>\n{html}\n"


def _head(style: str) -> Markup:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", TITLE),
        element("style", Markup(style)),
    )


def _header(chapters: Mapping[str, Sequence[Series]], *, has_pictures: bool) -> Markup:
    warning = "No pictures: they were left out."
    if has_pictures:
        warning = "This file contains pictures of people from your data. Share it only with those "
        warning += "who may see them; --images none makes one without."
    links = [
        element("li", element("a", _folding(title), href=f"#c{number}"), _contents(f"c{number}"))
        for number, title in enumerate(chapters, start=1)
    ]
    return element(
        "header",
        element("h1", TITLE),
        element("p", [_summary(series) for series in chapters.values()], class_="lead"),
        element("p", warning, class_="warning" if has_pictures else "said"),
        element("nav", element("ul", links), aria_label="Contents"),
    )


def _summary(series: Sequence[Series]) -> str:
    scores = [(s.label, s.spread("protocol", "rank1")) for s in series]
    words = [
        f"{label} {percent(spread.mean)}\u00a0%" for label, spread in scores if spread is not None
    ]
    return f"Rank-1: {', '.join(words)}. "


def _folding(title: str) -> Markup:
    """Let a long name break after its slashes."""
    return Markup(escape(title).replace("/", "/<wbr>"))


_SECTIONS = (
    ("scores", "Scores"),
    ("cmc", "Found within the first ranks"),
    ("height", "Rank-1 against pixel height"),
    ("distances", "Distances and thresholds"),
    ("weights", "Quality weights"),
    ("strips", "Best, median and worst queries"),
    ("training", "Training"),
    ("provenance", "Provenance"),
)


def _contents(chapter: str) -> Markup:
    links = [
        element("li", element("a", title, href=f"#{chapter}-{name}")) for name, title in _SECTIONS
    ]
    return element("ul", links)


def _chapter(
    chapter: str,
    title: str,
    series: Sequence[Series],
    *,
    rates: Sequence[float],
    has_pictures: bool,
) -> Markup:
    contents = {
        "scores": scores_table(series),
        "cmc": cmc_section(series),
        "height": height_section(series),
        "distances": distance_section(series, rates),
        "weights": weights_section(series),
        "strips": strips_section(series, has_pictures=has_pictures),
        "training": training_section(series),
        "provenance": join([_provenance(e) for s in series for e in s.exhibits]),
    }
    sections = [
        element(
            "section",
            element("h3", words, id=f"{chapter}-{name}"),
            element("p", said, class_="said") if (said := _explained(name, series)) else "",
            contents[name],
            aria_labelledby=f"{chapter}-{name}",
        )
        for name, words in _SECTIONS
    ]
    return element("article", element("h2", _folding(title), id=chapter), sections)


def _explained(name: str, series: Sequence[Series]) -> str:
    has_weights = any(s.first.qualities is not None for s in series)
    strips = [strip for s in series for kind in s.first.strips.values() for strip in kind]
    is_weighed = any(strip.query.quality is not None for strip in strips)
    return {
        "scores": "In percent. ± is the standard deviation over trials; of a single trial, over "
        "its gallery draws. r = 8 and HR queries are outside the protocol.",
        "cmc": f"Share of the queries whose match stands at this rank or better. {_band(series)}",
        "height": "Native height of the query image. Upright lines are 95 % Wilson intervals of "
        "one trial's queries. Open circles are outside the protocol: the same queries at another "
        "rate, or undegraded.",
        "distances": "All pairs of a query and a gallery image, each kind scaled to its own sum. "
        "Upright lines are thresholds by the share of different people they let through.",
        "weights": "Only the ratio of the two weights of one image means anything: which space to "
        "trust for it. A prime marks the vector made from the image: of its own low-resolution "
        "version, or transformed by T."
        if has_weights
        else "",
        "strips": "Ordered by the rank of the first match in the whole gallery, then by how much "
        "nearer it is than the nearest wrong image. d is the distance."
        + (" w are the weights of HR and LR space, HR share is a / (a + b)." * is_weighed),
        "training": "Means over stretches of steps.",
        "provenance": "What it takes to get these numbers again.",
    }[name]


def _band(series: Sequence[Series]) -> str:
    shown = "Bands are one standard deviation"
    if len(series) > MAX_BANDS:
        shown = "The numbers below hold the standard deviations"
    if any(len(s.exhibits) > 1 for s in series):
        single = any(len(s.exhibits) == 1 for s in series)
        return f"{shown} over trials{'; of a single trial, over its draws' if single else ''}."
    if all(s.first.found.report.has_identical_draws for s in series):
        report = series[0].first.found.report
        rank1, count = report.cmc[0], report.num_valid
        error = percent((rank1 * (1 - rank1) / count) ** 0.5)
        return (
            "One trial, and every gallery draw is the same, so there is no deviation to show; "
            f"{count} queries alone leave a standard error of {error} points at rank 1."
        )
    if series[0].first.found.report.num_draws == 0:
        return "One trial and no gallery draws: no deviation to show."
    return f"{shown} over the gallery draws of one trial."


def _provenance(exhibit: Exhibit) -> Markup:
    facts = [
        join([element("dt", name), element("dd", _value(value))])
        for name, value in exhibit.provenance.items()
        if name != "settings"
    ]
    notes = [element("li", note) for note in exhibit.notes]
    settings = table(
        ["setting", "value"],
        [[path, _plain(value)] for path, value in _leaves(exhibit.provenance["settings"], "")],
        caption=f"Settings of {exhibit.name}",
        num_text=2,
    )
    return element(
        "details",
        element("summary", exhibit.name),
        element("dl", facts),
        element("ul", notes, class_="notes") if notes else "",
        element("details", element("summary", "All settings"), settings),
    )


def _value(value: Any) -> Markup:
    if isinstance(value, Mapping):
        return join(
            [element("div", f"{name} ", element("code", _plain(v))) for name, v in value.items()]
        )
    return element("code", _plain(value))


def _plain(value: Any) -> Markup:
    if isinstance(value, list | tuple):
        return escape(", ".join(map(str, value)) or "–")
    if isinstance(value, Mapping):
        return escape(", ".join(f"{name} {v}" for name, v in value.items()) or "–")
    return escape(str(value) if str(value) else "–")


def _leaves(settings: Mapping[str, Any], where: str) -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            leaves += _leaves(value, f"{where}{name}.")
        else:
            leaves.append((f"{where}{name}", value))
    return leaves
