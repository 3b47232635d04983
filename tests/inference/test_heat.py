"""Activation maps as pictures: what a map shows, and that no key can leave its folder."""

import numpy as np
import pytest
from PIL import Image

from resolute.core.errors import ShapeError
from resolute.inference.heat import colours, draw_maps, energy, write_maps

GREY = np.full((20, 10, 3), 128, dtype=np.uint8)


def peak(at=(1, 2), shape=(4, 8, 4)):
    features = np.full(shape, 0.1, dtype=np.float32)
    features[:, at[0], at[1]] = -3  # strong and negative is strong
    return features


def test_energy_is_the_length_over_channels_from_0_to_1():
    features = np.zeros((2, 1, 3), dtype=np.float32)
    features[:, 0] = [[0, 3, 6], [0, 4, 8]]
    np.testing.assert_allclose(energy(features), [[0, 0.5, 1]], atol=1e-6)
    np.testing.assert_allclose(energy(7 * features), [[0, 0.5, 1]], atol=1e-6)  # per image
    assert (energy(np.ones((3, 2, 2))) == 0).all()
    with pytest.raises(ShapeError, match=r"expected \(C, h, w\), got \(2, 2\)"):
        energy(np.ones((2, 2)))


def test_a_blown_up_corner_hides_nothing():
    plain = np.random.default_rng(0).uniform(1, 2, (1, 16, 8))
    broken = plain.copy()
    broken[0, 0, [0, 7]] = 1000
    assert np.abs(energy(broken) - energy(plain))[1:].max() < 0.1
    assert energy(broken)[0, 0] == 1


def test_more_is_lighter_all_the_way():
    shades = colours(np.linspace(0, 1, 101)).astype(float)
    light = shades @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > 0).all()
    assert light[0] < 20
    assert light[-1] > 230
    np.testing.assert_array_equal(colours(np.array([-1, 2])), colours(np.array([0, 1])))


def test_tiles_stand_side_by_side_and_the_peak_where_it_was():
    picture = draw_maps(GREY, {"hr": peak((1, 2)), "lr": peak((6, 0))}, size=(64, 32))
    assert picture.size == (3 * 32 + 2 * 4, 64)
    pixels = np.asarray(picture).astype(int)
    assert (pixels[:, :32] == 128).all()  # the input as it is
    assert (pixels[:, 32:36] == 255).all()
    for tile, (row, column) in ((36, (1, 2)), (72, (6, 0))):
        light = pixels[:, tile : tile + 32].sum(axis=2)
        found = np.unravel_index(light.argmax(), light.shape)
        assert (found[0] // 8, found[1] // 8) == (row, column)


@pytest.mark.parametrize(
    "key", ["a/b.png", "../../etc/passwd", "/etc/passwd", "..", "a\\b", "x" * 400, "nül\x00 name"]
)
def test_no_key_leaves_the_folder(tmp_path, key):
    folder = tmp_path / "maps"
    folder.mkdir()
    path = write_maps(Image.fromarray(GREY), folder, key=key, position=7, title="input")
    assert list(tmp_path.rglob("*.png")) == [path]
    assert path.parent == folder
    assert path.name.startswith("00007_")
    assert len(path.name.encode()) < 200


def test_long_keys_stay_apart_and_the_title_stays_with_the_file(tmp_path):
    names = {
        write_maps(Image.fromarray(GREY), tmp_path, key="x" * 400 + end, position=0, title="é, hr")
        for end in ("a", "b")
    }
    assert len(names) == 2
    with Image.open(names.pop()) as picture:
        assert picture.text["Description"] == "é, hr"
