"""The page in a real browser: two widths, light and dark, by keyboard, without a network."""

import pytest
from report.made import made

from resolute.report.page import page
from resolute.report.series import chapters

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    exhibits = [
        made(0, trial=0, name="a"),
        made(1, trial=1, name="b"),
        made(
            2, streams=1, method="baseline", name="a-name-as-long-as-people-like-to-make-them" * 3
        ),
    ]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(chapters(exhibits), rates=(0.01, 0.1), has_pictures=True))
    return path


@pytest.fixture(params=[(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")])
def opened(request, browser, file):
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab = context.new_page()
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda sent: asked.append(sent.url))
    tab.goto(file.as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    yield tab, width, scheme, said, asked
    context.close()


def test_it_fits_shows_and_is_silent(opened, file):
    tab, width, scheme, said, asked = opened
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth)"
    assert tab.evaluate(f"{wide}.length") > 0  # what is wide scrolls in its own box
    assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    levels = [int(level) for level in paper[4:-1].split(",")]
    assert (max(levels) < 60) == (scheme == "dark")


CONTRAST = """([selector, property, colour]) => {
    const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => {
        v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b };
    let shown = document.querySelector(selector);
    if (colour) { shown = shown.cloneNode(); document.body.append(shown);
                  shown.style.color = colour; }
    const ink = light(getComputedStyle(shown)[property]);
    const paper = light(getComputedStyle(document.body).backgroundColor);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05) }"""


def test_text_and_lines_stand_out(opened):
    """At least 4.5 to 1 for text and 3 to 1 for lines, as WCAG 2 asks."""
    tab, *_ = opened
    for selector in ("p.said", "nav a", "td", ".match b", ".wrong b", "summary"):
        assert tab.evaluate(CONTRAST, [selector, "color", ""]) >= 4.5, selector
    assert tab.evaluate(CONTRAST, ["svg text", "fill", ""]) >= 4.5
    for name in (*(f"s{number}" for number in range(8)), "same", "other", "right", "wrong"):
        assert tab.evaluate(CONTRAST, ["p.said", "color", f"var(--{name})"]) >= 3, name


def test_keyboard_reaches_everything_in_reading_order(opened):
    tab, *_ = opened
    tab.evaluate("document.body.focus()")
    places, seen = [], []
    where = """() => { const e = document.activeElement; const r = e.getBoundingClientRect();
        const s = getComputedStyle(e);
        return [e.tagName, e.getAttribute('href') || '', r.top + scrollY,
                s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2,
                r.top < innerHeight && r.bottom > 0] }"""
    wanted = "document.querySelectorAll('a[href], summary, [tabindex=\\\"0\\\"]').length"
    for _ in range(tab.evaluate(wanted)):
        tab.keyboard.press("Tab")
        tag, target, top, is_ringed, is_in_view = tab.evaluate(where)
        assert is_ringed, tag
        assert is_in_view, tag
        seen.append((tag, target))
        places.append(top)
    assert seen[0] == ("A", "#content")
    order = "[...document.querySelectorAll('a[href], summary, [tabindex=\\\"0\\\"]')]"
    tags = tab.evaluate(f"{order}.map(e => e.tagName)")
    assert [tag for tag, _ in seen] == tags
    tab.evaluate("document.querySelector('.skip').focus()")
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "content"
