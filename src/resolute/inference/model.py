"""A trained model: what a person holds to embed and compare images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from resolute.core.errors import DatasetError, ShapeError
from resolute.core.types import Embedding, InputSpec, Resolution
from resolute.inference.calibration import Calibration
from resolute.inference.compare import Comparison, compare_pixels
from resolute.inference.embed import Pixels, embed_pixels
from resolute.inference.inputs import ImageLike, decoded
from resolute.inference.native import ResolutionLike, is_blank, resolution_flags
from resolute.inference.runtimes import Exported
from resolute.methods.blueprint import Blueprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A trained method, ready to embed, and what its file says of it.

    Attributes:
        method: in eval mode; keeps the contract of :mod:`resolute.methods.contract`, or of it
            ``input_spec`` and ``embed`` where an exported file does the work.
        blueprint: what it was built from.
        metadata: config, split digest, versions and whatever else the run stored.
        fingerprint: sha256 over the weights and the settings that change vectors: only vectors of
            equal fingerprints can be compared.
        calibration: what distances and images are worth; None where nothing was fitted.
    """

    method: Any
    blueprint: Blueprint
    metadata: Mapping[str, Any]
    fingerprint: str
    calibration: Calibration | None = None

    @property
    def input_spec(self) -> InputSpec:
        """How pixels become its input."""
        spec: InputSpec = self.method.input_spec
        return spec

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        if isinstance(self.method, nn.Module):
            for tensor in self.method.parameters():
                return tensor.device
        return torch.device("cpu")

    @property
    def runtime(self) -> str:
        """What computes: torch, or the runtime and precision of an exported file."""
        if isinstance(self.method, Exported):
            return f"{self.method.runtime} {self.method.precision}"
        return "torch"

    @property
    def height_reference(self) -> float:
        """Median native height of the HR images it was trained on, in pixels."""
        return self.blueprint.height_reference

    def embed(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        resolution: ResolutionLike | Sequence[ResolutionLike] | None = None,
        batch_size: int = 32,
        channel_order: str = "rgb",
        boxes: ArrayLike | None = None,
    ) -> Embedding:
        """Embed images of any kind.

        Pixels stay at their native size until the method resizes them: crop, and leave the rest to
        it. Of many paths only a few images are in memory at a time. An iterator may fill one array
        again and again: each image is copied when it comes.

        Args:
            images: one image or several, see :func:`resolute.inference.inputs.each_image`: paths,
                bytes of files, PIL images, uint8 arrays (H, W, 3), tensors (C, H, W).
            resolution: ``hr``, ``lr`` or ``auto``, for all or per image. ``auto``, the default, is
                the rule that travels with the model: LR below 2/3 of the height it was trained on.
            batch_size: images per forward pass, at least 1. It moves results by rounding only.
            channel_order: ``rgb`` or ``bgr`` (OpenCV), of arrays and tensors.
            boxes: x1, y1, x2, y2 in pixels, shape (N, 4), of crops of one given image; N may be 0,
                as a frame may show nobody.

        Returns:
            N embeddings in the order of the images, with native sizes and the model's fingerprint,
            and with reliability where the model was calibrated.

        Raises:
            DatasetError: if there is no image, or one cannot be read; the message says which.
            ConfigError: if a name is unknown or the batch size below 1.
            ShapeError: if boxes or resolutions do not fit the images.
        """
        pictures = decoded(images, channel_order=channel_order, boxes=boxes)
        flagged = _flagged(pictures, resolution)
        if boxes is None:
            return self.embed_pixels(flagged, batch_size=batch_size)
        crops = list(flagged)  # views of one frame
        if crops:
            return self.embed_pixels(crops, batch_size=batch_size)
        # What shapes an embedding has only embedding shows.
        grey = np.full((64, 32, 3), 128, dtype=np.uint8)
        return self.embed(grey, batch_size=batch_size).take(slice(0))

    def embed_pixels(
        self, pictures: Iterable[tuple[Pixels, int]], *, batch_size: int = 32
    ) -> Embedding:
        """Embed pixels that are decoded already.

        Args:
            pictures: pairs of RGB pixels (H, W, 3), uint8, and resolution flag (0 HR, 1 LR,
                2 unknown).
            batch_size: images per forward pass, at least 1.

        Returns:
            Embeddings in the order of the pictures, with the model's fingerprint, and with
            reliability where it was fitted.
        """
        fit = self.calibration.reliability if self.calibration is not None else None
        blank: list[bool] = []
        if fit is not None:
            pictures = _watched(pictures, blank)
        embedding = embed_pixels(self.method, pictures, batch_size=batch_size, device=self.device)
        embedding = replace(embedding, fingerprint=self.fingerprint)
        if fit is None:
            return embedding
        reliability = fit(embedding)
        reliability[blank] = 0
        return replace(embedding, reliability=reliability)

    def compare(
        self,
        a: ImageLike | Sequence[ImageLike],
        b: ImageLike | Sequence[ImageLike],
        *,
        resolution: ResolutionLike | None = None,
        prior: float | None = None,
    ) -> Comparison:
        """Compare two people, each by one image or several.

        Several images of one person are pooled, see :func:`resolute.inference.tracklet.pool`.

        Args:
            a: image or images of one person, as for :meth:`embed`.
            b: image or images of one person.
            resolution: ``hr``, ``lr`` or ``auto`` for all images.
            prior: chance of one person before looking, between 0 and 1; None takes the
                calibration's.

        Returns:
            Distance, probability where it is known, sizes, and warnings.

        Raises:
            DatasetError: if there is no image on a side, or one cannot be read.
            ConfigError: if the prior is not between 0 and 1, or the resolution unknown.
        """
        sides = (list(decoded(a)), list(decoded(b)))
        if not all(sides):
            raise DatasetError("expected at least one image of each person, got none")
        pictures = (picture for side in sides for picture in side)
        embedding = self.embed_pixels(_flagged(pictures, resolution))
        return compare_pixels(
            sides,
            embedding,
            calibration=self.calibration,
            height_reference=self.height_reference,
            prior=prior,
        )


def _watched(
    pictures: Iterable[tuple[Pixels, int]], blank: list[bool]
) -> Iterator[tuple[Pixels, int]]:
    """Pass pictures on, and note of each whether it shows nothing but one colour."""
    for pixels, flag in pictures:
        blank.append(is_blank(pixels))
        yield pixels, flag


def _flagged(
    pictures: Iterable[Pixels], resolution: ResolutionLike | Sequence[ResolutionLike] | None
) -> Iterator[tuple[Pixels, int]]:
    if resolution is None or isinstance(resolution, str | Resolution):
        (flag,) = resolution_flags(resolution, 1).tolist()
        return ((picture, flag) for picture in pictures)
    names = list(resolution)
    return _each_flagged(pictures, resolution_flags(names, len(names)).tolist())


def _each_flagged(pictures: Iterable[Pixels], flags: list[int]) -> Iterator[tuple[Pixels, int]]:
    # Pair by pair: how many pictures there are shows when they are all decoded.
    count = 0
    for picture in pictures:
        if count == len(flags):
            raise ShapeError(f"resolution: expected one per image, got {count} for more images")
        yield picture, flags[count]
        count += 1
    if count < len(flags):
        raise ShapeError(f"resolution: expected one per image, {count}, got {len(flags)}")
