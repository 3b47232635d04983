"""Settings of CSR-GAN."""

from dataclasses import dataclass, field
from typing import Literal

from resolute.core.errors import ConfigError
from resolute.methods.config import MethodConfig, OptimiserConfig, ScheduleConfig

NUM_STAGES = 3  # each doubles height and width [Wang 2018]


def _gan_optimiser() -> OptimiserConfig:
    return OptimiserConfig(learning_rate=1e-4, weight_decay=0.0, bias_decay=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CSRGANConfig(MethodConfig):
    """A chain of three x2 generators, their discriminators and an identity network [Wang 2018].

    The run's own `optimiser` and `schedule` are those of the identity network.

    Attributes:
        chain_height: height that the chain ends at: 128 [Wang 2018]; 0 = median native height of
            HR training images or input height, the smaller, rounded up to a multiple of 8 [ours].
        chain_width: width that it ends at: 48 [Wang 2018]; 0 = in proportion to the input [ours].
        generator_width: channels: 64 [Ledig 2017].
        generator_blocks: residual blocks of each generator: 16 [Ledig 2017].
        generator_residual: add what a generator makes to its image, enlarged, and start there
            [ours]; false = it makes the whole image [Ledig 2017].
        discriminator_width: channels of the first layer, of which the others are multiples: 64
            [Ledig 2017].
        weight_pixel: of the squared error per pixel, images in -1..1: 1 [Wang 2018].
        weight_adversarial: of what deceives the discriminators: 1e-3 [Wang 2018].
        weight_perceptual: of the squared error of VGG-19's pool4: 2e-6 [Wang 2018].
        weight_logits: of the squared error of VGG-19's outputs, last stage alone: 1 [Wang 2018].
        perceptual_weights: torchvision's VGG-19, a weight file; empty leaves the last two terms
            out, and log, model file and table say so [ours].
        warmup_share: first part of the run, in which the chain learns by the pixel term alone:
            100 of 2100 epochs [Wang 2018].
        entries: what the chain learns from: smallest = every HR image enters at an eighth of its
            size [assumed]; spread = at an eighth, a quarter and a half in turn, as images do that
            are to be matched [ours].
        native_lr: the identity network learns from LR images too, restored [ours]; false = from HR
            images and what the chain makes of them when shrunk [Wang 2018].
        dropout: share of the embedding that the classifier does not see: 0.9 [Wang 2018].
        label_smoothing: mass spread over other identities: 0 [Wang 2018].
        generator: how the generators' weights move: Adam 1e-4 [Wang 2018].
        discriminator: how the discriminators' weights move, as the generators' [Wang 2018].
        gan_schedule: of both, after the warm-up: x 0.1 at half [Wang 2018].
    """

    chain_height: int = 128
    chain_width: int = 48
    generator_width: int = 64
    generator_blocks: int = 16
    generator_residual: bool = False
    discriminator_width: int = 64
    weight_pixel: float = 1.0
    weight_adversarial: float = 1e-3
    weight_perceptual: float = 2e-6
    weight_logits: float = 1.0
    perceptual_weights: str = ""
    warmup_share: float = 100 / 2100
    entries: Literal["smallest", "spread"] = "smallest"
    native_lr: bool = True
    dropout: float = 0.9
    label_smoothing: float = 0.0
    generator: OptimiserConfig = field(default_factory=_gan_optimiser)
    discriminator: OptimiserConfig = field(default_factory=_gan_optimiser)
    gan_schedule: ScheduleConfig = field(
        default_factory=lambda: ScheduleConfig(warmup=0.0, milestones=(0.5,), gamma=0.1)
    )

    def __post_init__(self) -> None:
        MethodConfig.__post_init__(self)
        step = 2**NUM_STAGES
        for name in ("chain_height", "chain_width"):
            size = getattr(self, name)
            if size < 0 or size % step:
                raise ConfigError(f"method.{name}: expected a multiple of {step} or 0, got {size}")
        for name in ("generator_width", "generator_blocks", "discriminator_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"method.{name}: expected >= 1, got {getattr(self, name)}")
        for name in ("weight_pixel", "weight_adversarial", "weight_perceptual", "weight_logits"):
            if getattr(self, name) < 0:
                raise ConfigError(f"method.{name}: expected >= 0, got {getattr(self, name)}")
        if not 0 < self.warmup_share < 1:
            raise ConfigError(f"method.warmup_share: expected 0 < s < 1, got {self.warmup_share}")
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"method.{name}: expected 0 <= s < 1, got {getattr(self, name)}")


ROWS: dict[str, CSRGANConfig] = {"csr-gan": CSRGANConfig()}

TITLES: dict[str, str] = {
    "csr-gan": "CSR-GAN: a chain of generators restores, an identity network learns in turn",
}
