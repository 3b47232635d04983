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

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from resolute.core.errors import ConfigError
from resolute.core.images import Batch
from resolute.core.rng import Stream, Streams
from resolute.core.types import InputSpec
from resolute.losses.identity import identity_terms, pair_weighted_mean
from resolute.losses.reconstruction import feature_l1
from resolute.losses.transfer import cosine_loss, similarity_matrix_loss
from resolute.losses.triplet import self_weighted_triplet_loss, triplet_terms
from resolute.methods.blueprint import Blueprint
from resolute.methods.contract import ParameterGroup, Phase, grouped
from resolute.methods.ftwa_matching import FTWAMatcher
from resolute.methods.modes import evaluating
from resolute.methods.settings.ftwa import FTWAConfig
from resolute.models.adapter import ResolutionAdapters
from resolute.models.backbone import Backbone
from resolute.models.pretrained import start_backbone
from resolute.models.teacher import Teacher
from resolute.models.two_stream import TwoStream
from resolute.models.weights import filled_names

QUALITY_MOMENTUM = 0.05
RESOLUTION = "resolution"  # name of the phase before ``main``


class FTWA(FTWAMatcher):
    """Two-stream network with feature transformation and self-weighted attention [FTWA].

    Attributes:
        phases: ``main``, and before it ``resolution`` where it has a share of the run.
        teacher: gives v*; None where the network is its own teacher or nothing is taught.
    """

    training_only = ("teacher",)

    phases: tuple[Phase, ...]

    def __init__(
        self,
        network: TwoStream,
        config: FTWAConfig,
        *,
        input_spec: InputSpec,
        phases: tuple[Phase, ...],
        num_identities: int,
        height_reference: float,
    ) -> None:
        super().__init__(
            network,
            config,
            input_spec=input_spec,
            num_identities=num_identities,
            height_reference=height_reference,
        )
        self.phases = phases
        self.teacher = Teacher(network) if config.has_teacher else None

    @property
    def watched(self) -> Mapping[str, nn.Module]:
        """T, whose gradient norm per loss term is logged; nothing where there is no T."""
        has_raft = self.config.spaces == 2 and self.config.transform == "raft"
        return {"raft": self.raft} if has_raft else {}

    def parameter_groups(self, phase: Phase) -> list[ParameterGroup]:
        """List what a phase moves; what starts from weights forms groups of its own.

        Args:
            phase: ``main`` moves everything, ``resolution`` what meets LR images alone.
        """
        named = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        if phase.name == RESOLUTION:
            parts = ("raft.", f"network.{self.network.lr_part}.")
            named = [(n, p) for n, p in named if n.startswith(parts)]
        return grouped(named, phase.optimiser, pretrained=filled_names(self))

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Compute the weighted terms of [FTWA eq. 8], and what a teacher adds.

        E_ID sees HR images, LR images and twins in one call, and so does the head with all
        vectors: batch statistics are those of the mixture that is met at test time [assumed].

        Args:
            batch: P HR images, their twins and P LR images.
            phase: ``main``; or ``resolution``, which reads no label.

        Returns:
            ``identity``, ``triplet`` and, with two spaces, ``raft``: scalars. ``quality`` where the
            evaluators watch, ``distill`` and ``transfer`` where they have a weight; these two
            alone in ``resolution``.

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
        if config.balance_quality:
            quality_hr, quality_lr_syn = balanced(quality_hr, quality_lr_syn)
            quality_hr_syn, quality_lr = balanced(quality_hr_syn, quality_lr)

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
        identity = (identity_hr, identity_hr_syn, identity_lr, identity_lr_syn)
        triplet = (
            self._pair_terms(embeddings_hr, labels, batch.sources_hr, batch.sources_lr),
            self._pair_terms(embeddings_lr, labels, batch.sources_lr, batch.sources_hr),
        )
        quality = (quality_hr, quality_hr_syn, quality_lr, quality_lr_syn)
        if not config.evaluator_watches:
            return self._weighted(identity, triplet, quality)
        watched = self._weighted(_detached(identity), _detached(triplet), quality)
        alike = tuple(torch.ones_like(weight) for weight in quality)
        return self._weighted(identity, triplet, alike) | {
            "quality": torch.stack([*watched.values()]).sum()
        }

    def _weighted(
        self, identity: Sequence[Tensor], triplet: Sequence[Tensor], quality: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Weigh the terms of a step by the qualities [FTWA eq. 5, 7].

        Args:
            identity: terms of v_HR, v'_HR, v_LR, v'_LR, each of shape (P,).
            triplet: terms of the HR and of the LR space, each of shape (P,).
            quality: w_HR, w'_HR, w_LR, w'_LR, each of shape (P,).

        Returns:
            ``identity`` and ``triplet``: scalars, times their lambda.
        """
        of_hr, of_hr_syn, of_lr, of_lr_syn = identity
        w_hr, w_hr_syn, w_lr, w_lr_syn = quality
        pairs_hr = pair_weighted_mean(of_hr, of_lr_syn, w_hr, w_lr_syn)
        pairs_lr = pair_weighted_mean(of_lr, of_hr_syn, w_lr, w_hr_syn)
        terms_hr, terms_lr = triplet
        weighted = self_weighted_triplet_loss(terms_hr, terms_lr, w_hr * w_hr_syn, w_lr * w_lr_syn)
        return {
            "identity": self.config.weight_identity * (pairs_hr + pairs_lr),
            "triplet": self.config.weight_triplet * weighted,
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
            with torch.no_grad(), evaluating(network):
                targets = network.pool(network.maps(batch.images_hr, None)).float()  # (P, D)
        else:
            targets = self._targets_of_copy(batch.images_hr)
        untaught = [part for name, part in network.named_children() if name != lr_part]
        with evaluating(*untaught):
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


def _detached(terms: Sequence[Tensor]) -> list[Tensor]:
    return [term.detach() for term in terms]


def balanced(quality_hr: Tensor, quality_lr: Tensor) -> tuple[Tensor, Tensor]:
    """Take t = ln(w_HR / w_LR) less its mean over the batch [ours].

    Args:
        quality_hr: w_HR of images of one role, shape (P,), > 0.
        quality_lr: w_LR of the same images, shape (P,), > 0.

    Returns:
        Both with the mean of t at 0; a push on all t alike has no gradient.
    """
    half = (quality_hr.log() - quality_lr.log()).mean() / 2
    return quality_hr * (-half).exp(), quality_lr * half.exp()


def build_ftwa(blueprint: Blueprint, *, streams: Streams) -> tuple[FTWA, str]:
    """Build FTWA or one of its variants.

    Args:
        blueprint: what to build.
        streams: gives the initial weights.

    Returns:
        The method, and one line on which start weights matched.
    """
    model, config = blueprint.model, blueprint.settings(FTWAConfig)
    with streams.torch_default(Stream.INITIALISATION):
        backbone, report = start_backbone(model)
        method = FTWA(
            _two_stream(backbone, config),
            config,
            input_spec=blueprint.input_spec,
            phases=_phases(blueprint, config),
            num_identities=blueprint.num_identities,
            height_reference=blueprint.height_reference,
        )
    return method, report.summary() if report else "random weights"


def _two_stream(backbone: Backbone, config: FTWAConfig) -> TwoStream:
    adapters = None
    if config.encoder_lr == "adapter":
        adapters = ResolutionAdapters(
            backbone.shallow(), rank=config.adapter_rank, hidden=config.adapter_hidden
        )
    return TwoStream(backbone, two_encoders=config.encoders == 2, adapters=adapters)


def _phases(blueprint: Blueprint, config: FTWAConfig) -> tuple[Phase, ...]:
    """Return ``main``, after ``resolution`` where the settings give it a share of the run."""
    share = config.resolution_share
    optimiser, schedule = blueprint.optimiser, blueprint.schedule
    main = Phase(name="main", optimiser=optimiser, schedule=schedule, first=share)
    if share == 0:
        return (main,)
    # Nothing random is at work while nothing but E_L and T moves: nothing waits for a new head.
    moving = replace(optimiser, frozen_epochs=0)
    return (Phase(name=RESOLUTION, optimiser=moving, schedule=schedule, last=share), main)
