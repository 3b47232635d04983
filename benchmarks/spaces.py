"""Embedding of FTWA+ with all its spaces, in the HR space alone, and by one encoder, in turn.

    python benchmarks/spaces.py [--rounds 8] [--images 16] [--threads 1]

Random weights, OSNet (the learned-pooling variant) at 256x128, noise of 48 and 128 pixels height
for LR and HR images; preparing pixels counts. CPU time, so that busy machines can run it. Quote
the ratios.
"""

import argparse
import statistics
import time

import torch

from resolute.core.images import RESOLUTION_HR, RESOLUTION_LR, Images
from resolute.core.rng import Stream, Streams
from resolute.engine.memory import keep_freed_memory
from resolute.methods.catalogue import METHODS
from resolute.methods.contract import Method, Sparing, as_method
from resolute.recipes.catalogue import find_recipe

HEIGHTS = {RESOLUTION_HR: 128, RESOLUTION_LR: 48}


def main() -> None:
    """Time all three in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    spared, whole = build("ftwa-plus", is_spared=True), build("ftwa-plus")
    one = build("baseline-twins")
    print("times as fast in the HR space alone as | all spaces | one encoder")
    for name, resolution in (("HR images", RESOLUTION_HR), ("LR images", RESOLUTION_LR)):
        images = noise(options.images, resolution)
        seconds = [
            [cost(method, images) for method in (spared, whole, one)]
            for _ in range(options.rounds + 1)
        ][1:]  # one round of warm-up
        ratios = [[row[i] / row[0] for row in seconds] for i in (1, 2)]
        print(name, *(f"{statistics.median(r):.2f} ({min(r):.2f}..{max(r):.2f})" for r in ratios))


def build(name: str, *, is_spared: bool = False) -> Method:
    """Build a row with random weights, as evaluation or, spared, as everybody else loads it."""
    config = find_recipe(name, "mlr-viper", "recommended")
    blueprint = config.blueprint(num_identities=3, height_reference=128.0)
    method, _ = METHODS[name](blueprint, streams=Streams(0))
    if is_spared and isinstance(method, Sparing):
        method.drop_unread_space()
    return as_method(method.eval().to(memory_format=torch.channels_last))


def noise(count: int, resolution: int) -> Images:
    """Draw native-size images of one resolution."""
    height = HEIGHTS[resolution]
    generator = Streams(0).torch(Stream.TIES)
    return Images(
        pixels=torch.randint(
            256, (count, 3, height, height // 2), generator=generator, dtype=torch.uint8
        ),
        native_sizes=torch.tensor([[height, height // 2]] * count),
        resolution=torch.full((count,), resolution),
    )


def cost(method: Method, images: Images) -> float:
    """Return seconds of CPU time."""
    begin = time.process_time()
    method.embed(images)
    return time.process_time() - begin


if __name__ == "__main__":
    main()
