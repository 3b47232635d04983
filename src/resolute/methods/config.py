"""Settings that every method has, and those of its optimisation, without torch."""

from dataclasses import dataclass, replace
from typing import Literal, Self

from resolute.core.errors import ConfigError

Fusion = Literal["hr", "lr", "mean", "weighted", "query_weighted", "constant", "fused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserConfig:
    """How weights move.

    Attributes:
        name: adam [FTWA 3.2] or sgd.
        momentum: of sgd.
        nesterov: Nesterov's form of that momentum.
        beta1: decay of Adam's first moment; GANs often take less than 0.9.
        learning_rate: base learning rate; the paper prints 0.0007 [FTWA 3.2].
        weight_decay: L2 decay of weights [FTWA 3.2].
        bias_decay: L2 decay of biases and normalisation parameters [FTWA 3.2].
        pretrained_factor: factor on the learning rate of layers that start from weights
            [ours]; the paper recipe uses 1.
        frozen_epochs: first epochs in which layers that start from weights do not move
            (fixbase_epoch of Torchreid) [ours].
        clip_norm: largest gradient norm; 0 leaves gradients alone [assumed].
    """

    name: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.9
    nesterov: bool = True
    beta1: float = 0.9
    learning_rate: float = 7e-4
    weight_decay: float = 5e-4
    bias_decay: float = 5e-4
    pretrained_factor: float = 1.0
    frozen_epochs: int = 0
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "pretrained_factor"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"optimiser.{name}: expected > 0, got {getattr(self, name)}")
        for name in ("momentum", "beta1"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"optimiser.{name}: expected 0 <= m < 1, got {getattr(self, name)}"
                )
        if self.nesterov and self.momentum == 0:
            raise ConfigError("optimiser.nesterov: needs a momentum above 0")
        for name in ("weight_decay", "bias_decay", "frozen_epochs", "clip_norm"):
            if getattr(self, name) < 0:
                raise ConfigError(f"optimiser.{name}: expected >= 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate changes; fractions of the run, so any epoch count keeps the shape.

    Attributes:
        warmup: fraction of the epochs with linear warm-up: 10 of 120 [assumed: strong baseline].
        warmup_start: factor at the very start of the warm-up [assumed: strong baseline].
        shape: steps at the milestones [FTWA 3.2], one cosine to zero [ours], or polynomial: what is
            left of the run to the power `power` [SING].
        milestones: fractions at which the rate drops: epochs 40 and 70 of 120 [FTWA 3.2].
        gamma: factor at each milestone [FTWA 3.2].
        power: exponent of the shape `polynomial` [SING].
    """

    warmup: float = 10 / 120
    warmup_start: float = 0.01
    shape: Literal["multistep", "cosine", "polynomial"] = "multistep"
    milestones: tuple[float, ...] = (40 / 120, 70 / 120)
    gamma: float = 0.2
    power: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"schedule.warmup: expected a fraction 0 <= w < 1, got {self.warmup}")
        if self.power <= 0:
            raise ConfigError(f"schedule.power: expected > 0, got {self.power}")
        if list(self.milestones) != sorted(self.milestones):
            raise ConfigError(f"schedule.milestones: expected rising, got {self.milestones}")
        if any(not 0 < m < 1 for m in self.milestones):
            raise ConfigError(f"schedule.milestones: expected fractions, got {self.milestones}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodConfig:
    """What can be set of every method; each has a class of its own with what is special to it.

    Attributes:
        fusion: how the streams join at matching [FTWA eq. 7, mirrored]; a method with one stream
            gives the same distance for all.
        metric: sqeuclidean (default) or euclidean per stream [assumed].
        constant: share of the HR space for the fusion `constant`.
        flip: embed each image and its mirror image and average [ours].
    """

    fusion: Fusion = "weighted"
    metric: Literal["sqeuclidean", "euclidean"] = "sqeuclidean"
    constant: float = 0.5
    flip: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.constant <= 1:
            raise ConfigError(f"method.constant: expected 0..1, got {self.constant}")

    @property
    def has_two_spaces(self) -> bool:
        """Whether embeddings have a HR and a LR space, which fusions join."""
        return False

    @property
    def has_unread_space(self) -> bool:
        """Whether the fusion leaves a space unread that embedding can spare."""
        return False

    def as_trained(self) -> Self:
        """Return the settings that train the same weights, and have usual values in all else.

        Two rows of a table with equal results differ in matching alone.
        """
        usual = type(self)()
        return replace(
            self,
            fusion=usual.fusion,
            metric=usual.metric,
            constant=usual.constant,
            flip=usual.flip,
        )
