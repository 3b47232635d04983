"""A run from settings to files; :mod:`resolute.engine.score` goes on from there.

A run folder holds ``config.json`` (the effective settings), ``checkpoint.safetensors`` (to go on
from), ``scalars.jsonl``, ``model.safetensors`` (to embed with) and ``result.json`` (its scores).
"""

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from resolute.core.config import from_mapping, to_mapping, unknown_name
from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.core.types import InputSpec, Record, Resolution, Split
from resolute.data.benchmark import DataConfig, open_split
from resolute.data.cache import PixelStore, default_folder
from resolute.data.loader import TrainLoader, records_to_store
from resolute.engine import trainer
from resolute.engine.config import RunConfig, TrainConfig
from resolute.engine.distributed import World, process_group
from resolute.engine.interpolate import keep_start, start_weights
from resolute.engine.progress import Progress
from resolute.engine.trainer import TrainResult
from resolute.engine.watch import Watch
from resolute.inference.card import write_card
from resolute.inference.load import MODEL_NAME
from resolute.inference.model_file import save_model
from resolute.methods.blueprint import Blueprint
from resolute.methods.catalogue import METHODS
from resolute.methods.contract import as_method

CONFIG_NAME = "config.json"
_LOG = logging.getLogger(__name__)


def train(
    config: RunConfig,
    folder: str | Path,
    *,
    resume: Literal["no", "exact", "changed"] = "no",
    progress: Progress | None = None,
    command: str = "train(config, RUN)",
) -> TrainResult:
    """Train what the settings say, or go on where the folder's checkpoint stands.

    Under torchrun every process calls this with the same arguments.

    Args:
        config: complete settings, for example of a recipe.
        folder: run folder; must not hold a run unless it is resumed.
        resume: ``no``, ``exact`` (same bits, or an error) or ``changed``.
        progress: is told how it goes; one log line per epoch by default.
        command: how to make this run again, kept with its scores.

    Returns:
        What came of it; the folder then holds ``model.safetensors``.

    Raises:
        ConfigError: if settings, data set or folder do not fit.
        DatasetError: if images are missing or broken.
        CheckpointError: if a weight file or checkpoint is damaged, or cannot be written.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint to go on from.
    """
    run_dir = Path(folder).expanduser()
    split = open_split(config.data)
    with process_group(config.train.device) as world:
        _log_split(split, world)
        streams = Streams(config.train.seed)
        pixels = records_to_store(split.train, config.loader)
        store = PixelStore.open(pixels, cache_folder(config.data))
        spec = InputSpec(height=config.model.height, width=config.model.width)
        loader = TrainLoader(
            split.train,
            store,
            config=config.loader,
            spec=spec,
            streams=streams,
            rank=world.rank,
            world=world.size,
        )
        blueprint = _blueprint(config, split.train, store, loader.num_identities)
        method, start = METHODS[config.name](blueprint, streams=streams)
        kept = start_weights(as_method(method)) if config.train.keep_start else {}
        metadata = {
            "blueprint": portable(blueprint.to_mapping()),
            "config": to_mapping(config),
            "input_spec": asdict(spec),
            "split_digest": split.digest(),
            "split": split.name,
            "command": command,
            "start": start_of(config.model.weights, start),
        }
        if world.is_main:
            _log_start(start, loader)
            write_config(run_dir, config)
        result = trainer.train(
            method,
            loader,
            config=config.train,
            streams=streams,
            run_dir=run_dir,
            metadata=metadata,
            world=world,
            progress=progress,
            resume=resume,
            watch=_watch(method),
        )
        if world.is_main:
            travelling = portable(to_mapping(config))
            training = {**_told(result), **weights_note(config.train)}
            stored = {**metadata, "config": travelling, "training": training}
            keep_start(method, kept, config.train.keep_start)
            save_model(run_dir / MODEL_NAME, method, stored)
            write_card(run_dir)
    return result


def read_config(run_dir: Path) -> RunConfig:
    """Read the effective settings of a run.

    Args:
        run_dir: run folder.

    Raises:
        ConfigError: if the folder holds none, or they do not fit this version.
    """
    path = run_dir / CONFIG_NAME
    try:
        return from_mapping(RunConfig, json.loads(path.read_text()))
    except OSError as error:
        raise ConfigError(f"{path}: no settings of a run there: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _blueprint(
    config: RunConfig, records: tuple[Record, ...], store: PixelStore, num_identities: int
) -> Blueprint:
    heights = [
        store.height(i) for i, record in enumerate(records) if record.resolution is Resolution.HR
    ]
    if not heights:
        raise ConfigError(
            f"{config.data.name}: expected HR training images, got none; train on its "
            "multi-low-resolution benchmark (mlr- in front of the name)"
        )
    if config.name not in METHODS:
        raise ConfigError(unknown_name("method", config.name, list(METHODS)))
    return Blueprint(
        name=config.name,
        model=config.model,
        method=config.method,
        optimiser=config.optimiser,
        schedule=config.schedule,
        num_identities=num_identities,
        height_reference=float(np.median(heights)),
    )


def _watch(method: nn.Module) -> Watch | None:
    parts = getattr(method, "watched", {})
    return Watch(parts=parts, every=1) if parts else None


def _told(result: TrainResult) -> dict[str, Any]:
    return {
        "steps": result.steps,
        "epochs": result.epochs,
        "duration_s": round(result.duration_s, 1),
        "images_per_s": round(result.images_per_s, 2),
        "losses": dict(result.losses),
    }


def weights_note(config: TrainConfig) -> dict[str, str]:
    """Say which weights a model file holds where they are not the last ones.

    Args:
        config: settings of the loop.

    Returns:
        ``weights`` in words, or nothing.
    """
    words = [f"running average, momentum {config.average:g}"] if config.average else []
    words += [f"{config.keep_start:g} of the start kept"] if config.keep_start else []
    return {"weights": "; ".join(words)} if words else {}


def start_of(weights: str, matched: str) -> dict[str, str]:
    """Name start weights for the record.

    Args:
        weights: path, ``imagenet`` or empty.
        matched: which tensors the file filled.

    Returns:
        File name, sha256 (empty where there is no file) and what matched.
    """
    path = Path(weights).expanduser()
    return {
        "name": path.name or "random",
        "sha256": sha256_of(path) if weights and path.is_file() else "",
        "matched": matched.replace(weights, path.name) if weights else matched,
    }


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file.

    Args:
        path: the file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder(config: DataConfig) -> Path:
    """Return where decoded pixels are kept.

    Args:
        config: settings of the data.
    """
    return Path(config.cache).expanduser() if config.cache else default_folder()


def portable(config: dict[str, Any]) -> dict[str, Any]:
    """Leave out where files stand on this machine, because results travel.

    Args:
        config: a run's settings or a blueprint, as plain values.

    Returns:
        A copy with file names in place of paths.
    """
    plain: dict[str, Any] = json.loads(json.dumps(config))
    if "data" in plain:
        plain["data"] |= {"root": "", "cache": ""}
        sources = plain["data"]["also_train"]
        plain["data"]["also_train"] = [source.partition("=")[0] for source in sources]
    plain["model"]["weights"] = Path(plain["model"]["weights"]).name
    return plain


def write_config(run_dir: Path, config: RunConfig) -> None:
    """Write the effective settings into a run folder.

    Args:
        run_dir: run folder, made if need be.
        config: the settings.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / CONFIG_NAME).write_text(json.dumps(to_mapping(config), indent=1) + "\n")


def _log_split(split: Split, world: World) -> None:
    if world.is_main:
        _LOG.info("%s", split.name)
        for note in split.notes:
            _LOG.info("  %s", note)


def _log_start(start: str, loader: TrainLoader) -> None:
    _LOG.info("start: %s", start)
    _LOG.info(
        "train: %d images of %d identities, %d steps per epoch; left out %d identities without HR "
        "images; %d without LR images borrow them from their HR images",
        loader.counts.num_images,
        loader.num_identities,
        loader.steps_per_epoch,
        loader.counts.num_without_hr,
        loader.counts.num_borrowing,
    )
