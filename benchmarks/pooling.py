"""Pool tracks of drawn people: by reliability, by native height, and by the plain mean.

Run: ``python benchmarks/pooling.py RUN [--people 100] [--seed 1]``. A track is one person's images
of the second camera, each at its own rate; the gallery is one sharp image per person of the
first. Reliability needs a calibrated run (``resolute calibrate``), fitted on other drawings.
"""

import argparse
from dataclasses import replace

import numpy as np

from resolute.core.distance import distance_matrix
from resolute.core.rng import Stream, Streams
from resolute.core.types import Embedding
from resolute.data.degrade import BICUBIC, degrade
from resolute.data.synthetic import SyntheticSource
from resolute.inference.load import load
from resolute.inference.pooling import pool

RATES = (1.0, 2.0, 4.0, 6.0, 8.0)
RESAMPLES = 2000


def rank1(query: Embedding, gallery: Embedding) -> np.ndarray:
    """Tell for each person whether the gallery image of the same number is nearest."""
    return distance_matrix(query, gallery).argmin(axis=1) == np.arange(len(query))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--images", type=int, default=5, help="images per track")
    parser.add_argument("--seed", type=int, default=1, help="of the drawings; not the training's")
    options = parser.parse_args()
    model = load(options.run)
    rng = Streams(options.seed).numpy(Stream.RATE, "tracks")
    tracks, pictures = [], []
    for pid in range(1, options.people + 1):
        for index, rate in enumerate(rng.choice(RATES, options.images)):
            source = SyntheticSource(seed=options.seed, pid=pid, camid=1, index=index)
            pictures.append(degrade(source.pixels(), float(rate), BICUBIC))
            tracks.append(pid)
    sharp = [
        SyntheticSource(seed=options.seed, pid=pid, camid=0, index=0).pixels()
        for pid in range(1, options.people + 1)
    ]
    gallery, images = model.embed(sharp), model.embed(pictures)
    plain = replace(images, reliability=None, native_sizes=None)
    ways = {
        "one image, drawn at random": images.take(np.arange(0, len(images), options.images)),
        "plain mean": pool(plain, tracks),
        "by native height": pool(replace(images, reliability=None), tracks),
    }
    if images.reliability is not None:
        ways["by reliability"] = pool(images, tracks)
    hits = {name: rank1(query, gallery) for name, query in ways.items()}
    draws = (
        Streams(options.seed)
        .numpy(Stream.BOOTSTRAP, "tracks")
        .integers(options.people, size=(RESAMPLES, options.people))
    )
    print(f"drawn people, {options.people} tracks of {options.images} images, rates {RATES}")
    for name, hit in hits.items():
        gain = (hit.astype(float) - hits["plain mean"])[draws].mean(axis=1)
        low, high = 100 * np.quantile(gain, [0.025, 0.975])
        print(
            f"{name:<28} Rank-1 {100 * hit.mean():5.1f}   "
            f"against the plain mean {100 * gain.mean():+5.1f} ({low:+.1f} to {high:+.1f})"
        )


if __name__ == "__main__":
    main()
