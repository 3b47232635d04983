"""The recipes as they ship: killed and resumed to the same bits, and learning at all."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from engine.killing import Trainer
from engine.small import small_config

from resolute.core.config import override
from resolute.core.distance import distance_matrix
from resolute.core.rng import Stream, Streams
from resolute.core.tensorfile import read_tensors
from resolute.core.types import InputSpec, Resolution
from resolute.data.benchmark import open_split
from resolute.data.cache import PixelStore
from resolute.data.loader import TrainLoader
from resolute.engine.run import train
from resolute.inference.embed import embed_records
from resolute.inference.load import load
from resolute.methods.catalogue import METHODS
from resolute.methods.variants import TABLE1
from resolute.recipes.catalogue import find_recipe

RECIPES = {
    "quickstart": ["--recipe", "quickstart"],
    "recommended": ["--recipe", "recommended", "--train.threads", "2", "--loader.batch_size", "16"],
    "paper": ["--recipe", "paper", "--model.weights=", "--loader.batch_size", "8"],
}


def command(recipe, folder, cache, *, resume=False):
    words = ["ftwa", "--data", "mlr-synthetic", *RECIPES[recipe], "--out", str(folder)]
    words += ["--data.synthetic.num_identities=40", "--data.synthetic.images_per_camera=2"]
    words += [
        "--data.cache",
        str(cache),
        "--train.epochs",
        "3",
        "--train.max_steps",
        "6",
        "--quiet",
    ]
    return [sys.executable, "-m", "resolute", "train", *words, *(["--resume"] if resume else [])]


def finish(words):
    # Recipes that leave the threads to torch get the same two each time.
    done = subprocess.run(
        words,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_killed_and_resumed_gives_the_same_bits(recipe, tmp_path):
    # Layout, optimiser, workers and threads are the recipe's own; only size and length shrink.
    cache = tmp_path / "cache"
    finish(command(recipe, tmp_path / "whole", cache))
    step = int(Streams(7).numpy(Stream.TRIAL, recipe).integers(1, 5))
    broken = tmp_path / "broken"
    Trainer(command(recipe, broken, cache), broken, OMP_NUM_THREADS="2").wait_for_step(
        step, timeout_s=300
    ).send().finish()
    assert not (broken / "model.safetensors").exists()
    finish(command(recipe, broken, cache, resume=True))
    expected, _ = read_tensors(tmp_path / "whole" / "model.safetensors", kind="model")
    found, _ = read_tensors(broken / "model.safetensors", kind="model")
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE1)  # the rows of Table 2 between are FTWA with fewer parts
def test_overfits_eight_identities(name, tmp_path):
    config = small_config(
        name,
        cache=tmp_path,
        data__synthetic__num_identities=16,
        loader__erasing=0.0,
        loader__pad=0,
        loader__flip=0.0,
        train__epochs=90,
        train__checkpoint_every=90,
    )
    train(config, tmp_path / "run")
    split = open_split(config.data)
    store = PixelStore.open(split.train, tmp_path)
    loader = TrainLoader(
        split.train,
        store,
        config=config.loader,
        spec=InputSpec(height=64, width=32),
        streams=Streams(1),
    )
    assert loader.num_identities == 8
    embedding, labels = embed_records(
        load(tmp_path / "run").method, store, split.train, batch_size=32, device="cpu"
    )
    if name == "sr-bicubic":  # never sees a LR image in training
        is_hr = np.array([record.resolution is Resolution.HR for record in split.train])
        embedding, labels = embedding.take(is_hr), labels.take(is_hr)
    distances = distance_matrix(embedding, embedding)
    np.fill_diagonal(distances, np.inf)
    hits = labels.pids[distances.argmin(axis=1)] == labels.pids
    assert hits.mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ftwa", "sr-net", "sing", "csr-gan", "rife-ffsr", "rain", "cad-net"]
)
def test_every_phase_of_a_paper_recipe_has_finite_gradients(name, tmp_path):
    # Networks and input are of the published size; only weights and batch are small.
    config = override(
        find_recipe(name, "mlr-synthetic", "paper"),
        {"data.synthetic.num_identities": 16, "model.weights": "", "loader.batch_size": 8},
    )
    split = open_split(config.data)
    store = PixelStore.open(split.train, tmp_path)
    spec = InputSpec(height=config.model.height, width=config.model.width)
    loader = TrainLoader(split.train, store, config=config.loader, spec=spec, streams=Streams(0))
    blueprint = config.blueprint(num_identities=loader.num_identities, height_reference=128.0)
    method, _ = METHODS[name](blueprint, streams=Streams(0))
    method.train()
    for phase in method.phases:
        method.zero_grad(set_to_none=True)
        sum(method.losses(loader.batch(0, 0, "cpu"), phase).values()).backward()
        moved = [p.grad for group in method.parameter_groups(phase) for _, p in group.parameters]
        gradients = [gradient for gradient in moved if gradient is not None]
        assert gradients
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
