"""Sample pictures of a run: what a method makes of the first images of an epoch, as one PNG.

Letters: N images, H, W height and width in pixels.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn

from resolute.core.errors import ConfigError, ReidError
from resolute.core.images import Batch
from resolute.core.types import InputSpec
from resolute.methods.modes import evaluating

FOLDER = "pictures"
MAX_IMAGES = 8
_GAP, _LINE, _LABEL = 4, 22, 14
_INK, _PAPER = "#1d2125", "#ffffff"

Pixels = NDArray[np.uint8]


@runtime_checkable
class Pictured(Protocol):
    """A method that can show what it makes of images."""

    input_spec: InputSpec

    def pictures(self, batch: Batch) -> Mapping[str, Tensor]:
        """Give rows of pictures by name, each (N, 3, H, W) in the normalised range of its input.

        Args:
            batch: of N training pictures, on the method's device.
        """


class SamplePictures:
    """Draws every so many epochs, before the first step of the epoch and at the last one.

    Nothing of it reaches the run: evaluation mode, no gradients, and draws that the next step does
    not see.

    Args:
        method: with the optional member ``pictures``.
        folder: run folder; pictures go to ``pictures/`` in it.
        every: epochs between two pictures.
        epochs: epochs in the run.
    """

    def __init__(self, method: nn.Module, folder: Path, *, every: int, epochs: int) -> None:
        self._method = as_pictured(method)
        self._module = method
        self._folder = folder / FOLDER
        self._every, self._epochs = every, epochs

    def is_due(self, epoch: int) -> bool:
        """Tell whether an epoch gets a picture.

        Args:
            epoch: from 0.
        """
        return (epoch + 1) % self._every == 0 or epoch + 1 == self._epochs

    def draw(self, batch: Batch, epoch: int) -> Path:
        """Write the picture of an epoch.

        Args:
            batch: its first one, on the method's device.
            epoch: from 0; files count from 1.

        Returns:
            The PNG file.

        Raises:
            ConfigError: if the method gives no rows, or rows of another shape.
            ReidError: if the file cannot be written.
        """
        few = Batch(**{f.name: getattr(batch, f.name)[:MAX_IMAGES] for f in fields(batch)})
        with torch.no_grad(), evaluating(self._module):
            made = self._method.pictures(few)
        rows = _checked(made, len(few.labels))
        spec = self._method.input_spec
        words = f"epoch {epoch + 1} of {self._epochs}, before its first step"
        picture = draw_rows(
            {name: as_pixels(row, spec) for name, row in rows.items()},
            size=(spec.height, spec.width),
            title=words,
        )
        info = PngInfo()
        info.add_itxt("Description", f"{words}: {', '.join(rows)}")
        path = self._folder / f"epoch-{epoch + 1:03d}.png"
        part = path.with_name(f".{path.name}.part")
        try:
            self._folder.mkdir(exist_ok=True)
            picture.save(part, "PNG", pnginfo=info)
            part.replace(path)
        except OSError as error:
            raise ReidError(f"{path}: could not be written: {error.strerror}") from error
        return path


def as_pictured(method: nn.Module) -> Pictured:
    """Check that a method can show pictures.

    Args:
        method: any method.

    Returns:
        The same object.

    Raises:
        ConfigError: if it cannot.
    """
    if not isinstance(method, Pictured):
        raise ConfigError(
            f"train.pictures: {type(method).__name__} makes no pictures; set train.pictures to 0"
        )
    return method


def as_pixels(normalised: Tensor, spec: InputSpec) -> Pixels:
    """Turn normalised images into what a screen shows.

    Args:
        normalised: shape (N, 3, H, W), any device.
        spec: mean and deviation they were normalised with.

    Returns:
        RGB, shape (N, H, W, 3); beyond black and white is cut off, NaN is black.
    """
    mean, std = (
        torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (spec.mean, spec.std)
    )
    unit = (normalised.detach().float().cpu() * std + mean).nan_to_num(0.0).clamp(0, 1)
    pixels: Pixels = (unit * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels


def draw_rows(rows: Mapping[str, Pixels], *, size: tuple[int, int], title: str) -> Image.Image:
    """Lay out rows of images under each other, each with its name to the left.

    Args:
        rows: RGB images by name, each (N, H, W, 3) with one N; H and W may differ between rows.
        size: (height, width) of a tile; images of another size are enlarged or shrunk to it pixel
            by pixel, so that what a small one holds shows.
        title: printed above.

    Returns:
        RGB.
    """
    height, width = size
    font = ImageFont.load_default(_LABEL)
    left = max(round(font.getlength(name)) for name in rows) + 2 * _GAP
    columns = len(next(iter(rows.values())))
    needed = max(left + columns * (width + _GAP), round(font.getlength(title)) + 2 * _GAP)
    canvas = Image.new("RGB", (needed, _LINE + len(rows) * (height + _GAP)), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, 2), title, fill=_INK, font=font)
    for line, (name, images) in enumerate(rows.items()):
        top = _LINE + line * (height + _GAP)
        draw.text((_GAP, top + height // 2 - _LABEL // 2), name, fill=_INK, font=font)
        for column, pixels in enumerate(images):
            tile = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(tile, (left + column * (width + _GAP), top))
    return canvas


def _checked(rows: Mapping[str, Tensor], num_images: int) -> Mapping[str, Tensor]:
    if not rows:
        raise ConfigError("train.pictures: the method gave no rows of pictures")
    for name, row in rows.items():
        if row.ndim != 4 or row.shape[0] != num_images or row.shape[1] != 3:
            raise ConfigError(
                f"train.pictures: expected row {name!r} of shape ({num_images}, 3, H, W), got "
                f"{tuple(row.shape)}"
            )
    return rows
