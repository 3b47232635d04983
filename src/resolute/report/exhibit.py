"""One run, embedded once and boiled down to what a report shows of it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.config import to_mapping
from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.core.types import Record
from resolute.data.cache import PixelStore
from resolute.engine.opening import OpenedRun, open_run
from resolute.engine.process import torch_settings
from resolute.engine.provenance import portable, sha256_of
from resolute.engine.result import RESULT_NAME, Result
from resolute.engine.run import cache_folder
from resolute.engine.score import all_versions
from resolute.evaluation.protocol import find_protocol
from resolute.evaluation.report import Report
from resolute.inference.embed import embed_records
from resolute.report.curves import Scalar, read_curves
from resolute.report.draw import write_strips
from resolute.report.material import pick_queries
from resolute.report.strips import Side, Strip, make_strip
from resolute.report.survey import Survey, survey

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is wanted of a run.

    Attributes:
        num_queries: best, median and worst queries shown, of each kind.
        top: gallery images shown per query.
        strips: folder for one PNG per query; None draws none.
    """

    num_queries: int = 3
    top: int = 10
    strips: Path | None = None

    def __post_init__(self) -> None:
        for name in ("num_queries", "top"):
            if getattr(self, name) < 1:
                raise ConfigError(f"report {name}: expected >= 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Qualities:
    """The weights of all images of both sides.

    Attributes:
        is_lr: which images took the LR route: LR by their record, shape (N,).
        heights: native heights in pixels, shape (N,).
        quality: weights of HR and LR space, shape (N, 2).
    """

    is_lr: NDArray[np.bool_]
    heights: NDArray[np.int64]
    quality: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """Everything the report shows of one run.

    Attributes:
        name: of the run folder.
        method: name of the method.
        is_trained: whether it made any step.
        start: name of the start weights.
        benchmark: printed name of the data without the trial.
        trial: number of the trial.
        seed: of training.
        fusion: how the spaces join.
        num_streams: vectors of an embedding; HR and LR space where there are two.
        scores: reports by name, ``protocol`` first; more where ``result.json`` fits.
        found: what one pass over all pairs found.
        heights: native height of each query in pixels, shape (Q,).
        rates: down-sampling rate of each query, shape (Q,).
        qualities: weights of all images; None unless there are two spaces.
        strips: best, median and worst queries by these names.
        curves: training curves by name; empty where none were logged.
        provenance: what it takes to get the numbers again, as plain values.
        notes: what a reader has to know.
    """

    name: str
    method: str
    is_trained: bool
    start: str
    benchmark: str
    trial: int
    seed: int
    fusion: str
    num_streams: int
    scores: Mapping[str, Report]
    found: Survey
    heights: NDArray[np.int64]
    rates: NDArray[np.float64]
    qualities: Qualities | None
    strips: Mapping[str, tuple[Strip, ...]]
    curves: Mapping[str, Scalar]
    provenance: Mapping[str, Any]
    notes: tuple[str, ...]


def exhibit(folder: Path, *, overrides: Mapping[str, Any], asked: Asked) -> Exhibit:
    """Embed the images of a run and look at every pair of them.

    Args:
        folder: run folder with ``model.safetensors``.
        overrides: settings to change by dotted path, for example ``{"data.root": "~/viper"}``.
        asked: which queries to show.

    Returns:
        Numbers and the few pictures asked for; the embeddings are let go.

    Raises:
        ConfigError: if a setting is unknown, or the data are not those the run was trained on.
        CheckpointError: if there is no model, or it is damaged.
        DatasetError: if images are missing or broken.
        ProtocolError: if the evaluation cannot be right.
    """
    run = open_run(folder, overrides=overrides)
    model, config, split = run.model, run.config, run.split
    name = folder.resolve().name
    _LOG.info("%s: %d query, %d gallery images", name, len(split.query), len(split.gallery))
    query, gallery = _embed(run)
    found = survey(
        find_protocol(config.evaluation.protocol),
        (query.embedding, query.labels),
        (gallery.embedding, gallery.labels),
        streams=Streams(config.data.seed),
        trial=config.data.trial,
        top=asked.top,
    )
    if asked.strips is not None:
        number = write_strips(query, gallery, found, asked.strips / name)
        _LOG.info("%s: %d strips in %s", name, number, asked.strips / name)
    picked = pick_queries(found.list_ranks, found.margins, asked.num_queries)
    digest = sha256_of(run.file)
    kept, notes = _kept(run, found.report, digest)
    return Exhibit(
        name=name,
        method=config.name,
        is_trained=bool(model.metadata["training"]["steps"]),
        start=model.metadata["start"]["name"],
        benchmark="/".join(p for p in split.name.split("/") if not p.startswith("trial")),
        trial=config.data.trial,
        seed=config.train.seed,
        fusion=query.embedding.fusion,
        num_streams=query.embedding.vectors.shape[1],
        scores={**(kept.scores if kept else {}), "protocol": found.report},
        found=found,
        heights=query.labels.heights,
        rates=query.labels.rates,
        qualities=_qualities(query, gallery),
        strips={
            kind: tuple(make_strip(query, gallery, found, position) for position in positions)
            for kind, positions in picked.items()
        },
        curves=read_curves(run.folder),
        provenance=_provenance(run, digest, kept),
        notes=(*split.notes, *model.metadata.get("notes", ()), *notes),
    )


def _embed(run: OpenedRun) -> tuple[Side, Side]:
    config, device = run.config, run.device

    def side(records: tuple[Record, ...]) -> Side:
        store = PixelStore.open(records, cache_folder(config.data))
        embedding, labels = embed_records(
            run.model.method,
            store,
            records,
            batch_size=config.evaluation.batch_size,
            device=device,
        )
        return Side(records=records, store=store, embedding=embedding, labels=labels)

    with torch_settings(threads=config.train.threads, device=device):
        return side(run.split.query), side(run.split.gallery)


def _kept(run: OpenedRun, report: Report, model: str) -> tuple[Result | None, list[str]]:
    """Take ``result.json`` where it speaks of this model on these images, else say why not."""
    path = run.folder / RESULT_NAME
    if run.changed:
        return None, [f"settings changed for this page: {', '.join(sorted(run.changed))}"]
    if not path.is_file():
        return None, [
            f"no {RESULT_NAME}: resolute evaluate adds unseen rates, HR queries and other fusions"
        ]
    result = Result.read(path)
    if result.model != model or result.split_digest != run.split.digest():
        return None, [f"{RESULT_NAME} is of another model or other images and was left aside"]
    before, after = result.scores["protocol"].cmc[0], report.cmc[0]
    if abs(before - after) > 0.0005:
        return result, [
            f"{RESULT_NAME} says Rank-1 {100 * before:.1f}, computed here {100 * after:.1f}: other "
            "versions or another machine"
        ]
    return result, []


def _qualities(query: Side, gallery: Side) -> Qualities | None:
    if query.embedding.vectors.shape[1] != 2:
        return None
    records = (*query.records, *gallery.records)
    return Qualities(
        is_lr=np.array([r.resolution.value == "lr" for r in records]),
        heights=np.concatenate([query.labels.heights, gallery.labels.heights]),
        quality=np.concatenate([query.embedding.quality, gallery.embedding.quality]),
    )


def _provenance(run: OpenedRun, digest: str, kept: Result | None) -> dict[str, Any]:
    metadata = run.model.metadata
    return {
        "data": run.split.name,
        "split digest": run.split.digest(),
        "model sha256": digest,
        "start weights": dict(metadata["start"]),
        "training": dict(metadata["training"]),
        "trainable parameters": run.num_parameters,
        "versions, this page": all_versions(),
        **({"versions, kept scores": dict(kept.versions)} if kept else {}),
        "command": f"{metadata['command']} && resolute evaluate RUN && resolute report RUN",
        "settings": portable(to_mapping(run.config)),
    }
