"""Images in memory for the tests of this folder: no file, no drawing, no other reader."""

from dataclasses import dataclass

import numpy as np

from resolute.core.types import Record, Resolution, Split


@dataclass(frozen=True)
class ArraySource:
    """Pixels that are already there."""

    array: np.ndarray
    name: str = ""

    def pixels(self):
        return self.array

    def token(self):
        return f"array {self.name} {self.array.shape} {hash(self.array.tobytes())}"


def picture(seed, height=32, width=16):
    """A picture with structure at several scales, as noise alone would hide errors of place."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 2, 3)).repeat(-(-height // 4), 0).repeat(-(-width // 2), 1)
    fine = rng.integers(-60, 61, (height, width, 3))
    return (coarse[:height, :width] + fine).clip(0, 255).astype(np.uint8)


def record(pid, camid, number=0, *, resolution=Resolution.UNKNOWN, rate=1.0, size=(32, 16)):
    key = f"cam{camid}/{pid:04d}_{number:02d}.png"
    array = picture([pid, camid, number], *size)
    return Record(
        key=key, pid=pid, camid=camid, resolution=resolution, rate=rate,
        source=ArraySource(array, key),
    )  # fmt: skip


def two_views(num_pids=12, *, trial=0, name="viper", per_view=1, size=(32, 16)):
    """A VIPeR-like split: every identity in cameras 0 and 1, another half trains in each trial."""
    order = np.random.default_rng(trial).permutation(num_pids)
    train_pids, test_pids = order[: num_pids // 2], order[num_pids // 2 :]
    view = lambda pids, camid: tuple(  # noqa: E731
        record(int(pid), camid, n, size=size) for pid in sorted(pids) for n in range(per_view)
    )
    return Split(
        name=f"{name} trial {trial}",
        train=view(train_pids, 0) + view(train_pids, 1),
        query=view(test_pids, 1),
        gallery=view(test_pids, 0),
    )
