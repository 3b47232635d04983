"""Embed records with any method that keeps the contract."""

from collections.abc import Sequence

import numpy as np
import torch

from resolute.core.errors import DatasetError
from resolute.core.types import Embedding, Labels, Record
from resolute.data.cache import PixelStore
from resolute.data.loader import native_batches
from resolute.methods.contract import Method


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
