"""What the page is made of: closed, escaped, self-contained, the same for the same runs."""

import base64
import hashlib
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from report.made import BAD_KEY, made
from report.reading import Page

from resolute.report.html import Markup, element, escape, join, table
from resolute.report.page import page
from resolute.report.series import chapters
from resolute.report.svg import look

RATES = (0.01, 0.1)


def write(*exhibits, has_pictures=True):
    return page(chapters(exhibits), rates=RATES, has_pictures=has_pictures)


@pytest.fixture(scope="module")
def text():
    return write(made(0), made(1, streams=1, method="baseline"))


def test_every_element_is_closed_and_ids_are_unique(text):
    read = Page(text)
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    for _, attributes in read.elements:
        if "href" in attributes:
            assert attributes["href"].startswith("#")
            assert attributes["href"][1:] in ids
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids


def test_nothing_is_loaded_run_or_sent(text):
    read = Page(text)
    assert not re.search(r"https?://|//\w", re.sub(r"data:image/[^\"]*", "", text))
    assert {tag for tag, _ in read.elements}.isdisjoint(
        {"script", "link", "iframe", "form", "object", "embed", "base", "video", "audio"}
    )
    for tag, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert "style" not in attributes, tag  # the policy forbids it
    assert all(re.match(r"data:image/(png|jpeg);base64,", a["src"]) for a in read.all("img"))
    assert "url(" not in text
    assert "@import" not in text


def test_the_policy_allows_this_style_alone(text):
    policy = next(a["content"] for a in Page(text).all("meta") if "http-equiv" in a)
    style = re.search(r"<style>(.*)</style>", text, flags=re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:; style-src")
    assert f"'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_names_of_files_are_shown_never_obeyed(text):
    read = Page(text)
    assert "<script" not in text
    assert BAD_KEY.replace("\x00", "\ufffd") in read.text
    assert "a note with <b> in it" in read.text


def test_every_image_says_what_it_shows(text):
    images = Page(text).all("img")
    assert len(images) > 60
    assert all(re.match(r"(Query|Rank \d+, (match|wrong)): person \d+", a["alt"]) for a in images)


def test_charts_and_boxes_are_named_and_reached_by_keyboard(text):
    read = Page(text)
    charts = [a for a in read.all("svg") if a.get("aria-hidden") != "true"]
    assert len(charts) >= 4 + 1 + 2 + 4 + 1 + 1
    assert all(a["role"] == "img" and a["aria-label"] and a["tabindex"] == "0" for a in charts)
    boxes = [a for a in read.all("div") if a.get("class") == "scroll"]
    assert boxes
    assert all(a["tabindex"] == "0" and a["role"] == "region" and a["aria-label"] for a in boxes)
    first = next(a for tag, a in read.elements if tag == "a")
    assert first["href"] == "#content"


def test_headings_leave_no_level_out(text):
    levels = [int(tag[1]) for tag, _ in Page(text).elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_right_and_wrong_are_told_by_words_and_frames(text):
    read = Page(text)
    assert "✓ match" in read.text
    assert "✗ wrong" in read.text
    css = re.search(r"<style>(.*)</style>", text, flags=re.DOTALL)[1]
    assert re.search(r"\.match \.picture \{ border: 4px solid", css)
    assert re.search(r"\.wrong \.picture \{ border: 3px dashed", css)


def test_same_runs_same_bytes(text):
    assert write(made(0), made(1, streams=1, method="baseline")) == text


def test_it_says_that_people_are_in_it(text):
    assert "contains pictures of people" in Page(text).text
    without = Page(write(made(0), has_pictures=False))
    assert "contains pictures of people" not in without.text
    assert "No pictures" in without.text
    assert without.all("img") == []
    assert "✓ match" in without.text


def test_methods_with_one_space_have_no_weights_and_it_says_so(text):
    read = Page(write(made(1, streams=1, method="baseline")))
    assert "One space, so there is nothing to weigh: baseline." in read.text
    assert "HR share" not in read.text
    assert "HR share" in Page(text).text
    assert "HR image: w" in Page(text).text


def test_equal_weights_are_said_not_drawn():
    exhibit = made(0)
    qualities = replace(exhibit.qualities, quality=np.ones_like(exhibit.qualities.quality))
    read = Page(write(replace(exhibit, qualities=qualities)))
    assert "Every image has the same weights: HR image: w_HR 1.000" in read.text


def test_weights_that_matching_ignores_are_called_so():
    text = Page(write(made(0, fusion="mean"))).text
    assert "play no part" in text
    assert "HR share" not in text


def test_runs_without_scalars_are_named():
    read = Page(write(made(0, name="silent", curves={})))
    assert "Nothing was logged by silent" in read.text


def test_trials_of_a_method_are_one_line_with_deviation():
    read = Page(write(made(0, trial=0, name="a"), made(1, trial=1, name="b")))
    assert "one standard deviation over trials" in read.text
    ranks = [made(seed, trial=seed).found.report.cmc[0] for seed in (0, 1)]
    mean, std = 100 * np.mean(ranks), 100 * np.std(ranks, ddof=1)
    assert f"{mean:.1f} ± {std:.1f}" in read.text
    assert "ftwa, run a" in read.text  # whose strips are shown


def test_many_methods_have_no_bands_that_hide_each_other():
    few = [made(n, method=f"m{n}") for n in range(4)]
    text = write(*few)
    assert 'class="band' in text
    assert "Bands are one standard deviation over the gallery draws" in text
    many = write(*few, made(5, method="m5"))
    assert 'class="band' not in many
    assert "The numbers below hold the standard deviations" in many


def test_settings_apart_are_series_apart():
    (series,) = chapters([made(0, name="a"), made(1, name="b")]).values()
    assert [s.label for s in series] == ["ftwa, run a", "ftwa, run b"]
    (series,) = chapters([made(0, start="x"), made(1, start="y", is_trained=False)]).values()
    assert [s.label for s in series] == ["ftwa", "ftwa (untrained)"]
    (series,) = chapters([made(0, start="x"), made(1, start="y")]).values()
    assert [s.label for s in series] == ["ftwa from x", "ftwa from y"]


def with_settings(exhibit, **sections):
    settings = {**exhibit.provenance["settings"], **sections}
    return replace(exhibit, provenance={**exhibit.provenance, "settings": settings})


def test_recipes_that_differ_are_no_trials_of_one_series():
    twins = {"loader": {"twin_range": [1.0, 8.0]}}
    (series,) = chapters(
        [
            made(0, name="a"),
            with_settings(made(1, trial=1, name="b"), **twins),
            made(2, trial=1, name="c"),
        ]
    ).values()
    assert [s.label for s in series] == ["ftwa, run a", "ftwa, run b"]
    assert [[e.name for e in s.exhibits] for s in series] == [["a", "c"], ["b"]]
    # Where files stand and how many threads compute is no other recipe.
    free = {"train": {"threads": 2}}
    (series,) = chapters([made(0), with_settings(made(1, trial=1), **free)]).values()
    assert [len(s.exhibits) for s in series] == [2]


def test_benchmarks_are_chapters_of_their_own():
    read = Page(write(made(0), made(0, benchmark="other/one")))
    assert len(read.all("article")) == 2
    assert "other/one, protocol mlr" in read.text


def test_unknown_heights_and_few_pairs_are_said():
    exhibit = made(0, streams=1)
    nowhere = replace(exhibit, heights=np.zeros_like(exhibit.heights), scores={})
    nowhere = replace(nowhere, scores={"protocol": exhibit.found.report})
    read = Page(page(chapters([nowhere]), rates=(1e-6,), has_pictures=False))
    assert "heights of the queries are not known" in read.text
    assert "too few pairs" in read.text


def test_escaping():
    assert escape("<&>\"'") == "&lt;&amp;&gt;&quot;&#x27;"
    assert escape(escape("<")) == "&lt;"
    assert escape("a\x00\x1b\udcff") == "a\ufffd\ufffd?"
    assert element("p", ["a", Markup("<b>"), ["<"]], title='"') == (
        '<p title="&quot;">a<b>&lt;</p>'
    )
    assert element("img", alt="", hidden=True, src=None, open=False) == '<img alt="" hidden="">'
    assert element("rect", x=1.0, y=0.126) == '<rect x="1" y="0.13"></rect>'
    assert join([]) == ""


def test_words_in_tables_stand_left():
    head = table(["a", "b", "c"], [["1", "2", "3"]], caption="x", num_text=2)
    assert re.findall(r'<t[hd]( class="words")?[ >]', head) == [
        ' class="words"', ' class="words"', "", "", ' class="words"', ""
    ]  # fmt: skip


def test_series_differ_in_colour_or_dash():
    looks = [look(n) for n in range(32)]
    assert len(set(looks)) == 32
    dashes = [word.split()[1] for word in looks[:4]]
    assert len(set(dashes)) == 4
