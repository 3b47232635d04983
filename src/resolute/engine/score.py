"""From a run folder to its scores, with everything needed to get them again."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL
import torch
import torchvision
from torch import nn

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
from resolute.engine.run import CONFIG_NAME, cache_folder, portable, read_config, sha256_of
from resolute.evaluation.protocol import find_protocol
from resolute.inference.card import write_card
from resolute.inference.embed import embed_records
from resolute.inference.load import MODEL_NAME, Model, find_model, load
from resolute.methods.contract import Method

# Where the data stand, and on what they are computed, changes no score.
_FREE = {"data.root", "data.cache", "train.device", "train.threads"}


def evaluate(
    folder: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    runtime: str = "",
    precision: str = "",
) -> Result:
    """Score a trained run under its protocol and write ``result.json`` beside it.

    Args:
        folder: run folder with ``model.safetensors``, or a file exported from it to a folder in it,
            whose result is returned, not written.
        overrides: settings to change by dotted path, for example ``{"data.root": "~/viper"}`` or
            ``{"method.fusion": "mean"}``. A result with changes is returned, not written.
        runtime: of an exported file: ``onnxruntime`` or ``openvino``; its own by default.
        precision: of an exported file: ``f32`` or ``bf16``; its own by default.

    Returns:
        The scores and their provenance.

    Raises:
        ConfigError: if a setting is unknown, or the data are not those the run was trained on.
        CheckpointError: if there is no model, or it is damaged.
        DatasetError: if images are missing or broken.
        ProtocolError: if the evaluation cannot be right.
    """
    file = find_model(folder)
    run_dir = _run_of(file)
    changes = dict(overrides or {})
    method_changes = changes_of("method.", changes)
    config = override(read_config(run_dir), changes)
    is_run = file.name == MODEL_NAME
    place = "RUN" if is_run else f"RUN/{file.relative_to(run_dir)}"
    device = str(resolve_device(config.train.device, World())) if is_run else "cpu"

    def opened(**settings: str) -> Model:
        return load(
            file,
            overrides={**method_changes, **settings},
            device=device,
            runtime=runtime,
            precision=precision,
            with_calibration=False,
        )

    model = opened()
    flipped = opened(flip="true").method if config.evaluation.flip else None
    split = open_split(config.data)
    _check_same_split(model.metadata, split, changes)
    with torch_settings(threads=config.train.threads, device=torch.device(device)):
        scored = score_split(model.method, split, config, device=device, flipped=flipped)
    result = Result(
        method=config.name,
        data=split.name,
        split_digest=split.digest(),
        scores=scored.scores,
        start=model.metadata["start"],
        model=sha256_of(file),
        num_parameters=_num_parameters(model),
        config=portable(to_mapping(config)),
        training=model.metadata["training"],
        versions=all_versions(),
        command=f"{model.metadata['command']} && resolute evaluate {place}",
        verification=scored.verification,
    )
    if is_run and not set(changes) - _FREE:
        result.write(run_dir / RESULT_NAME)
        write_card(run_dir, result=result.to_mapping())
    return result


def _run_of(file: Path) -> Path:
    """Find the run folder a model file belongs to: its own, or the one above an export.

    Raises:
        ConfigError: if there is none.
    """
    for folder in (file.parent, file.parent.parent):
        if (folder / CONFIG_NAME).is_file():
            return folder
    raise ConfigError(
        f"{file}: no {CONFIG_NAME} of a run beside it or one folder up, so its data set is not "
        "known; score it from the folder it was exported to"
    )


def _num_parameters(model: Model) -> int:
    if not isinstance(model.method, nn.Module):
        return 0  # an exported graph keeps its numbers to itself
    return sum(p.numel() for p in model.method.parameters() if p.requires_grad)


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
