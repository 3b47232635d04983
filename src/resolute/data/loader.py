"""From records to batches: native pixels from the store, degraded and augmented on the device.

Letters: N images, R = P K rows of a batch, H, W input, h, w native canvas.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from resolute.core.errors import ConfigError
from resolute.core.images import RESOLUTION_HR, RESOLUTION_LR, RESOLUTION_UNKNOWN, Batch, Images
from resolute.core.rng import Stream, Streams
from resolute.core.types import InputSpec, Record, Resolution
from resolute.data.cache import PixelStore
from resolute.data.config import LoaderConfig
from resolute.data.degrade import canvas, collate, degraded_size
from resolute.data.mlr import originals
from resolute.data.sampler import PairSampler, Selection, num_steps
from resolute.data.transforms import Augmentation, draw, render

_RESOLUTIONS = {
    Resolution.HR: RESOLUTION_HR,
    Resolution.LR: RESOLUTION_LR,
    Resolution.UNKNOWN: RESOLUTION_UNKNOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Half:
    """The HR or the LR half of a batch before any arithmetic, as numpy: cheap to send.

    ``rates`` divide the native size now; ``drawn`` are the rates at which the images then stand.
    """

    positions: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    augmentation: Augmentation
    rates: NDArray[np.float64]
    drawn: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    hr: _Half
    lr: _Half
    labels: NDArray[np.int64]


def records_to_store(records: Sequence[Record], config: LoaderConfig) -> tuple[Record, ...]:
    """Return the records whose pixels the training loader reads.

    Args:
        records: training records.
        config: with ``lr_rate = "redraw"``, the originals of LR images are needed.

    Returns:
        Records to open a :class:`PixelStore` with.
    """
    return originals(records) if config.lr_rate == "redraw" else tuple(records)


class TrainLoader:
    """Training batches as a pure function of (records, settings, seed, epoch, step, rank).

    With several processes, rank r of W takes batch ``W t + r`` of the order that a single process
    would follow, so an epoch has W times fewer steps and no two ranks share a batch.

    Attributes:
        steps_per_epoch: training images / (batch size x processes), rounded up.
        num_identities: training identities I.
        label_of: training index of each identity, by pid.
        counts: what is trained on and what is left out.
    """

    def __init__(
        self,
        records: Sequence[Record],
        store: PixelStore,
        *,
        config: LoaderConfig,
        spec: InputSpec,
        streams: Streams,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not 0 <= rank < world:
            raise ConfigError(f"rank: expected 0 to {world - 1}, got {rank}")
        store.check_holds(records_to_store(records, config))
        self._config, self._spec = config, spec
        self._rank, self._world = rank, world
        sampler = PairSampler(
            records,
            num_identities=config.num_identities,
            num_instances=config.num_instances,
            streams=streams,
        )
        self.counts = sampler.counts
        self.num_identities = sampler.counts.num_identities
        self.label_of = sampler.labels
        self.steps_per_epoch = num_steps(sampler.counts.num_images, config.batch_size, world)
        self._steps = _Steps(records, store, sampler, config, spec, streams)
        self._turns = _Turns()
        self._ahead: DataLoader[_Step] | None = None

    def batch(self, epoch: int, step: int, device: torch.device | str) -> Batch:
        """Make one batch.

        Args:
            epoch: 0, 1, 2...
            step: 0..steps_per_epoch - 1.
            device: where pixels are degraded, resized and augmented.

        Returns:
            The batch, on the device.
        """
        return self._finish(self._steps[self._number(epoch, step)], device)

    def batches(self, epoch: int, start_step: int, device: torch.device | str) -> Iterator[Batch]:
        """Make the batches of an epoch in turn, prepared ahead by workers if there are any.

        Args:
            epoch: 0, 1, 2...
            start_step: first step to make, to resume within an epoch.
            device: where pixels are degraded, resized and augmented.

        Yields:
            The same batches as :meth:`batch`.
        """
        numbers = [self._number(epoch, step) for step in range(start_step, self.steps_per_epoch)]
        if not self._config.workers:
            for number in numbers:
                yield self._finish(self._steps[number], device)
            return
        if self._ahead is None:
            # Workers are kept from epoch to epoch. A generator of its own, or each epoch would
            # take a number from torch's global one.
            self._ahead = DataLoader(
                self._steps,
                sampler=self._turns,
                batch_size=None,
                num_workers=self._config.workers,
                persistent_workers=True,
                generator=torch.Generator(),
            )
        self._turns.numbers = numbers
        for ready in self._ahead:
            yield self._finish(ready, device)

    def _number(self, epoch: int, step: int) -> int:
        return (epoch * self.steps_per_epoch + step) * self._world + self._rank

    def _finish(self, step: _Step, device: torch.device | str) -> Batch:
        """Do the arithmetic on the device that trains."""
        hr, lr = step.hr, step.lr
        images_hr = self._render(hr, device, None)
        return Batch(
            images_hr=images_hr,  # (R, 3, H, W)
            images_lr=self._render(lr, device, lr.rates if (lr.rates > 1).any() else None),
            images_lr_syn=self._render(hr, device, hr.rates),
            labels=torch.from_numpy(step.labels).to(device),
            rates_lr=torch.from_numpy(lr.drawn).to(device, torch.float32),
            rates_syn=torch.from_numpy(hr.drawn).to(device, torch.float32),
            heights_hr=torch.from_numpy(hr.sizes[:, 0].copy()).to(device),
            heights_lr=_heights(lr).to(device),
            sources_hr=torch.from_numpy(hr.positions).to(device),
            sources_lr=torch.from_numpy(lr.positions).to(device),
        )

    def _render(
        self, half: _Half, device: torch.device | str, rates: NDArray[np.float64] | None
    ) -> Tensor:
        images = Images(
            pixels=torch.from_numpy(half.pixels).to(device),
            # Sizes and rates stay on the CPU: they choose matrices there.
            native_sizes=torch.from_numpy(half.sizes),
            resolution=torch.zeros(len(half.sizes), dtype=torch.int64),
        )
        return render(
            images,
            self._spec,
            half.augmentation,
            rates=None if rates is None else torch.from_numpy(rates),
            kernel=self._config.twin_kernel,
        )


def native_batches(
    store: PixelStore, records: Sequence[Record], batch_size: int
) -> Iterator[tuple[NDArray[np.int64], Images]]:
    """Go through images for embedding, those of like size together, so that little is padded.

    Args:
        store: their pixels.
        records: N records, in the order of the store.
        batch_size: images per batch, at least 1.

    Yields:
        Positions of the images in ``records``, shape (n,), and the images; each once.

    Raises:
        ConfigError: if the batch size is below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: expected at least 1, got {batch_size}")
    store.check_holds(records)
    order = np.lexsort((store.sizes[:, 1], store.sizes[:, 0]))
    for start in range(0, len(order), batch_size):
        positions = order[start : start + batch_size]
        pixels, sizes = collate([store.pixels(i) for i in positions])
        flags = [_RESOLUTIONS[records[i].resolution] for i in positions]
        yield positions, Images(pixels=pixels, native_sizes=sizes, resolution=torch.tensor(flags))


class _Steps(Dataset[_Step]):
    """What a worker prepares: chosen, copied and drawn, nothing computed on pixels."""

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

    def __getitem__(self, number: int) -> _Step:
        chosen = self._sampler.batch(number)
        return _Step(
            hr=self._half("hr", chosen.hr, np.ones(len(chosen.hr), dtype=np.bool_), number),
            lr=self._half("lr", chosen.lr, self._redrawn(chosen), number),
            labels=chosen.labels,
        )

    def _redrawn(self, chosen: Selection) -> NDArray[np.bool_]:
        everyone = self._config.lr_rate == "redraw"
        return chosen.borrowed | everyone

    def _half(
        self, name: str, positions: NDArray[np.int64], is_drawn: NDArray[np.bool_], number: int
    ) -> _Half:
        pixels, sizes = canvas([self._store.pixels(i) for i in positions])
        # An image that stands twice in a batch is changed in two ways: the count is part of
        # the address of its draws.
        seen: Counter[str] = Counter()
        augmentations, rates = [], np.ones(len(positions))
        for row, position in enumerate(positions):
            key = self._keys[position]
            address = (number, name, key, seen[key])
            seen[key] += 1
            augmentations.append(self._streams.numpy(Stream.AUGMENTATION, *address))
            if is_drawn[row]:
                rng = self._streams.numpy(Stream.TWIN, *address)
                rates[row] = rng.choice(self._config.twin_rates)
        return _Half(
            positions=positions,
            pixels=pixels,
            sizes=sizes,
            augmentation=draw(augmentations, self._spec.height, self._spec.width, self._config),
            rates=rates,
            drawn=np.where(is_drawn, rates, self._rates[positions]),
        )


class _Turns:
    """The batch numbers that the workers are to prepare next."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def _heights(half: _Half) -> Tensor:
    """Return the heights after the rates that are still to be applied."""
    sizes = zip(half.sizes.tolist(), half.rates.tolist(), strict=True)
    return torch.tensor([degraded_size(h, w, rate)[0] for (h, w), rate in sizes])
