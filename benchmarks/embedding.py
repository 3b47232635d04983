"""Images per second from files to vectors, by runtime, against the network alone.

Run: ``python benchmarks/embedding.py --backbone osnet_x0_25`` (minutes on two cores), with
``--torchreid PATH`` (a checkout of deep-person-reid) against its FeatureExtractor, equal weights.
Pictures are drawn people as JPEG files; decoding, resizing and the network all count.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resolute.core.images import Images
from resolute.core.rng import Stream, Streams
from resolute.data.degrade import collate
from resolute.data.synthetic import SyntheticSource
from resolute.engine.convert import convert
from resolute.engine.memory import keep_freed_memory
from resolute.export.artifact import export
from resolute.export.config import ExportConfig
from resolute.export.samples import drawn_people
from resolute.inference.load import load
from resolute.inference.model import Model
from resolute.inference.runtimes import Exported, graph_inputs
from resolute.models.backbone import build_backbone
from resolute.models.config import ModelConfig

BATCHES = (1, 32)


def make_run(scratch: Path, backbone: str) -> tuple[Path, Path]:
    """Write random weights as a file that Torchreid reads, and a run made of it."""
    with Streams(0).torch_default(Stream.INITIALISATION):
        network = build_backbone(backbone).eval()
    weights = scratch / f"{backbone}.pth"
    torch.save({"state_dict": network.state_dict()}, weights)
    run = scratch / "run"
    convert(weights, run, model=ModelConfig(backbone=backbone))  # type: ignore[arg-type]
    return weights, run


def draw_files(folder: Path, count: int) -> list[Path]:
    """Draw people into JPEG files of the size of camera crops."""
    folder.mkdir()
    paths = []
    for pid in range(1, count + 1):
        pixels = SyntheticSource(seed=1, pid=pid, camid=pid % 2, index=0).pixels()
        paths.append(folder / f"{pid:05d}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def rate(work: Callable[[], object], count: int, *, repeats: int) -> float:
    """Return images per second of the best of some runs: other programs only slow one down."""
    work()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return count / best


def network_alone(model: Model, batch: int, count: int) -> Callable[[], object]:
    """Return a run of the network on inputs that lie ready, as many images as there are files."""
    pixels = [SyntheticSource(seed=1, pid=i + 1, camid=0, index=0).pixels() for i in range(batch)]
    canvas, sizes = collate(pixels)
    flags = torch.zeros(batch, dtype=torch.int64)
    images = Images(pixels=canvas, native_sizes=sizes, resolution=flags)
    method = model.method
    if isinstance(method, Exported):
        sidecar = method.sidecar
        ready = graph_inputs(sidecar.hr, images, preset=sidecar.preset, spec=sidecar.input_spec)
        names = sidecar.output_names()
        return lambda: [method.sessions["hr"].run(ready, names) for _ in range(count // batch)]
    network = method.graphs().hr.network
    inputs = torch.randn(batch, 3, model.input_spec.height, model.input_spec.width)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(count // batch):
                network(inputs)

    return run


def torchreid_extractor(
    checkout: Path, backbone: str, weights: Path
) -> Callable[[list[str]], torch.Tensor]:
    """Build Torchreid's FeatureExtractor with the same weights."""
    sys.path.insert(0, str(checkout))
    from torchreid.utils import FeatureExtractor  # type: ignore[import-not-found]

    extractor: Callable[[list[str]], torch.Tensor] = FeatureExtractor(
        model_name=backbone, model_path=str(weights), device="cpu", verbose=False
    )
    return extractor


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="osnet_x0_25")
    parser.add_argument("--images", type=int, default=256, help="files; a multiple of 32")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--torchreid", type=Path, help="a checkout of deep-person-reid")
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        measure(options, Path(scratch))


def measure(options: argparse.Namespace, scratch: Path) -> None:
    """Make run, export and files, then time everything."""
    files = draw_files(scratch / "crops", options.images)
    weights, run = make_run(scratch, options.backbone)
    (written,) = export(run, ExportConfig(artifact="full"), samples=drawn_people(count=9))
    models = {"torch": load(run)}
    for runtime in ("onnxruntime", "openvino"):
        models[runtime] = load(written.files[0], runtime=runtime)
    machine = platform.processor() or platform.machine()
    print(f"{options.backbone}, {options.images} JPEG files, {options.threads} threads, {machine}")
    print(f"torch {torch.__version__}; best of {options.repeats}; images per second")
    print("| runtime | batch | files to vectors | network alone | overhead |")
    print("|---|---|---|---|---|")
    for name, model in models.items():
        for batch in BATCHES:
            alone = rate(
                network_alone(model, batch, options.images), options.images, repeats=options.repeats
            )
            whole = rate(
                lambda model=model, batch=batch: model.embed(  # type: ignore[misc]
                    files, resolution="hr", batch_size=batch
                ),
                options.images,
                repeats=options.repeats,
            )
            print(f"| {name} | {batch} | {whole:.1f} | {alone:.1f} | {alone / whole - 1:.0%} |")
    if options.torchreid:
        extractor = torchreid_extractor(options.torchreid, options.backbone, weights)
        _compare(extractor, models["torch"], files, repeats=options.repeats)


def _compare(
    extractor: Callable[[list[str]], torch.Tensor], model: Model, files: list[Path], *, repeats: int
) -> None:
    names = [str(path) for path in files]

    def extract(batch: int) -> torch.Tensor:
        starts = range(0, len(names), batch)
        return torch.cat([extractor(names[i : i + batch]) for i in starts])

    for batch in BATCHES:
        speed = rate(lambda batch=batch: extract(batch), len(names), repeats=repeats)  # type: ignore[misc]
        print(f"| Torchreid's FeatureExtractor | {batch} | {speed:.1f} | | |")
    theirs = torch.nn.functional.normalize(extract(32), dim=1).numpy()
    ours = model.embed(files, resolution="hr").vectors[:, 0]
    print(f"smallest cosine of ours with theirs: {np.einsum('nd,nd->n', ours, theirs).min():.6f}")


if __name__ == "__main__":
    main()
