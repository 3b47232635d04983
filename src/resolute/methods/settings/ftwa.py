"""Settings of FTWA and its variants."""

from dataclasses import dataclass, replace
from typing import Literal

from resolute.core.errors import ConfigError
from resolute.methods.config import MethodConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class FTWAConfig(MethodConfig):
    """FTWA and its variants: one class with fewer or more parts [FTWA table 2].

    The variants differ in `encoders`, `twins`, `spaces`, `transform` and `evaluator` alone; see
    `resolute recipes` for which row sets what.

    Attributes:
        encoders: 2 = E_H and E_L with own parameters [FTWA 2.1]; 1 = one encoder for all images.
        encoder_lr: what E_L is: copy = a full copy of E_H with own parameters [FTWA 2.1]; adapter =
            E_H plus small changes that follow the native height [ours].
        adapter_rank: rank of the 1x1 convolutions that adapters add; 0 leaves them out [ours].
        adapter_hidden: hidden units between native height and scales of adapters [ours].
        twins: train on the LR twin I'_LR of every HR image [FTWA eq. 1].
        spaces: 2 = HR and LR space with own classifier and evaluator [FTWA 2.3]; 1 = one space.
        transform: raft = T of the paper [FTWA 2.2]; identity = T left out (isolates RAFT) [ours].
        evaluator: learned [FTWA eq. 4]; ones = every quality is 1 (FTWA_R); constant = the
            trained mean quality per role (FTWA-const) [ours].
        weight_identity: lambda_1 [FTWA 3.2].
        weight_triplet: lambda_2 [FTWA 3.2].
        weight_raft: lambda_3 [FTWA 3.2].
        weight_distill: weight of the term that pulls v'_LR of a twin, in the LR space, towards v*,
            the teacher's embedding of its HR image; 0 = off [ours].
        weight_transfer: weight of the term that pulls GAP(T(F'_LR)), in the HR space, towards v*;
            0 = off [ours].
        weight_similarity: both terms are the mean of 1 - cosine plus this times the difference
            between the batch's similarity matrices [ours].
        teacher: who gives v*, where a term above or the share below asks for it: self = the network
            as it is, without gradient; start = a copy of its start weights; average = a running
            average of its weights. Copies work in evaluation mode and stay out of the model file
            [ours].
        teacher_momentum: share that the teacher `average` keeps at each step [ours].
        resolution_share: first part of the run in which what meets LR images alone (E_L, or the
            only encoder, and T) learns without labels: both terms above, each with weight 1, on HR
            images and their twins; the rest of the run is as without it. 0 = off [ours].
        margin: triplet margin m [FTWA 3.2].
        label_smoothing: mass spread over other identities; the paper has plain one-hot targets.
        mining: hard = hardest positive and negative per anchor [assumed: strong baseline];
            all = per anchor the mean over its triplets with positive loss [assumed: eq. 6 sums].
        raft_reduction: mean over all elements, or channel_sum = sum over channels, mean over
            places [assumed]; the paper writes an L1 norm [FTWA eq. 2].
        raft_width: inner channels w of T [assumed: Hui 2019].
        raft_blocks: number of RAFT blocks in series [assumed].
        raft_slope: negative slope of every leaky ReLU in T [assumed: Hui 2019].
        raft_residual: add the input of T to its output [ours].
        raft_bare_tail: no activation after the last convolution of T [ours].
        raft_zero_tail: start the last convolution of T at zero, so T starts as identity [ours].
        evaluator_hidden: hidden units of W [assumed].
        evaluator_floor: smallest quality W can give; 0 in the paper recipe [assumed].
        evaluator_detach: stop the gradient from W into v [assumed: off].
        evaluator_watches: the network learns as in FTWA_R, every quality 1, and W learns beside it,
            from equations 5 and 7 with all but itself detached: a term `quality` of its own.
            Otherwise the weights take the gradient from the harder vector, which needs it [ours].
        evaluator_height: W also reads the logarithm of the image's native height [ours].
        balance_quality: in the losses of a step and at matching, t = ln(w_HR / w_LR) less its mean
            over images of the same role. Equation 5 gives the weight to the easier space, whatever
            the image, until the other is shut out; balanced, only what tells images apart is
            rewarded [ours].
        track_matching: keep the running means that the next two fields read, so that one model can
            be matched with and without them; either of the two keeps them as well [ours].
        centre_quality: at matching, t = ln(w_HR / w_LR) less its mean over training images of the
            same role: an average image trusts both spaces alike [ours].
        scale_spaces: at matching, each space's distance over its mean between HR and LR images of
            different training identities [ours].
        gallery_rates: rates of the LR version of a HR image at matching; several are averaged
            [ours]. 2 alone is the default: as good as the mean of 2, 3, 4 at half the cost.
    """

    encoders: Literal[1, 2] = 2
    encoder_lr: Literal["copy", "adapter"] = "copy"
    adapter_rank: int = 8
    adapter_hidden: int = 16
    twins: bool = True
    spaces: Literal[1, 2] = 2
    transform: Literal["raft", "identity"] = "raft"
    evaluator: Literal["learned", "ones", "constant"] = "learned"
    weight_identity: float = 3.0
    weight_triplet: float = 1.0
    weight_raft: float = 0.1
    weight_distill: float = 0.0
    weight_transfer: float = 0.0
    weight_similarity: float = 1.0
    teacher: Literal["self", "start", "average"] = "self"
    teacher_momentum: float = 0.99
    resolution_share: float = 0.0
    margin: float = 0.3
    label_smoothing: float = 0.0
    mining: Literal["hard", "all"] = "hard"
    raft_reduction: Literal["mean", "channel_sum"] = "mean"
    raft_width: int = 64
    raft_blocks: int = 3
    raft_slope: float = 0.05
    raft_residual: bool = True
    raft_bare_tail: bool = True
    raft_zero_tail: bool = True
    evaluator_hidden: int = 128
    evaluator_floor: float = 0.0
    evaluator_detach: bool = False
    evaluator_watches: bool = False
    evaluator_height: bool = False
    balance_quality: bool = False
    track_matching: bool = False
    centre_quality: bool = False
    scale_spaces: bool = False
    gallery_rates: tuple[float, ...] = (2.0,)

    def __post_init__(self) -> None:
        MethodConfig.__post_init__(self)
        if self.spaces == 2 and not self.twins:
            raise ConfigError("method.twins: two spaces need twins; set method.twins true")
        if self.spaces == 2 and self.encoders == 1:
            raise ConfigError("method.encoders: two spaces need two encoders")
        if self.encoder_lr == "adapter" and self.encoders == 1:
            raise ConfigError("method.encoder_lr: one encoder has no E_L; set method.encoders 2")
        if not 0 <= self.evaluator_floor < 1:
            raise ConfigError(
                f"method.evaluator_floor: expected 0 <= floor < 1, got {self.evaluator_floor}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"method.label_smoothing: expected 0 <= s < 1, got {self.label_smoothing}"
            )
        if not self.gallery_rates or any(rate < 1 for rate in self.gallery_rates):
            raise ConfigError(f"method.gallery_rates: expected >= 1, got {self.gallery_rates}")
        for name in (
            "margin",
            "weight_identity",
            "weight_triplet",
            "weight_raft",
            "weight_distill",
            "weight_transfer",
            "weight_similarity",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"method.{name}: expected >= 0, got {getattr(self, name)}")
        self._check_teaching()
        self._check_matching()

    @property
    def has_two_spaces(self) -> bool:
        """Whether there are a HR and a LR space."""
        return self.spaces == 2

    @property
    def has_unread_space(self) -> bool:
        """Whether matching reads the HR space alone; then LR vectors need not be made [ours]."""
        return self.spaces == 2 and self.fusion == "hr"

    def as_trained(self) -> "FTWAConfig":
        """Return the settings that train the same weights; means come from learned evaluators."""
        evaluator = "learned" if self.evaluator == "constant" else self.evaluator
        kept = MethodConfig.as_trained(self)
        return replace(kept, gallery_rates=FTWAConfig().gallery_rates, evaluator=evaluator)

    @property
    def has_statistics(self) -> bool:
        """Whether training keeps running means for matching."""
        return self.track_matching or self.is_centred or self.scale_spaces

    @property
    def is_centred(self) -> bool:
        """Whether matching takes t less its mean per role."""
        return self.balance_quality or self.centre_quality

    @property
    def has_teaching(self) -> bool:
        """Whether twins learn from a teacher beside the labels."""
        return self.weight_distill > 0 or self.weight_transfer > 0

    @property
    def has_teacher(self) -> bool:
        """Whether the teacher is a copy of the network."""
        return self.teacher != "self" and (self.has_teaching or self.resolution_share > 0)

    def _check_teaching(self) -> None:
        if not 0 <= self.teacher_momentum <= 1:
            raise ConfigError(
                f"method.teacher_momentum: expected 0..1, got {self.teacher_momentum}"
            )
        if not 0 <= self.resolution_share < 1:
            raise ConfigError(
                f"method.resolution_share: expected 0 <= s < 1, got {self.resolution_share}"
            )
        if (self.has_teaching or self.resolution_share > 0) and not self.twins:
            raise ConfigError(
                "method.weight_distill, weight_transfer and resolution_share: there is no twin to "
                "teach; set method.twins true"
            )
        if self.teacher != "self" and not self.has_teacher:
            raise ConfigError(
                f"method.teacher {self.teacher}: there is nothing to teach; set "
                "method.weight_transfer, weight_distill or resolution_share, or method.teacher self"
            )
        if self.weight_transfer > 0 and self.spaces == 1:
            raise ConfigError(
                "method.weight_transfer: one space has no T to teach; use method.weight_distill"
            )

    def _check_matching(self) -> None:
        for name in (
            "track_matching",
            "centre_quality",
            "scale_spaces",
            "evaluator_height",
            "balance_quality",
            "evaluator_watches",
            "evaluator_detach",
            "evaluator_floor",
        ):
            if getattr(self, name) and self.spaces == 1:
                raise ConfigError(f"method.{name}: needs two spaces")
        for name in (
            "balance_quality",
            "evaluator_watches",
            "evaluator_detach",
            "evaluator_floor",
        ):
            if getattr(self, name) and self.evaluator == "ones":
                raise ConfigError(f"method.{name}: needs an evaluator, not 'ones'")
        for name in ("centre_quality", "evaluator_height"):
            if getattr(self, name) and self.evaluator != "learned":
                raise ConfigError(f"method.{name}: needs the evaluator 'learned'")


# A gain is stated against the row that differs in one thing: against Baseline a part of it is
# only augmentation [ours].
ROWS: dict[str, FTWAConfig] = {
    "baseline": FTWAConfig(encoders=1, spaces=1, twins=False),
    "baseline-twins": FTWAConfig(encoders=1, spaces=1),
    "ftwa_b": FTWAConfig(spaces=1, twins=False),
    "ftwa_b-twins": FTWAConfig(spaces=1),
    "ftwa_r-not": FTWAConfig(transform="identity", evaluator="ones"),
    "ftwa_r": FTWAConfig(evaluator="ones"),
    "ftwa-const": FTWAConfig(evaluator="constant"),
    "ftwa": FTWAConfig(),
    "ftwa-plus": FTWAConfig(evaluator="ones", weight_transfer=3.0, teacher="average", fusion="hr"),
}

TITLES: dict[str, str] = {
    "baseline": "Baseline: one encoder, cross entropy and triplet on images as given",
    "baseline-twins": "Baseline-twins: the same, trained on the LR twins too",
    "ftwa_b": "FTWA_B: two encoders, one space",
    "ftwa_b-twins": "FTWA_B-twins: the same, trained on the LR twins too",
    "ftwa_r-not": "FTWA_R-noT: FTWA_R with T replaced by the identity",
    "ftwa_r": "FTWA_R: FTWA with every quality 1",
    "ftwa-const": "FTWA-const: FTWA matched with mean qualities",
    "ftwa": "FTWA: the whole method",
    "ftwa-plus": "FTWA+: FTWA_R with T taught where it matches, matched in the HR space alone",
}
