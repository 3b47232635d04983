"""A run folder whose model lies between a trained run and its start weights; nothing is trained."""

from dataclasses import replace
from pathlib import Path

from resolute.core.config import override
from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.engine.interpolate import keep_start, start_weights
from resolute.engine.provenance import sha256_of, weights_note
from resolute.engine.run import read_config, write_config
from resolute.engine.saver import check_no_run
from resolute.inference.card import write_card
from resolute.inference.load import MODEL_NAME, load
from resolute.inference.model_file import save_model
from resolute.methods.catalogue import METHODS
from resolute.methods.contract import as_method


def blend(folder: Path, out: Path, *, share: float, weights: str = "") -> None:
    """Write a copy of a run whose pre-trained layers keep a share of their start weights.

    The copy is what training with ``train.keep_start`` would have written: several shares are
    tried on held-out identities for the price of their evaluation.

    Args:
        folder: run folder of a finished run with ``train.keep_start`` 0.
        out: run folder to make; must not hold a run.
        share: of the start weights, 0 to 1.
        weights: the start weights' file; by default where the run's settings say.

    Raises:
        ConfigError: if ``out`` holds a run, the run is blended already or started from random
            weights, or the weight file is not the one it started from.
        CheckpointError: if a file is missing or damaged.
    """
    check_no_run(out)
    config = read_config(folder)
    if config.train.keep_start:
        raise ConfigError(
            f"{folder}: keeps {config.train.keep_start:g} of its start already; blend the run "
            "that was trained with train.keep_start 0"
        )
    model = load(folder)
    blended = override(config, {"train.keep_start": share})
    path = weights or config.model.weights
    _check_start(path, str(model.metadata["start"]["sha256"]), model.metadata["start"]["name"])
    started, _ = METHODS[model.blueprint.name](
        replace(model.blueprint, model=replace(model.blueprint.model, weights=path)),
        streams=Streams(config.train.seed),
    )
    keep_start(model.method, start_weights(as_method(started)), share)
    metadata = dict(model.metadata)
    metadata["config"] = {
        **metadata["config"],
        "train": {**metadata["config"]["train"], "keep_start": share},
    }
    metadata["training"] = {**metadata["training"], **weights_note(blended.train)}
    metadata["command"] += f" && resolute blend RUN --keep-start {share:g} --out BLENDED"
    write_config(out, blended)
    save_model(out / MODEL_NAME, model.method, metadata)
    write_card(out)


def _check_start(path: str, expected: str, name: str) -> None:
    """Compare a weight file with the one that a run started from.

    Raises:
        ConfigError: if it is another, or none.
    """
    file = Path(path).expanduser()
    if not expected:  # torchvision's file is verified by its name's digest when it is fetched
        return
    if not path or not file.is_file():
        raise ConfigError(f"start weights {name}: no file at {path!r}; give it with --weights")
    found = sha256_of(file)
    if found != expected:
        raise ConfigError(
            f"{file}: not the start weights of this run: expected sha256 {expected}, got {found}"
        )
