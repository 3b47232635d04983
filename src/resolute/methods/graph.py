"""What of a method can leave torch: one function of tensors per role, and when each is used.

A method whose embeddings can be exported keeps :class:`Traceable` beside the contract. The
functions see network input alone; how an image becomes input, and which role it has, stays
outside, because both need the native size.

Letters: N images, S streams, D embedding, H, W network input.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from resolute.core.errors import ConfigError
from resolute.core.images import RESOLUTION_HR, RESOLUTION_LR, Images

Description = tuple[Tensor, Tensor, Tensor]  # vectors (N, S, D), quality (N, S), norms (N, S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """How images of one resolution are described.

    Attributes:
        rates: one network input is made from the native pixels for each: what the native size is
            divided by first; 1 leaves it as it came.
        network: takes one float32 tensor (N, 3, H, W) per rate; gives L2-normalised vectors
            (N, S, D), quality (N, S) and the vectors' former lengths (N, S).
    """

    rates: tuple[float, ...]
    network: nn.Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Which role an image of unknown resolution takes; between the two heights it takes both.

    Attributes:
        hr_above: native height in pixels above which it takes the HR role.
        lr_below: native height in pixels below which it takes the LR role.
    """

    hr_above: float
    lr_below: float

    def __post_init__(self) -> None:
        if not self.hr_above < self.lr_below:
            raise ConfigError(
                f"routing: expected hr_above < lr_below, got {self.hr_above} and {self.lr_below}: "
                "some heights would have no role"
            )

    def of(self, images: Images) -> dict[str, Tensor]:
        """Say which images take which role.

        Args:
            images: N images.

        Returns:
            Positions by role, each int64, shape (M,); an image near the border is in both.
        """
        heights = images.native_sizes[:, 0]
        is_hr = images.resolution == RESOLUTION_HR
        is_lr = images.resolution == RESOLUTION_LR
        is_unknown = ~(is_hr | is_lr)
        is_taken = {
            "hr": is_hr | (is_unknown & (heights > self.hr_above)),
            "lr": is_lr | (is_unknown & (heights < self.lr_below)),
        }
        return {role: taken.nonzero().flatten() for role, taken in is_taken.items()}


# Every image of unknown resolution takes the HR role, and no other.
ONE_WAY = Routing(hr_above=-1.0, lr_below=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graphs:
    """A method's embedding, taken apart for export.

    Attributes:
        hr: how HR images are described.
        lr: how LR images are described; may share its network with ``hr``.
        routing: roles of images of unknown resolution.
        metric: as in `Embedding`.
        fusion: as in `Embedding`.
        constant: as in `Embedding`.
        is_mirrored: each image is averaged with its mirror image.
        height_reference: h_ref, native height of a typical HR image in pixels.
    """

    hr: Role
    lr: Role
    routing: Routing
    metric: str
    fusion: str
    constant: float
    is_mirrored: bool
    height_reference: float


@runtime_checkable
class Traceable(Protocol):
    """What a method offers, beside the contract, so that it can be exported."""

    def graphs(self) -> Graphs:
        """Give its parts; networks are in eval mode and share the method's weights."""


class Traced(nn.Module):
    """A method's function of tensors as a module, so that its weights are found when traced."""

    def __init__(self, method: nn.Module, describe: Callable[..., Description]) -> None:
        super().__init__()
        self.method = method
        self._describe = describe

    def forward(self, *inputs: Tensor) -> Description:
        """Describe images.

        Args:
            inputs: one tensor (N, 3, H, W) per rate of the role.

        Returns:
            Vectors (N, S, D), quality (N, S), norms (N, S).
        """
        return self._describe(*inputs)
