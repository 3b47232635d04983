"""Images that an export is set and checked with: drawn people, or the run's own training images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from resolute.core.errors import DatasetError
from resolute.core.images import RESOLUTION_HR, RESOLUTION_LR, RESOLUTION_UNKNOWN, Images
from resolute.core.types import Record, Resolution
from resolute.data.degrade import collate, degrade
from resolute.data.kernels import BICUBIC
from resolute.data.synthetic import SyntheticSource

Pixels = NDArray[np.uint8]
NUM_PEOPLE = 120  # of each kind; enough for a threshold to 1 %
RATES = (2.0, 3.0, 4.0)  # of LR images [SING]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """HR and LR images at their native sizes.

    Attributes:
        hr: RGB, each (h, w, 3), uint8.
        lr: RGB, each (h, w, 3), uint8.
        source: what they are, for reports.
    """

    hr: tuple[Pixels, ...]
    lr: tuple[Pixels, ...]
    source: str

    @property
    def height(self) -> float:
        """Median native height of the HR images in pixels."""
        return float(np.median([pixels.shape[0] for pixels in self.hr]))

    def mixture(self, count: int) -> Images:
        """Lay out HR and LR images in turn, every third of unknown resolution.

        Args:
            count: number of images N.

        Returns:
            N images.
        """
        sides = (self.hr, self.lr)
        chosen = [sides[i % 2][i // 2 % len(sides[i % 2])] for i in range(count)]
        flags = [
            RESOLUTION_UNKNOWN if i % 3 == 2 else (RESOLUTION_HR, RESOLUTION_LR)[i % 2]
            for i in range(count)
        ]
        return _images(chosen, flags)

    def batches(self, kind: str, *, size: int = 16) -> list[Images]:
        """Lay out all images of one kind.

        Args:
            kind: ``hr`` or ``lr``.
            size: images per batch.

        Returns:
            Batches, flagged as that kind.
        """
        pixels: tuple[Pixels, ...] = getattr(self, kind)
        flag = RESOLUTION_HR if kind == "hr" else RESOLUTION_LR
        starts = range(0, len(pixels), size)
        return [_images(part := pixels[i : i + size], [flag] * len(part)) for i in starts]


def drawn_people(*, count: int = NUM_PEOPLE) -> Samples:
    """Draw people, and their versions of lower resolution.

    Args:
        count: number of people.

    Returns:
        One HR image of each, 128 to 160 pixels high, and one LR image, rates 2, 3, 4 in turn.
    """
    hr = [
        SyntheticSource(seed=0, pid=pid, camid=pid % 2, index=0).pixels()
        for pid in range(1, count + 1)
    ]
    return Samples(hr=tuple(hr), lr=_lowered(hr), source="drawn people")


def of_records(records: Sequence[Record], *, source: str, count: int = NUM_PEOPLE) -> Samples:
    """Take training images, evenly from the whole list.

    Args:
        records: of a training set; images of unknown resolution count as HR.
        source: name of the set.
        count: largest number of each kind.

    Returns:
        The images; LR ones are made at rates 2, 3, 4 where the set has none.

    Raises:
        DatasetError: if there is no HR image, or one cannot be read.
    """
    sharp = _spread([r for r in records if r.resolution is not Resolution.LR], count)
    low = _spread([r for r in records if r.resolution is Resolution.LR], count)
    if not sharp:
        raise DatasetError(f"{source}: expected HR training images, found none")
    hr = [r.source.pixels() for r in sharp]
    lr = tuple(r.source.pixels() for r in low) or _lowered(hr)
    return Samples(hr=tuple(hr), lr=lr, source=f"training images of {source}")


def _lowered(pixels: Sequence[Pixels]) -> tuple[Pixels, ...]:
    return tuple(degrade(p, RATES[i % len(RATES)], BICUBIC) for i, p in enumerate(pixels))


def _spread(records: Sequence[Record], count: int) -> list[Record]:
    positions = np.linspace(0, len(records) - 1, min(count, len(records))).astype(int)
    return [records[i] for i in positions] if records else []


def _images(pixels: Sequence[Pixels], flags: Sequence[int]) -> Images:
    canvas, sizes = collate(pixels)
    return Images(pixels=canvas, native_sizes=sizes, resolution=torch.tensor(list(flags)))
