"""Which resolution an image has: as the caller says, as its size says, as its spectrum says.

Letters: N images, h, w native height and width in pixels.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError, ShapeError
from resolute.core.images import RESOLUTION_HR, RESOLUTION_LR, RESOLUTION_UNKNOWN
from resolute.core.types import Resolution

# The rule that travels with the model decides where nobody else does.
FLAGS = {
    "hr": RESOLUTION_HR,
    "lr": RESOLUTION_LR,
    "auto": RESOLUTION_UNKNOWN,
    "unknown": RESOLUTION_UNKNOWN,
}
ResolutionLike = str | Resolution

# Share of the gradient energy above the effective resolution. A camera's image keeps more than
# this near its finest detail; an enlarged one has next to nothing there [ours].
_TAIL = 0.08
# Below this share of its height an image counts as enlarged: of 100 untouched photographs fewer
# than 5 fall below, of 100 enlarged twice more than 95 do, JPEG of quality 90 included [ours].
ENLARGED = 0.7
# Fewer lines than this have no spectrum to speak of.
_FEWEST_LINES = 16
# As many say what all of a wide image say.
_MOST_COLUMNS = 512
# Grey levels between the darkest and the brightest value of a channel: less is no picture [ours].
_LEAST_CONTRAST = 3


def resolution_flags(
    resolution: ResolutionLike | Sequence[ResolutionLike] | None, count: int
) -> NDArray[np.int64]:
    """Turn what a caller says of resolutions into the flags of :class:`Images`.

    Args:
        resolution: ``hr``, ``lr`` or ``auto`` for all images, or one of them per image; None is
            ``auto``: the rule stored with the model looks at the native height.
        count: number of images N.

    Returns:
        0 = HR, 1 = LR, 2 = unknown, shape (N,).

    Raises:
        ConfigError: if a name is unknown.
        ShapeError: if there is not one name per image.

    Examples:
        >>> resolution_flags(["lr", "auto"], 2).tolist(), resolution_flags("hr", 3).tolist()
        ([1, 2], [0, 0, 0])
    """
    if resolution is None or isinstance(resolution, str | Resolution):
        return np.full(count, _flag(resolution or "auto"), dtype=np.int64)
    flags = [_flag(name) for name in resolution]
    if len(flags) != count:
        raise ShapeError(f"resolution: expected one per image, {count}, got {len(flags)}")
    return np.array(flags, dtype=np.int64)


def effective_height(pixels: NDArray[np.uint8]) -> float:
    """Estimate how many lines of an image carry detail.

    The spectrum along the height, weighted by the squared frequency, is about flat for a
    photograph. Enlarging leaves it empty above what the smaller image had; the height is taken
    from where all but 8 % of that energy lies below [ours]. Strong JPEG noise hides an
    enlargement, a blurred image counts as enlarged: it shows no more than a smaller one.

    Args:
        pixels: RGB, shape (h, w, 3), 0..255.

    Returns:
        Pixels of height, at most h; h itself for a flat image or one of fewer than 16 lines.
    """
    height = pixels.shape[0]
    if height < _FEWEST_LINES:
        return float(height)
    some = pixels[:, :: math.ceil(pixels.shape[1] / _MOST_COLUMNS)]
    grey = some.mean(axis=2, dtype=np.float64)  # (h, w or less)
    grey = (grey - grey.mean(axis=0)) * np.hanning(height)[:, None]
    power = (np.abs(np.fft.rfft(grey, axis=0)) ** 2).mean(axis=1)  # (h // 2 + 1,)
    detail = power * np.arange(len(power)) ** 2
    total = detail.sum()
    if total <= 0:
        return float(height)
    above = np.cumsum(detail[::-1])[::-1] / total  # share at or above each frequency, falling
    line = int(np.count_nonzero(above >= _TAIL))
    share = 2 * line / height
    return float(height) if share >= ENLARGED else share * height


def is_blank(pixels: NDArray[np.uint8]) -> bool:
    """Tell whether an image shows nothing but one colour, compression noise aside.

    Args:
        pixels: RGB, shape (h, w, 3), 0..255.
    """
    contrast = pixels.max(axis=(0, 1)).astype(np.int64) - pixels.min(axis=(0, 1))
    return bool(contrast.max() < _LEAST_CONTRAST)


def _flag(name: ResolutionLike) -> int:
    text = name.value if isinstance(name, Resolution) else name
    if text not in FLAGS:
        raise ConfigError(unknown_name("resolution", str(text), ["hr", "lr", "auto"]))
    return FLAGS[text]
