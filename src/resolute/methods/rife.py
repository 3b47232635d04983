"""RIFE with FFSR, and each of the two alone [Mao 2019].

======================  ==========================================================
publication             here
======================  ==========================================================
FFSR                    ``ffsr``; None where nothing is restored
two streams, mixed      ``network``; with one stream where nothing is mixed
a1, a2 at five depths   ``attentions``, shape (N, levels, 2)
res                     ``resolution``: native height over h_ref, at most 1
foreground mask         ``mask``
======================  ==========================================================

Every image, query and gallery alike, takes one path: its true resolution is read in training
alone. A LR image of the benchmark has no HR original, so it has no restoration term [ours].

Letters: P pairs of a HR and a LR image, N images, D embedding, H, W network input.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from resolute.core.errors import ConfigError
from resolute.core.images import Batch, Images
from resolute.core.rng import Stream, Streams
from resolute.core.types import Embedding, InputSpec
from resolute.data.degrade import to_input
from resolute.losses.foreground import attention_loss, foreground_loss, foreground_mask
from resolute.losses.identity import identity_terms
from resolute.methods.blueprint import Blueprint
from resolute.methods.contract import ParameterGroup, Phase, grouped
from resolute.methods.graph import Graphs
from resolute.methods.modes import evaluating
from resolute.methods.one_vector import OneVector
from resolute.methods.settings.rife import RIFEConfig
from resolute.models.ffsr import FFSR, STRIDE
from resolute.models.pretrained import start_backbone
from resolute.models.rife import MixedStreams
from resolute.models.swa import Classifier
from resolute.models.weights import filled_names


class RIFE(OneVector):
    """Restoration by FFSR, features of two mixed streams, batch norm, classifier [Mao 2019].

    Attributes:
        phases: ``main``.
        config: which of the parts there are.
        ffsr: restores images; None where there is no restoration.
        network: from images to embeddings and attentions.
        neck: batch norm before the classifier; the identity where the backbone has its own.
        classifier: logits per training identity.
        mask: weight of every place of the restoration, shape (H, W).
    """

    config: RIFEConfig
    mask: Tensor

    def __init__(
        self,
        network: MixedStreams,
        config: RIFEConfig,
        *,
        input_spec: InputSpec,
        phases: tuple[Phase, ...],
        num_identities: int,
        height_reference: float,
    ) -> None:
        super().__init__(config, input_spec=input_spec, height_reference=height_reference)
        self.phases = phases
        self.network = network
        width, zero_tail = config.ffsr_width, config.ffsr_zero_tail
        self.ffsr = FFSR(width, zero_tail=zero_tail) if config.restores else None
        # A plain batch norm, its bias learned; OSNet's fc already ends in one [assumed].
        dim = network.embedding_dim
        self.neck: nn.Module = nn.BatchNorm1d(dim) if network.uses_neck else nn.Identity()
        self.classifier = Classifier(dim, num_identities)
        mask = foreground_mask(
            input_spec.height, input_spec.width, rows_twice=config.mask_rows_twice
        )
        self.register_buffer("mask", mask, persistent=False)

    def parameter_groups(self, phase: Phase) -> list[ParameterGroup]:
        """List everything; both streams form groups of their own where they start from weights.

        Args:
            phase: ``main``.
        """
        named = self.named_parameters()
        return grouped(named, phase.optimiser, pretrained=filled_names(self))

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:  # noqa: ARG002 (one phase)
        """Compute cross entropy + 0.1 restoration + 0.01 attention [Mao 2019].

        HR images, LR images and twins pass in one call; restoration is learned from twins, whose
        HR images are known, and from HR images, which are to stay as they are [assumed].

        Args:
            batch: P HR images, their twins and P LR images.
            phase: ``main``.

        Returns:
            ``identity``, with FFSR ``restoration``, with two streams ``attention``: scalars.
        """
        config = self.config
        images = torch.cat([batch.images_hr, batch.images_lr_syn, batch.images_lr])  # (3P, ...)
        restored = self._restored(images)
        embeddings, attentions = self.network(restored)
        logits = self.classifier(self.neck(embeddings.float()))
        identity = identity_terms(logits, batch.labels.repeat(3), smoothing=config.label_smoothing)
        terms = {"identity": identity.mean()}
        if config.restores:
            known, target = restored[: len(batch)], batch.images_hr.repeat(2, 1, 1, 1)
            restoration = foreground_loss(known, target, self.mask)
            terms["restoration"] = config.weight_restoration * restoration
        if config.mixes:
            heights = torch.cat([batch.heights_hr, batch.heights_lr_syn, batch.heights_lr])
            attention = attention_loss(attentions, self.resolution(heights))
            terms["attention"] = config.weight_attention * attention
        return terms

    def resolution(self, heights: Tensor) -> Tensor:
        """Compute res: the published width over 128 as height over h_ref [ours].

        Args:
            heights: native heights in pixels, shape (N,).

        Returns:
            In (0, 1], shape (N,), float32.
        """
        return (heights.float() / self.height_reference).clamp(max=1)

    def vectors(self, inputs: Tensor) -> Tensor:
        """Describe network inputs.

        Args:
            inputs: normalised RGB, shape (N, 3, H, W).

        Returns:
            Embeddings after the neck, shape (N, D).
        """
        embeddings, _ = self.network(self._restored(inputs))
        vectors: Tensor = self.neck(embeddings.float())
        return vectors

    def embed(self, images: Images) -> Embedding:
        """Describe images by one vector each.

        Args:
            images: N images on the device of the weights; their resolution is not looked at.

        Returns:
            Vectors (N, 1, D), quality 1; of length 1, or of the length that they have after the
            neck, averaged where a mirror image joins.
        """
        embedding = super().embed(images)
        if self.config.normalised or embedding.norms is None:
            return embedding
        return replace(embedding, vectors=embedding.vectors * embedding.norms[:, :, None])

    def graphs(self) -> Graphs:
        """Give the one role of all images, see :mod:`resolute.methods.graph`.

        Raises:
            ConfigError: if vectors keep their length; what is exported has length 1.
        """
        if not self.config.normalised:
            raise ConfigError("export: vectors have length 1 there; set method.normalised true")
        return super().graphs()

    def feature_maps(self, images: Images) -> dict[str, Tensor]:
        """Show the map that embeddings are pooled from, see :mod:`resolute.methods.maps`.

        Args:
            images: N images on the device of the weights.
        """
        inputs = to_input(images, self.input_spec)
        with torch.no_grad(), evaluating(self):
            features, _ = self.network.maps(self._restored(inputs))
        return {"features": features}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Show twins before and after restoration.

        Args:
            batch: P HR images and their twins.

        Returns:
            ``HR``, ``LR`` and, with FFSR, ``restored``: normalised, shape (P, 3, H, W).
        """
        rows = {"HR": batch.images_hr, "LR": batch.images_lr_syn}
        if self.ffsr is not None:
            rows["restored"] = self.ffsr(batch.images_lr_syn)
        return rows

    def _restored(self, images: Tensor) -> Tensor:
        return images if self.ffsr is None else self.ffsr(images)


def build_rife(blueprint: Blueprint, *, streams: Streams) -> tuple[RIFE, str]:
    """Build RIFE, FFSR or both.

    Args:
        blueprint: what to build.
        streams: gives the initial weights.

    Returns:
        The method, and one line on which start weights matched.

    Raises:
        ConfigError: if FFSR does not fit the input size.
    """
    model, config = blueprint.model, blueprint.settings(RIFEConfig)
    if config.restores and (model.height % STRIDE or model.width % STRIDE):
        raise ConfigError(
            f"{blueprint.name}: FFSR needs an input size in multiples of {STRIDE}, got "
            f"{model.height}x{model.width} (height x width): change model.height, model.width"
        )
    with streams.torch_default(Stream.INITIALISATION):
        # Both streams start from the same file; without one each draws weights of its own.
        backbones = [start_backbone(model) for _ in range(1 + config.mixes)]
        report = backbones[0][1]
        method = RIFE(
            MixedStreams([backbone for backbone, _ in backbones], hidden=config.attention_hidden),
            config,
            input_spec=blueprint.input_spec,
            phases=(
                Phase(name="main", optimiser=blueprint.optimiser, schedule=blueprint.schedule),
            ),
            num_identities=blueprint.num_identities,
            height_reference=blueprint.height_reference,
        )
    return method, report.summary() if report else "random weights"
