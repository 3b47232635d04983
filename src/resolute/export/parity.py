"""An exported file against the method it was made from, image by image.

Letters: N images, S streams, D embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from resolute.core.errors import CheckpointError
from resolute.core.images import Images
from resolute.core.types import Embedding
from resolute.inference.runtimes import Exported

BATCHES = (1, 17)
LEAST_COSINE = 0.9999
LARGEST_CHANGE = 1e-3  # of a quality or, relative to it, a norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How close an exported file comes to torch.

    Attributes:
        file: its name.
        runtime: what ran it.
        batch: images per call.
        cosine: smallest cosine of any vector of any image with torch's.
        change: largest difference of a quality, and of a norm relative to it.
    """

    file: str
    runtime: str
    batch: int
    cosine: float
    change: float

    def __str__(self) -> str:
        more = f", quality and norm within {self.change:.1e}" if self.change else ""
        return f"{self.file}  {self.runtime}  batch {self.batch}: cosine {self.cosine:.7f}{more}"


def check_parity(
    path: Path, exported: Exported, reference: Callable[[Images], Embedding], images: Images
) -> list[Parity]:
    """Compare on a batch of all images and on each image alone.

    Args:
        path: the file, for reports.
        exported: the file, opened.
        reference: what torch gives.
        images: N images, all kinds of resolution.

    Returns:
        One row per batch size.

    Raises:
        CheckpointError: if the file, at full precision, differs from torch.
    """
    expected = reference(images)
    rows = []
    for batch in BATCHES:
        parts = torch.split(torch.arange(len(images)), batch)
        found = Embedding.concatenate([exported.embed(images.take(part)) for part in parts])
        row = _compare(expected, found)
        rows.append(replace(row, file=path.name, runtime=exported.runtime, batch=batch))
        # Not ">=": a cosine that is no number fails as well.
        is_equal = row.cosine > LEAST_COSINE and row.change < LARGEST_CHANGE
        if exported.precision == "f32" and not is_equal:
            raise CheckpointError(
                f"{path.name}: {exported.runtime} differs from torch at batch {batch}: smallest "
                f"cosine {row.cosine:.6f}, expected more than {LEAST_COSINE}; quality or norm off "
                f"by {row.change:.1e}, expected less than {LARGEST_CHANGE}: nothing was exported"
            )
    return rows


def _compare(expected: Embedding, found: Embedding) -> Parity:
    cosines = np.einsum(
        "nsd,nsd->ns", expected.vectors.astype(np.float64), found.vectors.astype(np.float64)
    ) / (np.linalg.norm(expected.vectors, axis=2) * np.linalg.norm(found.vectors, axis=2))
    changes = [np.abs(expected.quality - found.quality).max()]
    if expected.norms is not None and found.norms is not None:
        changes.append((np.abs(expected.norms - found.norms) / expected.norms).max())
    return Parity(
        file="", runtime="", batch=0, cosine=float(cosines.min()), change=float(max(changes))
    )
