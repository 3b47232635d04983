"""Seeded, named random streams: the only source of randomness in the library.

A stream is addressed by its name and an index, never by the order of calls. Adding a draw
to one stream therefore moves no other, and any worker can draw for any image.
"""

import enum
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from resolute.core.errors import ConfigError

if TYPE_CHECKING:
    import torch


class Stream(enum.IntEnum):
    """The closed list of what is drawn. Numbers are part of every published result."""

    SPLIT = 1
    RATE = 2
    VIEW = 3
    TRIAL = 4
    SAMPLER = 5
    AUGMENTATION = 6
    TWIN = 7
    INITIALISATION = 8
    DROPOUT = 9
    SYNTHETIC = 10
    BOOTSTRAP = 11
    TIES = 12
    DEGRADATION = 13


class Streams:
    """All random streams of one seed.

    Attributes:
        seed: non-negative integer that fixes every draw.

    Examples:
        >>> Streams(7).numpy(Stream.TRIAL, 0).integers(100)
        np.int64(31)
    """

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ConfigError(f"seed: expected a non-negative integer, got {seed}")
        self.seed = seed

    def numpy(self, stream: Stream, *index: int | str) -> np.random.Generator:
        """Open a numpy generator.

        Args:
            stream: what is drawn.
            *index: which one of its kind, for example trial number or (epoch, record key).

        Returns:
            A fresh generator; the same arguments always give the same numbers.
        """
        return np.random.Generator(np.random.Philox(self._sequence(stream, index)))

    def torch(self, stream: Stream, *index: int | str) -> "torch.Generator":
        """Open a torch CPU generator; arguments as for :meth:`numpy`.

        Args:
            stream: what is drawn.
            *index: which one of its kind.

        Returns:
            A fresh generator on the CPU.
        """
        import torch

        return torch.Generator().manual_seed(self._word(stream, index))

    @contextmanager
    def torch_default(self, stream: Stream, *index: int | str) -> Iterator[None]:
        """Seed torch's global generator inside a block, then restore it.

        Layers draw their initial weights from the global generator; this is the one place
        that touches it.

        Args:
            stream: what is drawn.
            *index: which one of its kind.

        Yields:
            Nothing.
        """
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._word(stream, index))
            yield

    def _sequence(self, stream: Stream, index: tuple[int | str, ...]) -> np.random.SeedSequence:
        words = (int(stream), *(_as_word(part) for part in index))
        return np.random.SeedSequence(self.seed, spawn_key=words)

    def _word(self, stream: Stream, index: tuple[int | str, ...]) -> int:
        return int(self._sequence(stream, index).generate_state(1, np.uint64)[0] >> 1)


def _as_word(part: int | str) -> int:
    if isinstance(part, str):
        return int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "little")
    return part
