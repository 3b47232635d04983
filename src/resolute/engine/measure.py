"""What a run tells besides its scores: the best constant share, what the weights do, what T does.

Letters: Q queries, G gallery.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resolute.core.rng import Streams
from resolute.core.types import Embedding, Labels, Record, Split
from resolute.data.cache import PixelStore
from resolute.data.loader import native_batches
from resolute.engine.config import RunConfig
from resolute.engine.constant import best_constant, best_of_each, choosing_split, with_constant
from resolute.engine.opening import open_run
from resolute.engine.process import torch_settings
from resolute.engine.run import cache_folder
from resolute.engine.score import num_identities
from resolute.evaluation.protocol import find_protocol
from resolute.evaluation.report import Report
from resolute.evaluation.scoring import evaluate as score
from resolute.inference.embed import embed_records
from resolute.methods.contract import Method
from resolute.methods.measures import is_hr, transform_cost, transform_errors, transform_of

NUM_BINS = 10
_ROWS_AT_ONCE = 1024

Side = tuple[Embedding, Labels]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Scores and measures that come on top of those of an evaluation.

    Attributes:
        scores: ``fusion=constant``, the best constant share; empty with one space.
        measures: ``identities`` (train, test); with two spaces ``constant`` (the choice, and
            ``best_of_each``) and, where qualities differ, ``share_of_hr`` (histogram of
            a / (a + b)); with a transform ``recovery`` by rate and ``transform`` (parameters,
            macs).
    """

    scores: Mapping[str, Report] = field(default_factory=dict)
    measures: Mapping[str, Any] = field(default_factory=dict)


def measure(folder: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Measured:
    """Measure a trained run on its own data.

    Args:
        folder: run folder with ``model.safetensors``.
        overrides: settings to change by dotted path, as for
            :func:`resolute.engine.score.evaluate`.

    Returns:
        What was found; JSON can hold it.

    Raises:
        ConfigError: if a setting is unknown, or the data are not those the run was trained on.
        CheckpointError: if there is no model, or it is damaged.
        DatasetError: if images are missing or broken.
    """
    run = open_run(folder, overrides=overrides)
    config, split = run.config, run.split
    with torch_settings(threads=config.train.threads, device=run.device):
        bench = _Bench(run.model.method, config, str(run.device))
        query, gallery = bench.embedded(split.query), bench.embedded(split.gallery)
        found: dict[str, Any] = {"identities": num_identities(split)}
        found |= bench.transform(split)
        scores = {}
        if query[0].vectors.shape[1] == 2:
            report, found["constant"] = bench.constant(split, query, gallery)
            scores["fusion=constant"] = report
            if _has_trust(query[0]) or _has_trust(gallery[0]):
                found["share_of_hr"] = share_histogram(query[0], gallery[0])
    return Measured(scores=scores, measures=found)


def share_histogram(query: Embedding, gallery: Embedding) -> dict[str, Any]:
    """Count how much of the distance of each pair comes from the HR space.

    The share is a / (a + b) with a = w_hr(q) w_hr(g) and b = w_lr(q) w_lr(g), as the fusion
    ``weighted`` takes it.

    Args:
        query: embeddings of Q images with 2 streams.
        gallery: of G images.

    Returns:
        ``counts`` of the Q x G pairs in ten even bins over 0..1, ``mean`` and ``std``.
    """
    of_query, of_gallery = _log_ratio(query), _log_ratio(gallery)  # (Q,), (G,)
    counts = np.zeros(NUM_BINS, dtype=np.int64)
    total = squares = 0.0
    for start in range(0, len(of_query), _ROWS_AT_ONCE):
        logits = of_query[start : start + _ROWS_AT_ONCE, None] + of_gallery  # (rows, G)
        shares = 0.5 * (1 + np.tanh(logits / 2))  # the sigmoid, without overflow
        counts += np.histogram(shares, bins=NUM_BINS, range=(0, 1))[0]
        total, squares = total + float(shares.sum()), squares + float((shares**2).sum())
    num_pairs = len(of_query) * len(of_gallery)
    mean = total / num_pairs
    std = max(0.0, squares / num_pairs - mean**2) ** 0.5
    return {"counts": counts.tolist(), "mean": mean, "std": std}


class _Bench:
    """A method on its device, and how its run is scored."""

    def __init__(self, method: Method, config: RunConfig, device: str) -> None:
        self._method, self._config, self._device = method, config, device

    def embedded(self, records: tuple[Record, ...]) -> Side:
        return embed_records(
            self._method,
            self._store(records),
            records,
            batch_size=self._config.evaluation.batch_size,
            device=self._device,
        )

    def constant(self, split: Split, query: Side, gallery: Side) -> tuple[Report, dict[str, Any]]:
        data = self._config.data
        scored: dict[str, Any] = {
            "protocol": find_protocol(self._config.evaluation.protocol),
            "streams": Streams(data.seed),
            "trial": data.trial,
        }
        chosen_on = choosing_split(split, streams=Streams(data.seed))
        sides = self.embedded(chosen_on.query), self.embedded(chosen_on.gallery)
        protocol = scored.pop("protocol")
        # Any number may stand for a training identity; there are no distractors among them.
        choosing = replace(protocol, distractors="none")
        choice = best_constant(*sides, protocol=choosing, **scored)
        pair = tuple(with_constant(side[0], choice.share) for side in (query, gallery))
        report = score(protocol, pair, query[1], gallery[1], **scored)  # type: ignore[arg-type]
        return report, {
            **asdict(choice),
            "best_of_each": best_of_each(query, gallery, protocol=protocol, **scored),
            "identities": "training",
            "count": len({record.pid for record in chosen_on.query}),
        }

    def transform(self, split: Split) -> dict[str, Any]:
        method = transform_of(self._method)
        if method is None:
            return {}
        config = self._config
        rates = sorted({*config.loader.twin_rates, *config.evaluation.unseen_rates})
        errors = dict.fromkeys(rates, np.zeros(2))
        batch_size = config.evaluation.batch_size
        for _, images in native_batches(self._store(split.gallery), split.gallery, batch_size):
            sharp = images.take(torch.nonzero(is_hr(images)).flatten()).to(self._device)
            if len(sharp):
                for rate in rates:
                    errors[rate] = errors[rate] + transform_errors(method, sharp, rate=rate)
        cost = transform_cost(method)
        recovery = {
            f"{rate:g}": 1 - float(restored / plain)
            for rate, (restored, plain) in errors.items()
            if plain > 0
        }
        transform = {"parameters": cost.parameters, "macs": cost.macs}
        return {"recovery": recovery, "transform": transform}

    def _store(self, records: tuple[Record, ...]) -> PixelStore:
        return PixelStore.open(records, cache_folder(self._config.data))


def _has_trust(embedding: Embedding) -> bool:
    quality = embedding.quality
    return bool((quality[:, 0] != quality[:, 1]).any())


def _log_ratio(embedding: Embedding) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    quality = embedding.quality.astype(np.float64)
    with np.errstate(divide="ignore"):  # a quality of 0 is a ratio of 0 or infinity
        return np.log(quality[:, 0]) - np.log(quality[:, 1])
