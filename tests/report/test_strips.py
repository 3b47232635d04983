"""Strips show the right images, and their files stay in their folder."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from report.made import BAD_KEY, sides

from resolute.core.distance import distance_matrix
from resolute.core.rng import Streams
from resolute.evaluation.protocol import PROTOCOLS
from resolute.report.draw import draw_strip, strip_name, thumbnail, write_strips
from resolute.report.exhibit import _qualities
from resolute.report.strips import make_strip
from resolute.report.survey import survey


@pytest.fixture(scope="module")
def found():
    query, gallery = sides(3)
    given = (query.embedding, query.labels), (gallery.embedding, gallery.labels)
    return query, gallery, survey(PROTOCOLS["mlr"], *given, streams=Streams(0), trial=0, top=4)


def test_a_strip_is_what_the_distances_say(found):
    query, gallery, survey_ = found
    matrix = distance_matrix(query.embedding, gallery.embedding)
    has_later = []
    for q in range(len(query.records)):
        strip = make_strip(query, gallery, survey_, q)
        order = np.argsort(matrix[q], kind="stable").tolist()
        matches = [g for g in order if gallery.labels.pids[g] == query.labels.pids[q]]
        shown = order[:4] if set(order[:4]) & set(matches) else [*order[:4], matches[0]]
        has_later.append(len(shown) > 4)
        assert [h.shot.key for h in strip.hits] == [gallery.records[g].key for g in shown]
        assert [h.rank for h in strip.hits] == [order.index(g) + 1 for g in shown]
        assert [h.distance for h in strip.hits] == [matrix[q][g] for g in shown]
        assert [h.is_match for h in strip.hits] == [g in matches for g in shown]
        assert strip.first_match.rank == survey_.list_ranks[q]
        a, b = (query.embedding.quality[q] * gallery.embedding.quality[shown[0]]).tolist()
        assert strip.hits[0].share == pytest.approx(a / (a + b), rel=1e-5)
        assert strip.query.quality == tuple(query.embedding.quality[q].tolist())
        assert np.array_equal(strip.query.pixels, query.records[q].source.pixels())
        assert strip.query.size == strip.query.pixels.shape[:2]
    assert True in has_later
    assert False in has_later


def test_three_streams_have_no_share_of_two_spaces(found):
    query, gallery = sides(3, streams=3)
    strip = make_strip(query, gallery, found[2], 0)  # whatever was found: it is drawn
    assert strip.query.quality is None
    assert {hit.share for hit in strip.hits} == {None}
    assert _qualities(query, gallery) is None
    assert draw_strip(strip).width > 0


@pytest.mark.parametrize("fusion", ["hr", "mean"])
def test_no_weights_are_shown_that_distances_do_not_read(found, fusion):
    query, gallery = sides(3, fusion=fusion)
    strip = make_strip(query, gallery, found[2], 0)
    assert strip.query.quality is None
    assert {hit.shot.quality for hit in strip.hits} == {None}
    assert {hit.share for hit in strip.hits} == {None}


def test_files_stay_in_the_folder_whatever_the_key(found, tmp_path):
    query, gallery, survey_ = found
    assert query.records[0].key == BAD_KEY
    records = list(query.records)
    records[1] = replace(records[1], key="../../../etc/passwd")
    records[2] = replace(records[2], key="")
    inside = tmp_path / "strips" / "run"
    number = write_strips(replace(query, records=tuple(records)), gallery, survey_, inside)
    files = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    assert number == len(files) == 12
    assert all(file.parent == inside and file.suffix == ".png" for file in files)
    assert sorted(int(file.name[4:8]) for file in files) == sorted(survey_.list_ranks.tolist())
    with Image.open(files[0]) as image:
        assert image.size[1] > 256


def test_frames_tell_right_from_wrong_without_colour(found):
    query, gallery, survey_ = found
    position = int(np.flatnonzero(survey_.list_ranks == survey_.list_ranks.max())[0])
    strip = make_strip(query, gallery, survey_, position)
    picture = np.asarray(draw_strip(strip).convert("L")).astype(int)
    cell, left = 128 + 12 + 16, 24 + 16
    for column, hit in enumerate(strip.hits, start=1):
        row = picture[24 + 3, left + column * cell + 4 : left + column * cell + 128]
        assert ((row < 200).all()) == hit.is_match  # a full line, or a dashed one


def test_unmatched_queries_have_a_name(found):
    query, gallery, survey_ = found
    strip = make_strip(query, gallery, survey_, 1)
    alone = replace(strip, hits=())
    assert strip_name(alone, 1) == "unmatched-00001-img-001.png"
    assert draw_strip(alone).width > 0


@pytest.mark.parametrize(
    ("height", "media"), [(32, "image/png"), (63, "image/png"), (128, "image/jpeg")]
)
def test_small_images_keep_every_pixel(height, media):
    pixels = np.random.default_rng(0).integers(0, 256, (height, 20, 3)).astype(np.uint8)
    kind, content = thumbnail(pixels)
    assert kind == media
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (20, height)
        if media == "image/png":
            assert np.array_equal(np.asarray(image), pixels)


def test_large_images_are_made_small():
    with Image.open(io.BytesIO(thumbnail(np.zeros((900, 3, 3), np.uint8))[1])) as image:
        assert image.size == (1, 160)
