import io

import numpy as np
import pytest
from inference.small import person
from PIL import Image

from resolute.core.errors import ConfigError, ShapeError
from resolute.core.types import Resolution
from resolute.inference.native import effective_height, is_blank, resolution_flags


def test_flags():
    assert resolution_flags(None, 2).tolist() == [2, 2]
    assert resolution_flags(Resolution.LR, 1).tolist() == [1]
    assert resolution_flags([Resolution.HR, "lr", "unknown"], 3).tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match="unknown resolution 'hd': did you mean 'hr'"):
        resolution_flags("hd", 1)
    with pytest.raises(ShapeError, match="expected one per image, 2, got 1"):
        resolution_flags(["hr"], 2)


def enlarged(pixels, rate, quality):
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((width // rate, height // rate), Image.BICUBIC)
    blob = io.BytesIO()
    small.resize((width, height), Image.BICUBIC).save(blob, "JPEG", quality=quality)
    return np.asarray(Image.open(blob))


def test_enlarged_images_are_told_from_native_ones():
    people = [person(pid) for pid in range(1, 21)]
    native = [effective_height(p) == p.shape[0] for p in people]
    assert np.mean(native) >= 0.9
    for rate in (2, 3):
        shares = [effective_height(enlarged(p, rate, 95)) / p.shape[0] for p in people]
        assert np.mean(np.array(shares) < 0.7) >= 0.9
        assert abs(np.median(shares) - 1 / rate) < 0.2


def test_effective_height_of_what_has_no_spectrum():
    assert effective_height(np.full((64, 32, 3), 7, dtype=np.uint8)) == 64
    assert effective_height(person(1)[:5, :3]) == 5
    assert effective_height(person(1)[:1, :1]) == 1


def test_a_wide_image_has_the_detail_of_its_columns():
    picture = person(1)
    wide = np.tile(enlarged(picture, 4, 95), (1, 40, 1))
    assert wide.shape[1] > 1000
    share = effective_height(wide) / wide.shape[0]
    assert share == pytest.approx(effective_height(wide[:, :500]) / wide.shape[0], abs=0.05)
    assert share < 0.7


def test_one_colour_is_no_picture():
    rng = np.random.default_rng(0)
    grey = np.full((64, 32, 3), 100, dtype=np.uint8)
    assert is_blank(grey)
    assert is_blank(grey + rng.integers(0, 3, grey.shape, dtype=np.uint8))
    assert is_blank(np.array([[[200, 10, 10]]], dtype=np.uint8))
    assert not is_blank(person(1))
    grey[5, 5] = 110
    assert not is_blank(grey)
