"""From a run folder to its scores, with everything needed to get them again."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL
import torchvision

from resolute.core.config import to_mapping
from resolute.core.rng import Streams
from resolute.core.tensorfile import versions
from resolute.core.types import Record, Split
from resolute.core.version import __version__
from resolute.data.benchmark import MLR, WRITTEN
from resolute.data.cache import PixelStore
from resolute.data.catalogue import scored_training
from resolute.data.mlr import with_query_rate
from resolute.engine.config import RunConfig
from resolute.engine.extras import Scorer, Side
from resolute.engine.opening import changes_of, open_run
from resolute.engine.process import torch_settings
from resolute.engine.provenance import portable, sha256_of
from resolute.engine.result import RESULT_NAME, Result
from resolute.engine.run import cache_folder
from resolute.evaluation.protocol import find_protocol
from resolute.inference.card import write_card
from resolute.inference.embed import embed_records
from resolute.inference.load import load
from resolute.inference.shipped import is_shipped
from resolute.methods.contract import Method


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
            or the name of a model that comes with the package; of both, results are returned, not
            written.
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
    changes = dict(overrides or {})
    run = open_run(folder, overrides=changes, runtime=runtime, precision=precision)
    config, metadata = run.config, run.model.metadata
    flipped = None
    if config.evaluation.flip:
        flipped = load(
            run.file,
            overrides={**changes_of("method.", changes), "flip": "true"},
            device=run.device,
            runtime=runtime,
            precision=precision,
            with_calibration=False,
            with_all_spaces=True,
        ).method
    with torch_settings(threads=config.train.threads, device=run.device):
        scored = score_split(
            run.model.method, run.split, config, device=str(run.device), flipped=flipped
        )
    place = f"RUN/{run.file.relative_to(run.folder)}" if run.is_export else "RUN"
    result = Result(
        method=config.name,
        data=run.split.name,
        split_digest=run.split.digest(),
        scores=scored.scores,
        start=metadata["start"],
        model=sha256_of(run.file),
        num_parameters=run.num_parameters,
        config=portable(to_mapping(config)),
        training=metadata["training"],
        versions=all_versions(),
        command=f"{metadata['command']} && resolute evaluate {place}",
        measures={"identities": num_identities(run.split)},
        verification=scored.verification,
        notes=tuple(metadata.get("notes", ())),
    )
    if not (run.is_export or run.changed or is_shipped(run.file)):
        result.write(run.folder / RESULT_NAME)
        write_card(run.folder, result=result.to_mapping())
    return result


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
    for fusion in asked.fusions if query[0].vectors.shape[1] > 1 else ():
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


def num_identities(split: Split) -> dict[str, int]:
    """Count who is trained on and who is asked for; gains between halves are judged by both.

    Args:
        split: of a benchmark. Sets that train beside the scored one are no part of its halves.

    Returns:
        ``train`` and ``test``.
    """
    return {
        "train": len({record.pid for record in scored_training(split)}),
        "test": len({record.pid for record in split.query}),
    }


def all_versions() -> dict[str, str]:
    """Name every version that decides numbers."""
    return {
        "resolute": __version__,
        **versions(),
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
    }
