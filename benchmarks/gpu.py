"""Speed, memory and resumption of one recipe on a GPU: never a score.

    python benchmarks/gpu.py --out gpu.json       # FTWA on ResNet-50, the paper's recipe
    python benchmarks/gpu.py --device cpu --backbone resnet18 --height 64 --width 32 --steps 2

The step alone is timed on batches that lie on the device already; the whole run, data included, by
training on drawn people. Fractions of the peak are over what a large matrix product of the same
kind reaches on this chip, and the operations are those of the convolutions and matrix products of
forward and backward. Images count as the paper does: 64 per step, the twins come on top.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from resolute.core.config import override
from resolute.core.images import Batch
from resolute.core.rng import Streams
from resolute.core.types import InputSpec
from resolute.data.benchmark import open_split
from resolute.data.cache import PixelStore
from resolute.data.loader import TrainLoader
from resolute.engine.config import RunConfig
from resolute.engine.distributed import World
from resolute.engine.phases import PhaseRun, start_phases
from resolute.engine.run import train
from resolute.methods.catalogue import METHODS
from resolute.recipes.catalogue import find_recipe

WARM_UP = 3
NUM_IDENTITIES = 316  # of a VIPeR half: the size of the classifier


def drawn_batch(config: RunConfig, device: torch.device) -> Batch:
    """Make the first batch of a run on drawn people."""
    split, streams = open_split(config.data), Streams(0)
    loader = TrainLoader(
        split.train,
        PixelStore.open(split.train),
        config=config.loader,
        spec=InputSpec(height=config.model.height, width=config.model.width),
        streams=streams,
    )
    return loader.batch(0, 0, device)


def phase_of(config: RunConfig, device: torch.device) -> PhaseRun:
    """Build the method and its optimiser as a run does."""
    blueprint = config.blueprint(num_identities=NUM_IDENTITIES, height_reference=128.0)
    method, _ = METHODS[config.name](blueprint, streams=Streams(0))
    method.to(device).train()
    if config.train.channels_last:
        method.to(memory_format=torch.channels_last)
    phases = start_phases(
        method, config=config.train, world=World(), device=device, has_unused_parameters=False
    )
    return phases[-1]


def timed(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Return the mean seconds of a call, after a warm-up."""
    for _ in range(WARM_UP):
        work()
    wait(device)
    begin = time.perf_counter()
    for _ in range(times):
        work()
    wait(device)
    return (time.perf_counter() - begin) / times


def wait(device: torch.device) -> None:
    """Wait until the device has done what was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def backward_flops(
    grad_out: Sequence[int],
    images: Sequence[int],
    weight: Sequence[int],
    *rest: Any,  # bias, stride, padding, dilation, then what is read here
    **_: object,
) -> int:
    """Count a convolution's backward; torch's own count leaves groups out of account."""
    is_transposed, *_, output_mask = rest[4:]
    places = images if is_transposed else grad_out
    return 2 * math.prod(places) * math.prod(weight[1:]) * sum(output_mask[:2])


def peak_of(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the operations per second of a large matrix product.

    In float32 with TF32 on a GPU, because that is what its convolutions run in.
    """
    torch.set_float32_matmul_precision("high")
    side = 8192 if device.type == "cuda" else 512
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = timed(lambda: one @ other, device, 10)
    torch.set_float32_matmul_precision("highest")
    return 2 * side**3 / seconds


def measure_step(config: RunConfig, device: torch.device, steps: int) -> dict[str, Any]:
    """Time the training step alone."""
    batch, run = drawn_batch(config, device), phase_of(config, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    counting = {torch.ops.aten.convolution_backward: backward_flops}
    with FlopCounterMode(display=False, custom_mapping=counting) as counter:
        run.update(batch, epoch=0, factor=1e-3)
    seconds = timed(lambda: run.update(batch, epoch=0, factor=1e-3), device, steps)
    peak = peak_of(device, torch.bfloat16 if config.train.amp else torch.float32)
    per_s = counter.get_total_flops() / seconds
    found = {
        "step_ms": 1e3 * seconds,
        "images_per_s": config.loader.batch_size / seconds,
        "gflop_per_step": counter.get_total_flops() / 1e9,
        "tflop_per_s": per_s / 1e12,
        "peak_tflop_per_s": peak / 1e12,
        "fraction_of_peak": per_s / peak,
    }
    if device.type == "cuda":
        found["peak_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return found


def measure_run(config: RunConfig, folder: Path, steps: int) -> dict[str, Any]:
    """Train twice: in one go, and stopped half-way and resumed; compare speed and losses."""
    whole = train(_until(config, 2 * steps), folder / "whole")
    train(_until(config, steps), folder / "resumed")
    train(_until(config, 2 * steps), folder / "resumed", resume="exact")
    losses = [_losses(folder / name) for name in ("whole", "resumed")]
    gaps = [
        abs(one[term] - other[term]) / max(1e-9, abs(one[term]))
        for one, other in zip(*losses, strict=True)
        for term in one
    ]
    return {
        "steps": 2 * steps,
        "images_per_s_with_data": whole.images_per_s,
        "resumed_at_step": steps,
        "largest_relative_loss_gap": max(gaps),
        "same_bits": losses[0] == losses[1],
    }


def _until(config: RunConfig, steps: int) -> RunConfig:
    return override(config, {"train.max_steps": steps})


def _losses(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "scalars.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [row["losses"] for row in rows if "losses" in row]


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", default="ftwa")
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=20, help="timed steps, and half of the run's")
    parser.add_argument("--no-run", action="store_true", help="time the step alone")
    parser.add_argument("--out", type=Path, help="also write what was found as JSON")
    options = parser.parse_args(words)
    device = torch.device(options.device)
    base = override(
        find_recipe(options.method, "mlr-synthetic", options.recipe),
        {
            "model.backbone": options.backbone,
            "model.weights": "",
            "model.height": options.height,
            "model.width": options.width,
            "train.device": options.device,
            "data.synthetic.num_identities": 80,
        },
    )
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    found: dict[str, Any] = {
        "device": name,
        "torch": torch.__version__,
        "method": options.method,
        "backbone": options.backbone,
        "batch": base.loader.batch_size,
        "score": "none: without ImageNet weights this shows speed, memory and resumption only",
    }
    layouts: dict[str, dict[str, Any]] = {
        f"{numbers}{order}": {"train.amp": is_mixed, "train.channels_last": is_last}
        for order, is_last in (("", False), (", channels-last", True))
        for numbers, is_mixed in (("float32", False), ("bf16", True))
    }
    for label, changes in layouts.items():
        found[label] = measure_step(override(base, changes), device, options.steps)
        print(label, json.dumps(found[label]), flush=True)
    if not options.no_run:
        with tempfile.TemporaryDirectory() as folder:
            cached = override(base, {"data.cache": folder})
            found["run"] = measure_run(cached, Path(folder), options.steps)
        print("run", json.dumps(found["run"]), flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
