"""A small random model on disk, and pictures to embed."""

from dataclasses import asdict

import numpy as np

from resolute.core.config import override, to_mapping
from resolute.core.rng import Streams
from resolute.core.types import InputSpec
from resolute.data.synthetic import SyntheticSource
from resolute.engine.run import write_config
from resolute.inference.model_file import save_model
from resolute.methods.catalogue import METHODS
from resolute.recipes.catalogue import find_recipe


def save_small(folder, *, seed=0, name="ftwa", split="", split_digest=""):
    config = override(
        find_recipe(name, "mlr-synthetic", "quickstart"),
        {"model.height": 64, "model.width": 32, "method.raft_width": 16},
    )
    blueprint = config.blueprint(num_identities=3, height_reference=128.0)
    method, _ = METHODS[name](blueprint, streams=Streams(seed))
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
        "blueprint": blueprint.to_mapping(),
        "config": to_mapping(config),
        "input_spec": asdict(InputSpec(height=64, width=32)),
        "split": split,
        "split_digest": split_digest,
        "start": {"name": "random", "sha256": "", "matched": "random weights"},
        "training": {"steps": 0},
        "command": "resolute train ftwa",
    }
    write_config(folder, config)
    save_model(folder / "model.safetensors", method, metadata)
    return folder


def person(pid, camid=0, index=0):
    return SyntheticSource(seed=3, pid=pid, camid=camid, index=index).pixels()


def noise(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
