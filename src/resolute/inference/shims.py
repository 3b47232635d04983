"""Drop-ins for the extractors that trackers call: Torchreid's and BoxMOT's.

Both return the one vector per image of :func:`resolute.inference.one_vector.one_vector`. Where the
fusion weighs by quality, or the method's vectors are not of length 1, its cosine is close to the
method's own distance, but not equal to it: who can use :meth:`Model.embed` should.

Letters: N images, E entries of the one vector: S * D of S streams, or D where the fusion keeps one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from resolute.core.errors import ConfigError, DatasetError, ShapeError
from resolute.core.types import Embedding
from resolute.inference.inputs import ImageLike, read_pixels
from resolute.inference.load import load
from resolute.inference.model import Model
from resolute.inference.one_vector import one_vector

# What Torchreid's extractor does unless told otherwise.
_IMAGE_SIZE = (256, 128)
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class FeatureExtractor:
    """Torchreid's ``FeatureExtractor``, called the same way.

    Where it differs: vectors have length 1; ``model_path`` is a run folder or file of ours (make
    one of a Torchreid checkpoint with ``resolute convert``); input size and normalisation are the
    model's own; an image keeps its native size until the method resizes it. A tensor is taken as
    Torchreid takes it, already resized and normalised: its native size is lost, so it counts as
    an image of the size it has.

    Attributes:
        model: what embeds.
    """

    def __init__(
        self,
        model_name: str = "",
        model_path: str | Path = "",
        image_size: Sequence[int] = _IMAGE_SIZE,
        pixel_mean: Sequence[float] = _MEAN,
        pixel_std: Sequence[float] = _STD,
        pixel_norm: bool = True,  # noqa: FBT001, FBT002 (this and the last are Torchreid's)
        device: str = "auto",
        verbose: bool = True,  # noqa: ARG002, FBT001, FBT002
        *,
        batch_size: int = 32,
        channel_order: str = "rgb",
    ) -> None:
        """Load the model.

        Args:
            model_name: name of a model that comes with the package; unused with a path.
            model_path: run folder or model file.
            image_size: (height, width) in pixels; Torchreid's default or the model's own, which is
                what counts.
            pixel_mean: per RGB channel; likewise.
            pixel_std: per RGB channel; likewise.
            pixel_norm: False asks for a model that takes pixels as they are, in 0..1.
            device: as for :func:`resolute.inference.load.load`.
            verbose: ignored: nothing is printed.
            batch_size: images per forward pass.
            channel_order: ``rgb`` or ``bgr``, of arrays.

        Raises:
            ConfigError: if neither name nor path is given, or the model takes images of another
                size or normalised otherwise than asked.
        """
        if not model_name and not model_path:
            raise ConfigError("expected model_path (a run folder) or model_name, got neither")
        self.model: Model = load(model_path or model_name, device=device)
        spec = self.model.input_spec
        _check_asked("image_size", image_size, _IMAGE_SIZE, (spec.height, spec.width))
        if pixel_norm:
            _check_asked("pixel_mean", pixel_mean, _MEAN, spec.mean)
            _check_asked("pixel_std", pixel_std, _STD, spec.std)
        elif (tuple(spec.mean), tuple(spec.std)) != ((0, 0, 0), (1, 1, 1)):
            raise ConfigError(
                f"pixel_norm: this model normalises by mean {spec.mean} and std {spec.std}, got "
                "False; leave it out"
            )
        self._batch_size = batch_size
        self._channel_order = channel_order

    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> Tensor:
        """Embed images.

        Args:
            images: a path, an array (H, W, 3), uint8, a list of either, or a tensor (3, H, W) or
                (N, 3, H, W) that is resized and normalised already.

        Returns:
            Vectors of length 1, float32, shape (N, E), on the model's device.

        Raises:
            DatasetError: if there is no image, or one cannot be read.
        """
        given: Any = images
        if isinstance(images, Tensor):
            given = self._restored(images if images.ndim == 4 else images[None])
        embedding = self.model.embed(
            given, batch_size=self._batch_size, channel_order=self._channel_order
        )
        return torch.from_numpy(one_vector(embedding)).to(self.model.device)

    def _restored(self, tensor: Tensor) -> Tensor:
        if tensor.ndim != 4 or tensor.shape[1] != 3 or not tensor.is_floating_point():
            raise DatasetError(
                "expected a normalised tensor of floats (N, 3, H, W) as Torchreid takes, got "
                f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            )
        spec = self.model.input_spec
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
        return (tensor.detach().cpu().float() * std + mean).clamp(0, 1)


class TrackerFeatures:
    """BoxMOT's ``get_features(xyxy, frame)``.

    Where it differs: crops go in at native size, which decides how they are described; a box
    that lies outside the frame is moved to its border, so that each box has a vector.

    Attributes:
        model: what embeds.
    """

    def __init__(self, model: Model, *, batch_size: int = 32) -> None:
        """Take a model.

        Args:
            model: of :func:`resolute.inference.load.load`.
            batch_size: crops per forward pass.
        """
        self.model = model
        self._batch_size = batch_size
        self._dim: int | None = None

    def get_features(self, xyxy: ArrayLike, frame_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed the boxes of a frame.

        Args:
            xyxy: x1, y1, x2, y2 in pixels, shape (N, 4); more columns are ignored.
            frame_bgr: picture as OpenCV reads it, shape (H, W, 3), uint8.

        Returns:
            Vectors of length 1, float32, shape (N, E); N may be 0.

        Raises:
            DatasetError: if the frame is no such picture or a box is not finite.
            ShapeError: if the boxes are not (N, 4) or wider.
        """
        boxes = np.asarray(xyxy, dtype=np.float64)
        if boxes.size == 0:
            return np.empty((0, self._width()), dtype=np.float32)
        if boxes.ndim != 2 or boxes.shape[1] < 4:
            raise ShapeError(
                f"boxes: expected x1, y1, x2, y2 and more, shape (N, 4) or wider, got {boxes.shape}"
            )
        frame = read_pixels(frame_bgr, 0, "bgr")
        boxes = _inside(boxes, *frame.shape[:2])
        return self._vectors(self.model.embed(frame, boxes=boxes, batch_size=self._batch_size))

    def _width(self) -> int:
        if self._dim is None:
            grey = np.full((64, 32, 3), 128, dtype=np.uint8)
            self._vectors(self.model.embed(grey))
        return self._dim or 0

    def _vectors(self, embedding: Embedding) -> NDArray[np.float32]:
        vectors = one_vector(embedding)
        self._dim = vectors.shape[1]
        return vectors


def _check_asked(
    name: str, given: Sequence[float], usual: Sequence[float], own: Sequence[float]
) -> None:
    # Programs write Torchreid's defaults out, whatever model they load.
    if not any(np.shape(given) == (len(v),) and np.allclose(given, v) for v in (usual, own)):
        raise ConfigError(
            f"{name}: this model takes {tuple(own)}, got {given}; leave it out, it travels with "
            "the model"
        )


def _inside(boxes: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    # At least one pixel of the frame, nearest to where the box is; not finite stays as it is.
    x1 = np.clip(np.rint(boxes[:, 0]), 0, width - 1)
    y1 = np.clip(np.rint(boxes[:, 1]), 0, height - 1)
    x2 = np.maximum(np.clip(np.rint(boxes[:, 2]), 0, width), x1 + 1)
    y2 = np.maximum(np.clip(np.rint(boxes[:, 3]), 0, height), y1 + 1)
    return np.column_stack([x1, y1, x2, y2])
