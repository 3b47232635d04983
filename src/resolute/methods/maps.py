"""Where in an image the spaces of a method see something: its deep maps by name.

Letters: N images, C channels, h, w size of the deep map.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from resolute.core.errors import ConfigError
from resolute.core.images import RESOLUTION_HR, RESOLUTION_UNKNOWN, Images
from resolute.core.types import InputSpec
from resolute.data.degrade import to_input
from resolute.methods.ftwa_matching import LR_HEIGHT_RATIO
from resolute.methods.settings.ftwa import FTWAConfig
from resolute.models.two_stream import TwoStream


@runtime_checkable
class Visible(Protocol):
    """A method that shows its maps itself; any method may."""

    def feature_maps(self, images: Images) -> dict[str, Tensor]:
        """Give maps (N, C, h, w) by name, without gradients, in eval mode."""


class TwoStreamed(Protocol):
    """A method around a two-stream network, with T where it has two spaces.

    Attributes:
        input_spec: how pixels become its input.
        config: number of spaces, rates of the LR version of a HR image.
        network: gives the maps F.
        height_reference: median native height of HR training images, in pixels.
    """

    input_spec: InputSpec
    config: FTWAConfig
    network: TwoStream
    height_reference: Tensor


OfRole = Callable[[Images], dict[str, Tensor]]


def feature_maps(method: object, images: Images) -> dict[str, Tensor]:
    """Show what an embedding is pooled from.

    Args:
        method: in eval mode, on the device of the images.
        images: N native-size images. Of unknown ones the lower are LR, as in matching but without
            the second route near the border.

    Returns:
        Maps (N, C, h, w) by name. With two spaces ``hr`` is F_HR of a HR and T(F_LR) of a LR
        image, ``lr`` is F'_LR (at the first gallery rate) of a HR and F_LR of a LR image; with one
        space ``features``. A method with a function ``feature_maps`` of its own names them.

    Raises:
        ConfigError: if the method has no maps to show.
    """
    with torch.inference_mode():
        if isinstance(method, Visible):
            return method.feature_maps(images)
        if not isinstance(getattr(method, "network", None), TwoStream):
            raise ConfigError(
                f"{type(method).__name__} shows no feature maps: give it a function "
                "feature_maps(images) that returns maps (N, C, h, w) by name"
            )
        streamed = cast("TwoStreamed", method)
        return maps_by_role(
            images,
            border=float(streamed.height_reference) / LR_HEIGHT_RATIO,
            of_hr=partial(_maps_of_hr, streamed),
            of_lr=partial(_maps_of_lr, streamed),
        )


def maps_by_role(
    images: Images, *, border: float, of_hr: OfRole, of_lr: OfRole
) -> dict[str, Tensor]:
    """Let each image take one way, and put the maps in the order of the images.

    Args:
        images: N native-size images.
        border: native height in pixels up to which an image of unknown resolution is LR.
        of_hr: maps of HR images by name.
        of_lr: maps of LR images, by the same names.

    Returns:
        Maps (N, C, h, w) by name.
    """
    is_unknown = images.resolution == RESOLUTION_UNKNOWN
    is_high = images.native_sizes[:, 0] > border
    is_sharp = (images.resolution == RESOLUTION_HR) | (is_unknown & is_high)
    parts: dict[str, list[Tensor]] = {}
    positions = []
    for is_taken, of_role in ((is_sharp, of_hr), (~is_sharp, of_lr)):
        index = is_taken.nonzero().flatten()
        if len(index):
            positions.append(index)
            for name, features in of_role(images.take(index)).items():
                parts.setdefault(name, []).append(features)
    order = torch.cat(positions).argsort()
    return {name: torch.cat(features)[order] for name, features in parts.items()}


def _maps_of_hr(method: TwoStreamed, images: Images) -> dict[str, Tensor]:
    inputs = to_input(images, method.input_spec)  # (n, 3, H, W)
    if method.config.spaces == 1:
        return {"features": method.network.maps(inputs, None)}
    rate = method.config.gallery_rates[0]
    rates = torch.full((len(images),), rate, device=inputs.device)
    twins = to_input(images, method.input_spec, rates=rates)
    heights_syn = (images.native_sizes[:, 0] / rate).floor().clamp(min=1)
    features_hr, features_lr_syn = method.network.maps(
        inputs, twins, log_heights_lr=_log_heights(method, heights_syn)
    ).chunk(2)
    return {"hr": features_hr, "lr": features_lr_syn}


def _maps_of_lr(method: TwoStreamed, images: Images) -> dict[str, Tensor]:
    features_lr = method.network.maps(
        None,
        to_input(images, method.input_spec),
        log_heights_lr=_log_heights(method, images.native_sizes[:, 0]),
    )
    if method.config.spaces == 1:
        return {"features": features_lr}
    features_hr_syn: Tensor = method.raft(features_lr)  # type: ignore[attr-defined]  # two spaces
    return {"hr": features_hr_syn, "lr": features_lr}


def _log_heights(method: TwoStreamed, heights: Tensor) -> Tensor:
    return (heights / method.height_reference).log()
