"""Time one training batch (32 HR + 32 LR + 32 twins) and its parts, on one thread.

Run: ``python benchmarks/loader.py``. Pictures are noise: the arithmetic does not look at them.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from resolute.core.images import Images
from resolute.core.rng import Streams
from resolute.core.types import InputSpec, Record, Resolution, Split
from resolute.data.cache import PixelStore
from resolute.data.config import LoaderConfig
from resolute.data.degrade import collate, to_input
from resolute.data.loader import TrainLoader
from resolute.data.mlr import PRESETS, build

REPEATS = 20


@dataclass(frozen=True)
class Noise:
    """Random pixels."""

    seed: int
    height: int
    width: int

    def pixels(self) -> NDArray[np.uint8]:
        """Return the same noise for the same seed."""
        shape = (self.height, self.width, 3)
        return np.random.default_rng(self.seed).integers(0, 256, shape, dtype=np.uint8)

    def token(self) -> str:
        """Return what the pixels depend on."""
        return f"{self}"


def record(pid: int, camid: int) -> Record:
    """Make one image of VIPeR's size."""
    source = Noise(2 * pid + camid, 128, 48)
    key = f"{camid}/{pid:04d}"
    return Record(key=key, pid=pid, camid=camid, resolution=Resolution.UNKNOWN, source=source)


def milliseconds(work: Callable[[int], object]) -> str:
    """Time some work by its processor time, which other programs disturb least."""
    work(0)
    times = []
    for i in range(REPEATS):
        start = time.process_time()
        work(i)
        times.append(1000 * (time.process_time() - start))
    return f"{np.median(times):6.1f} ms median, {min(times):6.1f} ms fastest"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    everyone = [record(pid, camid) for pid in range(320) for camid in (0, 1)]
    split = Split(
        name="noise", train=tuple(everyone[:632]), query=(everyone[-1],), gallery=(everyone[-2],)
    )
    policy = replace(PRESETS["default"], lr_camids=(1,))
    train = build(split, policy, streams=Streams(0)).train
    config = LoaderConfig(num_instances=1)
    loader = TrainLoader(
        train, PixelStore.open(train), config=config, spec=InputSpec(), streams=Streams(0)
    )
    pixels, sizes = collate([r.source.pixels() for r in everyone[:96]])
    images = Images(
        pixels=pixels, native_sizes=sizes, resolution=torch.zeros(96, dtype=torch.int64)
    )
    rates = torch.tensor([2.0, 3.0, 4.0] * 32)
    print(f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}")
    print("batch of 32 + 32 + 32  ", milliseconds(lambda i: loader.batch(0, i % 10, "cpu")))
    print("  chosen and drawn     ", milliseconds(lambda i: loader._steps[i]))
    print("96 x 128x48 to 256x128 ", milliseconds(lambda _: to_input(images, InputSpec())))
    print(
        "  through 1/2, 1/3, 1/4",
        milliseconds(lambda _: to_input(images, InputSpec(), rates=rates)),
    )


if __name__ == "__main__":
    main()
