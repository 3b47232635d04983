"""Plain super-resolution, then re-identification: what people do today, in two forms [ours].

``sr-bicubic`` trains on HR images alone; a LR image is enlarged and takes the same way.
``sr-net`` first learns to sharpen twins, freezes what it learnt, and trains on HR images and
sharpened LR images; beside Baseline-twins it shows what sharpening adds.

Letters: P pairs of a HR and a LR image, N images, D embedding, H, W network input.
"""

import torch
from torch import Tensor, nn

from resolute.core.errors import ConfigError
from resolute.core.images import Batch
from resolute.core.rng import Stream, Streams
from resolute.core.types import InputSpec
from resolute.losses.identity import identity_terms
from resolute.losses.super_resolution import image_l1
from resolute.losses.triplet import triplet_terms
from resolute.methods.blueprint import Blueprint
from resolute.methods.contract import ParameterGroup, Phase, grouped
from resolute.methods.graph import Description, Graphs, Role, Traced
from resolute.methods.settings.plain_sr import RESTORATION_SCHEDULE, PlainSRConfig
from resolute.methods.two_routes import TwoRoutes
from resolute.models.osnet import OSNet
from resolute.models.pretrained import start_backbone
from resolute.models.resnet import ResNet
from resolute.models.super_resolution import Restorer
from resolute.models.swa import BNNeck, Classifier
from resolute.models.weights import filled_names

RESTORATION = "restoration"  # name of the phase before ``main``


class PlainSR(TwoRoutes):
    """An identity network, and what LR images pass before it.

    Attributes:
        config: the method's settings.
        phases: ``main``, and before it ``restoration`` where there is a network to learn.
        restorer: sharpens LR images; None where they are only enlarged.
        network: identity network up to the embedding.
        neck: batch norm after it where the backbone wants one.
        classifier: logits per identity, in training alone.
    """

    config: PlainSRConfig
    phases: tuple[Phase, ...]

    def __init__(
        self,
        network: ResNet | OSNet,
        config: PlainSRConfig,
        *,
        input_spec: InputSpec,
        phases: tuple[Phase, ...],
        num_identities: int,
        height_reference: float,
    ) -> None:
        super().__init__(config, input_spec=input_spec, height_reference=height_reference)
        self.phases = phases
        self.network = network
        self.neck: nn.Module = BNNeck(network.embedding_dim) if network.uses_neck else nn.Identity()
        self.classifier = Classifier(network.embedding_dim, num_identities)
        self.restorer: Restorer | None = None
        if config.restoration == "network":
            self.restorer = Restorer(width=config.width, num_blocks=config.num_blocks)
        self.enlargement = config.enlargement

    def parameter_groups(self, phase: Phase) -> list[ParameterGroup]:
        """List what a phase moves.

        Args:
            phase: ``restoration`` moves the super-resolution network, ``main`` everything else.
        """
        is_restoration = phase.name == RESTORATION
        named = [
            (n, p)
            for n, p in self.named_parameters()
            if p.requires_grad and n.startswith("restorer.") == is_restoration
        ]
        return grouped(named, phase.optimiser, pretrained=filled_names(self))

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Compute the terms of a phase.

        Args:
            batch: P HR images, their twins and P LR images.
            phase: ``restoration``, which reads no label, or ``main``.

        Returns:
            ``restoration``; or ``identity`` and ``triplet``.
        """
        if self.restorer is None:
            return self._identity_losses(batch, [batch.images_hr])
        if phase.name == RESTORATION:
            return {"restoration": image_l1(self.restorer(batch.images_lr_syn), batch.images_hr)}
        images = [batch.images_hr, self._restored(batch.images_lr)]
        if self.config.twins:
            images.append(self._restored(batch.images_lr_syn))
        return self._identity_losses(batch, images)

    def describe_hr(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Describe HR images.

        Args:
            inputs: shape (N, 3, H, W).

        Returns:
            Vectors (N, 1, D) of any length, quality 1.
        """
        vectors = self.neck(self.network(inputs))[:, None]  # (N, 1, D)
        return vectors, vectors.new_ones(vectors.shape[:2])

    def describe_lr(
        self,
        inputs: Tensor,
        sizes: Tensor,  # noqa: ARG002 (of other methods of two routes)
    ) -> tuple[Tensor, Tensor]:
        """Describe LR images: sharpened first where there is a network for it.

        Args:
            inputs: enlarged, shape (N, 3, H, W).
            sizes: not read.

        Returns:
            As of HR images.
        """
        return self.describe_hr(self._restored(inputs))

    def maps_hr(self, inputs: Tensor) -> dict[str, Tensor]:
        """Give the deep map of HR images.

        Args:
            inputs: shape (N, 3, H, W).

        Returns:
            ``features``, shape (N, C, h, w).
        """
        return {"features": self.network.deep()(self.network.shallow()(inputs))}

    def maps_lr(self, inputs: Tensor) -> dict[str, Tensor]:
        """Give the deep map of LR images, sharpened first where there is a network for it.

        Args:
            inputs: enlarged, shape (N, 3, H, W).

        Returns:
            As of HR images.
        """
        return self.maps_hr(self._restored(inputs))

    def graphs(self) -> Graphs:
        """Give both roles as functions of tensors, see :mod:`resolute.methods.graph`.

        Raises:
            ConfigError: if LR images are enlarged in another way than HR images.
        """
        if self.enlargement != self.input_spec.interpolation:
            raise ConfigError(
                f"method.enlargement: an exported file enlarges all images alike, LR ones by "
                f"{self.enlargement} too; set it to {self.input_spec.interpolation}"
            )
        return Graphs(
            hr=Role(rates=(1.0,), network=Traced(self, self._role_hr)),
            lr=Role(rates=(1.0,), network=Traced(self, self._role_lr)),
            routing=self.routing,
            metric=self.config.metric,
            fusion=self.config.fusion,
            constant=self.config.constant,
            is_mirrored=self.config.flip,
            height_reference=self.height_reference,
        )

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Show what the super-resolution network makes of twins.

        Args:
            batch: P HR images and their twins.

        Returns:
            Rows of P normalised images (3, H, W); ``restored`` where there is such a network.
        """
        shown = {"HR": batch.images_hr, "LR": batch.images_lr_syn}
        if self.restorer is not None:
            shown["restored"] = self._restored(batch.images_lr_syn)
        return shown

    def _restored(self, images: Tensor) -> Tensor:
        if self.restorer is None:
            return images
        with torch.no_grad():  # it is frozen whenever this is called
            restored: Tensor = self.restorer(images)
        return restored

    def _identity_losses(self, batch: Batch, images: list[Tensor]) -> dict[str, Tensor]:
        """Compute cross entropy and triplet as the baseline does.

        Args:
            batch: labels and sources.
            images: HR images, then LR images and their twins where they are trained on.
        """
        config, num_kinds = self.config, len(images)
        embeddings = self.network(torch.cat(images)).float()  # (P, 2P or 3P, D)
        labels = batch.labels.repeat(num_kinds)
        identity = identity_terms(
            self.classifier(self.neck(embeddings)), labels, smoothing=config.label_smoothing
        ).view(num_kinds, -1)
        sources = torch.cat([batch.sources_hr, batch.sources_lr, batch.sources_hr])
        triplet = triplet_terms(
            embeddings,
            labels,
            sources[: len(labels)],
            margin=config.margin,
            mining=config.mining,
        )
        identity_hr = torch.stack([identity[0], *identity[2:]]).mean()
        # Mean of HR plus mean of LR images, one scale with the baseline; without LR images twice
        # the mean of HR images, to keep the balance with the triplet.
        total = identity_hr + (identity[1].mean() if num_kinds > 1 else identity_hr)
        return {
            "identity": config.weight_identity * total,
            "triplet": config.weight_triplet * triplet.mean(),
        }

    # For tracing: tensors alone, and no native sizes.
    def _role_hr(self, inputs: Tensor) -> Description:
        return self.described(*self.describe_hr(inputs))

    def _role_lr(self, inputs: Tensor) -> Description:
        return self.described(*self.describe_lr(inputs, inputs))


def build_plain_sr(blueprint: Blueprint, *, streams: Streams) -> tuple[PlainSR, str]:
    """Build plain super-resolution, then re-identification.

    Args:
        blueprint: what to build.
        streams: gives the initial weights.

    Returns:
        The method, and one line on which start weights matched.

    Raises:
        ConfigError: if the super-resolution network does not fit the input size.
    """
    model, config = blueprint.model, blueprint.settings(PlainSRConfig)
    if config.restoration == "network" and (model.height % 2 or model.width % 2):
        raise ConfigError(
            f"input size: super-resolution works on 2x2 blocks, got {model.height}x{model.width} "
            "(height x width): make both even"
        )
    with streams.torch_default(Stream.INITIALISATION):
        backbone, report = start_backbone(model)
        method = PlainSR(
            backbone,
            config,
            input_spec=blueprint.input_spec,
            phases=_phases(blueprint, config),
            num_identities=blueprint.num_identities,
            height_reference=blueprint.height_reference,
        )
    return method, report.summary() if report else "random weights"


def _phases(blueprint: Blueprint, config: PlainSRConfig) -> tuple[Phase, ...]:
    """Return ``main``, after ``restoration`` where there is a network to learn."""
    optimiser, schedule = blueprint.optimiser, blueprint.schedule
    if config.restoration == "none":
        return (Phase(name="main", optimiser=optimiser, schedule=schedule),)
    share = config.restoration_share
    first = Phase(
        name=RESTORATION,
        optimiser=config.restoration_optimiser,
        schedule=RESTORATION_SCHEDULE,
        last=share,
    )
    return (first, Phase(name="main", optimiser=optimiser, schedule=schedule, first=share))
