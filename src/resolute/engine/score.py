"""From a run folder to its scores, with everything needed to get them again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import PIL
import torchvision

from resolute.core.config import override, to_mapping
from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.core.tensorfile import versions
from resolute.core.types import Embedding, Labels, Record, Split
from resolute.core.version import __version__
from resolute.data.benchmark import MLR, WRITTEN, open_split
from resolute.data.cache import PixelStore
from resolute.data.mlr import with_query_rate
from resolute.engine.config import RunConfig
from resolute.engine.distributed import World, resolve_device
from resolute.engine.process import torch_settings
from resolute.engine.result import RESULT_NAME, Result
from resolute.engine.run import cache_folder, portable, read_config, sha256_of
from resolute.evaluation.protocol import find_protocol
from resolute.evaluation.report import Report
from resolute.evaluation.scoring import evaluate as score
from resolute.inference.embed import embed_records
from resolute.inference.load import MODEL_NAME, load
from resolute.methods.contract import Method

# Where the data stand, and on what they are computed, changes no score.
_FREE = {"data.root", "data.cache", "train.device", "train.threads"}


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
        model=sha256_of(run_dir / MODEL_NAME),
        num_parameters=sum(p.numel() for p in model.method.parameters() if p.requires_grad),
        config=portable(to_mapping(config)),
        training=model.metadata["training"],
        versions=all_versions(),
        command=f"{model.metadata['command']} && resolute evaluate RUN",
    )
    if not set(changes) - _FREE:
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
        store = PixelStore.open(records, cache_folder(config.data))
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


def all_versions() -> dict[str, str]:
    """Name every version that decides numbers."""
    return {
        "resolute": __version__,
        **versions(),
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
    }


def _check_same_split(
    metadata: Mapping[str, Any], split: Split, changes: Mapping[str, Any]
) -> None:
    is_asked = any(path.startswith("data.") and path != "data.root" for path in changes)
    if not is_asked and metadata["split_digest"] and split.digest() != metadata["split_digest"]:
        raise ConfigError(
            f"the records of {split.name} are not those the run was trained on: check data.root; "
            "another set is scored by naming it (--data.name, --data.trial)"
        )
