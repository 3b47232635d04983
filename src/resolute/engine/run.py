"""A run from settings to files; :mod:`resolute.engine.score` goes on from there.

A run folder holds ``config.json`` (the effective settings), ``checkpoint.safetensors`` (to go on
from), ``scalars.jsonl``, ``model.safetensors`` (to embed with) and ``result.json`` (its scores).
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
from resolute.engine.config import RunConfig
from resolute.engine.distributed import World, process_group
from resolute.engine.interpolate import keep_start, start_weights
from resolute.engine.lock import held
from resolute.engine.progress import Progress
from resolute.engine.provenance import notes_of, num_trainable, portable, start_of, weights_note
from resolute.engine.trainer import TrainResult
from resolute.engine.watch import Watch
from resolute.inference.card import write_card
from resolute.inference.load import MODEL_NAME
from resolute.inference.model_file import save_model
from resolute.methods.blueprint import Blueprint
from resolute.methods.catalogue import METHODS
from resolute.methods.contract import as_method

CONFIG_NAME = "config.json"
LOCK_NAME = ".lock"
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
        notes = notes_of(method)
        metadata = {
            "blueprint": portable(blueprint.to_mapping()),
            "config": to_mapping(config),
            "input_spec": asdict(spec),
            "split_digest": split.digest(),
            "split": split.name,
            "command": command,
            "start": start_of(config.model.weights, start),
            "notes": notes,
        }
        if world.is_main:
            _log_start(start, loader, notes)
        with _alone(run_dir, world):
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
                begun=lambda: write_config(run_dir, config),
                watch=_watch(method),
            )
            if not world.is_main:
                return result
            if resume == "exact" and not result.steps_here and (run_dir / MODEL_NAME).exists():
                _LOG.info("nothing left to do: %s is of step %d", run_dir, result.steps)
                return result
            travelling = portable(to_mapping(config))
            training = {
                **_told(result),
                **({} if resume == "no" else {"resumed": True}),
                "parameters": num_trainable(method),
                **weights_note(config.train),
            }
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


@contextmanager
def _alone(run_dir: Path, world: World) -> Iterator[None]:
    """Keep other processes out of a run folder; of one run the first holds the lock.

    Raises:
        ConfigError: if another run is at it, or the folder cannot be made.
    """
    with ExitStack() as stack:
        if world.is_main:
            try:
                other = stack.enter_context(held(run_dir / LOCK_NAME))
            except OSError as error:
                raise ConfigError(
                    f"{run_dir}: cannot become a run folder: {error.strerror}"
                ) from error
            if other is not None:
                raise ConfigError(
                    f"{run_dir}: process {other} trains in it; wait for it or choose another folder"
                )
        yield


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
    return config.blueprint(
        num_identities=num_identities, height_reference=float(np.median(heights))
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
        "precision": result.precision,
        "device": result.device,
        "losses": dict(result.losses),
    }


def cache_folder(config: DataConfig) -> Path:
    """Return where decoded pixels are kept.

    Args:
        config: settings of the data.
    """
    return Path(config.cache).expanduser() if config.cache else default_folder()


def write_config(run_dir: Path, config: RunConfig) -> None:
    """Write the effective settings into a run folder, atomically.

    Args:
        run_dir: run folder, made if need be.
        config: the settings.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / CONFIG_NAME
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(to_mapping(config), indent=1) + "\n")
    part.replace(path)


def _log_split(split: Split, world: World) -> None:
    if world.is_main:
        _LOG.info("%s", split.name)
        for note in split.notes:
            _LOG.info("  %s", note)


def _log_start(start: str, loader: TrainLoader, notes: Sequence[str]) -> None:
    _LOG.info("start: %s", start)
    for note in notes:
        _LOG.info("note: %s", note)
    _LOG.info(
        "train: %d images of %d identities, %d steps per epoch; left out %d identities without HR "
        "images; %d without LR images borrow them from their HR images",
        loader.counts.num_images,
        loader.num_identities,
        loader.steps_per_epoch,
        loader.counts.num_without_hr,
        loader.counts.num_borrowing,
    )
