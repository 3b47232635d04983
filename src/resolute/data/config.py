"""Settings of the training loader."""

from dataclasses import dataclass, field
from typing import Literal

from resolute.core.errors import ConfigError
from resolute.data.degrade import check_rate
from resolute.data.faults import FaultConfig
from resolute.data.kernels import Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """What a training batch is made of, and how its images are changed.

    Attributes:
        batch_size: given images per batch and process, half HR and half LR; the twins of the HR
            images come on top. [FTWA 3.2: 64; that it counts both halves is assumed]
        num_instances: HR images, and as many LR images, per identity in a batch.
            [assumed: 2, the strong baseline's 4 per identity; 1 on VIPeR, one picture per view]
        flip: probability of a mirrored image. [assumed: strong baseline 0.5]
        pad: black pixels added on each side before a crop of the input size is drawn.
            [assumed: strong baseline 10]
        erasing: probability that a rectangle is erased. [assumed: strong baseline 0.5]
        erasing_area: smallest and largest share of the image that is erased. [Zhong 2020]
        erasing_aspect: smallest and largest height / width of the rectangle. [Zhong 2020]
        twin_rates: rates of the LR versions made of HR images, drawn evenly per image and step.
            [assumed: those of the test data]
        twin_range: smallest and largest rate of twins drawn log-evenly between them in place of
            `twin_rates`; empty = off. [ours]
        twin_kernel: how twins are shrunk; LR versions at matching are bicubic all the same.
            [assumed: as the test data, Pillow bicubic]
        faults: blur, noise, JPEG and mixed kernels on twins; all off. [ours]
        lr_rate: ``protocol`` = a LR-view image exists only at its drawn rate; ``redraw`` = drawn
            anew from its HR original at every step, which is outside the MLR protocol and belongs
            in a column of its own. [SING: protocol]
        degrade_lr: probability that a LR image is degraded further, from the pixels it has, with
            the faults of the twins; 0 = off. [ours]
        degrade_lr_rate: largest further rate, drawn log-evenly from 1 up. [ours]
        workers: processes that prepare batches ahead; any number gives the same batches. [ours]
    """

    batch_size: int = 64
    num_instances: int = 2
    flip: float = 0.5
    pad: int = 10
    erasing: float = 0.5
    erasing_area: tuple[float, float] = (0.02, 0.4)
    erasing_aspect: tuple[float, float] = (0.3, 1 / 0.3)
    twin_rates: tuple[float, ...] = (2.0, 3.0, 4.0)
    twin_range: tuple[float, ...] = ()
    twin_kernel: Kernel = field(default_factory=Kernel)
    faults: FaultConfig = field(default_factory=FaultConfig)
    lr_rate: Literal["protocol", "redraw"] = "protocol"
    degrade_lr: float = 0.0
    degrade_lr_rate: float = 2.0
    workers: int = 0

    def __post_init__(self) -> None:
        if self.num_instances < 1:
            raise ConfigError(f"num_instances: expected at least 1, got {self.num_instances}")
        if self.batch_size < 1 or self.batch_size % (2 * self.num_instances):
            raise ConfigError(
                f"batch_size: expected a multiple of 2 * num_instances = {2 * self.num_instances} "
                f"(HR and LR halves), got {self.batch_size}"
            )
        for name in ("flip", "erasing", "degrade_lr"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected 0 to 1, got {getattr(self, name)}")
        if self.pad < 0 or self.workers < 0:
            raise ConfigError(
                f"pad and workers: expected 0 or more, got {self.pad} and {self.workers}"
            )
        if not 0 < self.erasing_area[0] <= self.erasing_area[1] < 1:
            raise ConfigError(
                f"erasing_area: expected 0 < smallest <= largest < 1, got {self.erasing_area}"
            )
        if not 0 < self.erasing_aspect[0] <= self.erasing_aspect[1]:
            raise ConfigError(
                f"erasing_aspect: expected 0 < smallest <= largest, got {self.erasing_aspect}"
            )
        if not self.twin_rates:
            raise ConfigError("twin_rates: expected at least one rate, got none")
        for rate in (*self.twin_rates, *self.twin_range, self.degrade_lr_rate):
            check_rate(rate)
        if self.twin_range and not (
            len(self.twin_range) == 2 and self.twin_range[0] <= self.twin_range[1]
        ):
            raise ConfigError(
                f"twin_range: expected smallest <= largest rate, got {self.twin_range}"
            )

    @property
    def num_identities(self) -> int:
        """Identities P per batch."""
        return self.batch_size // (2 * self.num_instances)
