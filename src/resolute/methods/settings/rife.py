"""Settings of RIFE with FFSR, and of each of the two alone."""

from dataclasses import dataclass, replace
from typing import Self

from resolute.core.errors import ConfigError
from resolute.methods.config import MethodConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RIFEConfig(MethodConfig):
    """Foreground-focus super-resolution, then resolution-invariant features [Mao 2019].

    Attributes:
        restores: FFSR restores every image before it is described [Mao 2019].
        mixes: two streams with attention over what they find; false = one backbone [Mao 2019].
        weight_restoration: of the foreground-focus loss [Mao 2019].
        weight_attention: of the attentions' distance from the resolution [Mao 2019].
        label_smoothing: mass spread over other identities; 0 [Mao 2019].
        attention_hidden: hidden units of each attention [Mao 2019].
        ffsr_width: channels of FFSR's first layer, of which the others are multiples: 64
            [Mao 2019].
        ffsr_zero_tail: start FFSR's last convolution at zero, so that it starts as the identity
            [ours].
        mask_rows_twice: both factors of the mask read the row, as in the published code; false =
            the second one reads the column, as was presumably meant [assumed].
        normalised: match vectors of length 1, as the other rows do [ours]; false = vectors as they
            leave the batch norm, as published.
    """

    restores: bool = True
    mixes: bool = True
    weight_restoration: float = 0.1
    weight_attention: float = 0.01
    label_smoothing: float = 0.0
    attention_hidden: int = 16
    ffsr_width: int = 64
    ffsr_zero_tail: bool = False
    mask_rows_twice: bool = False
    normalised: bool = True

    def __post_init__(self) -> None:
        MethodConfig.__post_init__(self)
        if not (self.restores or self.mixes):
            raise ConfigError(
                "method.restores, mixes: expected at least one of them; neither is the baseline"
            )
        for name in ("weight_restoration", "weight_attention"):
            if getattr(self, name) < 0:
                raise ConfigError(f"method.{name}: expected >= 0, got {getattr(self, name)}")
        for name in ("attention_hidden", "ffsr_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"method.{name}: expected >= 1, got {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"method.label_smoothing: expected 0 <= s < 1, got {self.label_smoothing}"
            )

    def as_trained(self) -> Self:
        """Return the settings that train the same weights; the length of vectors is matching."""
        return replace(MethodConfig.as_trained(self), normalised=True)


ROWS: dict[str, RIFEConfig] = {
    "ffsr": RIFEConfig(mixes=False),
    "rife": RIFEConfig(restores=False),
    "rife-ffsr": RIFEConfig(),
}

TITLES: dict[str, str] = {
    "ffsr": "FFSR: foreground-focus super-resolution before one backbone",
    "rife": "RIFE: two streams mixed by attentions that learn the resolution",
    "rife-ffsr": "RIFE with FFSR: both of them, the published method",
}
