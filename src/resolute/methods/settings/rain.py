"""Settings of RAIN, its variants and its ablations."""

from dataclasses import dataclass
from typing import Literal

from resolute.core.errors import ConfigError
from resolute.methods.config import MethodConfig, OptimiserConfig

# SGD at a tenth of the learning rate of the rest [assumed].
DISCRIMINATOR = OptimiserConfig(name="sgd", learning_rate=1e-4, nesterov=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RAINConfig(MethodConfig):
    """RAIN: features that a discriminator cannot tell HR from LR by, and an image can be made of.

    Facts from the authors' poster [RAIN]; what that leaves open is assumed, by the habits of the
    same authors' earlier code [ARN] and of CAD-Net where those say something. A term of weight 0
    is left out together with the network that serves it alone.

    Attributes:
        images: both = HR images, their twins and LR images; hr = HR images alone, the first
            baseline of the paper's table, which has neither D nor G [RAIN].
        weight_identity: of L_cls [RAIN; 1 assumed].
        weight_triplet: of L_tri [RAIN; 1 assumed].
        weight_reconstruction: of L_rec [RAIN; 1 assumed; 0.1 in ARN].
        weight_adversarial: of L_adv, the sum over the levels [RAIN; 1 assumed].
        levels: number of last stages of F whose maps have a discriminator; 1 is the paper's
            single-level variant [RAIN; 3 assumed].
        labelled: share of the training identities that have labels, drawn by the seed of the run;
            the others feed L_rec and L_adv alone [RAIN, semi-supervised].
        margin: triplet margin [assumed: as CAD-Net].
        mining: hard = hardest positive and negative per anchor; all = per anchor the
            mean over its triplets with positive loss [assumed].
        label_smoothing: mass spread over other identities [assumed: none].
        decoder_widths: channels that each block of G but the last leaves [ARN].
        decoder_convs: 3x3 convolutions per block of G [ARN].
        discriminator_width: channels of the first block of each D_j [assumed].
        discriminator: how the weights of D move [assumed: as CAD-Net].
    """

    images: Literal["both", "hr"] = "both"
    weight_identity: float = 1.0
    weight_triplet: float = 1.0
    weight_reconstruction: float = 1.0
    weight_adversarial: float = 1.0
    levels: int = 3
    labelled: float = 1.0
    margin: float = 2.0
    mining: Literal["hard", "all"] = "hard"
    label_smoothing: float = 0.0
    decoder_widths: tuple[int, ...] = (1024, 512, 256, 64)
    decoder_convs: int = 3
    discriminator_width: int = 64
    discriminator: OptimiserConfig = DISCRIMINATOR

    def __post_init__(self) -> None:
        MethodConfig.__post_init__(self)
        for name in (
            "weight_identity",
            "weight_triplet",
            "weight_reconstruction",
            "weight_adversarial",
            "margin",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"method.{name}: expected >= 0, got {getattr(self, name)}")
        if self.weight_identity == self.weight_triplet == 0:
            raise ConfigError(
                "method.weight_identity, weight_triplet: both are 0, nothing would tell people "
                "apart; set one above 0"
            )
        if self.levels < 1:
            raise ConfigError(f"method.levels: expected at least 1, got {self.levels}")
        if not 0 < self.labelled <= 1:
            raise ConfigError(f"method.labelled: expected 0 < share <= 1, got {self.labelled}")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"method.label_smoothing: expected 0 <= s < 1, got {self.label_smoothing}"
            )
        if self.images == "hr" and (self.weight_reconstruction > 0 or self.weight_adversarial > 0):
            raise ConfigError(
                "method.images: without LR images there is nothing to restore and nothing to tell "
                "apart; set method.weight_reconstruction and method.weight_adversarial 0"
            )


# The ablations take one term away each; the paper's baseline on HR and LR images is the frame's
# `baseline-twins`.
ROWS: dict[str, RAINConfig] = {
    "rain-single": RAINConfig(levels=1),
    "rain": RAINConfig(),
    "rain-hr": RAINConfig(images="hr", weight_reconstruction=0.0, weight_adversarial=0.0),
    "rain-no-cls": RAINConfig(weight_identity=0.0),
    "rain-no-tri": RAINConfig(weight_triplet=0.0),
    "rain-no-rec": RAINConfig(weight_reconstruction=0.0),
    "rain-no-adv": RAINConfig(weight_adversarial=0.0),
}

TITLES: dict[str, str] = {
    "rain-single": "RAIN, single-level: one discriminator, on the deep map",
    "rain": "RAIN, multi-level: discriminators at three depths, decoder",
    "rain-hr": "RAIN's baseline trained on HR images alone",
    "rain-no-cls": "RAIN without the identity classifier",
    "rain-no-tri": "RAIN without the triplet loss",
    "rain-no-rec": "RAIN without decoder",
    "rain-no-adv": "RAIN without discriminators",
}
