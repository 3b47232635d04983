"""Settings of CAD-Net and its two branches."""

from dataclasses import dataclass
from typing import Literal

from resolute.core.errors import ConfigError
from resolute.methods.config import MethodConfig, OptimiserConfig

# SGD at a tenth of the learning rate of the rest [assumed].
DISCRIMINATOR = OptimiserConfig(name="sgd", learning_rate=1e-4, nesterov=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CADNetConfig(MethodConfig):
    """CAD-Net: features that do not tell the resolution, beside those of a restored image.

    What [CAD-Net] is known to say comes from notes on it. Constants that nobody could read again
    are marked assumed. A term of weight 0 is left out together with the discriminator it needs.

    Attributes:
        branches: both = v is [f, g]; f = the encoder's features alone, the HR encoder is left out;
            g = those of the restored image alone [CAD-Net].
        weight_identity: of the cross entropy in L_cls [CAD-Net].
        weight_triplet: of the triplet losses in L_cls [CAD-Net].
        weight_feature: lambda_1, of the adversarial term on features, D_F [assumed: 1].
        weight_reconstruction: lambda_2, of L_rec [assumed: 1].
        weight_image: lambda_3, of the adversarial term on images, D_I [assumed: 1].
        margin: triplet margin [assumed: 2].
        mining: hard = hardest positive and negative per anchor; all = per anchor the
            mean over its triplets with positive loss [assumed].
        label_smoothing: mass spread over other identities [assumed: none].
        decoder_widths: channels that each block of G but the last leaves [assumed: ARN].
        decoder_convs: 3x3 convolutions per block of G [assumed: ARN].
        feature_width: channels of the first block of D_F [assumed].
        image_width: channels of the first block of D_I [assumed].
        discriminator: how the weights of D_F and D_I move [assumed].
    """

    branches: Literal["both", "f", "g"] = "both"
    weight_identity: float = 1.0
    weight_triplet: float = 1.0
    weight_feature: float = 1.0
    weight_reconstruction: float = 1.0
    weight_image: float = 1.0
    margin: float = 2.0
    mining: Literal["hard", "all"] = "hard"
    label_smoothing: float = 0.0
    decoder_widths: tuple[int, ...] = (1024, 512, 256, 64)
    decoder_convs: int = 3
    feature_width: int = 64
    image_width: int = 64
    discriminator: OptimiserConfig = DISCRIMINATOR

    def __post_init__(self) -> None:
        MethodConfig.__post_init__(self)
        for name in (
            "weight_identity",
            "weight_triplet",
            "weight_feature",
            "weight_reconstruction",
            "weight_image",
            "margin",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"method.{name}: expected >= 0, got {getattr(self, name)}")
        if self.weight_identity == self.weight_triplet == 0:
            raise ConfigError(
                "method.weight_identity, weight_triplet: both are 0, nothing would tell people "
                "apart; set one above 0"
            )
        if self.branches == "f" and self.weight_reconstruction == self.weight_image == 0:
            raise ConfigError(
                "method.branches: with f alone the decoder learns from weight_reconstruction and "
                "weight_image, both are 0; set one above 0"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"method.label_smoothing: expected 0 <= s < 1, got {self.label_smoothing}"
            )


ROWS: dict[str, CADNetConfig] = {
    "cad-net": CADNetConfig(),
    "cad-net-f": CADNetConfig(branches="f"),
    "cad-net-g": CADNetConfig(branches="g"),
}

TITLES: dict[str, str] = {
    "cad-net": "CAD-Net (CRGAN in FTWA's table): features and those of the restored image",
    "cad-net-f": "CAD-Net, f only: without the HR encoder",
    "cad-net-g": "CAD-Net, g only: features of the restored image alone",
}
