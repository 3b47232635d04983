"""Training steps with the stem's input norm joined to its convolution and without, in turn.

    python benchmarks/stem.py [--steps 12] [--images 24] [--threads 1]

Forward and backward of OSNet (the learned-pooling variant) on drawn inputs of 256x128,
channels-last, freed memory kept. CPU time, so that busy machines can run it. Quote the ratio.
"""

import argparse
import statistics
import time

import torch
from torch import nn

from resolute.core.rng import Stream, Streams
from resolute.engine.memory import keep_freed_memory
from resolute.models.backbone import build_backbone


def main() -> None:
    """Time both in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    network = build_backbone("osnet_gn_x0_5").to(memory_format=torch.channels_last).train()
    images = torch.rand(options.images, 3, 256, 128, generator=Streams(0).torch(Stream.TIES))
    joined, deep = network.shallow(), network.deep()
    one_by_one = nn.Sequential(*joined)
    ratios = []
    for _ in range(options.steps + 1):
        seconds = [step(nn.Sequential(shallow, deep), images) for shallow in (one_by_one, joined)]
        ratios.append(seconds[0] / seconds[1])
    ratios = sorted(ratios[1:])  # one round of warm-up
    print(
        f"joined is {statistics.median(ratios):.2f} times as fast "
        f"({ratios[0]:.2f}..{ratios[-1]:.2f})"
    )


def step(network: nn.Module, images: torch.Tensor) -> float:
    """Return seconds of CPU time of one forward and backward pass."""
    begin = time.process_time()
    network(images).square().sum().backward()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
