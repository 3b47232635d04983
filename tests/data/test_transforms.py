import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from data.sources import picture

from resolute.core.config import attribute_texts, from_mapping, to_mapping
from resolute.core.errors import ConfigError
from resolute.core.images import Images
from resolute.core.rng import Stream, Streams
from resolute.core.types import InputSpec
from resolute.data.config import LoaderConfig
from resolute.data.degrade import collate, to_input
from resolute.data.kernels import BICUBIC
from resolute.data.transforms import draw, render

SPEC = InputSpec(height=32, width=16)
PLAIN = LoaderConfig(flip=0, pad=0, erasing=0)


def images(count):
    pixels, sizes = collate([picture(i, 40 + i, 20) for i in range(count)])
    return Images(
        pixels=pixels, native_sizes=sizes, resolution=torch.zeros(count, dtype=torch.int64)
    )


def rngs(count, seed=0):
    return [Streams(seed).numpy(Stream.AUGMENTATION, i) for i in range(count)]


def drawn(count, config, seed=0, height=32, width=16):
    return draw(rngs(count, seed), height, width, config)


def slow(image, spec, rows, columns, box):
    """The same by plain array operations: crop of the padded, flipped image, then erase."""
    black = -torch.tensor(spec.mean) / torch.tensor(spec.std)
    out = torch.empty(3, spec.height, spec.width)
    for y in range(spec.height):
        for x in range(spec.width):
            inside = rows[y] >= 0 and columns[x] >= 0
            out[:, y, x] = image[:, rows[y], columns[x]] if inside else black
    top, left, height, width = box
    out[:, top : top + height, left : left + width] = 0
    return out


def test_nothing_drawn_changes_nothing():
    out = render(images(5), SPEC, drawn(5, PLAIN), rates=None, kernel=BICUBIC)
    torch.testing.assert_close(out, to_input(images(5), SPEC), rtol=0, atol=0)


def test_a_certain_flip_mirrors_every_image():
    out = render(images(5), SPEC, drawn(5, replace(PLAIN, flip=1.0)), rates=None, kernel=BICUBIC)
    torch.testing.assert_close(out, to_input(images(5), SPEC).flip(-1), rtol=0, atol=0)


def test_batch_equals_pixel_by_pixel():
    config = LoaderConfig(pad=4)
    augmentation = drawn(8, config, seed=3)
    out = render(images(8), SPEC, augmentation, rates=None, kernel=BICUBIC)
    whole = to_input(images(8), SPEC)
    assert (augmentation.rows < 0).any()
    assert augmentation.boxes[:, 2].any()
    for i in range(8):
        expected = slow(
            whole[i], SPEC, augmentation.rows[i], augmentation.columns[i], augmentation.boxes[i]
        )
        torch.testing.assert_close(out[i], expected, rtol=1e-5, atol=1e-5)


def test_a_twin_shares_flip_crop_and_erasing():
    config = LoaderConfig(pad=4, erasing=1.0)
    augmentation = drawn(12, config, seed=1)
    rates = torch.full((12,), 3.0)
    twins = render(images(12), SPEC, augmentation, rates=rates, kernel=BICUBIC)
    whole = to_input(images(12), SPEC, rates=rates)
    black = -torch.tensor(SPEC.mean) / torch.tensor(SPEC.std)
    hr = render(images(12), SPEC, augmentation, rates=None, kernel=BICUBIC)
    for i in range(12):
        torch.testing.assert_close(
            twins[i],
            slow(whole[i], SPEC, augmentation.rows[i], augmentation.columns[i],
                 augmentation.boxes[i]),
            rtol=1e-5, atol=1e-5,
        )  # fmt: skip
    for fill in (black, torch.zeros(3)):
        hr_filled = (hr - fill.view(3, 1, 1)).abs().amax(1) < 1e-6
        twin_filled = (twins - fill.view(3, 1, 1)).abs().amax(1) < 1e-6
        assert torch.equal(hr_filled, twin_filled)
        assert hr_filled.any()


def test_amounts_follow_their_settings():
    count, height, width = 2000, 64, 32
    augmentation = drawn(count, LoaderConfig(), height=height, width=width)
    columns = augmentation.columns
    inside = columns.max(axis=1)
    flipped = np.array([np.flatnonzero(row >= 0)[0] for row in columns])
    is_flipped = columns[np.arange(count), flipped] > columns[np.arange(count), flipped + 1]
    assert 0.45 < is_flipped.mean() < 0.55
    assert (inside >= width - 11).all()
    starts = augmentation.rows.max(axis=1)
    shifts = np.where(
        augmentation.rows[:, 0] < 0,
        -(augmentation.rows < 0).sum(axis=1),
        augmentation.rows[:, 0],
    )
    assert set(shifts.tolist()) == set(range(-10, 11))
    assert (starts >= height - 11).all()
    top, left, tall, wide = augmentation.boxes.T
    erased = tall > 0
    assert 0.45 < erased.mean() < 0.55
    area = (tall * wide)[erased] / (height * width)
    aspect = tall[erased] / wide[erased]
    assert 0.015 < area.min() < 0.04
    assert 0.3 < area.max() < 0.42
    assert 0.25 < aspect.min() < 0.5
    assert 2.5 < aspect.max() < 4.5
    assert ((top + tall)[erased] <= height).all()
    assert ((left + wide)[erased] <= width).all()


def test_an_amount_moves_no_other_draw():
    a, b = drawn(50, LoaderConfig()), drawn(50, LoaderConfig(flip=0.0))
    np.testing.assert_array_equal(a.rows, b.rows)
    np.testing.assert_array_equal(a.boxes, b.boxes)
    c = drawn(50, LoaderConfig(erasing=0.0))
    np.testing.assert_array_equal(a.columns, c.columns)
    assert not c.boxes.any()


def test_a_rectangle_that_cannot_fit_is_left_out():
    flat = LoaderConfig(erasing=1.0, erasing_aspect=(300.0, 400.0), erasing_area=(0.3, 0.4))
    assert not drawn(20, flat).boxes.any()


def test_settings_out_of_range_are_refused():
    for bad, message in (
        ({"num_instances": 0}, "num_instances: expected at least 1, got 0"),
        ({"batch_size": 30}, "a multiple of 2 . num_instances = 4 .*got 30"),
        ({"batch_size": 0}, "batch_size: expected a multiple"),
        ({"flip": 1.5}, "flip: expected 0 to 1, got 1.5"),
        ({"erasing": math.nan}, "erasing: expected 0 to 1, got nan"),
        ({"pad": -1}, "pad and workers: expected 0 or more, got -1 and 0"),
        ({"workers": -1}, "pad and workers"),
        ({"erasing_area": (0.5, 0.2)}, "erasing_area: expected 0 < smallest <= largest < 1"),
        ({"erasing_aspect": (0.0, 1.0)}, "erasing_aspect: expected 0 < smallest <= largest"),
        ({"twin_rates": ()}, "twin_rates: expected at least one rate"),
        ({"twin_rates": (0.5,)}, "rate: expected a finite number of at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            LoaderConfig(**bad)


def test_settings_are_documented_and_travel():
    config = LoaderConfig(pad=3, twin_rates=(2.0, 2.5))
    assert from_mapping(LoaderConfig, to_mapping(config)) == config
    assert set(attribute_texts(LoaderConfig)) == {f.name for f in fields(LoaderConfig)}
    assert LoaderConfig(batch_size=64, num_instances=1).num_identities == 32
