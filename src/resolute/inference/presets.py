"""What consumers of an exported network feed it: colour order and range of the pixels.

A graph carries the head of one preset, so that its consumer needs no preprocessing of ours.
Wrong ranges and normalisation done twice are the classic faults after an export [ours].

Letters: N images, H, W network input.
"""

from dataclasses import dataclass

from torch import Tensor

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError
from resolute.core.types import InputSpec
from resolute.data.degrade import normalise

IMAGENET = InputSpec()  # its mean and deviation are what such consumers subtract and divide by


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Pixels as one family of consumers gives them; always float32 (N, 3, H, W).

    Attributes:
        consumers: who feeds pixels like this.
        white: value of a white pixel, 255 or 1; unused where pixels are normalised.
        is_normalised: ImageNet's mean is subtracted and its deviation divided by already.
        is_bgr: blue comes first.
    """

    consumers: str
    white: float = 255.0
    is_normalised: bool = False
    is_bgr: bool = False

    def pixels(self, levels: Tensor) -> Tensor:
        """Turn grey levels into what the graph takes, as its consumer would.

        Args:
            levels: RGB, 0..255, float32, shape (N, 3, H, W).

        Returns:
            Input of the graph, same shape.
        """
        if self.is_normalised:
            return normalise(levels, IMAGENET)
        ordered = levels[:, [2, 1, 0]] if self.is_bgr else levels
        return ordered.contiguous() if self.white == 255.0 else ordered * (self.white / 255)


PRESETS: dict[str, Preset] = {
    "imagenet": Preset(consumers="BoxMOT, Torchreid's own code", is_normalised=True),
    "raw-rgb": Preset(consumers="DeepStream, FastReID's own code, Triton"),
    "unit-rgb": Preset(consumers="Ultralytics trackers", white=1.0),
    "raw-bgr": Preset(consumers="Open Model Zoo's OpenVINO demos, OpenCV frames", is_bgr=True),
}


def find_preset(name: str) -> Preset:
    """Look up a preset.

    Args:
        name: key of ``PRESETS``.

    Returns:
        The preset.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError(unknown_name("preset", name, list(PRESETS)))
    return PRESETS[name]
