"""A run from settings to files, and from files to scores.

A run folder holds ``config.json`` (the effective settings), ``checkpoint.safetensors`` (to go on
from), ``scalars.jsonl``, ``model.safetensors`` (to embed with) and ``result.json`` (its scores).
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import torchvision

from resolute.core.config import from_mapping, override, to_mapping, unknown_name
from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.core.tensorfile import versions
from resolute.core.types import Embedding, InputSpec, Labels, Record, Resolution, Split
from resolute.core.version import __version__
from resolute.data.benchmark import MLR, WRITTEN, DataConfig, open_split
from resolute.data.cache import PixelStore, default_folder
from resolute.data.loader import TrainLoader, records_to_store
from resolute.data.mlr import with_query_rate
from resolute.engine import trainer
from resolute.engine.config import RunConfig
from resolute.engine.distributed import World, process_group, resolve_device
from resolute.engine.process import torch_settings
from resolute.engine.progress import Progress
from resolute.engine.result import RESULT_NAME, Result
from resolute.engine.trainer import TrainResult
from resolute.engine.watch import Watch
from resolute.evaluation.protocol import find_protocol
from resolute.evaluation.report import Report
from resolute.evaluation.scoring import evaluate as score
from resolute.inference.embed import embed_records
from resolute.inference.load import MODEL_NAME, load
from resolute.inference.model_file import save_model
from resolute.methods.catalogue import METHODS, Blueprint
from resolute.methods.contract import Method

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
        store = PixelStore.open(pixels, _cache(config.data))
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
            stored = {**metadata, "config": travelling, "training": _told(result)}
            save_model(run_dir / MODEL_NAME, method, stored)
    return result


def evaluate(folder: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Result:
    """Score a trained run under its protocol and write ``result.json`` beside it.

    Args:
        folder: run folder with ``model.safetensors``.
        overrides: settings to change by dotted path, for example ``{"data.root": "~/viper"}`` or
            ``{"method.fusion": "mean"}``. A result with changes is returned, not written.

    Returns:
        The scores and their provenance.

    Raises:
        ConfigError: if a setting is unknown, or the data are not those the run was trained on.
        CheckpointError: if there is no model, or it is damaged.
        DatasetError: if images are missing or broken.
        ProtocolError: if the evaluation cannot be right.
    """
    run_dir = Path(folder).expanduser()
    changes = dict(overrides or {})
    method_changes = {
        path.removeprefix("method."): value
        for path, value in changes.items()
        if path.startswith("method.")
    }
    model = load(run_dir, overrides=method_changes)
    config = override(read_config(run_dir), changes)
    split = open_split(config.data)
    _check_same_split(model.metadata, split, changes)
    device = resolve_device(config.train.device, World())
    with torch_settings(threads=config.train.threads, device=device):
        scores = score_split(model.method.to(device), split, config, device=str(device))
    result = Result(
        method=config.name,
        data=split.name,
        split_digest=split.digest(),
        scores=scores,
        start=model.metadata["start"],
        model=_sha256(run_dir / MODEL_NAME),
        num_parameters=sum(p.numel() for p in model.method.parameters() if p.requires_grad),
        config=portable(to_mapping(config)),
        training=model.metadata["training"],
        versions=all_versions(),
        command=f"{model.metadata['command']} && resolute evaluate RUN",
    )
    # Where the data stand, and on what they are computed, changes no score that is kept.
    if not set(changes) - {"data.root", "data.cache", "train.device", "train.threads"}:
        result.write(run_dir / RESULT_NAME)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Embedded:
    embedding: Embedding
    labels: Labels


def score_split(
    method: Method, split: Split, config: RunConfig, *, device: str
) -> dict[str, Report]:
    """Score a method on a split under all names the settings ask for.

    Args:
        method: on the device.
        split: query and gallery.
        config: protocol, unseen rates, fusions, batch size.
        device: where the method's weights are.

    Returns:
        Reports by name, ``protocol`` first.
    """
    asked = config.evaluation
    protocol = find_protocol(asked.protocol)
    streams = Streams(config.data.seed)

    def embedded(records: tuple[Record, ...]) -> _Embedded:
        store = PixelStore.open(records, _cache(config.data))
        embedding, labels = embed_records(
            method, store, records, batch_size=asked.batch_size, device=device
        )
        return _Embedded(embedding=embedding, labels=labels)

    gallery = embedded(split.gallery)

    def report(query: _Embedded, fusion: str = "") -> Report:
        given, offered = query.embedding, gallery.embedding
        if fusion:
            given, offered = replace(given, fusion=fusion), replace(offered, fusion=fusion)
        return score(
            protocol,
            (given, offered),
            query.labels,
            gallery.labels,
            streams=streams,
            trial=config.data.trial,
        )

    query = embedded(split.query)
    scores = {"protocol": report(query)}
    for fusion in asked.fusions:
        scores[f"fusion={fusion}"] = report(query, fusion)
    if config.data.name.startswith(MLR) and config.data.name != WRITTEN:
        for rate in asked.unseen_rates:
            scores[f"r={rate:g}"] = report(embedded(with_query_rate(split, rate).query))
        if asked.hr_queries:
            scores["hr"] = report(embedded(with_query_rate(split, 1).query))
    return scores


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


def all_versions() -> dict[str, str]:
    """Name every version that decides numbers."""
    return {
        "resolute": __version__,
        **versions(),
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
    }


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


def _watch(method: Method) -> Watch | None:
    raft = getattr(method, "raft", None)
    if raft is None or not any(True for _ in raft.parameters()):
        return None
    return Watch(parts={"raft": raft}, every=1)


def _told(result: TrainResult) -> dict[str, Any]:
    return {
        "steps": result.steps,
        "epochs": result.epochs,
        "duration_s": round(result.duration_s, 1),
        "images_per_s": round(result.images_per_s, 2),
        "losses": dict(result.losses),
    }


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
        "sha256": _sha256(path) if weights and path.is_file() else "",
        "matched": matched.replace(weights, path.name) if weights else matched,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _cache(config: DataConfig) -> Path:
    return Path(config.cache).expanduser() if config.cache else default_folder()


def write_config(run_dir: Path, config: RunConfig) -> None:
    """Write the effective settings into a run folder.

    Args:
        run_dir: run folder, made if need be.
        config: the settings.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / CONFIG_NAME).write_text(json.dumps(to_mapping(config), indent=1) + "\n")


def _check_same_split(
    metadata: Mapping[str, Any], split: Split, changes: Mapping[str, Any]
) -> None:
    is_asked = any(path.startswith("data.") and path != "data.root" for path in changes)
    if not is_asked and metadata["split_digest"] and split.digest() != metadata["split_digest"]:
        raise ConfigError(
            f"the records of {split.name} are not those the run was trained on: check data.root; "
            "another set is scored by naming it (--data.name, --data.trial)"
        )


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
