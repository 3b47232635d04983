"""From records to batches: native pixels from the store, degraded and augmented on the device.

Letters: N images, R = P K rows of a batch, H, W input, h, w native canvas.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from resolute.core.errors import ConfigError
from resolute.core.images import RESOLUTION_HR, RESOLUTION_LR, RESOLUTION_UNKNOWN, Batch, Images
from resolute.core.rng import Streams
from resolute.core.types import InputSpec, Record, Resolution
from resolute.data.cache import PixelStore
from resolute.data.config import LoaderConfig
from resolute.data.degrade import Degraded, collate, degraded_size
from resolute.data.mlr import originals
from resolute.data.sampler import PairSampler, num_steps
from resolute.data.steps import Half, Step, Steps
from resolute.data.transforms import render

_RESOLUTIONS = {
    Resolution.HR: RESOLUTION_HR,
    Resolution.LR: RESOLUTION_LR,
    Resolution.UNKNOWN: RESOLUTION_UNKNOWN,
}


def records_to_store(records: Sequence[Record], config: LoaderConfig) -> tuple[Record, ...]:
    """Return the records whose pixels the training loader reads.

    Args:
        records: training records.
        config: with ``lr_rate = "redraw"``, the originals of LR images are needed.

    Returns:
        Records to open a :class:`PixelStore` with.

    Raises:
        ConfigError: if originals are needed and a LR image has none, as on disk or by nature.
    """
    if config.lr_rate != "redraw":
        return tuple(records)
    for record in records:
        if record.resolution is Resolution.LR and not isinstance(record.source, Degraded):
            raise ConfigError(
                "loader.lr_rate: 'redraw' needs the originals of LR images, but "
                f"{record.key} is small as it came; train on the mlr- form of the original data "
                "set, or keep 'protocol'"
            )
    return originals(records)


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
        self._steps = Steps(records, store, sampler, config, spec, streams)
        self._turns = _Turns()
        self._ahead: DataLoader[Step] | None = None

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

    def _finish(self, step: Step, device: torch.device | str) -> Batch:
        """Do the arithmetic on the device that trains."""
        hr, twins, lr = step.hr, step.twins, step.lr
        return Batch(
            images_hr=self._render(hr, device),  # (R, 3, H, W)
            images_lr=self._render(lr, device),
            images_lr_syn=self._render(twins, device),
            labels=torch.from_numpy(step.labels).to(device),
            rates_lr=torch.from_numpy(lr.drawn).to(device, torch.float32),
            rates_syn=torch.from_numpy(twins.drawn).to(device, torch.float32),
            heights_hr=torch.from_numpy(hr.sizes[:, 0].copy()).to(device),
            heights_lr=_heights(lr).to(device),
            heights_lr_syn=_heights(twins).to(device),
            sources_hr=torch.from_numpy(hr.positions).to(device),
            sources_lr=torch.from_numpy(lr.positions).to(device),
        )

    def _render(self, half: Half, device: torch.device | str) -> Tensor:
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
            rates=torch.from_numpy(half.rates) if (half.rates > 1).any() else None,
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


class _Turns:
    """The batch numbers that the workers are to prepare next."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def _heights(half: Half) -> Tensor:
    """Return the heights after the rates that are still to be applied."""
    sizes = zip(half.sizes.tolist(), half.rates.tolist(), strict=True)
    return torch.tensor([degraded_size(h, w, rate)[0] for (h, w), rate in sizes])
