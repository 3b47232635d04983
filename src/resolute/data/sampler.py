"""Which images stand in which training batch: P identities x (K HR + K LR) images.

A pure function of (records, seed, batch number): nothing depends on which batches were asked for
before, so a resumed run and any worker see the same ones.
Letters: I training identities, P identities per batch, K images per half, R = P K rows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ConfigError, DatasetError
from resolute.core.rng import Stream, Streams
from resolute.core.types import Record, Resolution

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The images of one batch, as positions in the training records.

    Attributes:
        hr: HR images, K rows per identity, shape (R,).
        lr: LR images, row by row of the identity of ``hr``, shape (R,).
        borrowed: whether the LR image is a HR image still to be degraded, shape (R,).
        labels: training index of the identity, shape (R,).
    """

    hr: Ints
    lr: Ints
    borrowed: NDArray[np.bool_]
    labels: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCounts:
    """What the sampler trains on and what it leaves out, for the log.

    Attributes:
        num_images: images that can be drawn.
        num_identities: identities that can be drawn, I.
        num_borrowing: of these, identities without LR images, whose LR images are made of HR ones.
        num_without_hr: identities left out because they have no HR image.
        num_single: identities left out because they have one HR image and no LR image.
    """

    num_images: int
    num_identities: int
    num_borrowing: int
    num_without_hr: int
    num_single: int


class RunningOrder:
    """A seeded order that runs on: every item is used once before any is used again.

    Within one chunk no item comes twice, as long as there are enough of them: where a chunk begins
    at the end of one permutation and goes on into the next, the next one puts items of its own in
    front that the chunk does not hold yet.
    """

    def __init__(
        self, items: Sequence[int], take: int, draw: Callable[[int], np.random.Generator]
    ) -> None:
        self._items = np.array(items, dtype=np.int64)
        self._take = take
        self._draw = draw
        self._orders: list[Ints] = []

    def chunk(self, number: int) -> Ints:
        """Return the items of one chunk.

        Args:
            number: 0, 1, 2... in the order of use.

        Returns:
            Items, shape (take,).
        """
        count = len(self._items)
        if count == 1:
            return np.repeat(self._items, self._take)
        start = number * self._take
        cycles = range(start // count, (start + self._take - 1) // count + 1)
        run = np.concatenate([self._order(cycle) for cycle in cycles])
        first = start - cycles[0] * count
        return run[first : first + self._take]

    def _order(self, cycle: int) -> Ints:
        # Each permutation looks at the one before, so all of them are made in turn, once.
        while len(self._orders) <= cycle:
            self._orders.append(self._next_order(len(self._orders)))
        return self._orders[cycle]

    def _next_order(self, cycle: int) -> Ints:
        order: Ints = self._items[self._draw(cycle).permutation(len(self._items))]
        open_places = -cycle * len(self._items) % self._take
        if not open_places or len(self._items) < self._take:
            return order
        held = self._orders[cycle - 1][open_places - self._take :]
        front = np.flatnonzero(~np.isin(order, held))[:open_places]
        return np.concatenate([order[front], np.delete(order, front)])


class PairSampler:
    """Seeded batches of HR and LR images of the same identities [FTWA 3.2; halves assumed].

    Identities come from a permutation that runs on across epochs, never twice in a batch. An
    identity's images are used up before one repeats, HR and LR each in an order of its own, so
    that they are paired afresh. An identity without LR images borrows them: from HR images of its
    own that are not in the batch as HR, another camera first. [ours]

    Attributes:
        labels: training index of each identity that can be drawn, by pid, 0..I-1.
        counts: what is used and what is left out.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        num_identities: int,
        num_instances: int,
        streams: Streams,
    ) -> None:
        _check_records(records)
        self._streams = streams
        self._num_instances = num_instances
        self._camids = np.array([r.camid for r in records], dtype=np.int64)
        self._images = _by_identity(records)
        kept = [pid for pid, (hr, lr) in self._images.items() if hr and len(hr) + len(lr) > 1]
        self.labels = {pid: label for label, pid in enumerate(kept)}
        self.counts = TrainingCounts(
            num_images=sum(len(half) for pid in kept for half in self._images[pid]),
            num_identities=len(kept),
            num_borrowing=sum(not self._images[pid][1] for pid in kept),
            num_without_hr=sum(not hr for hr, _ in self._images.values()),
            num_single=sum(len(hr) == 1 and not lr for hr, lr in self._images.values()),
        )
        if len(kept) < num_identities:
            raise ConfigError(
                f"batch: expected at least {num_identities} training identities, as none comes "
                f"twice in a batch, got {len(kept)}; lower batch_size or raise num_instances"
            )
        self._identities = RunningOrder(kept, num_identities, self._stream("identity"))
        self._num_identities = num_identities
        self._halves: dict[tuple[int, str], RunningOrder] = {}

    def batch(self, number: int) -> Selection:
        """Choose the images of one batch.

        Args:
            number: 0, 1, 2... counted over the whole training, not per epoch.

        Returns:
            The images, R = P K rows, the K rows of an identity together.
        """
        pids = self._identities.chunk(number).tolist()
        hr, lr, borrowed = [], [], []
        for place, pid in enumerate(pids):
            # Each permutation holds an identity once, so its number counts the identity's visits.
            visit = (number * self._num_identities + place) // len(self.labels)
            hr_rows = self._hr_rows(pid, visit)
            borrows = not self._images[pid][1]
            hr.append(hr_rows)
            lr.append(
                self._borrow(pid, visit, hr_rows)
                if borrows
                else self._half(pid, "lr", self._num_instances).chunk(visit)
            )
            borrowed += [borrows] * self._num_instances
        return Selection(
            hr=np.concatenate(hr),  # (R,)
            lr=np.concatenate(lr),  # (R,)
            borrowed=np.array(borrowed),  # (R,)
            labels=np.repeat([self.labels[pid] for pid in pids], self._num_instances),  # (R,)
        )

    def _hr_rows(self, pid: int, visit: int) -> Ints:
        """Choose the K HR images of a visit; one who borrows keeps an image back to borrow from."""
        hr, lr = self._images[pid]
        take = self._num_instances if lr else min(self._num_instances, len(hr) - 1)
        return np.resize(self._half(pid, "hr", take).chunk(visit), self._num_instances)

    def _borrow(self, pid: int, visit: int, hr_rows: Ints) -> Ints:
        """Choose a HR image that is not in the batch for each row, another camera first."""
        free = np.setdiff1d(self._images[pid][0], hr_rows)
        rng = self._streams.numpy(Stream.SAMPLER, "borrow", pid, visit)
        free = free[rng.permutation(len(free))]
        chosen: list[int] = []
        for row in hr_rows:
            same_camera = self._camids[free] == self._camids[row]
            uses = [chosen.count(image) for image in free]
            chosen.append(int(free[np.lexsort((uses, same_camera))[0]]))
        return np.array(chosen, dtype=np.int64)

    def _half(self, pid: int, half: str, take: int) -> RunningOrder:
        if (pid, half) not in self._halves:
            images = self._images[pid][half == "lr"]
            self._halves[pid, half] = RunningOrder(images, take, self._stream(half, pid))
        return self._halves[pid, half]

    def _stream(self, *name: int | str) -> Callable[[int], np.random.Generator]:
        # Not a lambda: a worker process receives a copy of this sampler.
        return partial(self._streams.numpy, Stream.SAMPLER, *name)


def num_steps(num_images: int, batch_size: int, world: int = 1) -> int:
    """Return the steps of one epoch: as many as the images fill batches, rounded up.

    Args:
        num_images: training images.
        batch_size: given images per batch and process.
        world: number of processes, each with a batch of its own.

    Examples:
        >>> num_steps(632, 64), num_steps(632, 64, world=2)
        (10, 5)
    """
    return math.ceil(num_images / (batch_size * world))


def _check_records(records: Sequence[Record]) -> None:
    for record in records:
        if record.resolution is Resolution.UNKNOWN:
            raise DatasetError(
                f"training: expected HR or LR, but the resolution of {record.key} is unknown; "
                "build a multi-resolution set with `mlr`, or use a data set whose views differ"
            )
        if record.pid < 0:
            raise DatasetError(
                f"training: expected identities of 0 or more, got {record.pid} for {record.key}; "
                "drop junk images when reading"
            )


def _by_identity(records: Sequence[Record]) -> dict[int, tuple[list[int], list[int]]]:
    """Group positions by identity into HR and LR, all sorted by key."""
    order = sorted(range(len(records)), key=lambda i: (records[i].pid, records[i].key))
    images: dict[int, tuple[list[int], list[int]]] = {}
    for position in order:
        record = records[position]
        halves = images.setdefault(record.pid, ([], []))
        halves[record.resolution is Resolution.LR].append(position)
    return images
