"""Settings of methods and their optimisation, without torch."""

from dataclasses import dataclass
from typing import Literal

from resolute.core.errors import ConfigError

Fusion = Literal["hr", "lr", "mean", "weighted", "query_weighted", "constant", "fused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserConfig:
    """How weights move.

    Attributes:
        name: adam [FTWA 3.2] or sgd (Nesterov momentum 0.9).
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
        for name in ("weight_decay", "bias_decay", "frozen_epochs", "clip_norm"):
            if getattr(self, name) < 0:
                raise ConfigError(f"optimiser.{name}: expected >= 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate changes; fractions of the run, so any epoch count keeps the shape.

    Attributes:
        warmup: fraction of the epochs with linear warm-up: 10 of 120 [assumed: strong baseline].
        warmup_start: factor at the very start of the warm-up [assumed: strong baseline].
        shape: steps at the milestones [FTWA 3.2] or one cosine to zero [ours].
        milestones: fractions at which the rate drops: epochs 40 and 70 of 120 [FTWA 3.2].
        gamma: factor at each milestone [FTWA 3.2].
    """

    warmup: float = 10 / 120
    warmup_start: float = 0.01
    shape: Literal["multistep", "cosine"] = "multistep"
    milestones: tuple[float, ...] = (40 / 120, 70 / 120)
    gamma: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"schedule.warmup: expected a fraction 0 <= w < 1, got {self.warmup}")
        if list(self.milestones) != sorted(self.milestones):
            raise ConfigError(f"schedule.milestones: expected rising, got {self.milestones}")
        if any(not 0 < m < 1 for m in self.milestones):
            raise ConfigError(f"schedule.milestones: expected fractions, got {self.milestones}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FTWAConfig:
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
        teacher: who gives v*: self = the network as it is, without gradient; start = a copy of its
            start weights; average = a running average of its weights. Copies work in evaluation
            mode and stay out of the model file [ours].
        teacher_momentum: share that the teacher `average` keeps at each step [ours].
        resolution_share: first part of the run in which what meets LR images alone (E_L, or the
            only encoder, and T) learns without labels: both terms above, each with weight 1, on HR
            images and their twins; the rest of the run is as without it. 0 = off [ours].
        margin: triplet margin m [FTWA 3.2].
        label_smoothing: mass spread over other identities; the paper has plain one-hot targets.
        mining: hard = hardest positive and negative per anchor [assumed: strong baseline];
            all = mean over triplets with positive loss [FTWA eq. 6, literal].
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
        evaluator_height: W also reads the logarithm of the image's native height [ours].
        track_matching: keep the running means that the next two fields read, so that one model can
            be matched with and without them; either of the two keeps them as well [ours].
        centre_quality: at matching, t = ln(w_HR / w_LR) less its mean over training images of the
            same role: an average image trusts both spaces alike [ours].
        scale_spaces: at matching, each space's distance over its mean between HR and LR images of
            different training identities [ours].
        fusion: how the two spaces join at matching [FTWA eq. 7, mirrored].
        metric: sqeuclidean (default) or euclidean per space [assumed].
        constant: share of the HR space for the fusion `constant`.
        gallery_rates: rates of the LR version of a HR image at matching; several are averaged
            [ours]. 2 alone is the default: as good as the mean of 2, 3, 4 at half the cost.
        flip: embed each image and its mirror image and average [ours].
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
    evaluator_height: bool = False
    track_matching: bool = False
    centre_quality: bool = False
    scale_spaces: bool = False
    fusion: Fusion = "weighted"
    metric: Literal["sqeuclidean", "euclidean"] = "sqeuclidean"
    constant: float = 0.5
    gallery_rates: tuple[float, ...] = (2.0,)
    flip: bool = False

    def __post_init__(self) -> None:
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
        if not 0 <= self.constant <= 1:
            raise ConfigError(f"method.constant: expected 0..1, got {self.constant}")
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
    def has_statistics(self) -> bool:
        """Whether training keeps running means for matching."""
        return self.track_matching or self.centre_quality or self.scale_spaces

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
        if self.weight_transfer > 0 and self.spaces == 1:
            raise ConfigError(
                "method.weight_transfer: one space has no T to teach; use method.weight_distill"
            )

    def _check_matching(self) -> None:
        for name in ("track_matching", "centre_quality", "scale_spaces", "evaluator_height"):
            if getattr(self, name) and self.spaces == 1:
                raise ConfigError(f"method.{name}: needs two spaces")
        for name in ("centre_quality", "evaluator_height"):
            if getattr(self, name) and self.evaluator != "learned":
                raise ConfigError(f"method.{name}: needs the evaluator 'learned'")
