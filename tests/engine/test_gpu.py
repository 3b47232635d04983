"""What has to hold on a GPU: it trains, goes on, and embeds what a CPU embeds."""

import json

import numpy as np
import pytest
import torch

import resolute as rs

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _needs_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")


def small(**changes):
    config = rs.recipe("ftwa", "mlr-synthetic", "quickstart")
    smallest = {
        "model.height": 64,
        "model.width": 32,
        "data.synthetic.num_identities": 16,
        "loader.batch_size": 8,
        "train.epochs": 2,
        "train.threads": 1,
        "train.device": "cuda",
    }
    return rs.override(config, {**smallest, **changes})


def losses(folder):
    rows = [json.loads(line) for line in (folder / "scalars.jsonl").read_text().splitlines()]
    return [row["losses"] for row in rows if "losses" in row]


@pytest.mark.parametrize("amp", [False, True])
def test_a_run_that_was_stopped_goes_on(tmp_path, amp):
    changes = {"train.amp": amp}
    rs.train(small(**changes, **{"train.max_steps": 4}), tmp_path / "whole")
    rs.train(small(**changes, **{"train.max_steps": 2}), tmp_path / "parts")
    rs.train(small(**changes, **{"train.max_steps": 4}), tmp_path / "parts", resume="exact")
    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert len(whole) == len(parts) == 4
    for one, other in zip(whole, parts, strict=True):
        for term in one:
            assert other[term] == pytest.approx(one[term], rel=0.05, abs=1e-3)


def test_a_gpu_embeds_what_a_cpu_embeds(tmp_path):
    rs.train(small(**{"train.max_steps": 1}), tmp_path / "run")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, h // 2, 3), dtype=np.uint8) for h in (24, 64, 64, 130)]
    here, there = (rs.load(tmp_path / "run", device=d).embed(images) for d in ("cpu", "cuda"))
    cosines = (here.vectors * there.vectors).sum(axis=-1) / (
        np.linalg.norm(here.vectors, axis=-1) * np.linalg.norm(there.vectors, axis=-1)
    )
    assert cosines.min() > 0.999  # convolutions in TF32
    np.testing.assert_allclose(here.quality, there.quality, rtol=0.05)


def test_a_run_on_a_gpu_is_scored_there(tmp_path):
    rs.train(small(**{"train.max_steps": 1}), tmp_path / "run")
    scores = rs.evaluate(tmp_path / "run").scores
    assert 0 <= scores["protocol"].ranks[1] <= 1
    assert {"r=8", "hr"} <= scores.keys()
