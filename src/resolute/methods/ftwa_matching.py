"""FTWA at matching: how HR and LR images are described in the HR and the LR space.

Symbols as in :mod:`resolute.methods.ftwa`. Letters: N images, S spaces, D embedding, R rates.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from resolute.core.errors import ConfigError
from resolute.core.images import RESOLUTION_HR, RESOLUTION_LR, Images
from resolute.core.types import Embedding, InputSpec
from resolute.data.degrade import to_input
from resolute.methods.graph import Description, Graphs, Role, Routing, Traced
from resolute.methods.modes import evaluating
from resolute.methods.settings.ftwa import FTWAConfig
from resolute.methods.statistics import MatchingStatistics
from resolute.models.raft import RAFT
from resolute.models.swa import BNNeck, Classifier, QualityEvaluator, Space
from resolute.models.two_stream import TwoStream

# An image of unknown resolution is LR below h_ref / 1.5; within 10 % of that border it takes
# both routes [ours].
LR_HEIGHT_RATIO = 1.5
BORDER_RATIO = 1.1


class FTWAMatcher(nn.Module):
    """The network of FTWA and what matching makes of it; training is added by `FTWA`.

    Attributes:
        input_spec: how pixels become input.
        config: which parts there are, and their constants.
        network: E_H, E_L, E_ID and pooling.
        raft: T; the identity where the variant leaves it out, absent with one space.
        statistics: running means that matching may use; None where no setting asks for them.
        num_vectors: vectors that describe an image: one per space, or that of the HR space alone.
        quality_mean: running mean of the quality per role (HR, LR image) and space, shape (2, 2).
        height_reference: h_ref, median native height of HR training images, in pixels.
    """

    quality_mean: Tensor
    height_reference: Tensor

    def __init__(
        self,
        network: TwoStream,
        config: FTWAConfig,
        *,
        input_spec: InputSpec,
        num_identities: int,
        height_reference: float,
    ) -> None:
        super().__init__()
        self.input_spec = input_spec
        self.config = config
        self.network = network
        self.space_hr = _build_space(network, config, num_identities)
        if config.spaces == 2:
            self.space_lr = _build_space(network, config, num_identities)
            self.raft = _build_transform(network.feature_channels, config)
        self.num_vectors: int = config.spaces
        self.statistics = MatchingStatistics() if config.has_statistics else None
        self.register_buffer("quality_mean", torch.full((2, 2), 0.5))
        self.register_buffer("height_reference", torch.tensor(float(height_reference)))

    def drop_unread_space(self) -> None:
        """Describe images in the HR space alone, for the fusion ``hr``.

        The quality is then 1: there is nothing to weigh it against.
        """
        self.num_vectors = 1

    def embed(self, images: Images) -> Embedding:
        """Describe images by one vector and one quality per space.

        A HR image gives v_HR and v'_LR, the latter from its own LR version made from the native
        pixels; a LR image gives v'_HR = GAP(T(F_LR)) and v_LR. An image of unknown resolution
        is told by its native height, and takes both routes near the border [ours].

        Args:
            images: N images on the device of the weights.

        Returns:
            L2-normalised vectors (N, S, D), taken after the neck where there is one, and
            qualities (N, S). With `scale_spaces` the vectors of a space have one other length.
        """
        with torch.no_grad(), evaluating(self):
            vectors, quality, norms = self._describe(images, is_flipped=False)
            if self.config.flip:
                mirrored, *others = self._describe(images, is_flipped=True)
                vectors = functional.normalize(vectors + mirrored, dim=2)
                quality, norms = (quality + others[0]) / 2, (norms + others[1]) / 2
            if self.config.scale_spaces and self.statistics is not None:
                vectors = self.statistics.scaled(vectors, metric=self.config.metric)
        return Embedding(
            vectors=vectors.float().cpu().numpy(),
            quality=quality.float().cpu().numpy(),
            metric=self.config.metric,
            fusion=self.config.fusion,
            constant=self.config.constant,
            norms=norms.float().cpu().numpy(),
            native_sizes=images.native_sizes.cpu().numpy(),
        )

    def _describe(self, images: Images, *, is_flipped: bool) -> tuple[Tensor, Tensor, Tensor]:
        is_hr, is_lr = self._routes(images)
        shape = (len(images), self.num_vectors)
        vectors = torch.zeros(*shape, self.network.embedding_dim, device=images.pixels.device)
        quality = torch.zeros(shape, device=images.pixels.device)
        norms = torch.zeros(shape, device=images.pixels.device)
        for is_taken, describe in ((is_hr, self._describe_hr), (is_lr, self._describe_lr)):
            index = is_taken.nonzero().flatten()
            if len(index):
                route = describe(images.take(index), is_flipped=is_flipped)
                for total, part in zip((vectors, quality, norms), route, strict=True):
                    total.index_add_(0, index, part.float())
        num_routes = (is_hr.to(quality) + is_lr.to(quality))[:, None]
        return functional.normalize(vectors, dim=2), quality / num_routes, norms / num_routes

    def _routes(self, images: Images) -> tuple[Tensor, Tensor]:
        heights = images.native_sizes[:, 0].float()
        border = self.height_reference / LR_HEIGHT_RATIO
        is_unknown = (images.resolution != RESOLUTION_HR) & (images.resolution != RESOLUTION_LR)
        is_hr = (images.resolution == RESOLUTION_HR) | (
            is_unknown & (heights > border / BORDER_RATIO)
        )
        is_lr = (images.resolution == RESOLUTION_LR) | (
            is_unknown & (heights < border * BORDER_RATIO)
        )
        return is_hr, is_lr

    def _describe_hr(self, images: Images, *, is_flipped: bool) -> Description:
        inputs = [self._inputs(images, is_flipped=is_flipped, rate=r) for r in self._rates_hr()]
        return self._role_hr(*inputs, heights=images.native_sizes[:, 0])

    def _describe_lr(self, images: Images, *, is_flipped: bool) -> Description:
        inputs = self._inputs(images, is_flipped=is_flipped)
        return self._role_lr(inputs, heights=images.native_sizes[:, 0])

    def graphs(self) -> Graphs:
        """Give both roles as functions of tensors, see :mod:`resolute.methods.graph`.

        Raises:
            ConfigError: if they need the native height, or lengths of vectors, to be right.
        """
        config = self.config
        for name, is_on in (
            ("evaluator_height", config.evaluator_height),
            ("encoder_lr", config.encoder_lr == "adapter"),
            ("scale_spaces", config.scale_spaces),
        ):
            if is_on:
                raise ConfigError(f"method.{name}: a model with it cannot be exported")
        border = self.height_reference / LR_HEIGHT_RATIO
        hr = Role(rates=self._rates_hr(), network=Traced(self, self._role_hr))
        lr = Role(rates=(1.0,), network=Traced(self, self._role_lr))
        return Graphs(
            hr=hr,
            lr=hr if self.network.encoder_lr is None else lr,
            routing=Routing(
                hr_above=float(border / BORDER_RATIO), lr_below=float(border * BORDER_RATIO)
            ),
            metric=self.config.metric,
            fusion=self.config.fusion,
            constant=self.config.constant,
            is_mirrored=self.config.flip,
            height_reference=float(self.height_reference),
        )

    def _rates_hr(self) -> tuple[float, ...]:
        return (1.0,) if self.num_vectors == 1 else (1.0, *self.config.gallery_rates)

    # Both roles map inputs (N, 3, H, W) to tensors alone, so that they can be traced: no length of
    # a batch may become a Python number.
    def _role_hr(
        self, inputs: Tensor, *twins: Tensor, heights: Tensor | None = None
    ) -> Description:
        if self.num_vectors == 1:
            return self._one_vector(self.network.pool(self.network.maps(inputs, None)))
        log_heights, log_heights_syn = None, None
        if heights is not None:
            log_heights, log_heights_syn = self._log_heights(heights), self._twin_heights(heights)
        features = self.network.maps(inputs, torch.cat(twins), log_heights_lr=log_heights_syn)
        embeddings = self.network.pool(features)
        num_versions = 1 + len(twins)
        embeddings = embeddings.view(num_versions, -1, embeddings.shape[1])  # (1 + R, N, D)
        embeddings_hr, embeddings_lr_syn = embeddings[0], embeddings[1:].flatten(0, 1)
        vectors_lr_syn = self.space_lr.neck(embeddings_lr_syn)
        norms_lr_syn = vectors_lr_syn.norm(dim=1)
        vectors_lr_syn = functional.normalize(vectors_lr_syn, dim=1)
        quality_lr_syn = self.space_lr.quality(embeddings_lr_syn, log_heights_syn)
        return self._two_spaces(
            self.space_hr.neck(embeddings_hr),
            # The directions of the rates are averaged, then given their mean length: (N, D).
            _with_norm(
                vectors_lr_syn.view(len(twins), -1, embeddings.shape[2]).mean(dim=0),
                norms_lr_syn.view(len(twins), -1).mean(dim=0),
            ),
            self.space_hr.quality(embeddings_hr, log_heights),
            quality_lr_syn.view(len(twins), -1).mean(dim=0),
            role=0,
        )

    def _role_lr(self, inputs: Tensor, heights: Tensor | None = None) -> Description:
        log_heights = None if heights is None else self._log_heights(heights)
        features_lr = self.network.maps(None, inputs, log_heights_lr=log_heights)
        if self.config.spaces == 1:
            return self._one_vector(self.network.pool(features_lr))
        features_hr_syn = self.raft(features_lr)  # [FTWA eq. 3]
        if self.num_vectors == 1:
            return self._one_vector(self.network.pool(features_hr_syn))
        embeddings = self.network.pool(torch.cat([features_hr_syn, features_lr]))
        embeddings_hr_syn, embeddings_lr = embeddings.view(2, -1, embeddings.shape[1])
        return self._two_spaces(
            self.space_hr.neck(embeddings_hr_syn),
            self.space_lr.neck(embeddings_lr),
            self.space_hr.quality(embeddings_hr_syn, log_heights),
            self.space_lr.quality(embeddings_lr, log_heights),
            role=1,
        )

    def _one_vector(self, embeddings: Tensor) -> Description:
        vectors = self.space_hr.neck(embeddings)[:, None]  # (N, 1, D)
        norms = vectors.norm(dim=2)
        return functional.normalize(vectors, dim=2), torch.ones_like(norms), norms

    def _two_spaces(
        self, hr: Tensor, lr: Tensor, quality_hr: Tensor, quality_lr: Tensor, *, role: int
    ) -> Description:
        vectors = torch.stack([hr, lr], dim=1)  # (N, 2, D)
        norms = vectors.norm(dim=2)
        quality = torch.stack([quality_hr, quality_lr], dim=1)
        if self.config.evaluator == "constant":
            quality = self.quality_mean[role].expand_as(quality)
        if self.config.is_centred and self.statistics is not None:
            quality = self.statistics.centred(quality, role=role)
        return functional.normalize(vectors, dim=2), quality, norms

    def _twin_heights(self, heights: Tensor) -> Tensor:
        """Return the logarithms of the heights of LR versions, rate by rate, shape (R N,)."""
        versions = [(heights / rate).floor().clamp(min=1) for rate in self.config.gallery_rates]
        return self._log_heights(torch.cat(versions))

    def _inputs(self, images: Images, *, is_flipped: bool, rate: float = 1.0) -> Tensor:
        rates = None
        if not math.isclose(rate, 1.0):
            rates = torch.full((len(images),), rate, device=images.pixels.device)
        inputs = to_input(images, self.input_spec, rates=rates)
        return inputs.flip(-1) if is_flipped else inputs

    def _log_heights(self, heights: Tensor) -> Tensor:
        return (heights / self.height_reference).log()


def _with_norm(vectors: Tensor, norms: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=1) * norms[:, None]


def _build_space(network: TwoStream, config: FTWAConfig, num_identities: int) -> Space:
    dim = network.embedding_dim
    has_evaluator = config.spaces == 2 and config.evaluator != "ones"
    return Space(
        neck=BNNeck(dim) if network.uses_neck else None,
        classifier=Classifier(dim, num_identities),
        evaluator=QualityEvaluator(
            dim,
            hidden=config.evaluator_hidden,
            floor=config.evaluator_floor,
            reads_height=config.evaluator_height,
        )
        if has_evaluator
        else None,
        is_evaluator_detached=config.evaluator_detach or config.evaluator_watches,
    )


def _build_transform(channels: int, config: FTWAConfig) -> nn.Module:
    if config.transform == "identity":
        return nn.Identity()
    return RAFT(
        channels,
        width=config.raft_width,
        num_blocks=config.raft_blocks,
        slope=config.raft_slope,
        input_residual=config.raft_residual,
        bare_tail=config.raft_bare_tail,
        zero_tail=config.raft_zero_tail,
    )
