"""What a worker prepares of a training batch: chosen, copied and drawn, before the arithmetic.

Letters: R = P K rows of a batch, h, w native canvas.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from resolute.core.rng import Stream, Streams
from resolute.core.types import InputSpec, Record
from resolute.data.cache import PixelStore
from resolute.data.config import LoaderConfig
from resolute.data.degrade import canvas
from resolute.data.faults import draw_faults, spoil
from resolute.data.sampler import PairSampler, Selection
from resolute.data.transforms import Augmentation, draw

# What a draw is for: batch, half, record key, and which of its appearances in the batch.
Address = tuple[int, str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """The HR images, their twins, or the LR images of a batch, as numpy: cheap to send.

    Attributes:
        positions: of the images in the training records, shape (R,).
        pixels: native pixels on one canvas, shape (R, 3, h, w), 0..255.
        sizes: native (height, width), shape (R, 2).
        augmentation: flip, crop and erasing.
        rates: what the native sizes are still to be divided by, shape (R,).
        drawn: rates at which the images then stand, shape (R,).
    """

    positions: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    augmentation: Augmentation
    rates: NDArray[np.float64]
    drawn: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One batch before any arithmetic.

    Attributes:
        hr: HR images.
        twins: the same pictures to be degraded, or small ones with faults in their place.
        lr: LR images.
        labels: training index of each row's identity, shape (R,).
    """

    hr: Half
    twins: Half
    lr: Half
    labels: NDArray[np.int64]


class Steps(Dataset[Step]):
    """Batches by number, each a function of its number alone."""

    def __init__(
        self,
        records: Sequence[Record],
        store: PixelStore,
        sampler: PairSampler,
        config: LoaderConfig,
        spec: InputSpec,
        streams: Streams,
    ) -> None:
        self._store, self._sampler, self._streams = store, sampler, streams
        self._config, self._spec = config, spec
        self._keys = [r.key for r in records]
        self._rates = np.array([r.rate for r in records])

    def __getitem__(self, number: int) -> Step:
        chosen = self._sampler.batch(number)
        hr = self._half("hr", chosen.hr, number)
        return Step(
            hr=hr,
            twins=self._twins(hr, number),
            lr=self._lr(chosen, number),
            labels=chosen.labels,
        )

    def _half(self, name: str, positions: NDArray[np.int64], number: int) -> Half:
        """Collect images as they are."""
        pixels, sizes = canvas([self._store.pixels(i) for i in positions])
        rngs = [
            self._streams.numpy(Stream.AUGMENTATION, *address)
            for address in self._addresses(name, positions, number)
        ]
        return Half(
            positions=positions,
            pixels=pixels,
            sizes=sizes,
            augmentation=draw(rngs, self._spec.height, self._spec.width, self._config),
            rates=np.ones(len(positions)),
            drawn=self._rates[positions],
        )

    def _twins(self, hr: Half, number: int) -> Half:
        """Draw how the twins of HR images are degraded."""
        config = self._config
        addresses = self._addresses("hr", hr.positions, number)
        rates = np.ones(len(hr.positions))
        for row, address in enumerate(addresses):
            rng = self._streams.numpy(Stream.TWIN, *address)
            if config.twin_range:
                rates[row] = _log_evenly(rng, *config.twin_range)
            else:
                rates[row] = rng.choice(config.twin_rates)
        twins = replace(hr, rates=rates, drawn=rates)
        everyone = np.ones(len(rates), dtype=np.bool_)
        return self._spoiled(twins, addresses, everyone) if config.faults.is_on else twins

    def _lr(self, chosen: Selection, number: int) -> Half:
        """Collect LR images: at the rate they have, made of HR ones, or degraded further."""
        config = self._config
        lr = self._half("lr", chosen.lr, number)
        addresses = self._addresses("lr", chosen.lr, number)
        is_drawn = chosen.borrowed | (config.lr_rate == "redraw")
        rates = np.ones(len(chosen.lr))
        for row in np.flatnonzero(is_drawn):
            rng = self._streams.numpy(Stream.TWIN, *addresses[row])
            rates[row] = rng.choice(config.twin_rates)
        lr = replace(lr, rates=rates, drawn=np.where(is_drawn, rates, lr.drawn))
        return self._degraded_further(lr, addresses) if config.degrade_lr else lr

    def _degraded_further(self, lr: Half, addresses: Sequence[Address]) -> Half:
        """Degrade some LR images once more; none returns to its original."""
        config = self._config
        further = np.ones(len(lr.rates))
        is_chosen = np.zeros(len(lr.rates), dtype=np.bool_)
        for row, address in enumerate(addresses):
            rng = self._streams.numpy(Stream.DEGRADATION, "further", *address)
            is_chosen[row] = rng.random() < config.degrade_lr
            if is_chosen[row]:
                further[row] = _log_evenly(rng, 1.0, config.degrade_lr_rate)
        lr = replace(lr, rates=lr.rates * further, drawn=lr.drawn * further)
        return self._spoiled(lr, addresses, is_chosen) if config.faults.is_on else lr

    def _spoiled(
        self, half: Half, addresses: Sequence[Address], is_chosen: NDArray[np.bool_]
    ) -> Half:
        """Put small, faulty images in the place of the chosen ones."""
        config, arrays, rates = self._config, [], half.rates.copy()
        for row, address in enumerate(addresses):
            array = self._store.pixels(half.positions[row])
            if is_chosen[row]:
                rng = self._streams.numpy(Stream.DEGRADATION, "faults", *address)
                faults = draw_faults(rng, config.faults, config.twin_kernel)
                array = spoil(array, float(rates[row]), faults, rng=rng)
                rates[row] = 1.0
            arrays.append(array)
        pixels, sizes = canvas(arrays)
        return replace(half, pixels=pixels, sizes=sizes, rates=rates)

    def _addresses(self, name: str, positions: NDArray[np.int64], number: int) -> list[Address]:
        """Address the draws of each image.

        An image that stands twice in a batch is changed in two ways: the count is part of it.
        """
        seen: Counter[str] = Counter()
        addresses: list[Address] = []
        for position in positions:
            key = self._keys[position]
            addresses.append((number, name, key, seen[key]))
            seen[key] += 1
        return addresses


def _log_evenly(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))
