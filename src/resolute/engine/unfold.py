"""Start weights from an OpenVINO graph, whose batch norms were folded into its convolutions."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from resolute.core.errors import CheckpointError, ConfigError, DatasetError
from resolute.core.images import Images
from resolute.core.tensorfile import write_tensors
from resolute.core.types import InputSpec, Record
from resolute.data.benchmark import DataConfig, open_split
from resolute.data.degrade import collate, to_input
from resolute.engine.provenance import sha256_of
from resolute.models.backbone import build_backbone
from resolute.models.batch_norm import measure_batch_norm
from resolute.models.open_model_zoo import read_graph
from resolute.models.pretrained import nearest_backbone

NUM_IMAGES = 512  # a minute or two; scales of 256 channels to some percent [ours]
_BATCH_SIZE = 16
_WEIGHTS = ".safetensors"


def unfold(graph: Path, out: Path, *, data: DataConfig) -> str:
    """Write start weights that embed as a graph does and can be trained.

    The statistics of the batch norms, which the graph no longer has, are those of training
    images: the nearer they are to the images of the training to come, the less the first steps
    change the embedding.

    Args:
        graph: OpenVINO's ``.xml``, its ``.bin`` beside it.
        out: weight file to write, which must not exist; ends in ``.safetensors``.
        data: its training images are measured, ``NUM_IMAGES`` of them at most.

    Returns:
        One line on what was made.

    Raises:
        ConfigError: if ``out`` exists or is named otherwise, or the data settings do not fit.
        CheckpointError: if the graph is damaged or another network's, no backbone has its
            widths, or the file cannot be written.
        DatasetError: if there are no training images, or one cannot be read.
    """
    if out.suffix != _WEIGHTS:
        raise ConfigError(
            f"{out}: start weights of an OpenVINO graph are one file: name one that ends in "
            f"{_WEIGHTS}"
        )
    if out.exists():
        raise ConfigError(f"{out}: exists, and is not written over: choose another --out")
    state = read_graph(graph)
    name, report = nearest_backbone(state, where=str(graph))
    if report.missing or report.mismatched:
        raise CheckpointError(
            f"{report.summary()}: that is {name}, the nearest; no backbone has this graph's widths"
        )
    backbone = build_backbone(name)
    # Not strict: the counters of batches, which nothing reads.
    backbone.load_state_dict(state, strict=False)
    split = open_split(data)
    records = _spread(split.train)
    if not records:
        raise DatasetError(f"{split.name}: no training images to measure batch norms on")
    measure_batch_norm(backbone, _inputs(records))
    out.parent.mkdir(parents=True, exist_ok=True)
    source = {"name": graph.name, "sha256": sha256_of(graph.with_suffix(".bin"))}
    document = {"source": source, "backbone": name, "statistics": split.name}
    tensors = {key: t for key, t in backbone.state_dict().items() if key in state}
    write_tensors(out, tensors, document, kind="weights")
    return f"{out}: {name}, batch norms measured on {len(records)} training images of {split.name}"


def _spread(records: Sequence[Record]) -> list[Record]:
    count = min(NUM_IMAGES, len(records))
    return [records[i * len(records) // count] for i in range(count)]


def _inputs(records: Sequence[Record]) -> Iterator[Tensor]:
    for start in range(0, len(records), _BATCH_SIZE):
        batch = records[start : start + _BATCH_SIZE]
        pixels, sizes = collate([record.source.pixels() for record in batch])
        resolution = torch.zeros(len(batch), dtype=torch.int64)  # not looked at here
        images = Images(pixels=pixels, native_sizes=sizes, resolution=resolution)
        yield to_input(images, InputSpec())  # (N, 3, H, W)
