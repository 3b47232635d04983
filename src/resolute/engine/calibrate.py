"""Fit what distances and images are worth for one run, on people it never saw.

Letters: Q queries, G gallery, N pairs.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.config import override
from resolute.core.distance import distance_rows
from resolute.core.errors import ConfigError, DatasetError, ProtocolError
from resolute.core.types import Embedding, Labels, Record, Resolution, Split
from resolute.data.benchmark import WRITTEN, DataConfig, open_split
from resolute.data.cache import PixelStore
from resolute.data.catalogue import family
from resolute.data.degrade import Degraded
from resolute.data.manifest import read_origin
from resolute.data.mlr import with_query_rate
from resolute.engine.config import RunConfig
from resolute.engine.distributed import World, resolve_device
from resolute.engine.process import torch_settings
from resolute.engine.result import RESULT_NAME
from resolute.engine.run import cache_folder, read_config
from resolute.inference.calibration import CALIBRATION_NAME, Calibration
from resolute.inference.card import write_card
from resolute.inference.embed import embed_records
from resolute.inference.fitting import fit_curve, fit_reliability, fit_thresholds
from resolute.inference.load import load
from resolute.inference.model import Model

# Queries are asked at the rates of the benchmark and at these: crops come sharp and tiny too
# [ours].
_MORE_RATES = (1.0, 8.0)
# Pairs of two people that the curve is fitted on; thresholds count all of them [ours].
_MOST_PAIRS = 1_000_000
_CHUNK_BYTES = 2**24  # of distances at a time
_PLACES = {"data.root", "data.cache"}
_COMPUTED_ON = ("train.device", "train.threads")


def calibrate(
    folder: str | Path, *, overrides: Mapping[str, Any] | None = None, prior: float = 0.5
) -> Calibration:
    """Fit the calibration of a run and write ``calibration.json`` and the model card beside it.

    Without other data, the people are the training identities that the run held out
    (``data.validation``). The run's test identities are never touched: chances fitted on them
    would make its own scores look better than they are.

    Args:
        folder: run folder.
        overrides: settings to change by dotted path; ``data.name`` names another data set, whose
            test identities are taken, or with ``data.validation`` so many of its training
            identities. Besides these only ``train.device`` and ``train.threads`` can change.
        prior: stated chance of one person before looking, between 0 and 1.

    Returns:
        The calibration.

    Raises:
        ConfigError: if the people would be those the run was trained or is tested on, or a
            setting is unknown or of the model.
        DatasetError: if images are missing or broken.
        CheckpointError: if there is no model, or the calibration cannot be written.
        ProtocolError: if nothing can be fitted.
    """
    run_dir = Path(folder).expanduser()
    if not run_dir.is_dir():
        raise ConfigError(
            f"{run_dir}: expected a run folder, to write the calibration beside its model; an "
            "exported file takes that of its run: calibrate first, then export"
        )
    if not 0 < prior < 1:
        raise ConfigError(f"prior: expected a chance between 0 and 1, got {prior}")
    changes = dict(overrides or {})
    for path in changes:
        if not path.startswith("data.") and path not in _COMPUTED_ON:
            raise ConfigError(
                f"--{path}: a run is calibrated as it is; only --data.NAME and "
                f"{' and '.join(f'--{p}' for p in _COMPUTED_ON)} can change"
            )
    config = read_config(run_dir)
    model = load(run_dir, with_calibration=False)
    is_trained = bool(model.metadata["split"])
    data = unseen_people(config, changes, is_trained=is_trained)
    split = open_split(data)
    is_own = is_trained and _is_own(data, config.data)
    if is_own and split.digest() != model.metadata["split_digest"]:
        raise ConfigError(
            f"the records of {split.name} are not those the run was trained on: check data.root"
        )
    train = override(config, {p: v for p, v in changes.items() if p in _COMPUTED_ON}).train
    device = resolve_device(train.device, World())
    with torch_settings(threads=train.threads, device=device):
        model.method.to(device)
        samples = _gather(model, split, data, config.evaluation.batch_size, str(device))
    calibration = _fit(model, samples, prior)
    calibration.write(run_dir / CALIBRATION_NAME)
    result = run_dir / RESULT_NAME
    write_card(run_dir, result=json.loads(result.read_text()) if result.is_file() else None)
    return calibration


def unseen_people(config: RunConfig, changes: Mapping[str, Any], *, is_trained: bool) -> DataConfig:
    """Choose the data whose people the run neither trained on nor is tested on.

    Args:
        config: of the run.
        changes: settings by dotted path.
        is_trained: whether the run trained on its data set; a converted file did not.

    Returns:
        Settings of the data; its query and gallery are the people.

    Raises:
        ConfigError: if there are none, or those asked for are not unseen.
    """
    own = config.data
    asked = {path: value for path, value in changes.items() if path.startswith("data.")}
    if "data.name" in asked:
        # Another data set starts from its own defaults, not from the run's trial and cameras.
        fresh = DataConfig(cache=own.cache, seed=own.seed, synthetic=own.synthetic)
        data = override(replace(config, data=fresh), asked).data
    else:
        data = override(config, asked).data
    if not is_trained or not _is_own(data, own):
        return data
    if not own.validation:
        raise ConfigError(
            f"this run held no people of {own.name} out of training, and its test identities are "
            "not calibrated on: name another data set (--data NAME --data.root ROOT), or train "
            "with --data.validation N"
        )
    changed = {p for p in asked if p not in _PLACES} - {"data.name", "data.validation"}
    if changed or data.validation not in (0, own.validation):
        raise ConfigError(
            f"of {own.name} only the {own.validation} identities that this run held out are "
            f"unseen; leave out {', '.join(sorted(changed)) or '--validation-identities'}"
        )
    return replace(own, root=data.root or own.root, cache=data.cache)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Samples:
    """Queries and gallery, embedded as crops from anywhere would be."""

    data: str
    query: Embedding
    query_labels: Labels
    gallery: Embedding
    gallery_labels: Labels


def _gather(model: Model, split: Split, data: DataConfig, batch_size: int, device: str) -> _Samples:
    def embedded(records: tuple[Record, ...]) -> tuple[Embedding, Labels]:
        # The rule of the model decides on the resolution, as it will for a user's crops.
        plain = tuple(replace(r, resolution=Resolution.UNKNOWN) for r in records if r.pid >= 0)
        store = PixelStore.open(plain, cache_folder(data))
        return embed_records(model.method, store, plain, batch_size=batch_size, device=device)

    rates = _MORE_RATES if any(isinstance(r.source, Degraded) for r in split.query) else ()
    asked = [embedded(split.query)]
    asked += [embedded(with_query_rate(split, rate).query) for rate in rates]
    labels = [label for _, label in asked]
    gallery, gallery_labels = embedded(split.gallery)
    more = f", queries also at rates {', '.join(f'{r:g}' for r in rates)}" if rates else ""
    return _Samples(
        data=f"{split.name}{more}",
        query=Embedding.concatenate([embedding for embedding, _ in asked]),
        query_labels=Labels(
            pids=np.concatenate([part.pids for part in labels]),
            camids=np.concatenate([part.camids for part in labels]),
            rates=np.concatenate([part.rates for part in labels]),
            heights=np.concatenate([part.heights for part in labels]),
        ),
        gallery=gallery,
        gallery_labels=gallery_labels,
    )


def _fit(model: Model, samples: _Samples, prior: float) -> Calibration:
    pairs = _pairs(samples)
    if not pairs.is_same.any() or not pairs.num_different:
        raise ProtocolError(f"{samples.data}: expected pairs of one person and of two")
    curve, loss, other = fit_curve(pairs.distances, pairs.is_same, pairs.groups)
    heights = np.concatenate([samples.query_labels.heights, samples.gallery_labels.heights])
    low, middle, high = np.quantile(heights, [0, 0.5, 1]).tolist()
    return Calibration(
        data=samples.data,
        fingerprint=model.fingerprint,
        metric=samples.query.metric,
        fusion=samples.query.fusion,
        constant=samples.query.constant,
        prior=prior,
        curve=curve,
        num_same=int(pairs.is_same.sum()),
        num_different=pairs.num_different,
        heights=(low, middle, high),
        log_loss=loss,
        log_loss_other=other,
        thresholds=fit_thresholds(
            pairs.distances[pairs.is_same],
            lambda: (row[is_different] for _, row, _, is_different in _each(samples)),
        ),
        reliability=fit_reliability(
            samples.query.take(np.flatnonzero(pairs.has_match)),
            pairs.is_first[pairs.has_match],
            people=samples.query_labels.pids[pairs.has_match],
            num_gallery=len(samples.gallery),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """What a fit looks at: the pairs of one person, and every so many-th of two.

    Attributes:
        distances: of these N pairs, shape (N,).
        is_same: whether they show one person, shape (N,).
        groups: person of their query, shape (N,).
        num_different: all pairs of two people.
        is_first: whether a match of the query stands first, shape (Q,).
        has_match: whether the query has one, shape (Q,).
    """

    distances: NDArray[np.float64]
    is_same: NDArray[np.bool_]
    groups: NDArray[np.int64]
    num_different: int
    is_first: NDArray[np.bool_]
    has_match: NDArray[np.bool_]


def _pairs(samples: _Samples) -> _Pairs:
    asked, offered = samples.query_labels.pids, samples.gallery_labels.pids
    num_images = Counter(offered[offered > 0].tolist())
    num_different = len(asked) * len(offered) - sum(num_images[pid] for pid in asked.tolist())
    stride = max(1, num_different // _MOST_PAIRS)
    distances, sames = [], []
    is_first = np.zeros(len(asked), dtype=np.bool_)
    has_match = np.zeros(len(asked), dtype=np.bool_)
    seen = 0
    for position, row, is_same, is_different in _each(samples):
        numbers = seen + np.cumsum(is_different)
        kept = is_same | (is_different & (numbers % stride == 0))
        distances.append(row[kept])
        sames.append(is_same[kept])
        seen = int(numbers[-1])
        has_match[position] = is_same.any()
        is_first[position] = is_same[np.where(is_same | is_different, row, np.inf).argmin()]
    return _Pairs(
        distances=np.concatenate(distances).astype(np.float64),
        is_same=np.concatenate(sames),
        groups=np.repeat(asked, [len(row) for row in distances]),
        num_different=num_different,
        is_first=is_first,
        has_match=has_match,
    )


def _each(
    samples: _Samples,
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Pair each query with the gallery; a person's images of one camera are no pair."""
    asked, offered = samples.query_labels, samples.gallery_labels
    for rows, block in distance_rows(samples.query, samples.gallery, chunk_bytes=_CHUNK_BYTES):
        for position, row in zip(range(rows.start, rows.stop), block, strict=True):
            is_person = (offered.pids == asked.pids[position]) & (offered.pids > 0)
            is_same = is_person & (offered.camids != asked.camids[position])
            yield position, row, is_same, ~is_person


def _is_own(data: DataConfig, own: DataConfig) -> bool:
    if data.name == "mlr-synthetic" == own.name and data.synthetic.seed != own.synthetic.seed:
        return False  # other drawings, other people
    sources = [(own.name, own.root), *(s.partition("=")[::2] for s in own.also_train)]
    trained = {_people_of(name, root) for name, root in sources}
    asked = _people_of(data.name, data.root)
    return asked in trained or None in (asked, *trained)


def _people_of(name: str, root: str) -> str | None:
    """Name the data set whose people are shown; None of a written set that is gone."""
    if name != WRITTEN:
        return family(name)
    try:
        return family(read_origin(Path(root).expanduser()).name)
    except DatasetError:
        return None
