"""FTWA and the variants of its Table 2: one class with fewer or more parts.

======================  ==========================================================
paper                   here
======================  ==========================================================
I_HR, I_LR, I'_LR       ``images_hr``, ``images_lr``, ``images_lr_syn`` (`Batch`)
E_H, E_L, E_ID          ``network.encoder_hr``, ``.encoder_lr``, ``.encoder_id``
F_HR, F_LR, F'_LR       ``features_hr``, ``features_lr``, ``features_lr_syn``
T                       ``raft``
F'_HR = T(F_LR)         ``features_hr_syn``
v = GAP(F)              ``embeddings_hr`` (v_HR, then v'_HR), ``embeddings_lr`` (v_LR, then v'_LR)
W_HR, W_LR; w           ``space_hr.evaluator``, ``space_lr.evaluator``; ``quality``
C_HR, C_LR; f           ``space_hr.classifier``, ``space_lr.classifier``; ``logits``
lambda_1, _2, _3        ``weight_identity``, ``weight_triplet``, ``weight_raft``
v* (ours)               ``targets``: the teacher's embeddings of the HR images
======================  ==========================================================

Letters: P pairs of a HR and a LR image, N images, S spaces, D embedding, C, h, w feature map.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from resolute.core.errors import ConfigError
from resolute.core.images import RESOLUTION_HR, RESOLUTION_LR, Batch, Images
from resolute.core.types import Embedding, InputSpec
from resolute.data.degrade import to_input
from resolute.losses.identity import identity_terms, pair_weighted_mean
from resolute.losses.reconstruction import feature_l1
from resolute.losses.transfer import cosine_loss, similarity_matrix_loss
from resolute.losses.triplet import self_weighted_triplet_loss, triplet_terms
from resolute.methods.config import FTWAConfig
from resolute.methods.contract import ParameterGroup, Phase, grouped
from resolute.methods.graph import Description, Graphs, Role, Routing, Traced
from resolute.methods.statistics import MatchingStatistics
from resolute.models.raft import RAFT
from resolute.models.swa import BNNeck, Classifier, QualityEvaluator, Space
from resolute.models.teacher import Teacher
from resolute.models.two_stream import TwoStream

# An image of unknown resolution is LR below h_ref / 1.5; within 10 % of that border it takes
# both routes [ours].
LR_HEIGHT_RATIO = 1.5
BORDER_RATIO = 1.1
QUALITY_MOMENTUM = 0.05
RESOLUTION = "resolution"  # name of the phase before ``main``


class FTWA(nn.Module):
    """Two-stream network with feature transformation and self-weighted attention [FTWA].

    Attributes:
        input_spec: how pixels become input.
        phases: ``main``, and before it ``resolution`` where it has a share of the run.
        config: which parts there are, and their constants.
        network: E_H, E_L, E_ID and pooling.
        raft: T; the identity where the variant leaves it out, absent with one space.
        teacher: gives v*; None where the network is its own teacher or nothing is taught.
        statistics: running means that matching may use; None where no setting asks for them.
        quality_mean: running mean of the quality per role (HR, LR image) and space, shape (2, 2).
        height_reference: h_ref, median native height of HR training images, in pixels.
    """

    training_only = ("teacher",)

    phases: tuple[Phase, ...]
    quality_mean: Tensor
    height_reference: Tensor

    def __init__(
        self,
        network: TwoStream,
        config: FTWAConfig,
        *,
        input_spec: InputSpec,
        phases: tuple[Phase, ...],
        num_identities: int,
        height_reference: float,
        is_pretrained: bool,
    ) -> None:
        super().__init__()
        self.input_spec = input_spec
        self.phases = phases
        self.config = config
        self.network = network
        self._is_pretrained = is_pretrained
        self.space_hr = _build_space(network, config, num_identities)
        if config.spaces == 2:
            self.space_lr = _build_space(network, config, num_identities)
            self.raft = _build_transform(network.feature_channels, config)
        self.teacher = Teacher(network) if config.has_teacher else None
        self.statistics = MatchingStatistics() if config.has_statistics else None
        self.register_buffer("quality_mean", torch.full((2, 2), 0.5))
        self.register_buffer("height_reference", torch.tensor(float(height_reference)))

    # ------------------------------------------------------------------ training

    def parameter_groups(self, phase: Phase) -> list[ParameterGroup]:
        """List what a phase moves; what starts from weights forms groups of its own.

        Args:
            phase: ``main`` moves everything, ``resolution`` what meets LR images alone.
        """
        named = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        if phase.name == RESOLUTION:
            parts = ("raft.", f"network.{self.network.lr_part}.")
            named = [(n, p) for n, p in named if n.startswith(parts)]
        new = {f"network.{n}" for n in self.network.new_parameters}
        started = frozenset(n for n, _ in named if n.startswith("network.") and n not in new)
        return grouped(
            named, phase.optimiser, pretrained=started if self._is_pretrained else frozenset()
        )

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Compute the weighted terms of [FTWA eq. 8], and what a teacher adds.

        E_ID sees HR images, LR images and twins in one call, and so does the head with all
        vectors: batch statistics are those of the mixture that is met at test time [assumed].

        Args:
            batch: P HR images, their twins and P LR images.
            phase: ``main``; or ``resolution``, which reads no label.

        Returns:
            ``identity``, ``triplet`` and, with two spaces, ``raft``: scalars. ``distill`` and
            ``transfer`` where they have a weight; these two alone in ``resolution``.

        Raises:
            ConfigError: if the method was loaded to embed and has lost its teacher.
        """
        if phase.name == RESOLUTION:
            return self._resolution_losses(batch)
        config = self.config
        images_lr, heights_lr = batch.images_lr, batch.heights_lr
        if config.twins:
            images_lr = torch.cat([batch.images_lr, batch.images_lr_syn])
            heights_lr = torch.cat([batch.heights_lr, batch.heights_lr_syn])
        features = self.network.maps(
            batch.images_hr, images_lr, log_heights_lr=self._log_heights(heights_lr)
        )  # HR, LR, twins: (3P, C, h, w)
        if config.spaces == 1:
            return self._one_space_losses(features, batch)
        num_pairs = len(batch.labels)
        features_hr, features_lr, features_lr_syn = torch.split(features, num_pairs)
        transformed = self.raft(features[num_pairs:])
        features_hr_syn, restored = torch.split(transformed, num_pairs)  # T(F_LR), T(F'_LR)
        pooled = [features_hr, features_hr_syn, features_lr, features_lr_syn]
        if config.weight_transfer > 0:
            pooled.append(restored)
        embeddings = self.network.pool(torch.cat(pooled)).float()  # (4P or 5P, D)
        embeddings_hr, embeddings_lr, *others = embeddings.split(2 * num_pairs)  # (2P, D) each
        terms = self._two_space_losses(embeddings_hr, embeddings_lr, batch)
        reduction = config.raft_reduction
        terms["raft"] = config.weight_raft * feature_l1(features_hr, restored, reduction=reduction)
        return terms | self._teaching_losses(
            batch, embeddings_hr[:num_pairs], embeddings_lr[num_pairs:], *others
        )

    def _two_space_losses(
        self, embeddings_hr: Tensor, embeddings_lr: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        config = self.config
        labels = batch.labels.repeat(2)
        heights_hr, heights_lr, heights_lr_syn = (
            self._log_heights(h) for h in (batch.heights_hr, batch.heights_lr, batch.heights_lr_syn)
        )
        quality_hr, quality_hr_syn = self.space_hr.quality(
            embeddings_hr, torch.cat([heights_hr, heights_lr])
        ).chunk(2)
        quality_lr, quality_lr_syn = self.space_lr.quality(
            embeddings_lr, torch.cat([heights_lr, heights_lr_syn])
        ).chunk(2)
        if self.training:
            self._track_quality(quality_hr, quality_lr_syn, quality_hr_syn, quality_lr)

        smoothing = config.label_smoothing
        vectors_hr, vectors_lr = (
            self.space_hr.neck(embeddings_hr),
            self.space_lr.neck(embeddings_lr),
        )
        if self.training and self.statistics is not None:
            same_order = vectors_lr.roll(len(batch.labels), dims=0)  # v'_LR, v_LR
            self.statistics.track_distances(vectors_hr, same_order, batch.labels)
        identity_hr, identity_hr_syn = identity_terms(
            self.space_hr.classifier(vectors_hr), labels, smoothing=smoothing
        ).chunk(2)
        identity_lr, identity_lr_syn = identity_terms(
            self.space_lr.classifier(vectors_lr), labels, smoothing=smoothing
        ).chunk(2)
        identity = pair_weighted_mean(  # [FTWA eq. 5]
            identity_hr, identity_lr_syn, quality_hr, quality_lr_syn
        ) + pair_weighted_mean(identity_lr, identity_hr_syn, quality_lr, quality_hr_syn)

        triplet = self_weighted_triplet_loss(  # [FTWA eq. 7]
            self._pair_terms(embeddings_hr, labels, batch.sources_hr, batch.sources_lr),
            self._pair_terms(embeddings_lr, labels, batch.sources_lr, batch.sources_hr),
            quality_hr * quality_hr_syn,
            quality_lr * quality_lr_syn,
        )
        return {
            "identity": config.weight_identity * identity,
            "triplet": config.weight_triplet * triplet,
        }

    def _pair_terms(
        self, embeddings: Tensor, labels: Tensor, sources: Tensor, sources_syn: Tensor
    ) -> Tensor:
        terms = triplet_terms(
            embeddings,
            labels,
            torch.cat([sources, sources_syn]),
            margin=self.config.margin,
            mining=self.config.mining,
        )
        return terms.view(2, -1).mean(dim=0)  # (P,)

    def _one_space_losses(self, features: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute cross entropy and triplet of the variants without RAFT and SWA.

        Sums over HR and LR images as eq. 5 does, so that all rows share one scale.
        """
        config = self.config
        num_pairs = len(batch.labels)
        embeddings = self.network.pool(features).float()  # (2P or 3P, D)
        labels = batch.labels.repeat(len(embeddings) // num_pairs)
        identity = identity_terms(
            self.space_hr.logits(embeddings), labels, smoothing=config.label_smoothing
        ).view(-1, num_pairs)  # rows HR, LR and, with twins, their twins
        identity_hr = torch.stack([identity[0], *identity[2:]]).mean(dim=0)
        sources = torch.cat([batch.sources_hr, batch.sources_lr, batch.sources_hr])
        triplet = triplet_terms(
            embeddings,
            labels,
            sources[: len(labels)],
            margin=config.margin,
            mining=config.mining,
        )
        return {
            "identity": config.weight_identity * (identity_hr.mean() + identity[1].mean()),
            "triplet": config.weight_triplet * triplet.mean(),
        } | self._teaching_losses(batch, embeddings[:num_pairs], embeddings[2 * num_pairs :])

    def _teaching_losses(
        self, batch: Batch, own: Tensor, distilled: Tensor, transferred: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compare what twins give with v*, the teacher's view of their HR images [ours].

        Args:
            batch: its HR images.
            own: v_HR of this step, shape (P, D).
            distilled: v'_LR of the twins, shape (P, D).
            transferred: GAP(T(F'_LR)), shape (P, D), or None.

        Returns:
            ``distill`` and ``transfer`` where they have a weight.

        Raises:
            ConfigError: if the method was loaded to embed and has lost its teacher.
        """
        config = self.config
        if not config.has_teaching:
            return {}
        is_own = config.teacher == "self"
        targets = own.detach() if is_own else self._targets_of_copy(batch.images_hr)
        terms = {}
        if config.weight_distill > 0:
            terms["distill"] = config.weight_distill * self._imitation(distilled, targets)
        if transferred is not None:
            terms["transfer"] = config.weight_transfer * self._imitation(transferred, targets)
        return terms

    def _resolution_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Teach what meets LR images alone, without labels [ours].

        What is not taught works in evaluation mode: neither its weights nor its statistics move.
        """
        network, lr_part = self.network, self.network.lr_part
        if self.config.teacher == "self":
            with torch.no_grad(), _evaluating(network):
                targets = network.pool(network.maps(batch.images_hr, None)).float()  # (P, D)
        else:
            targets = self._targets_of_copy(batch.images_hr)
        untaught = [part for name, part in network.named_children() if name != lr_part]
        with _evaluating(*untaught):
            heights = self._log_heights(batch.heights_lr_syn)
            features = network.maps(None, batch.images_lr_syn, log_heights_lr=heights)
            terms = {"distill": self._imitation(network.pool(features).float(), targets)}
            if self.config.spaces == 2 and self.config.transform == "raft":
                restored = network.pool(self.raft(features)).float()
                terms["transfer"] = self._imitation(restored, targets)
        return terms

    def _targets_of_copy(self, images_hr: Tensor) -> Tensor:
        if self.teacher is None:
            raise ConfigError(
                "teacher: this model was loaded to embed and has no teacher to train with; resume "
                "the run from its checkpoint"
            )
        if self.config.teacher == "average" and self.training:
            self.teacher.follow(self.network, momentum=self.config.teacher_momentum)
        targets: Tensor = self.teacher(images_hr)
        return targets.float()

    def _imitation(self, students: Tensor, targets: Tensor) -> Tensor:
        likeness = similarity_matrix_loss(students, targets)
        return cosine_loss(students, targets) + self.config.weight_similarity * likeness

    @torch.no_grad()
    def _track_quality(self, hr: Tensor, lr_syn: Tensor, hr_syn: Tensor, lr: Tensor) -> None:
        means = torch.stack([hr.mean(), lr_syn.mean(), hr_syn.mean(), lr.mean()]).view(2, 2)
        self.quality_mean.lerp_(means.float(), QUALITY_MOMENTUM)  # bf16 under autocast
        if self.statistics is not None:
            self.statistics.track_quality(torch.cat([hr, hr_syn]), torch.cat([lr_syn, lr]))

    def _log_heights(self, heights: Tensor) -> Tensor:
        return (heights / self.height_reference).log()

    # ------------------------------------------------------------------ matching

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
        with torch.no_grad(), _evaluating(self):
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
        shape = (len(images), self.config.spaces)
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
        return (1.0,) if self.config.spaces == 1 else (1.0, *self.config.gallery_rates)

    # Both roles map inputs (N, 3, H, W) to tensors alone, so that they can be traced: no length of
    # a batch may become a Python number.
    def _role_hr(
        self, inputs: Tensor, *twins: Tensor, heights: Tensor | None = None
    ) -> Description:
        if self.config.spaces == 1:
            return self._one_space(self.network.pool(self.network.maps(inputs, None)))
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
            return self._one_space(self.network.pool(features_lr))
        features_hr_syn = self.raft(features_lr)  # [FTWA eq. 3]
        embeddings = self.network.pool(torch.cat([features_hr_syn, features_lr]))
        embeddings_hr_syn, embeddings_lr = embeddings.view(2, -1, embeddings.shape[1])
        return self._two_spaces(
            self.space_hr.neck(embeddings_hr_syn),
            self.space_lr.neck(embeddings_lr),
            self.space_hr.quality(embeddings_hr_syn, log_heights),
            self.space_lr.quality(embeddings_lr, log_heights),
            role=1,
        )

    def _one_space(self, embeddings: Tensor) -> Description:
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
        if self.config.centre_quality and self.statistics is not None:
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
        is_evaluator_detached=config.evaluator_detach,
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


@contextmanager
def _evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode inside a block, then every part back into its own."""
    before = {part: part.training for module in modules for part in module.modules()}
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, was_training in before.items():
            part.training = was_training
