"""An untrained run folder from a weight file of Torchreid, FastReID or ours."""

from dataclasses import asdict, replace
from pathlib import Path

from resolute.core.config import to_mapping
from resolute.core.rng import Streams
from resolute.core.types import InputSpec
from resolute.engine.config import RunConfig
from resolute.engine.provenance import portable, start_of
from resolute.engine.run import write_config
from resolute.engine.saver import check_no_run
from resolute.inference.card import write_card
from resolute.inference.load import MODEL_NAME
from resolute.inference.model_file import save_model
from resolute.methods.catalogue import METHODS
from resolute.methods.variants import VARIANTS
from resolute.models.config import ModelConfig
from resolute.models.pretrained import recognise

NAME = "baseline"


def convert(weights: Path, folder: Path, *, model: ModelConfig | None = None) -> str:
    """Make a run folder that embeds with a weight file as it is.

    The network becomes the one encoder of the Baseline; its classifier is left out.

    Args:
        weights: weight file.
        folder: run folder to make; must not hold a run.
        model: backbone and input size; recognised by names and shapes when None.

    Returns:
        One line on what matched.

    Raises:
        ConfigError: if the folder holds a run, or the settings contradict each other.
        CheckpointError: if the file is damaged, asks to run code, or fits no backbone.
    """
    check_no_run(folder)
    settings = replace(model or recognise(weights), weights=str(weights))
    config = RunConfig(name=NAME, model=settings, method=VARIANTS[NAME])
    blueprint = config.blueprint(num_identities=1, height_reference=float(settings.height))
    method, matched = METHODS[NAME](blueprint, streams=Streams(0))
    metadata = {
        "blueprint": portable(blueprint.to_mapping()),
        "config": portable(to_mapping(config)),
        "input_spec": asdict(InputSpec(height=settings.height, width=settings.width)),
        "split_digest": "",
        "split": "",
        "start": start_of(str(weights), matched),
        "training": {"steps": 0},
        "command": f"resolute convert {weights.name} --out RUN",
    }
    write_config(folder, config)
    save_model(folder / MODEL_NAME, method, metadata)
    write_card(folder)
    return matched
