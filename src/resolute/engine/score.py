"""From a run folder to its scores, with everything needed to get them again."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL
import torchvision

from resolute.core.config import override, to_mapping
from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.core.tensorfile import versions
from resolute.core.types import Record, Split
from resolute.core.version import __version__
from resolute.data.benchmark import MLR, WRITTEN, open_split
from resolute.data.cache import PixelStore
from resolute.data.mlr import with_query_rate
from resolute.engine.config import RunConfig
from resolute.engine.distributed import World, resolve_device
from resolute.engine.extras import Scorer, Side
from resolute.engine.process import torch_settings
from resolute.engine.result import RESULT_NAME, Result
from resolute.engine.run import cache_folder, portable, read_config, sha256_of
from resolute.evaluation.protocol import find_protocol
from resolute.inference.card import write_card
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
    method_changes = changes_of("method.", changes)
    model = load(run_dir, overrides=method_changes)
    config = override(read_config(run_dir), changes)
    flipped = None
    if config.evaluation.flip:
        flipped = load(run_dir, overrides={**method_changes, "flip": "true"}).method
    split = open_split(config.data)
    _check_same_split(model.metadata, split, changes)
    device = resolve_device(config.train.device, World())
    with torch_settings(threads=config.train.threads, device=device):
        scored = score_split(
            model.method.to(device),
            split,
            config,
            device=str(device),
            flipped=None if flipped is None else flipped.to(device),
        )
    result = Result(
        method=config.name,
        data=split.name,
        split_digest=split.digest(),
        scores=scored.scores,
        start=model.metadata["start"],
        model=sha256_of(run_dir / MODEL_NAME),
        num_parameters=sum(p.numel() for p in model.method.parameters() if p.requires_grad),
        config=portable(to_mapping(config)),
        training=model.metadata["training"],
        versions=all_versions(),
        command=f"{model.metadata['command']} && resolute evaluate RUN",
        verification=scored.verification,
    )
    if not set(changes) - _FREE:
        result.write(run_dir / RESULT_NAME)
        write_card(run_dir, result=result.to_mapping())
    return result


def changes_of(section: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the changed settings of one section, by name within it.

    Args:
        section: with its dot, for example ``method.``.
        changes: values by dotted path.
    """
    return {p.removeprefix(section): v for p, v in changes.items() if p.startswith(section)}


def score_split(
    method: Method,
    split: Split,
    config: RunConfig,
    *,
    device: str,
    flipped: Method | None = None,
) -> Scorer:
    """Score a method on a split under all names the settings ask for.

    Args:
        method: on the device.
        split: query and gallery.
        config: protocol, unseen rates, fusions, batch size.
        device: where the method's weights are.
        flipped: the same method with flip averaging, for the score ``flip``; on the device.

    Returns:
        Holds the reports by name, ``protocol`` first.
    """
    asked = config.evaluation

    def embedded(records: tuple[Record, ...], embedder: Method = method) -> Side:
        store = PixelStore.open(records, cache_folder(config.data))
        return embed_records(embedder, store, records, batch_size=asked.batch_size, device=device)

    gallery, query = embedded(split.gallery), embedded(split.query)
    scorer = Scorer(
        find_protocol(asked.protocol),
        gallery,
        streams=Streams(config.data.seed),
        trial=config.data.trial,
        has_verification=asked.verification,
    )
    scorer.put("protocol", query)
    for fusion in asked.fusions:
        sides = [(replace(vectors, fusion=fusion), labels) for vectors, labels in (query, gallery)]
        scorer.put(f"fusion={fusion}", *sides)
    if config.data.name.startswith(MLR) and config.data.name != WRITTEN:
        for rate in asked.unseen_rates:
            scorer.put(f"r={rate:g}", embedded(with_query_rate(split, rate).query))
        if asked.hr_queries:
            scorer.put("hr", embedded(with_query_rate(split, 1).query))
    if flipped is not None:
        scorer.put("flip", embedded(split.query, flipped), embedded(split.gallery, flipped))
    scorer.put_extras(asked, query)
    return scorer


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
