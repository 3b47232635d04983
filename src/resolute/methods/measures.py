"""What can be measured of a method's transform T, whichever method has one.

Letters: N images, C channels, h, w size of the deep map.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from resolute.core.images import RESOLUTION_HR, Images
from resolute.core.types import InputSpec
from resolute.data.degrade import to_input
from resolute.models.describe import Stage, measure
from resolute.models.two_stream import TwoStream


@runtime_checkable
class Transforming(Protocol):
    """A method with a transform T that turns LR maps into HR maps.

    Attributes:
        input_spec: how pixels become its input.
        network: gives the maps F of HR and LR images.
        raft: T.
        height_reference: median native height of HR training images, in pixels.
    """

    input_spec: InputSpec
    network: TwoStream
    raft: nn.Module
    height_reference: Tensor


def transform_of(method: object) -> Transforming | None:
    """Return the method if it has a transform with anything to learn.

    Args:
        method: any method.

    Returns:
        None for a method without T, or with the identity in its place.
    """
    if not isinstance(method, Transforming):
        return None
    return method if any(True for _ in method.raft.parameters()) else None


def transform_errors(method: Transforming, images: Images, *, rate: float) -> tuple[float, float]:
    """Measure how far T brings the LR version of HR images back to their HR maps.

    Args:
        method: in eval mode, on the device of the images.
        images: N native-size HR images.
        rate: what their size is divided by for the LR version, at least 1.

    Returns:
        Sums over the images of |T(F'_LR) - F_HR| and |F'_LR - F_HR|; one minus their ratio is the
        share of the loss that T recovers.
    """
    with torch.inference_mode():
        rates = torch.full((len(images),), rate, device=images.pixels.device)
        inputs_hr = to_input(images, method.input_spec)
        inputs_lr = to_input(images, method.input_spec, rates=rates)
        heights_lr = (images.native_sizes[:, 0] / rate).floor().clamp(min=1)
        features_hr, features_lr = method.network.maps(
            inputs_hr, inputs_lr, log_heights_lr=(heights_lr / method.height_reference).log()
        ).chunk(2)  # (N, C, h, w) each
        restored = method.raft(features_lr)
        return _distance(restored, features_hr), _distance(features_lr, features_hr)


def transform_cost(method: Transforming) -> Stage:
    """Count parameters and multiply-accumulates of T for one image.

    Args:
        method: neither changed nor moved.
    """
    spec = method.input_spec
    device = next(method.network.parameters()).device
    blank = torch.zeros((1, 3, spec.height, spec.width), device=device)
    with torch.inference_mode():
        features = method.network.maps(blank, None)  # (1, C, h, w)
    return measure(method.raft, tuple(features.shape[1:]), part="raft", name="T")


def is_hr(images: Images) -> Tensor:
    """Tell which images came sharp, shape (N,), bool.

    Args:
        images: N images.
    """
    return images.resolution == RESOLUTION_HR


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().sum(dtype=torch.float64))
