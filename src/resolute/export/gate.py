"""Tell a sharp image from an enlarged one inside a graph that only sees the network's input.

A consumer that resizes its crops throws the native size away; what is left of it is the spectrum.
The sharpness is the energy of the octave that an image of half the reference height cannot have,
over the energy of the octave below [ours]:

    x_1 = input shrunk to h_ref lines, x_2 = to h_ref / 2, x_4 = to h_ref / 4
    sharpness = mean (x_1 - up(x_2))^2 / mean (x_2 - up(x_4))^2

It does not change with contrast or brightness. It cannot see through noise, strong compression
or sharpening, and needs a reference height of no more than about the input height.

Letters: N images, H, W network input, h, w smaller size.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resolute.core.errors import ConfigError
from resolute.core.types import InputSpec
from resolute.data.kernels import BICUBIC, Kernel, matrix

BILINEAR = Kernel(name="bilinear")
# Rec. 601 luma; a flat image has no detail to judge and counts as LR.
_LUMA = (0.299, 0.587, 0.114)
_FLAT = 1e-6
# Fewer than this share told right, and a fixed branch is the better choice [ours].
LEAST_ACCURACY = 0.75

Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """How a gate was set and how well it tells the two kinds of images apart.

    Attributes:
        threshold: sharpness above which an image is HR.
        measured_on: which images.
        num_hr: how many HR images.
        num_lr: how many LR images.
        hr_right: share of HR images above the threshold, 0..1.
        lr_right: share of LR images at or below it, 0..1.
    """

    threshold: float
    measured_on: str
    num_hr: int
    num_lr: int
    hr_right: float
    lr_right: float

    @property
    def accuracy(self) -> float:
        """Mean of both shares, 0..1."""
        return (self.hr_right + self.lr_right) / 2

    def to_mapping(self) -> dict[str, Any]:
        """Return what a sidecar stores."""
        return {**asdict(self), "accuracy": self.accuracy}


class Resample(nn.Module):
    """Resample maps to another size by two constant matrices.

    Plain products run in every runtime, which cannot be said of an antialiased Resize.
    """

    down: Tensor
    across: Tensor

    def __init__(self, size: Size, target: Size, kernel: Kernel) -> None:
        super().__init__()
        self.register_buffer("down", torch.tensor(matrix(size[0], target[0], kernel)))
        self.register_buffer("across", torch.tensor(matrix(size[1], target[1], kernel).T))

    def forward(self, maps: Tensor) -> Tensor:
        """Resample.

        Args:
            maps: shape (N, C, H, W).

        Returns:
            Maps of the target size, (N, C, h, w).
        """
        resampled: Tensor = self.down @ (maps @ self.across)
        return resampled


class Versions(nn.Module):
    """The inputs of a role, made from the network's input instead of native pixels.

    A lower resolution is taken from the reference height, not from the input height: an input
    of 256 lines shows a person of h_ref lines, and its version at rate r has h_ref / r [ours].
    """

    def __init__(
        self, spec: InputSpec, rates: tuple[float, ...], *, height_reference: float
    ) -> None:
        super().__init__()
        size = (spec.height, spec.width)
        self.ways = nn.ModuleList()
        for rate in rates:
            if rate == 1:
                self.ways.append(nn.Identity())
                continue
            small = _reduced(spec, min(height_reference / rate, spec.height))
            up = Kernel(name=spec.interpolation)  # type: ignore[arg-type]  # checked there
            self.ways.append(
                nn.Sequential(Resample(size, small, BICUBIC), Resample(small, size, up))
            )

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Make one input per rate.

        Args:
            inputs: shape (N, 3, H, W).

        Returns:
            As many of the same shape.
        """
        return tuple(way(inputs) for way in self.ways)


class Gate(nn.Module):
    """Sharpness of normalised input, and the threshold it is compared with.

    Attributes:
        threshold: sharpness above which an image takes the HR role.
    """

    threshold: Tensor
    luma: Tensor

    def __init__(self, spec: InputSpec, *, height_reference: float) -> None:
        super().__init__()
        finest = min(height_reference, spec.height)
        sizes = [_reduced(spec, finest / rate) for rate in (1, 2, 4)]
        self.finest = Resample((spec.height, spec.width), sizes[0], BILINEAR)
        self.halves = nn.ModuleList(Resample(a, b, BILINEAR) for a, b in pairwise(sizes))
        self.doubles = nn.ModuleList(Resample(b, a, BILINEAR) for a, b in pairwise(sizes))
        luma = torch.tensor(_LUMA) * torch.tensor(spec.std)
        self.register_buffer("luma", (luma / luma.sum()).view(1, 3, 1, 1))
        self.register_buffer("threshold", torch.tensor(0.0))

    def forward(self, inputs: Tensor) -> Tensor:
        """Measure sharpness.

        Args:
            inputs: normalised images, shape (N, 3, H, W).

        Returns:
            Sharpness >= 0, shape (N,).
        """
        levels = self.finest((inputs * self.luma).sum(dim=1, keepdim=True))  # (N, 1, h, w)
        energies = []
        for halve, double in zip(self.halves, self.doubles, strict=True):
            smaller = halve(levels)
            detail = levels - double(smaller)
            energies.append((detail * detail).mean(dim=(1, 2, 3)))  # (N,)
            levels = smaller
        sharpness: Tensor = energies[0] / (energies[1] + _FLAT)
        return sharpness

    def set_threshold(
        self, sharpness_hr: NDArray[np.float32], sharpness_lr: NDArray[np.float32], *, source: str
    ) -> GateReport:
        """Choose the threshold that tells most of both kinds right, and say how well.

        Args:
            sharpness_hr: of HR images, shape (N_hr,).
            sharpness_lr: of LR images, shape (N_lr,).
            source: which images these are, for the report.

        Returns:
            The threshold, half-way between two measured values, and its shares.

        Raises:
            ConfigError: if there are no images of a kind, or they cannot be told apart.
        """
        if not len(sharpness_hr) or not len(sharpness_lr):
            raise ConfigError("branch auto: needs HR and LR images to set its gate")
        values = np.unique(np.concatenate([sharpness_hr, sharpness_lr]).astype(np.float64))
        cuts = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
        hr_right = (sharpness_hr[None, :] > cuts[:, None]).mean(axis=1)
        lr_right = (sharpness_lr[None, :] <= cuts[:, None]).mean(axis=1)
        # The middle of the best stretch: as far from both kinds as the images allow.
        total = hr_right + lr_right
        best = np.flatnonzero(total >= total.max() - 1e-12)
        chosen = int(best[len(best) // 2])
        report = GateReport(
            threshold=float(cuts[chosen]),
            measured_on=source,
            num_hr=len(sharpness_hr),
            num_lr=len(sharpness_lr),
            hr_right=float(hr_right[chosen]),
            lr_right=float(lr_right[chosen]),
        )
        if report.accuracy < LEAST_ACCURACY:
            raise ConfigError(
                f"branch auto: on {source} the gate tells only {report.accuracy:.0%} of HR and LR "
                "images right: choose --branch hr or --branch lr, or give training images by "
                "--data.root"
            )
        self.threshold.fill_(report.threshold)
        return report


def _reduced(spec: InputSpec, height: float) -> Size:
    """Size of an image of some height at the input's aspect."""
    return max(1, int(height)), max(1, int(height * spec.width / spec.height))
