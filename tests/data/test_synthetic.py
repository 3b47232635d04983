"""The drawn data set: same person, same pixels; enough variety; identity is not one colour."""

import hashlib
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams
from resolute.core.types import Resolution
from resolute.data.drawing.cloth import PATTERNS, lay_cloth, stamp
from resolute.data.drawing.figure import draw_figure
from resolute.data.drawing.identity import Cloth, Identity, pick, uniform
from resolute.data.drawing.scene import draw_cover
from resolute.data.drawing.shot import CAMERAS, draw_shot
from resolute.data.drawing.stage import Pose
from resolute.data.synthetic import SyntheticConfig, SyntheticSource, identity_of, read

PUBLISHED = "ad2a329604c97029b7625900e36edbde9acb9617684bfa4111057f3c3e8ddcb6"
YELLOW = (206, 172, 70, 255)
STANDING = Pose(yaw=0.0, phase=0.0, stride=10.0, swing=8.0, lean=0.0)


def source(pid=0, camid=0, index=0, seed=0):
    return SyntheticSource(seed=seed, pid=pid, camid=camid, index=index)


def split(num_identities=20, images_per_camera=2, *, trial=0, seed=5, drawing_seed=0):
    config = SyntheticConfig(
        num_identities=num_identities, images_per_camera=images_per_camera, seed=drawing_seed
    )
    return read(config, trial=trial, streams=Streams(seed))


def figure(person, pose=STANDING):
    """A person alone, RGBA, without scene, light or grain."""
    canvas = Image.new("RGBA", (140, 280))
    draw_figure(canvas, person, pose, top=(70.0, 12.0), unit=256.0)
    return np.asarray(canvas)


# Determinism ---------------------------------------------------------------------------------


def test_pixels_do_not_depend_on_order_or_instance():
    keys = [(pid, camid, index) for pid in range(3) for camid in (0, 1) for index in (0, 1)]
    forward = {k: source(*k).pixels() for k in keys}
    backward = {k: source(*k).pixels() for k in reversed(keys)}
    for k in keys:
        np.testing.assert_array_equal(forward[k], backward[k])


def test_pixels_do_not_depend_on_the_process():
    code = (
        "import hashlib; from resolute.data.synthetic import SyntheticSource as S;"
        "print(hashlib.sha256(S(seed=3, pid=7, camid=1, index=2).pixels().tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = hashlib.sha256(source(7, 1, 2, seed=3).pixels().tobytes()).hexdigest()
    assert other.stdout.strip() == here


def test_drawing_parameters_are_the_published_ones():
    """Guards seeds and tables; pixels may differ by a rounding between Pillow versions."""
    text = hashlib.sha256()
    for pid in range(1, 41):
        text.update(repr(identity_of(0, pid)).encode())
        for camid, camera in enumerate(CAMERAS):
            rng = Streams(0).numpy(Stream.SYNTHETIC, pid, camid, 0)
            text.update(repr(draw_shot(rng, camera)).encode())
    assert text.hexdigest() == PUBLISHED, "other drawings: raise DRAWING_VERSION and record it"


def test_drawing_changes_nothing_global():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    source().pixels()
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_token_names_everything_that_decides_the_pixels():
    variants = [source(), source(1), source(0, 1), source(0, 0, 1), source(seed=1)]
    assert len({s.token() for s in variants}) == len(variants)
    assert "pillow" in source().token()


# Variety -------------------------------------------------------------------------------------


def test_images_are_rgb_of_moderately_varying_native_size():
    shapes = [source(pid, camid, 0).pixels().shape for pid in range(20) for camid in (0, 1)]
    heights, widths = np.array([s[0] for s in shapes]), np.array([s[1] for s in shapes])
    assert all(len(s) == 3 and s[2] == 3 for s in shapes)
    assert source().pixels().dtype == np.uint8
    assert heights.min() >= 128
    assert heights.max() <= 160
    assert len(set(heights.tolist())) > 8
    assert (widths / heights).min() > 0.39
    assert (widths / heights).max() < 0.51


def test_people_images_cameras_and_seeds_differ():
    images = [source(), source(1), source(0, 1), source(0, 0, 1), source(seed=1)]
    small = [np.asarray(Image.fromarray(s.pixels()).resize((24, 48))).astype(int) for s in images]
    for i, a in enumerate(small):
        for b in small[:i]:
            assert np.abs(a - b).mean() > 8
    assert identity_of(0, 0) != identity_of(1, 0)


def test_no_two_of_a_thousand_people_are_alike():
    people = [identity_of(0, pid) for pid in range(1, 1001)]
    assert len({p.top for p in people}) < 700, "tops have to be shared"
    clothes = ("top", "sleeve", "sleeve_cloth", "bottom", "bottom_cut", "shoes", "bag", "hair",
               "motif", "skin", "hem")  # fmt: skip
    assert len({tuple(getattr(p, name) for name in clothes) for p in people}) == 1000


def test_colours_are_shared_between_many_people():
    people = [identity_of(0, pid) for pid in range(1, 501)]
    outfits = {(p.top.base, p.bottom.base) for p in people}
    assert len(outfits) <= 28, "7 colours of tops times 4 of trousers"
    assert len(people) / len(outfits) > 15


def test_every_value_of_every_attribute_occurs_and_can_be_drawn():
    people = [identity_of(0, pid) for pid in range(1, 401)]
    for name in ("hair", "hat", "bottom_cut", "bag", "front", "motif", "skin", "side_stripe"):
        values = {getattr(p, name): p for p in people}
        assert len(values) >= 3
        for person in values.values():
            for yaw in (0, 90, 180, 270):
                assert figure(person, replace(STANDING, yaw=yaw))[:, :, 3].any()
    assert {p.top.pattern for p in people} == {"plain", *PATTERNS}


def test_mean_colour_does_not_find_people():
    """Nearest neighbour on the mean colour of the middle, 60 people, camera 1 against camera 0."""

    def colour(pid, camid):
        pixels = source(pid, camid).pixels()
        h, w, _ = pixels.shape
        middle = pixels[h // 5 : -h // 5, w // 3 : -w // 3].reshape(-1, 3).astype(float)
        return middle.mean(axis=0) / middle.mean()

    query = np.array([colour(pid, 1) for pid in range(60)])
    gallery = np.array([colour(pid, 0) for pid in range(60)])
    for side in (query, gallery):
        side -= side.mean(axis=0)
    distances = ((query[:, None] - gallery[None]) ** 2).sum(-1)
    assert (distances.argmin(axis=1) == np.arange(60)).mean() < 0.25


# The figure ----------------------------------------------------------------------------------


def person(**changes):
    plain = Cloth(pattern="plain", base="red", second="white", period=0.05)
    base = replace(
        identity_of(0, 0), top=plain, sleeve_cloth=plain, motif="none", bag="none", scarf="none",
        belt="none", front="closed", side_stripe="none", hair="short", hat="none", hem=0.0,
    )  # fmt: skip
    return replace(base, **changes)


def test_each_visible_attribute_changes_the_picture():
    bottom = Cloth(pattern="checks", base="khaki", second="black", period=0.04)
    changes = {
        "girth": 1.3, "shoulders": 1.3, "hip": 0.55, "head": 1.3, "skin": "dark", "hair": "long",
        "hat": "beanie", "has_beard": True, "has_glasses": True, "top": bottom, "sleeve": 0.1,
        "sleeve_cloth": bottom, "hem": 0.16, "front": "open", "motif": "disc", "bottom": bottom,
        "bottom_cut": "long skirt", "side_stripe": "yellow", "shoes": "yellow", "soles": "red",
        "has_boots": True, "bag": "hand", "scarf": "yellow", "belt": "yellow",
    }  # fmt: skip
    base = {"has_beard": False, "has_glasses": False, "has_boots": False, "skin": "fair"}
    front = figure(person(**base))
    for name, value in changes.items():
        other = figure(person(**{**base, name: value}))
        assert (front != other).any(), f"{name} = {value} is drawn nowhere"
    nouns = {f.name for f in fields(Identity)}
    dependent = {"hair_colour", "hat_colour", "inner", "motif_colour", "motif_size",
                 "is_motif_on_back", "bag_colour", "bag_second", "bag_side"}  # fmt: skip
    assert nouns == set(changes) | dependent, "an attribute has no test"


@pytest.mark.parametrize(
    ("detail", "change", "yaw"),
    [
        ({"hair": "long"}, {"hair_colour": "blond"}, 0),
        ({"hat": "cap"}, {"hat_colour": "yellow"}, 0),
        ({"front": "open"}, {"inner": "yellow"}, 0),
        ({"front": "zip"}, {"inner": "yellow"}, 0),
        ({"motif": "ring"}, {"motif_colour": "yellow"}, 0),
        ({"motif": "ring"}, {"motif_size": 0.12}, 0),
        ({"motif": "ring", "is_motif_on_back": True}, {"is_motif_on_back": False}, 180),
        ({"bag": "backpack"}, {"bag_colour": "yellow"}, 180),
        ({"bag": "backpack"}, {"bag_second": "yellow"}, 180),
        ({"bag": "shoulder", "bag_side": 1}, {"bag_side": -1}, 0),
    ],
)
def test_each_detail_changes_the_picture_where_it_is_worn(detail, change, yaw):
    colours = ("hair_colour", "hat_colour", "inner", "bag_colour", "bag_second", "motif_colour")
    base = {**dict.fromkeys(colours, "black"), "motif_size": 0.06, **detail}
    pose = replace(STANDING, yaw=float(yaw))
    assert (figure(person(**base), pose) != figure(person(**{**base, **change}), pose)).any()


def test_view_decides_what_is_seen():
    back_only = {"bag": "backpack", "bag_colour": "yellow", "bag_second": "yellow"}

    def area(pose, **details):
        return (figure(person(**details), pose) == YELLOW).all(axis=-1).sum()

    away = replace(STANDING, yaw=180.0)
    assert area(away, **back_only) > 8 * area(STANDING, **back_only)
    assert area(STANDING, motif="disc", motif_colour="yellow", is_motif_on_back=False) > 50
    assert area(away, motif="disc", motif_colour="yellow", is_motif_on_back=False) == 0


@pytest.mark.parametrize("side", [-1, 1])
def test_shoulder_bag_hangs_on_its_side(side):
    """Walking to the image's right shows the right side, to the left the left one."""
    bag = {"bag": "shoulder", "bag_side": side, "bag_colour": "yellow", "bag_second": "yellow"}
    front, near, far = (
        (figure(person(**bag), replace(STANDING, yaw=yaw)) == YELLOW).all(axis=-1)
        for yaw in (0.0, -90.0 * side, 90.0 * side)
    )
    assert near.sum() > 200
    assert far.sum() < near.sum() / 2
    middle = np.nonzero(front)[1].mean()
    assert (middle > 70) == (side > 0), "the person's left is on the image's right"
    bare = figure(person())
    changed = (figure(person(**bag)) != bare).any(axis=-1)
    assert changed[50:110, 60:80].any(), "the strap crosses the chest"


def test_walking_moves_the_legs_and_not_the_head():
    striding = replace(STANDING, yaw=90.0, phase=0.25, stride=26.0)
    standing = replace(STANDING, yaw=90.0, phase=0.25, stride=0.0)
    a, b = figure(person(), striding), figure(person(), standing)
    assert (a[:40] == b[:40]).all()
    assert np.ptp(np.nonzero(a[200:, :, 3])[1]) > 1.5 * np.ptp(np.nonzero(b[200:, :, 3])[1])


# Cloth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_pattern_repeats_and_vanishes_at_a_quarter_of_the_size(pattern):
    """Repeats of 6 pixels (12 on the canvas) are mixed into one colour at r = 4."""
    columns, rows = np.arange(96)[None, :], np.arange(96)[:, None]
    where = np.asarray(PATTERNS[pattern](columns, rows, 12))
    assert where.shape == (96, 96)
    np.testing.assert_array_equal(where[:48, :48], where[48:, 48:])
    assert 0.25 < where.mean() < 0.6
    native = Image.fromarray((where * 255).astype(np.uint8)).reduce(2)
    shrunk = np.asarray(native.resize((12, 12), Image.Resampling.BICUBIC)).astype(float)
    assert np.asarray(native).std() > 60
    assert shrunk[2:-2, 2:-2].std() < 0.35 * np.asarray(native).std()


def test_cloth_covers_exactly_its_polygon_and_hangs_on_its_origin():
    cloth = Cloth(pattern="bands", base="black", second="white", period=0.1)
    piece = [(10.0, 10.0), (50.0, 10.0), (50.0, 60.0), (10.0, 60.0)]
    views = []
    for shift in (0, 7):
        canvas = Image.new("RGBA", (80, 90))
        moved = [(x, y + shift) for x, y in piece]
        lay_cloth(canvas, cloth, [moved], origin=(10.0, 10.0 + shift), unit=100.0)
        views.append(np.asarray(canvas))
    assert (views[0][:, :, 3] > 0).sum() == 41 * 51
    np.testing.assert_array_equal(views[0][10:60], views[1][17:67])
    assert {tuple(c) for c in views[0][10:60, 20]} == {(40, 40, 44, 255), (222, 220, 214, 255)}


def test_motifs_are_different_shapes():
    shapes = ("disc", "ring", "square", "triangle", "cross", "saltire", "bars", "diamond", "heart")
    seen = []
    for shape in shapes:
        canvas = Image.new("L", (32, 32))
        stamp(ImageDraw.Draw(canvas), shape, (16.0, 16.0), (24.0, 24.0), 255)
        seen.append(np.asarray(canvas) > 0)
    for i, a in enumerate(seen):
        assert a.any()
        assert all((a != b).mean() > 0.02 for b in seen[:i])


@pytest.mark.parametrize("kind", ["pole", "bonnet", "bush"])
def test_covers_hide_a_part_only(kind):
    canvas = Image.new("RGB", (140, 280))
    draw_cover(ImageDraw.Draw(canvas), Streams(1).numpy(Stream.SYNTHETIC, 0), canvas.size, kind)
    hidden = np.asarray(canvas).any(axis=-1).mean()
    assert 0.01 < hidden < 0.4


# Draws ---------------------------------------------------------------------------------------


def test_pick_follows_its_weights():
    rng = Streams(1).numpy(Stream.SYNTHETIC, 0)
    drawn = [pick(rng, {"a": 3, "b": 0, "c": 1}) for _ in range(4000)]
    assert "b" not in drawn
    assert 0.72 < drawn.count("a") / len(drawn) < 0.78


def test_uniform_stays_in_range():
    rng = Streams(1).numpy(Stream.SYNTHETIC, 0)
    drawn = [uniform(rng, -2.0, 3.0) for _ in range(2000)]
    assert -2.0 <= min(drawn) < -1.9
    assert 2.9 < max(drawn) <= 3.0


# Split ---------------------------------------------------------------------------------------


def test_split_halves_the_people_by_trial():
    first = split(21)
    train = {r.pid for r in first.train}
    test = {r.pid for r in first.query}
    assert len(train) == 10
    assert train | test == set(range(1, 22)), "0 marks distractors elsewhere"
    assert not train & test
    assert {r.pid for r in first.gallery} == test
    assert {r.camid for r in first.query} == {1}
    assert {r.camid for r in first.gallery} == {0}
    assert {r.camid for r in first.train} == {0, 1}
    assert first.digest() == split(21).digest()
    assert first.digest() != split(21, trial=1).digest()
    assert first.digest() != split(21, seed=6).digest()
    assert {r.pid for r in split(21, drawing_seed=9).train} == train


def test_records_are_sorted_unique_and_of_unknown_resolution():
    result = split(12, 3)
    records = (*result.train, *result.query, *result.gallery)
    assert len(records) == 12 * 2 * 3
    assert len({r.key for r in records}) == len(records)
    for role in (result.train, result.query, result.gallery):
        assert [r.key for r in role] == sorted(r.key for r in role)
    assert {r.resolution for r in records} == {Resolution.UNKNOWN}
    sample = next(r for r in records if r.pid == 7 and r.camid == 1)
    assert sample.key == "cam1/0007_00.png"
    assert sample.source == source(7, 1, 0)
    assert result.name.startswith("synthetic")
    assert result.notes


def test_smallest_set_has_one_person_on_each_side():
    result = split(2, 1)
    assert [len(result.train), len(result.query), len(result.gallery)] == [2, 1, 1]


def test_default_size_is_the_documented_one():
    result = read(SyntheticConfig(), trial=0, streams=Streams(0))
    assert [len(result.train), len(result.query), len(result.gallery)] == [2000, 1000, 1000]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_identities": 1}, r"num_identities: expected at least 2, .* got 1"),
        ({"images_per_camera": 0}, r"images_per_camera: expected at least 1, got 0"),
        ({"seed": -1}, r"seed: expected 0 or more, got -1"),
    ],
)
def test_impossible_sizes_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticConfig(**settings)


def test_the_name_tells_drawings_apart():
    names = [
        read(SyntheticConfig(num_identities=4, seed=s), trial=1, streams=Streams(0)).name
        for s in (0, 7)
    ]
    assert names == ["synthetic trial 1", "synthetic-seed7 trial 1"]
