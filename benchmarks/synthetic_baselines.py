"""Measure how far plain pixels and plain colours get on the data set ``synthetic``.

Single-shot, as the MLR protocol: every image of camera 1 asks, one random image per identity of
camera 0 answers. Queries are shrunk by r (Pillow bicubic, floor), then both sides are resized to
128x64 (bilinear). Neither matcher may solve the set; both should beat chance.

    python benchmarks/synthetic_baselines.py --identities 500 --rates 1 2 3 4 8
    python benchmarks/synthetic_baselines.py --sheet docs/images/synthetic.png
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from resolute.core.rng import Stream, Streams
from resolute.core.types import Record
from resolute.data.synthetic import SyntheticConfig, SyntheticSource, read

HEIGHT, WIDTH = 128, 64
Floats = NDArray[np.float32]


def shrink(pixels: NDArray[np.uint8], rate: int) -> Image.Image:
    """Lose resolution as the default MLR preset does."""
    image = Image.fromarray(pixels)
    size = (image.width // rate, image.height // rate)
    return image if rate == 1 else image.resize(size, Image.Resampling.BICUBIC)


def load(image: Image.Image) -> NDArray[np.uint8]:
    """Resize to the common size, (128, 64, 3)."""
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))


def raw_pixels(images: NDArray[np.uint8]) -> Floats:
    """Flatten pixels, each image brought to mean 0 and length 1: its best case."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return _unit_length(flat)


def colour_histogram(images: NDArray[np.uint8], *, stripes: int, space: str) -> Floats:
    """Count colours in horizontal stripes of the middle half: 8 x 4 x 4 bins, square roots."""
    middle = images[:, :, WIDTH // 4 : -WIDTH // 4]
    if space == "HSV":
        middle = np.stack([np.asarray(Image.fromarray(i).convert("HSV")) for i in middle])
        bins = np.array([8, 4, 4])
    else:
        bins = np.array([5, 5, 5])
    cells = middle.astype(np.int64) * bins // 256  # (N, 128, 32, 3)
    words = (cells[..., 0] * bins[1] + cells[..., 1]) * bins[2] + cells[..., 2]
    parts = [
        [np.bincount(stripe.ravel(), minlength=int(bins.prod())) for stripe in np.split(w, stripes)]
        for w in words
    ]
    counts = np.sqrt(np.array(parts, dtype=np.float32).reshape(len(images), -1))
    return _unit_length(counts)


MATCHERS: dict[str, Callable[[NDArray[np.uint8]], Floats]] = {
    "raw pixels": raw_pixels,
    "HSV histogram, whole body": lambda x: colour_histogram(x, stripes=1, space="HSV"),
    "HSV histogram, 8 stripes": lambda x: colour_histogram(x, stripes=8, space="HSV"),
    "RGB histogram, whole body": lambda x: colour_histogram(x, stripes=1, space="RGB"),
    "RGB histogram, 8 stripes": lambda x: colour_histogram(x, stripes=8, space="RGB"),
}


def rank1(
    query: Floats, gallery: Floats, query_pids: NDArray[np.int64], gallery_pids: NDArray[np.int64]
) -> float:
    """Return the mean Rank-1 over 20 draws of one gallery image per identity."""
    closeness = query @ gallery.T
    streams, scores = Streams(0), []
    people = np.unique(gallery_pids)
    for draw in range(20):
        rng = streams.numpy(Stream.TRIAL, draw)
        chosen = np.array([rng.choice(np.flatnonzero(gallery_pids == pid)) for pid in people])
        found = people[closeness[:, chosen].argmax(axis=1)]
        scores.append(float((found == query_pids).mean()))
    return float(np.mean(scores))


def measure(config: SyntheticConfig, rates: Sequence[int], *, trial: int) -> None:
    """Print Rank-1 of every matcher at every rate."""
    split = read(config, trial=trial, streams=Streams(0))
    begin = time.perf_counter()
    query = [r.source.pixels() for r in split.query]
    gallery = np.stack([load(Image.fromarray(r.source.pixels())) for r in split.gallery])
    drawn = len(query) + len(gallery)
    per_image = (time.perf_counter() - begin) / drawn
    people = len({r.pid for r in split.gallery})
    print(f"{split.name}: {people} test identities, chance {1 / people:.1%}")
    print(f"drew {drawn} images at {1e3 * per_image:.1f} ms each on one core")
    print(f"{'Rank-1 in %':<28}" + "".join(f"{f'r = {r}':>8}" for r in rates))
    seen = {rate: np.stack([load(shrink(p, rate)) for p in query]) for rate in rates}
    for name, describe in MATCHERS.items():
        known = describe(gallery)
        row = [
            rank1(describe(seen[rate]), known, _pids(split.query), _pids(split.gallery))
            for rate in rates
        ]
        print(f"{name:<28}" + "".join(f"{100 * score:8.1f}" for score in row))


def contact_sheet(*, seed: int = 0, rows: int = 6, first: int = 0) -> Image.Image:
    """Lay out people in rows: camera 0 twice, camera 1 twice, then the last one at r = 2, 4, 8."""
    titles = ("camera 0", "camera 0", "camera 1", "camera 1", "r = 2", "r = 4", "r = 8")
    gap, head = 4, 14
    sheet = Image.new("RGB", (7 * (WIDTH + gap) + gap, rows * (HEIGHT + gap) + head + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        pen.text((gap + column * (WIDTH + gap), 1), title, fill="black")
    for row in range(rows):
        pictures = [
            SyntheticSource(seed=seed, pid=first + row, camid=camid, index=index).pixels()
            for camid in (0, 1)
            for index in (0, 1)
        ]
        cells = [shrink(p, 1) for p in pictures] + [shrink(pictures[3], r) for r in (2, 4, 8)]
        for column, cell in enumerate(cells):
            place = (gap + column * (WIDTH + gap), head + gap + row * (HEIGHT + gap))
            sheet.paste(Image.fromarray(load(cell)), place)
    return sheet


def _unit_length(vectors: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
    return vectors / lengths


def _pids(records: Sequence[Record]) -> NDArray[np.int64]:
    return np.array([r.pid for r in records], dtype=np.int64)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--identities", type=int, default=500)
    parser.add_argument("--images", type=int, default=4, help="per camera")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trial", type=int, default=0)
    parser.add_argument("--rates", type=int, nargs="+", default=[1, 2, 3, 4, 8])
    parser.add_argument("--sheet", type=Path, help="write a contact sheet and stop")
    parser.add_argument("--first", type=int, default=0, help="first identity on the sheet")
    args = parser.parse_args()
    if args.sheet:
        sheet = contact_sheet(seed=args.seed, first=args.first)
        sheet.quantize(256).save(args.sheet, optimize=True)
        return
    config = SyntheticConfig(
        num_identities=args.identities, images_per_camera=args.images, seed=args.seed
    )
    measure(config, args.rates, trial=args.trial)


if __name__ == "__main__":
    main()
