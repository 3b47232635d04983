"""Embed records, or pixels from anywhere, with any method that keeps the contract."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from resolute.core.errors import ConfigError, DatasetError
from resolute.core.images import Images
from resolute.core.types import Embedding, InputSpec, Labels, Record
from resolute.data.cache import PixelStore
from resolute.data.degrade import collate
from resolute.data.loader import native_batches
from resolute.methods.contract import Method

Pixels = NDArray[np.uint8]
T = TypeVar("T")

# Images are sorted by size within a window, so that little of a batch's canvas is padding. Both
# limits bound memory; they depend on nothing but the images and the batch size [ours].
_WINDOW_BATCHES = 8
_WINDOW_BYTES = 2**27
_CANVAS_PIXELS = 2**23


class Embedder(Protocol):
    """What embeds: a method, or an exported file behind the same members.

    Attributes:
        input_spec: how pixels become its input.
    """

    input_spec: InputSpec

    def embed(self, images: Images) -> Embedding:
        """Embed native-size images, without gradients."""


def embed_records(
    method: Method,
    store: PixelStore,
    records: Sequence[Record],
    *,
    batch_size: int,
    device: torch.device | str,
) -> tuple[Embedding, Labels]:
    """Embed all images of a store and gather what an evaluation needs to know of them.

    Args:
        method: its weights are on ``device``.
        store: decoded pixels of exactly these records.
        records: N records.
        batch_size: images per forward pass.
        device: where the method's weights are.

    Returns:
        Embeddings and labels in the order of the records.

    Raises:
        DatasetError: if there is no record.
    """
    if not records:
        raise DatasetError("expected at least one image to embed, got none")
    parts: list[Embedding] = []
    positions: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    for index, images in native_batches(store, records, batch_size):
        parts.append(method.embed(images.to(device)))
        positions.append(index)
    order = np.argsort(np.concatenate(positions))
    labels = Labels.of(records, store.sizes[:, 0].tolist())
    return Embedding.concatenate(parts).take(order), labels


def embed_pixels(
    method: Embedder,
    pictures: Iterable[tuple[Pixels, int]],
    *,
    batch_size: int,
    device: torch.device | str,
) -> Embedding:
    """Embed pixels as they come, in bounded memory beside the vectors themselves.

    Which images share a batch is a function of their order, their sizes and the batch size.

    Args:
        method: its weights are on ``device``.
        pictures: pairs of RGB pixels (H, W, 3), uint8, and resolution flag (0 HR, 1 LR, 2 unknown).
        batch_size: images per forward pass, at least 1.
        device: where the method's weights are.

    Returns:
        Embeddings in the order of the pictures, with their native sizes.

    Raises:
        ConfigError: if the batch size is below 1.
        DatasetError: if there is no picture.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: expected at least 1, got {batch_size}")
    parts: list[Embedding] = []
    with torch.inference_mode():
        for window in windows(pictures, lambda picture: picture[0].nbytes, batch_size=batch_size):
            sizes = np.array([pixels.shape[:2] for pixels, _ in window])
            chosen = list(_batches(sizes, batch_size))
            embedded = [_embed_batch(method, [window[i] for i in c], device) for c in chosen]
            order = np.argsort(np.concatenate(chosen))
            parts.append(Embedding.concatenate(embedded).take(order))
    if not parts:
        raise DatasetError("expected at least one image to embed, got none")
    return Embedding.concatenate(parts)


def _embed_batch(
    method: Embedder, batch: Sequence[tuple[Pixels, int]], device: torch.device | str
) -> Embedding:
    pixels, sizes = collate([picture for picture, _ in batch])
    flags = torch.tensor([flag for _, flag in batch])
    images = Images(pixels=pixels, native_sizes=sizes, resolution=flags)
    return method.embed(images.to(device))


def windows(
    pictures: Iterable[T], size: Callable[[T], int], *, batch_size: int
) -> Iterator[list[T]]:
    """Cut a stream of pictures where some batches, or some bytes, are full.

    Args:
        pictures: in order.
        size: gives the bytes that a picture takes.
        batch_size: images per forward pass.

    Yields:
        Pictures, at least one. The list is emptied when the next one is asked for: two would hold
        twice the memory.
    """
    window: list[T] = []
    num_bytes = 0
    for picture in pictures:
        window.append(picture)
        num_bytes += size(picture)
        if len(window) == _WINDOW_BATCHES * batch_size or num_bytes >= _WINDOW_BYTES:
            yield window
            window.clear()
            num_bytes = 0
    if window:
        yield window


def _batches(sizes: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Sort positions by size and cut them where a batch or its canvas is full."""
    order = np.lexsort((sizes[:, 1], sizes[:, 0]))
    start, widest = 0, 0
    for end, position in enumerate(order):
        height, width = sizes[position]
        widest = max(widest, int(width))
        is_full = end - start == batch_size
        if end > start and (is_full or (end - start + 1) * int(height) * widest > _CANVAS_PIXELS):
            yield order[start:end]
            start, widest = end, int(width)
    yield order[start:]
