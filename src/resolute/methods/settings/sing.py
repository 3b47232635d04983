"""Settings of SING."""

from dataclasses import dataclass, field, replace
from typing import Literal

from resolute.core.errors import ConfigError
from resolute.methods.config import MethodConfig, OptimiserConfig, ScheduleConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SINGConfig(MethodConfig):
    """SING: super-resolution and identity learnt jointly, matched at several factors [SING].

    Attributes:
        metric: per factor; the published one is Euclidean [SING].
        factors: up-scaling factors, each with a super-resolution network of its own [SING: 2, 3,
            4].
        widths: channels of each SRCNN after its first and second convolution [SING: 64, 32].
        padding: repeat the border so that super-resolution keeps the size of the input; false
            loses 8 lines on each side, 160 x 72 becomes 144 x 56 [SING].
        identity_network: backbone = that of the section `model` [ours]; dgd = the published
            inception network, from random weights.
        lr_route: through which networks a native LR image goes in training: all = each, as every
            published network is trained on all of them; nearest = that of the factor next to its
            own rate [ours]. A twin always goes through that of its own rate.
        weight_restoration: weight of the super-resolution loss [SING: 1, swept over 0 to 2].
        restoration_reduction: image_sum = half the sum of squares per image in grey levels, Caffe's
            [SING]; mean = mean square in units of 255 levels [ours].
        weight_identity: weight of each of the three identity losses [SING: 1].
        label_smoothing: of the identity losses [SING: 0].
        restoration_factor: on the learning rate, for the weights of the first two convolutions
            [SING: 1e-8].
        restoration_tail_factor: on the learning rate, for the weights of the last convolution and
            for all biases [SING: 1e-9].
        restoration_share: first share of the run in which the super-resolution networks alone learn
            from twins, because no pre-trained ones are at hand; 0 = off [ours].
        restoration_optimiser: how weights move in that phase [ours].
        theta: width of the weights exp(-(rho - m)^2 / theta^2) of the factors m [SING: swept over 1
            to 10; 1 is assumed].
        ratio: rho: side = h_ref over the native height [assumed: the published formula]; area =
            h_ref^2 48/128 over the native number of pixels, as its code does on CAVIAR [SING].
        normalise: match by vectors of length 1 [ours]; false as published.
        matching: distances = one distance per factor, weighted [SING]; vectors = one vector, the
            weighted mean of those per factor [ours]. With squared distances both rank HR images
            alike.
    """

    metric: Literal["sqeuclidean", "euclidean"] = "euclidean"
    factors: tuple[float, ...] = (2.0, 3.0, 4.0)
    widths: tuple[int, int] = (64, 32)
    padding: bool = False
    identity_network: Literal["backbone", "dgd"] = "backbone"
    lr_route: Literal["all", "nearest"] = "all"
    weight_restoration: float = 1.0
    restoration_reduction: Literal["image_sum", "mean"] = "image_sum"
    weight_identity: float = 1.0
    label_smoothing: float = 0.0
    restoration_factor: float = 1e-8
    restoration_tail_factor: float = 1e-9
    restoration_share: float = 0.0
    restoration_optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(
            learning_rate=3e-4, weight_decay=0.0, bias_decay=0.0
        )
    )
    theta: float = 1.0
    ratio: Literal["side", "area"] = "side"
    normalise: bool = False
    matching: Literal["distances", "vectors"] = "distances"

    def __post_init__(self) -> None:
        MethodConfig.__post_init__(self)
        if not self.factors or list(self.factors) != sorted(set(self.factors)):
            raise ConfigError(f"method.factors: expected rising factors, got {self.factors}")
        if self.factors[0] < 1:
            raise ConfigError(f"method.factors: expected >= 1, got {self.factors}")
        for name in ("restoration_factor", "restoration_tail_factor", "theta"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"method.{name}: expected > 0, got {getattr(self, name)}")
        for name in ("weight_restoration", "weight_identity"):
            if getattr(self, name) < 0:
                raise ConfigError(f"method.{name}: expected >= 0, got {getattr(self, name)}")
        for name in ("label_smoothing", "restoration_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"method.{name}: expected 0 <= s < 1, got {getattr(self, name)}")

    def as_trained(self) -> "SINGConfig":
        """Return the settings that train the same weights."""
        usual = SINGConfig()
        kept = MethodConfig.as_trained(self)
        return replace(kept, theta=usual.theta, normalise=usual.normalise, matching=usual.matching)


# The learning rate of the phase `restoration` does not fall [ours].
RESTORATION_SCHEDULE = ScheduleConfig(warmup=0.0, milestones=())

ROWS: dict[str, SINGConfig] = {"sing": SINGConfig()}

TITLES: dict[str, str] = {
    "sing": "SING: super-resolution per factor and identity, learnt jointly",
}
