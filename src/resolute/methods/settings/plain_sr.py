"""Settings of plain super-resolution, then re-identification: what people do today."""

from dataclasses import dataclass, field, replace
from typing import Literal

from resolute.core.errors import ConfigError
from resolute.methods.config import MethodConfig, OptimiserConfig, ScheduleConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSRConfig(MethodConfig):
    """One network for HR images, and LR images made to look like them first [ours].

    Attributes:
        restoration: none = LR images are enlarged, nothing more, and the network never sees one in
            training; network = they pass a small super-resolution network, which learns from twins
            first and is then frozen, and the rest trains on what it makes.
        enlargement: kernel that brings LR images to the input size at matching; training enlarges
            bilinearly, and what a network learnt from has to stay so.
        twins: with a network, train on restored twins too, as Baseline-twins does.
        width: channels of the super-resolution network.
        num_blocks: its residual blocks.
        restoration_share: first share of the run, in which it learns; nothing else does.
        restoration_optimiser: how its weights move.
        weight_identity: weight of the cross entropy, as of the baseline [FTWA 3.2].
        weight_triplet: weight of the triplet loss, as of the baseline [FTWA 3.2].
        margin: of the triplet loss [assumed: strong baseline].
        mining: hardest per anchor, or per anchor the mean over its active triplets.
        label_smoothing: mass spread evenly over identities.
    """

    restoration: Literal["none", "network"] = "none"
    enlargement: Literal["bilinear", "bicubic"] = "bilinear"
    twins: bool = True
    width: int = 32
    num_blocks: int = 4
    restoration_share: float = 0.25
    restoration_optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(
            learning_rate=1e-3, weight_decay=0.0, bias_decay=0.0
        )
    )
    weight_identity: float = 3.0
    weight_triplet: float = 1.0
    margin: float = 0.3
    mining: Literal["hard", "all"] = "hard"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        MethodConfig.__post_init__(self)
        if self.restoration == "network" and self.enlargement != "bilinear":
            raise ConfigError(
                "method.enlargement: the super-resolution network learns from bilinear images; set "
                "it to bilinear"
            )
        if not 0 < self.restoration_share < 1:
            raise ConfigError(
                "method.restoration_share: expected 0 < share < 1, got "
                f"{self.restoration_share}: the network has to learn before it is frozen"
            )
        for name in ("width", "num_blocks"):
            if getattr(self, name) < 1:
                raise ConfigError(f"method.{name}: expected >= 1, got {getattr(self, name)}")
        for name in ("weight_identity", "weight_triplet", "margin"):
            if getattr(self, name) < 0:
                raise ConfigError(f"method.{name}: expected >= 0, got {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"method.label_smoothing: expected 0 <= s < 1, got {self.label_smoothing}"
            )

    def as_trained(self) -> "PlainSRConfig":
        """Return the settings that train the same weights."""
        return replace(MethodConfig.as_trained(self), enlargement="bilinear")


# One cosine over the phase `restoration` [ours].
RESTORATION_SCHEDULE = ScheduleConfig(warmup=0.0, shape="cosine")

ROWS: dict[str, PlainSRConfig] = {
    "sr-bicubic": PlainSRConfig(enlargement="bicubic"),
    "sr-net": PlainSRConfig(restoration="network"),
}

TITLES: dict[str, str] = {
    "sr-bicubic": "Bicubic, then ReID: trained on HR images alone, LR images enlarged",
    "sr-net": "Super-resolution, then ReID: LR images pass a small network of ours first",
}
