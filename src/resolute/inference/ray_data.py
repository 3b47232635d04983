"""One stateless callable for batch frameworks; Ray Data's ``map_batches`` is the one it fits.

    dataset = ray.data.read_binary_files("crops/", include_paths=True)
    embed_dataset(dataset, "runs/mine").write_parquet("features/")

Ray is not imported here: the callable takes and gives plain dictionaries of arrays.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ConfigError
from resolute.inference.load import load
from resolute.inference.model import Model
from resolute.inference.one_vector import one_vector

# Where a batch may hold its images, in the order looked for.
COLUMNS = ("bytes", "image", "path")


class EmbedBatch:
    """Embeds the images of a batch; each worker of a cluster makes one and keeps its model.

    Attributes:
        model: what embeds.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        resolution: str = "auto",
        batch_size: int = 32,
    ) -> None:
        """Load the model.

        Args:
            model: run folder or name, readable by every worker.
            device: as for :func:`resolute.inference.load.load`.
            resolution: ``hr``, ``lr`` or ``auto``.
            batch_size: images per forward pass.
        """
        self.model: Model = load(model, device=device)
        self._resolution = resolution
        self._batch_size = batch_size

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Embed one batch.

        Args:
            batch: columns of N entries: ``bytes`` (image files), ``image`` (RGB arrays, uint8) or
                ``path``. Others pass through.

        Returns:
            The columns but ``bytes`` and ``image``, and ``vector``, the one of
            :func:`resolute.inference.one_vector.one_vector`, ``vectors`` (N, S * D), the streams
            end to end, ``quality`` (N, S), ``native_height``, ``native_width`` and, where it was
            fitted, ``reliability``.

        Raises:
            ConfigError: if the batch has none of the columns.
            DatasetError: if an image cannot be read.
        """
        found = [name for name in COLUMNS if name in batch]
        if not found:
            raise ConfigError(
                f"expected a column {', '.join(COLUMNS)}, got {', '.join(batch) or 'none'}"
            )
        images = [_plain(item) for item in batch[found[0]]]
        embedding = self.model.embed(
            images, resolution=self._resolution, batch_size=self._batch_size
        )
        columns = {n: np.asarray(c) for n, c in batch.items() if n not in ("bytes", "image")}
        columns["vector"] = one_vector(embedding)
        columns["vectors"] = embedding.vectors.reshape(len(embedding), -1)
        columns["quality"] = embedding.quality
        if embedding.native_sizes is not None:
            columns["native_height"] = embedding.native_sizes[:, 0]
            columns["native_width"] = embedding.native_sizes[:, 1]
        if embedding.reliability is not None:
            columns["reliability"] = embedding.reliability
        return columns


def embed_dataset(dataset: Any, model: str | Path, **settings: Any) -> Any:
    """Map a Ray data set to embeddings.

    Args:
        dataset: of ``ray.data``, with a column ``bytes``, ``image`` or ``path``.
        model: run folder or name.
        **settings: of ``map_batches``, for example ``concurrency=4`` or ``num_gpus=1``.

    Returns:
        The mapped data set; nothing is computed yet.
    """
    given = {"batch_size": 512, "concurrency": 1, **settings}
    return dataset.map_batches(EmbedBatch, fn_constructor_args=(model,), **given)


def _plain(item: Any) -> Any:
    return str(item) if isinstance(item, np.str_) else item
