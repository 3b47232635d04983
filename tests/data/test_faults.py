"""Camera faults of training images: each against its definition, then in batches."""

import io
import math
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from data.sources import picture, two_views
from data.test_loader import SPEC, STILL, assert_same, close_to, loader_of, picture_of, training
from PIL import Image

from resolute.core.config import attribute_texts, override
from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams
from resolute.data.cache import PixelStore
from resolute.data.config import LoaderConfig
from resolute.data.degrade import degrade
from resolute.data.faults import FaultConfig, Faults, draw_faults, gaussian, spoil
from resolute.data.kernels import BICUBIC, Kernel
from resolute.data.loader import TrainLoader
from resolute.data.mlr import PRESETS, build

ALL = FaultConfig(kernels=("box", "lanczos"), blur=1.5, noise=8.0, jpeg=(30, 90), share=0.7)


def rng(seed=0):
    return np.random.default_rng(seed)


# One image


@pytest.mark.parametrize(("size", "deviation"), [(7, 0.8), (1, 2.0), (12, 3.0)])
def test_blur_weighs_each_pixel_by_its_distance(size, deviation):
    expected = np.zeros((size, size))
    for out in range(size):
        for i in range(size):
            expected[out, i] = math.exp(-((out - i) ** 2) / (2 * deviation**2))
        expected[out] /= sum(expected[out])
    np.testing.assert_allclose(gaussian(size, deviation), expected, atol=1e-7)


def test_blur_spreads_a_point_and_keeps_flat_images():
    point = np.zeros((9, 9, 3), np.uint8)
    point[4, 4] = 255
    blurred = spoil(point, 1, Faults(kernel=BICUBIC, blur=1.0), rng=rng())
    assert abs(int(blurred[4, 4, 0]) - round(255 / (2 * math.pi))) <= 1
    assert blurred[4, 5, 0] == blurred[5, 4, 0] == round(255 / (2 * math.pi) * math.exp(-0.5))
    flat = np.full((20, 9, 3), 77, np.uint8)
    assert (spoil(flat, 2, Faults(kernel=BICUBIC, blur=2.0), rng=rng()) == 77).all()


def test_noise_has_its_deviation_and_stays_in_range():
    grey = np.full((200, 100, 3), 128, np.uint8)
    noisy = spoil(grey, 1, Faults(kernel=BICUBIC, noise=6.0), rng=rng()).astype(float)
    assert noisy.std() == pytest.approx(6.0, rel=0.02)
    assert noisy.mean() == pytest.approx(128, abs=0.1)
    white = spoil(np.full_like(grey, 255), 1, Faults(kernel=BICUBIC, noise=6.0), rng=rng())
    assert white.max() == 255
    assert white.min() > 220


def test_jpeg_is_pillows_copy():
    array = picture(1, 64, 24)
    found = spoil(array, 2, Faults(kernel=BICUBIC, quality=40), rng=rng())
    stored = io.BytesIO()
    Image.fromarray(degrade(array, 2, BICUBIC)).save(stored, "JPEG", quality=40)
    np.testing.assert_array_equal(found, np.asarray(Image.open(stored)))
    better = spoil(array, 2, Faults(kernel=BICUBIC, quality=95), rng=rng()).astype(int)
    small = degrade(array, 2, BICUBIC).astype(int)
    assert np.abs(better - small).mean() < np.abs(found.astype(int) - small).mean()


@pytest.mark.parametrize("rate", [1, 2, 3.7])
def test_no_fault_is_the_plain_way(rate):
    array = picture(3, 50, 21)
    kernel = Kernel(name="box")
    found = spoil(array, rate, Faults(kernel=kernel), rng=rng())
    np.testing.assert_array_equal(found, degrade(array, rate, kernel))
    assert spoil(array, 1, Faults(kernel=kernel), rng=rng()) is array


def test_one_pixel_survives_everything():
    faults = Faults(kernel=BICUBIC, blur=2.0, noise=5.0, quality=20)
    assert spoil(picture(1, 5, 3), 100.0, faults, rng=rng()).shape == (1, 1, 3)


# Draws


def test_draws_cover_their_ranges():
    drawn = [draw_faults(rng(i), replace(ALL, share=1.0), BICUBIC) for i in range(2000)]
    assert Counter(f.kernel.name for f in drawn).keys() == {"box", "lanczos"}
    assert {f.quality for f in drawn} == set(range(30, 91))
    for name, largest in (("blur", 1.5), ("noise", 8.0)):
        values = [getattr(f, name) for f in drawn]
        assert 0 < min(values) < 0.01 * largest
        assert 0.99 * largest < max(values) < largest
        assert np.mean(values) == pytest.approx(largest / 2, rel=0.05)


def test_share_spares_the_rest():
    drawn = [draw_faults(rng(i), ALL, BICUBIC) for i in range(2000)]
    spared = [f for f in drawn if f == Faults(kernel=BICUBIC)]
    assert len(spared) / len(drawn) == pytest.approx(0.3, abs=0.03)


def test_a_setting_moves_no_other_fault():
    for i in range(50):
        whole = draw_faults(rng(i), ALL, BICUBIC)
        for name, off in (("blur", 0.0), ("noise", 0.0), ("kernels", ()), ("jpeg", ())):
            part = draw_faults(rng(i), replace(ALL, **{name: off}), BICUBIC)
            own = {"kernels": "kernel", "jpeg": "quality"}.get(name, name)
            for field in fields(Faults):
                if field.name != own:
                    assert getattr(part, field.name) == getattr(whole, field.name)


def test_settings_out_of_range_are_refused():
    for bad, message in (
        ({"share": 1.1}, "faults.share: expected 0 to 1, got 1.1"),
        ({"blur": float("nan")}, "expected 0 or more, got nan and 0.0"),
        ({"noise": float("inf")}, "expected 0 or more, got 0.0 and inf"),
        ({"blur": -1.0}, "faults.blur and noise: expected 0 or more, got -1.0 and 0.0"),
        ({"jpeg": (90, 30)}, "faults.jpeg: expected 1 <= lowest <= highest <= 95"),
        ({"jpeg": (30,)}, "faults.jpeg: expected 1 <= lowest"),
        ({"kernels": ("bicubik",)}, "did you mean 'bicubic'"),
    ):
        with pytest.raises(ConfigError, match=message):
            FaultConfig(**bad)
    for bad, message in (
        ({"twin_range": (4.0, 2.0)}, "twin_range: expected smallest <= largest rate"),
        ({"twin_range": (2.0,)}, "twin_range: expected smallest"),
        ({"twin_range": (0.5, 2.0)}, "rate: expected a finite number of at least 1, got 0.5"),
        ({"degrade_lr": 1.5}, "degrade_lr: expected 0 to 1, got 1.5"),
        ({"degrade_lr_rate": 0.0}, "rate: expected a finite number of at least 1, got 0.0"),
    ):
        with pytest.raises(ConfigError, match=message):
            LoaderConfig(**bad)


def test_settings_are_documented_and_off():
    assert set(attribute_texts(FaultConfig)) == {f.name for f in fields(FaultConfig)}
    assert not LoaderConfig().faults.is_on
    assert not FaultConfig(blur=1.0, share=0.0).is_on
    config = override(LoaderConfig(), {"faults.jpeg": "30,90", "faults.kernels": "box,bicubic"})
    assert config.faults == FaultConfig(jpeg=(30, 90), kernels=("box", "bicubic"))


# In batches


def test_faulty_twins_are_what_their_draws_say():
    records = training()
    config = replace(STILL, faults=ALL)
    plain, batch = (loader_of(records, c).batch(0, 1, "cpu") for c in (STILL, config))
    for name in ("images_hr", "images_lr", "rates_syn", "heights_lr_syn", "heights_lr"):
        assert torch.equal(getattr(plain, name), getattr(batch, name)), name
    for i, source in enumerate(batch.sources_hr):
        record, rate = records[source], float(batch.rates_syn[i])
        draws = Streams(0).numpy(Stream.DEGRADATION, "faults", 1, "hr", record.key, 0)
        faults = draw_faults(draws, ALL, BICUBIC)
        small = spoil(record.source.pixels(), rate, faults, rng=draws)
        image = Image.fromarray(small).resize((16, small.shape[0]), Image.Resampling.BILINEAR)
        levels = np.asarray(image.resize((16, 32), Image.Resampling.BILINEAR)) / 255
        expected = ((levels - SPEC.mean) / SPEC.std).transpose(2, 0, 1)
        assert close_to(batch.images_lr_syn[i], expected)


def test_a_rate_of_one_without_faults_is_the_image_to_the_bit():
    for faults in (FaultConfig(), FaultConfig(kernels=("bicubic",))):
        config = replace(LoaderConfig(batch_size=8, num_instances=1), twin_rates=(1.0,))
        batch = loader_of(training(), replace(config, faults=faults)).batch(0, 0, "cpu")
        assert torch.equal(batch.images_lr_syn, batch.images_hr)
        assert torch.equal(batch.heights_lr_syn, batch.heights_hr)


def test_twin_rates_are_log_even_in_their_range():
    records = training(40, per_view=2)
    loader = loader_of(records, replace(STILL, twin_range=(1.0, 8.0)))
    rates = torch.cat([loader.batch(e, s, "cpu").rates_syn for e in range(6) for s in range(10)])
    logs = rates.log() / math.log(8)
    assert 0 <= logs.min() < 0.03
    assert 0.97 < logs.max() <= 1
    assert float(logs.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(logs.std()) == pytest.approx(12**-0.5, rel=0.1)
    batch = loader.batch(0, 0, "cpu")
    for i, source in enumerate(batch.sources_hr):
        expected = picture_of(records[source], float(batch.rates_syn[i]))
        assert close_to(batch.images_lr_syn[i], expected)


def test_lr_images_are_degraded_from_the_pixels_they_have():
    records = training(40)
    config = replace(STILL, degrade_lr=0.5, degrade_lr_rate=2.0)
    plain, loader = loader_of(records, STILL), loader_of(records, config)
    changed = []
    for step in range(loader.steps_per_epoch):
        before, batch = plain.batch(0, step, "cpu"), loader.batch(0, step, "cpu")
        assert torch.equal(before.images_lr_syn, batch.images_lr_syn)
        for i, source in enumerate(batch.sources_lr):
            further = float(batch.rates_lr[i]) / records[source].rate
            assert 1 <= further <= 2
            changed.append(further > 1)
            if further == 1:
                assert torch.equal(before.images_lr[i], batch.images_lr[i])
            assert close_to(batch.images_lr[i], picture_of(records[source], further))
            height = records[source].source.pixels().shape[0]
            assert batch.heights_lr[i] == math.floor(height / further + 1e-6)
    assert 0.25 < np.mean(changed) < 0.75


def test_lr_images_get_faults_only_when_degraded_further():
    records = training(40)
    further = replace(STILL, degrade_lr=0.5)
    with_faults = replace(further, faults=replace(ALL, share=1.0))
    a, b, c = (loader_of(records, x).batch(0, 0, "cpu") for x in (STILL, further, with_faults))
    assert torch.equal(b.rates_lr, c.rates_lr)
    assert torch.equal(b.heights_lr, c.heights_lr)
    for i in range(len(a.labels)):
        is_chosen = b.rates_lr[i] != a.rates_lr[i]
        assert torch.equal(a.images_lr[i], c.images_lr[i]) != is_chosen
        assert torch.equal(b.images_lr[i], c.images_lr[i]) != is_chosen


EVERYTHING = replace(
    LoaderConfig(batch_size=8, num_instances=1, pad=2),
    twin_range=(1.0, 6.0),
    faults=ALL,
    degrade_lr=0.5,
)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2:UserWarning")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_ranks_and_order_change_nothing(tmp_path):
    policy = replace(PRESETS["default"], lr_camids=(1,))
    records = build(two_views(20, size=(48, 20)), policy, streams=Streams(0)).train
    store = PixelStore.open(records, tmp_path)

    def loader(workers=0, **place):
        config = replace(EVERYTHING, workers=workers)
        return TrainLoader(records, store, config=config, spec=SPEC, streams=Streams(0), **place)

    alone, helped = loader(), loader(workers=2)
    steps = alone.steps_per_epoch
    for epoch in (0, 1):
        both = zip(alone.batches(epoch, 0, "cpu"), helped.batches(epoch, 0, "cpu"), strict=True)
        for a, b in both:
            assert_same(a, b)
    for rank in range(2):
        here = loader(rank=rank, world=2)
        epoch, step = divmod(2 + rank, steps)
        assert_same(here.batch(0, 1, "cpu"), alone.batch(epoch, step, "cpu"))
    assert_same(loader().batch(1, 1, "cpu"), alone.batch(1, 1, "cpu"))
    other = alone.batch(0, 1, "cpu")
    assert not torch.equal(other.images_lr_syn, alone.batch(1, 1, "cpu").images_lr_syn)
