"""Sample pictures show what the method made, and leave no trace in the run."""

import json

import numpy as np
import pytest
import torch
from engine.fakes import TinyGan, TinyLoader, TinyMethod, bits, run, stop_after
from PIL import Image

from resolute.core.errors import ConfigError, ReidError
from resolute.core.types import InputSpec
from resolute.engine import trainer
from resolute.engine.config import TrainConfig
from resolute.engine.distributed import World
from resolute.engine.pictures import SamplePictures, as_pixels, draw_rows

SPEC = InputSpec(height=16, width=8)


class Drawing(TinyGan):
    """Draws random numbers and runs batch norm and dropout while it shows pictures."""

    def pictures(self, batch):
        assert not torch.is_grad_enabled()
        assert not any(module.training for module in self.modules())
        self.discriminator(batch.images_hr)
        noise = torch.randn_like(batch.images_lr)
        return {**super().pictures(batch), "noise": noise}


def names(folder):
    return sorted(path.name for path in (folder / "pictures").iterdir())


def test_pictures_come_when_they_are_due(tmp_path):
    run(tmp_path / "off", method=TinyGan(), epochs=2)
    assert not (tmp_path / "off" / "pictures").exists()
    run(tmp_path / "all", method=TinyGan(), epochs=3, pictures=1)
    assert names(tmp_path / "all") == ["epoch-001.png", "epoch-002.png", "epoch-003.png"]
    run(tmp_path / "some", method=TinyGan(), epochs=5, pictures=2)
    assert names(tmp_path / "some") == ["epoch-002.png", "epoch-004.png", "epoch-005.png"]


def test_they_leave_no_trace_in_the_run(tmp_path):
    plain, _ = run(tmp_path / "plain", method=TinyGan(), epochs=3)
    drawn, _ = run(tmp_path / "drawn", method=Drawing(), epochs=3, pictures=1)
    assert bits(drawn) == bits(plain)
    traces = [
        [
            {k: v for k, v in json.loads(line).items() if k != "images_per_s"}
            for line in (tmp_path / name / "scalars.jsonl").read_text().splitlines()
        ]
        for name in ("plain", "drawn")
    ]
    assert traces[0] == traces[1]
    assert all(module.training for module in drawn.modules())


def test_a_run_goes_on_with_pictures_or_without(tmp_path):
    plain, _ = run(tmp_path / "plain", method=TinyGan(), epochs=3)
    run(tmp_path / "part", method=TinyGan(), epochs=3, stop=stop_after(7))
    rest, _ = run(tmp_path / "part", method=TinyGan(), epochs=3, pictures=1, resume="exact")
    assert bits(rest) == bits(plain)
    # The second epoch had begun before.
    assert names(tmp_path / "part") == ["epoch-003.png"]


def test_the_picture_is_the_first_batch_before_its_first_step(tmp_path):
    method, _ = run(tmp_path, method=TinyGan(), epochs=2, pictures=2, max_steps=5)
    path = SamplePictures(method, tmp_path, every=2, epochs=2).draw(TinyLoader().batch(1, 0), 1)
    wanted = path.read_bytes()
    path.unlink()
    run(tmp_path, method=TinyGan(), epochs=2, pictures=2, resume="exact")
    assert path.read_bytes() == wanted
    with Image.open(path) as picture:
        assert picture.text["Description"] == "epoch 2 of 2, before its first step: LR, made"
        shown = np.asarray(picture.convert("RGB"))
    tile = as_pixels(TinyLoader().batch(1, 0).images_lr, SPEC)[0]  # (16, 8, 3)
    places = np.lib.stride_tricks.sliding_window_view(shown, (16, 8, 3))[:, :, 0]
    assert (places == tile).all(axis=(2, 3, 4)).sum() == 1


def test_rank_zero_alone_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "wait_for_all", lambda world: None)
    monkeypatch.setattr(trainer, "agree", lambda number, world, device: number)
    monkeypatch.setattr(trainer, "start_phases", one_process(trainer.start_phases))
    run(tmp_path, method=TinyGan(), epochs=1, pictures=1, world=World(rank=1, size=2))
    assert not (tmp_path / "pictures").exists()


def one_process(build):
    return lambda method, **rest: build(method, **{**rest, "world": World()})


def test_pixels_are_those_before_normalisation():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 8, 3), dtype=np.uint8)
    unit = torch.tensor(pixels.copy()).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (SPEC.mean, SPEC.std))
    assert (as_pixels((unit - mean) / std, SPEC) == pixels).all()
    beyond = torch.tensor([-9.0, 9.0, float("nan"), float("inf")]).expand(1, 3, 2, 4)
    assert as_pixels(beyond, SPEC)[0, 0, :, 0].tolist() == [0, 255, 0, 255]


def test_rows_stand_under_each_other_and_small_ones_are_enlarged():
    large = np.full((2, 16, 8, 3), 10, np.uint8)
    small = np.stack([np.full((4, 2, 3), value, np.uint8) for value in (20, 30)])
    shown = np.asarray(draw_rows({"a": large, "b": small}, size=(16, 8), title="t"))
    assert [(shown == value).all(axis=2).sum() for value in (10, 20, 30)] == [256, 128, 128]
    lines, columns = (np.flatnonzero((shown == 30).all(axis=2).any(axis=i)) for i in (1, 0))
    assert (len(lines), len(columns)) == (16, 8)
    assert lines[0] > np.flatnonzero((shown == 10).all(axis=2).any(axis=1))[-1]


def test_a_method_that_makes_none_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match=r"train.pictures: TinyMethod makes no pictures; set"):
        run(tmp_path / "run", method=TinyMethod(), pictures=1)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"train.pictures: expected >= 0, got -1"):
        TrainConfig(pictures=-1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "gave no rows"),
        ({"x": torch.zeros(5, 3, 4, 4)}, r"row 'x' of shape \(6, 3, H, W\), got \(5, 3, 4, 4\)"),
        ({"x": torch.zeros(6, 1, 4, 4)}, r"got \(6, 1, 4, 4\)"),
        ({"x": torch.zeros(6, 3)}, r"got \(6, 3\)"),
    ],
)
def test_wrong_rows_are_named(rows, message, tmp_path):
    class Odd(TinyGan):
        def pictures(self, batch):
            return rows

    with pytest.raises(ConfigError, match=message):
        run(tmp_path, method=Odd(), pictures=1)


def test_a_full_disk_is_named(tmp_path):
    (tmp_path / "pictures").write_text("in the way")
    with pytest.raises(ReidError, match=r"pictures/epoch-001.png: could not be written"):
        run(tmp_path, method=TinyGan(), pictures=1)
