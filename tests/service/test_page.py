"""The page in a real browser: upload, search, filter, delete, refusal, keyboard; nothing leaves."""

import pytest
from inference.small import noise
from service.serving import Served, drawn, encoded, fill, small_model

from resolute.service.token import Token

pytestmark = pytest.mark.browser

SECRET = "a-secret-of-some-length"


@pytest.fixture
def open_page(browser):
    """Opens a served page; at the end it must have asked nobody else and said nothing."""
    contexts = []

    def opened(served, *, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        tab = context.new_page()
        tab.said, tab.asked = [], []
        tab.on("console", lambda message: tab.said.append(message.text))
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.on("request", lambda sent: tab.asked.append(sent.url))
        contexts.append((context, tab, served.url))
        tab.goto(served.url + "/")
        return tab

    yield opened
    for context, tab, url in contexts:
        outside = [u for u in tab.asked if not u.startswith((url, "blob:", "data:"))]
        context.close()
        assert outside == []


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model"), is_calibrated=True)


@pytest.fixture
def page_served(request, tmp_path, calibrated):
    folder = fill(tmp_path / "gallery", calibrated)
    limit = getattr(request, "param", 8.0)
    with Served(folder, calibrated, rate=0, max_upload_mb=limit) as served:
        yield served


def upload(tab, *contents):
    tab.set_input_files(
        "#files",
        [{"name": f"{i}.png", "mimeType": "image/png", "buffer": c}
         for i, c in enumerate(contents)],
    )  # fmt: skip


def hits(tab):
    tab.wait_for_selector("#hits:not([aria-busy]) .hit")
    return tab.locator(".hit")


def until(tab, expression):
    """Waits for an expression; what Playwright brings for that, the page's own policy forbids."""
    for _ in range(400):
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(25)
    raise AssertionError(expression)


def wait_for_status(tab, words):
    until(tab, f"document.getElementById('status').textContent.includes('{words}')")


def test_search_filter_detail_delete(page_served, open_page):
    tab = open_page(page_served)
    tab.wait_for_selector("#go")
    assert "12 images · 2 cameras · calibrated on drawn people" in tab.inner_text("#facts")
    upload(tab, drawn(1))
    found = hits(tab)
    assert found.count() == 12
    first = found.first.inner_text()
    assert "0.000" in first
    assert "cam0" in first
    assert "%" in first
    assert "143 × 59 px" in first
    until(tab, "document.querySelector('.hit img')?.naturalWidth > 0")
    # Filter: the same camera is left out.
    tab.select_option("#not-camera", "cam0")
    wait_for_status(tab, "6 ranked candidates of 6")
    assert all("cam1" in text for text in tab.locator(".hit .place").all_inner_texts())
    # Two images of one person pool.
    upload(tab, drawn(1, 1))
    until(tab, "document.getElementById('summary').innerText.includes('2 images')")
    tab.locator(".hit").first.click()
    assert tab.is_visible("#detail")
    assert "counts" in tab.inner_text("#detail-why")
    assert "that it is one person" in tab.inner_text("#detail-facts")
    key = tab.inner_text("#detail-facts dd:nth-of-type(5)")
    tab.click("#delete")
    tab.click("#delete-yes")
    wait_for_status(tab, "deleted and erased")
    assert tab.locator(".hit").count() == 5
    assert key not in page_served.desk.gallery
    assert len(page_served.desk.gallery) == 11
    words = tab.inner_text("body").lower()
    assert "match" not in words
    assert "identif" not in words
    assert tab.said == []


def test_a_picture_that_comes_late_is_not_shown_over_another(page_served, open_page):
    tab = open_page(page_served)
    upload(tab, drawn(1))
    hits(tab)
    until(tab, "[...document.querySelectorAll('.hit img')].length > 1")
    held = []
    tab.route("**/v1/thumbnail*", lambda route: route.continue_() if held else held.append(route))
    tab.locator(".hit").first.click()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_selector("#detail-hit img")
    held[0].continue_()
    tab.wait_for_timeout(300)
    alts = "[...document.querySelectorAll('#detail-hit img')].map(image => image.alt)"
    assert tab.evaluate(alts) == ["candidate 2"]
    assert tab.inner_text("#detail-title") == "Candidate 2 of 12"
    assert tab.said == []


def test_a_deletion_under_way_lets_no_other_candidate_go(page_served, open_page):
    tab = open_page(page_served)
    upload(tab, drawn(1))
    hits(tab)
    held = []
    tab.route("**/v1/delete", lambda route: held.append(route))
    tab.locator(".hit").first.click()
    key = tab.inner_text("#detail-facts dd:nth-of-type(5)")
    tab.click("#delete")
    tab.click("#delete-yes")
    for _ in range(2):
        tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#detail-title") == "Candidate 1 of 12"
    for name in ("previous", "next", "reuse", "delete-yes", "delete-no"):
        assert tab.is_disabled(f"#{name}"), name
    # Closed and another one opened: the answer still takes away what was deleted, and no more.
    tab.keyboard.press("Escape")
    tab.locator(".hit").nth(3).click()
    held[0].continue_()
    wait_for_status(tab, "Candidate 1 was deleted and erased")
    assert tab.locator(".rank").all_inner_texts() == [str(rank) for rank in range(2, 13)]
    assert tab.is_hidden("#detail")
    assert key not in page_served.desk.gallery
    tab.locator(".hit").first.click()
    assert tab.inner_text("#detail-title") == "Candidate 2 of 11"
    assert tab.is_enabled("#delete")
    tab.click("#delete")
    assert tab.is_enabled("#delete-yes")
    assert tab.said == []


def test_a_gallery_image_as_the_query_and_no_candidate(page_served, open_page):
    tab = open_page(page_served)
    tab.click("#browse")
    tab.click("[aria-label='Search with cam0/0003.png']")
    assert hits(tab).count() == 11  # not itself
    tab.fill("#end", "2001-01-01T00:00")
    tab.dispatch_event("#end", "change")
    wait_for_status(tab, "0 ranked candidates of 0")
    assert tab.is_visible("#none")
    assert tab.said == []


@pytest.mark.parametrize("page_served", [1.0], indirect=True)
def test_a_bad_file_is_refused_in_words(page_served, open_page):
    tab = open_page(page_served)
    tab.wait_for_selector("#camera option:nth-child(2)", state="attached")
    upload(tab, b"no picture")
    tab.wait_for_selector("#problem:not([hidden])")
    assert "JPEG, PNG, BMP or WebP" in tab.inner_text("#problem")
    assert tab.get_attribute("#problem", "role") == "alert"
    tab.click("#clear")
    assert tab.is_hidden("#problem")
    upload(tab, encoded(noise(700, 600), kind="BMP"))  # 1.2 MiB never leave the browser
    tab.wait_for_selector("#problem:not([hidden])")
    assert "1 MiB" in tab.inner_text("#problem")
    upload(tab, drawn(2))
    assert hits(tab).count() == 12
    # Chromium itself notes the refused request; the page adds nothing.
    assert [t for t in tab.said if "422" not in t] == []


def test_keyboard_alone(page_served, open_page):
    tab = open_page(page_served)
    upload(tab, drawn(1))
    hits(tab)
    focused = "document.activeElement.querySelector('.rank')?.textContent"
    tab.locator(".hit").first.focus()
    columns = tab.evaluate(
        "new Set([...document.querySelectorAll('#hits li')].map(e => e.offsetLeft)).size"
    )
    assert columns > 1
    for key, rank in [("ArrowRight", 2), ("ArrowDown", 2 + columns), ("ArrowUp", 2),
                      ("ArrowLeft", 1), ("ArrowLeft", 1), ("End", 12), ("Home", 1)]:  # fmt: skip
        tab.keyboard.press(key)
        assert tab.evaluate(focused) == str(rank), key
    outline = "parseFloat(getComputedStyle(document.activeElement).outlineWidth)"
    assert tab.evaluate(outline) >= 2
    tab.keyboard.press("Enter")
    assert tab.inner_text("#detail-title") == "Candidate 1 of 12"
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#detail-title") == "Candidate 2 of 12"
    tab.keyboard.press("Escape")
    assert tab.is_hidden("#detail")
    until(tab, f"{focused} === '2'")
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.id") == "drop"
    assert tab.evaluate("document.getElementById('status').getAttribute('aria-live')") == "polite"
    assert tab.locator(".hit[tabindex='0']").count() == 1
    assert tab.said == []


def test_a_token_is_asked_for_and_kept_for_the_tab(tmp_path, model, open_page):
    folder = fill(tmp_path / "gallery", model)
    with Served(folder, model, rate=0, token=Token.of(SECRET, where="test")) as served:
        tab = open_page(served)
        tab.wait_for_selector("#access:not([hidden])")
        assert tab.is_hidden("#bench")
        tab.fill("#token", "wrong")
        tab.keyboard.press("Enter")
        until(tab, "document.getElementById('token-note').textContent.includes('not accepted')")
        tab.fill("#token", SECRET)
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#bench:not([hidden])")
        upload(tab, drawn(1))
        assert hits(tab).count() == 12
        tab.wait_for_selector(".hit img")
        assert "not calibrated" in tab.inner_text(".hit")
        assert "Not calibrated" in tab.inner_text("#summary")
        assert tab.evaluate("localStorage.length") == 0
        assert [t for t in tab.said if "401" not in t] == []


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_is_readable(page_served, open_page, width, scheme):
    tab = open_page(page_served, width=width, scheme=scheme)
    upload(tab, drawn(1))
    hits(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(int(level) for level in paper[4:-1].split(",")) < 60) == (scheme == "dark")
    contrast = """selector => {
        const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => {
            v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b };
        const ink = light(getComputedStyle(document.querySelector(selector)).color);
        const paper = light(getComputedStyle(document.body).backgroundColor);
        return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05) }"""
    for selector in ("#status", "#facts", ".facts .distance b", ".facts .distance span", "label"):
        assert tab.evaluate(contrast, selector) >= 4.5, selector
    tab.locator(".hit").first.click()
    assert tab.evaluate("document.querySelector('#detail').scrollWidth") <= width
    assert tab.said == []


def test_a_crop_dropped_before_the_gallery_answers_is_searched(page_served, browser):
    context = browser.new_context()
    tab = context.new_page()
    held = []
    tab.route("**/v1/gallery", lambda route: held.append(route))
    tab.goto(page_served.url)
    upload(tab, drawn(1))
    tab.wait_for_timeout(200)
    held[0].continue_()
    assert hits(tab).count() > 0
    context.close()
