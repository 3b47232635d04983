from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from data.sources import ArraySource, record, two_views
from PIL import Image

from resolute.core.errors import ConfigError, ShapeError
from resolute.core.images import Batch
from resolute.core.rng import Streams
from resolute.core.types import InputSpec, Resolution
from resolute.data.cache import PixelStore
from resolute.data.config import LoaderConfig
from resolute.data.degrade import degrade
from resolute.data.loader import TrainLoader, native_batches, records_to_store
from resolute.data.mlr import PRESETS, build

SPEC = InputSpec(height=32, width=16)
CONFIG = LoaderConfig(batch_size=8, num_instances=1, pad=2)
STILL = replace(CONFIG, flip=0.0, pad=0, erasing=0.0)


def training(num_pids=20, per_view=1, trial=0):
    policy = replace(PRESETS["default"], lr_camids=(1,))
    split = two_views(num_pids, per_view=per_view, trial=trial, size=(48, 20))
    return build(split, policy, streams=Streams(0)).train


def only_hr(num_pids=6):
    return tuple(
        record(pid, n % 2, n, resolution=Resolution.HR, size=(48, 20))
        for pid in range(num_pids)
        for n in range(4)
    )


def loader_of(records, config=CONFIG, *, seed=0, **more):
    store = PixelStore.open(records_to_store(records, config))
    return TrainLoader(records, store, config=config, spec=SPEC, streams=Streams(seed), **more)


def assert_same(a, b):
    for f in fields(Batch):
        assert torch.equal(getattr(a, f.name), getattr(b, f.name)), f.name


def picture_of(record, rate=1.0):
    """What Pillow makes of one image: to the rate, to the input size, normalised."""
    small = degrade(record.source.pixels(), rate, CONFIG.twin_kernel)
    image = Image.fromarray(small).resize((16, small.shape[0]), Image.Resampling.BILINEAR)
    levels = np.asarray(image.resize((16, 32), Image.Resampling.BILINEAR)) / 255
    return ((levels - SPEC.mean) / SPEC.std).transpose(2, 0, 1)


def close_to(tensor, expected):
    level = 1 / 255 / min(SPEC.std)
    return np.abs(tensor.numpy() - expected).max() < 1.01 * level


# One batch


def test_a_batch_is_what_its_fields_say():
    records = training(per_view=3)
    loader = loader_of(records, replace(CONFIG, num_instances=2))
    batch = loader.batch(0, 0, "cpu")
    assert len(batch) == 8
    for name in ("images_hr", "images_lr", "images_lr_syn"):
        assert getattr(batch, name).shape == (4, 3, 32, 16)
        assert getattr(batch, name).dtype == torch.float32
        assert torch.isfinite(getattr(batch, name)).all()
    assert loader.num_identities == 10
    assert sorted(loader.label_of.values()) == list(range(10))
    for i in range(4):
        hr, lr = records[batch.sources_hr[i]], records[batch.sources_lr[i]]
        assert (hr.resolution, lr.resolution) == (Resolution.HR, Resolution.LR)
        assert loader.label_of[hr.pid] == loader.label_of[lr.pid] == batch.labels[i]
        assert batch.rates_lr[i] == lr.rate
        assert batch.rates_syn[i] in (2, 3, 4)
        assert batch.heights_hr[i] == 48
        assert batch.heights_lr[i] == 48 // int(lr.rate)
        assert batch.heights_lr_syn[i] == 48 // int(batch.rates_syn[i])
    assert batch.labels.dtype == batch.sources_lr.dtype == batch.heights_lr.dtype == torch.int64
    assert batch.rates_lr.dtype == batch.rates_syn.dtype == torch.float32


def test_pixels_are_pillows():
    records = training()
    batch = loader_of(records, STILL).batch(0, 1, "cpu")
    for i in range(4):
        hr, lr = records[batch.sources_hr[i]], records[batch.sources_lr[i]]
        assert close_to(batch.images_hr[i], picture_of(hr))
        assert close_to(batch.images_lr[i], picture_of(lr))
        assert close_to(batch.images_lr_syn[i], picture_of(hr, float(batch.rates_syn[i])))


def test_borrowed_images_are_degraded_on_the_fly():
    records = only_hr()
    loader = loader_of(records, STILL)
    assert loader.counts.num_borrowing == 6
    rates = Counter()
    for step in range(loader.steps_per_epoch):
        batch = loader.batch(0, step, "cpu")
        assert not set(batch.sources_hr.tolist()) & set(batch.sources_lr.tolist())
        for i in range(4):
            rate = float(batch.rates_lr[i])
            rates[rate] += 1
            assert close_to(batch.images_lr[i], picture_of(records[batch.sources_lr[i]], rate))
            assert batch.heights_lr[i] == 48 // int(rate)
    assert set(rates) == {2, 3, 4}


def test_what_has_no_original_cannot_be_redrawn():
    records = [replace(r, source=ArraySource(r.source.pixels(), r.key)) for r in training()]
    with pytest.raises(
        ConfigError, match=r"'redraw' needs the originals of LR images, but .* small"
    ):
        loader_of(records, replace(STILL, lr_rate="redraw"))
    assert len(loader_of(records, STILL).batch(0, 0, "cpu")) == 8


def test_protocol_rates_stay_and_redrawn_ones_come_from_the_originals():
    records = training()
    redraw = replace(STILL, lr_rate="redraw")
    by_key = {r.key: r.rate for r in records}
    originals = {r.key: r for r in records_to_store(records, redraw)}
    changed = 0
    for step in range(5):
        kept = loader_of(records, STILL).batch(step, 0, "cpu")
        drawn = loader_of(records, redraw).batch(step, 0, "cpu")
        assert torch.equal(kept.sources_lr, drawn.sources_lr)
        for i, source in enumerate(kept.sources_lr):
            key = records[source].key
            assert kept.rates_lr[i] == by_key[key]
            changed += int(drawn.rates_lr[i] != by_key[key])
            rate = float(drawn.rates_lr[i])
            assert close_to(drawn.images_lr[i], picture_of(originals[key], rate))
            assert drawn.heights_lr[i] == 48 // int(rate)
    assert changed > 3


def test_twins_and_their_images_are_one_picture():
    config = replace(CONFIG, erasing=1.0)
    batch = loader_of(training(), config).batch(0, 0, "cpu")
    hr, twin = ((x.abs() < 1e-6).all(1) for x in (batch.images_hr, batch.images_lr_syn))
    assert torch.equal(hr, twin)
    assert hr.any()
    lr = (batch.images_lr.abs() < 1e-6).all(1)
    assert not torch.equal(hr, lr)


def test_an_image_that_stands_twice_is_changed_in_two_ways():
    # Two HR images and no LR: one is lent, so the other fills both HR rows.
    records = tuple(r for r in only_hr(4) if r.key.endswith(("_00.png", "_01.png")))
    config = LoaderConfig(batch_size=16, num_instances=2, pad=6)
    batch = loader_of(records, config).batch(0, 0, "cpu")
    assert torch.equal(batch.sources_hr[::2], batch.sources_hr[1::2])
    assert not torch.equal(batch.images_hr[::2], batch.images_hr[1::2])


# A pure function


def test_a_batch_is_a_function_of_seed_epoch_and_step():
    records = training()
    loader = loader_of(records)
    batches = [b for epoch in range(3) for b in loader.batches(epoch, 0, "cpu")]
    assert len(batches) == 3 * loader.steps_per_epoch
    fresh = loader_of(records)
    last = loader.steps_per_epoch - 1
    assert_same(fresh.batch(2, last, "cpu"), batches[-1])
    assert_same(fresh.batch(0, 1, "cpu"), batches[1])
    other = loader_of(records, seed=1).batch(0, 1, "cpu")
    assert not torch.equal(other.images_hr, batches[1].images_hr)
    with_same_images = [b for b in batches if torch.equal(b.sources_hr, batches[0].sources_hr)]
    assert all(torch.isfinite(b.images_hr).all() for b in with_same_images)


def test_epochs_augment_afresh():
    records = only_hr(4)
    config = replace(CONFIG, batch_size=8, pad=6)
    loader = loader_of(records, config)
    seen = {}
    for epoch in range(6):
        for batch in loader.batches(epoch, 0, "cpu"):
            for source, image, rate in zip(
                batch.sources_hr.tolist(), batch.images_hr, batch.rates_syn, strict=True
            ):
                seen.setdefault(source, []).append((image, float(rate)))
    for versions in seen.values():
        for i, (image, _) in enumerate(versions):
            assert not any(torch.equal(image, other) for other, _ in versions[:i])
    assert len({rate for versions in seen.values() for _, rate in versions}) == 3


def test_starting_within_an_epoch_gives_the_rest_of_it():
    loader = loader_of(training())
    whole = list(loader.batches(1, 0, "cpu"))
    rest = list(loader_of(training()).batches(1, 1, "cpu"))
    assert len(rest) == len(whole) - 1
    for a, b in zip(rest, whole[1:], strict=True):
        assert_same(a, b)
    assert list(loader.batches(1, loader.steps_per_epoch, "cpu")) == []


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4:UserWarning")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_four_workers_give_the_batches_of_none(tmp_path):
    records = training(40, per_view=2)
    store = PixelStore.open(records, tmp_path)
    state = torch.get_rng_state()
    loaders = {
        workers: TrainLoader(
            records,
            store,
            config=replace(CONFIG, num_instances=2, workers=workers),
            spec=SPEC,
            streams=Streams(0),
        )
        for workers in (0, 4)
    }
    for epoch, start in ((0, 0), (1, 3), (2, 0)):
        none = list(loaders[0].batches(epoch, start, "cpu"))
        four = list(loaders[4].batches(epoch, start, "cpu"))
        assert len(none) == len(four) == loaders[0].steps_per_epoch - start
        for a, b in zip(none, four, strict=True):
            assert_same(a, b)
    # An epoch left early does not leak its batches into the next.
    left = loaders[4].batches(3, 0, "cpu")
    next(left)
    left.close()
    assert_same(next(loaders[4].batches(5, 2, "cpu")), loaders[0].batch(5, 2, "cpu"))
    assert torch.equal(torch.get_rng_state(), state)


def test_two_ranks_share_the_order_of_one_process():
    records = training(40, per_view=2)
    alone = loader_of(records)
    ranks = [loader_of(records, rank=r, world=2) for r in range(2)]
    assert alone.steps_per_epoch == 10
    assert [r.steps_per_epoch for r in ranks] == [5, 5]
    for epoch, step in ((0, 0), (0, 4), (1, 2)):
        for rank, loader in enumerate(ranks):
            number = (epoch * 5 + step) * 2 + rank
            assert_same(
                loader.batch(epoch, step, "cpu"), alone.batch(number // 10, number % 10, "cpu")
            )


# Embedding


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_native_batches_hold_each_image_once_with_little_padding(batch_size):
    sizes = [(32, 16), (9, 9), (64, 30), (31, 16), (8, 9), (60, 30), (33, 15)]
    flags = [Resolution.HR, Resolution.LR, Resolution.UNKNOWN]
    records = [record(i, 0, size=size, resolution=flags[i % 3]) for i, size in enumerate(sizes)]
    store = PixelStore.open(records)
    seen = []
    for positions, images in native_batches(store, records, batch_size):
        assert len(images) == len(positions) <= batch_size
        seen += positions.tolist()
        assert images.pixels.shape[2] == images.native_sizes[:, 0].max()
        for row, position in enumerate(positions):
            height, width = images.native_sizes[row].tolist()
            assert (height, width) == sizes[position]
            pixels = images.pixels[row, :, :height, :width].permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(pixels, records[position].source.pixels())
            assert images.resolution[row] == flags.index(records[position].resolution)
    assert sorted(seen) == list(range(7))
    assert [sizes[i][0] for i in seen] == sorted(size[0] for size in sizes)


# What cannot be right


def test_a_store_of_other_pixels_is_refused():
    records = training()
    with pytest.raises(ShapeError, match="pixel store: expected the 20 images of these records"):
        TrainLoader(
            records,
            PixelStore.open(records[::-1]),
            config=CONFIG,
            spec=SPEC,
            streams=Streams(0),
        )
    with pytest.raises(ShapeError, match="open it with the same records in the same order"):
        TrainLoader(
            records,
            PixelStore.open(records),
            config=replace(CONFIG, lr_rate="redraw"),
            spec=SPEC,
            streams=Streams(0),
        )
    with pytest.raises(ShapeError, match="pixel store"):
        next(native_batches(PixelStore.open(records), records[1:], 4))


def test_wrong_places_and_sizes_are_refused():
    records = training()
    for rank, world in ((1, 1), (-1, 2)):
        with pytest.raises(ConfigError, match=f"rank: expected 0 to {world - 1}, got {rank}"):
            loader_of(records, rank=rank, world=world)
    with pytest.raises(ConfigError, match="batch_size: expected at least 1, got 0"):
        next(native_batches(PixelStore.open(records), records, 0))
