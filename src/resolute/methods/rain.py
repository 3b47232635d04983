"""RAIN: one extractor for all resolutions, whose maps look alike to a discriminator.

======================  ==========================================================
paper                   here
======================  ==========================================================
x_H; x_L                ``images_hr``; ``images_lr_syn`` and ``images_lr`` (`Batch`)
F                       ``extractor``
f_j                     ``maps[j]``: what stage j of F gives
D_j                     ``discriminators[str(j)]``
G                       ``decoder``
v                       ``embeddings``
L_cls, L_tri            ``identity``, ``triplet``
L_rec, L_adv            ``reconstruction``, ``adversarial``
======================  ==========================================================

Letters: P pairs of a HR and a LR image, N images, D embedding, C, h, w feature map.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resolute.core.errors import ConfigError
from resolute.core.images import Batch, Images
from resolute.core.rng import Stream, Streams
from resolute.core.types import InputSpec
from resolute.data.degrade import to_input
from resolute.losses.adversarial import discriminator_loss, generator_loss
from resolute.losses.identity import identity_terms
from resolute.losses.super_resolution import image_l1
from resolute.losses.triplet import triplet_terms
from resolute.methods.blueprint import Blueprint
from resolute.methods.contract import ParameterGroup, Phase, grouped
from resolute.methods.labelled import Labelled, draw_labelled, mean_of_labelled
from resolute.methods.modes import evaluating, keeping_statistics
from resolute.methods.one_vector import OneVector
from resolute.methods.settings.rain import RAINConfig
from resolute.models.decoders import decoder_of
from resolute.models.discriminators import Discriminator
from resolute.models.pretrained import start_backbone
from resolute.models.staged import Staged
from resolute.models.swa import BNNeck, Classifier
from resolute.models.weights import filled_names

DISCRIMINATOR = "discriminator"  # name of the phase before ``main``


class RAIN(OneVector):
    """Resolution-invariant features by adversarial learning and reconstruction [RAIN].

    Attributes:
        config: weights of the terms, and which parts there are.
        phases: ``discriminator`` where there are any, then ``main``.
        extractor: F.
        neck: batch norm before the classifier; the identity where the backbone has its own, or
            there is no classifier.
        classifier: of identities with labels; None without L_cls.
        discriminators: D_j by number of the stage; none without L_adv.
        decoder: G; None without L_rec.
        labelled: which identities have labels.
    """

    training_only = ("classifier", "discriminators", "decoder", "labelled")

    config: RAINConfig
    phases: tuple[Phase, ...]

    def __init__(
        self,
        extractor: Staged,
        config: RAINConfig,
        *,
        input_spec: InputSpec,
        phases: tuple[Phase, ...],
        is_labelled: NDArray[np.bool_],
        height_reference: float,
    ) -> None:
        super().__init__(config, input_spec=input_spec, height_reference=height_reference)
        self.phases = phases
        self.extractor = extractor
        self.labelled: Labelled | None = Labelled(is_labelled)
        has_classifier = config.weight_identity > 0
        has_neck = has_classifier and extractor.uses_neck
        dim = extractor.embedding_dim
        self.neck: nn.Module = BNNeck(dim) if has_neck else nn.Identity()
        self.classifier = Classifier(dim, self.labelled.num_classes) if has_classifier else None
        self.discriminators = nn.ModuleDict(_discriminators(extractor, config, input_spec))
        self.decoder = (
            decoder_of(
                extractor,
                config.decoder_widths,
                num_convs=config.decoder_convs,
                has_skips=False,
                input_spec=input_spec,
            )
            if config.weight_reconstruction > 0
            else None
        )

    def vectors(self, inputs: Tensor) -> Tensor:
        """Describe images by v, after the neck where there is one.

        Args:
            inputs: normalised RGB, shape (N, 3, H, W).

        Returns:
            Shape (N, D).
        """
        vectors: Tensor = self.neck(self.extractor.pool(self.extractor(inputs)[-1]))
        return vectors

    def feature_maps(self, images: Images) -> dict[str, Tensor]:
        """Show the deep map of F.

        Args:
            images: N images.

        Returns:
            ``features``, shape (N, C, h, w).
        """
        return {"features": self.extractor(to_input(images, self.input_spec))[-1]}

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Show what the decoder makes of twins.

        Args:
            batch: P HR images with their twins.

        Returns:
            ``HR``, ``LR`` and, with a decoder, ``restored``, each normalised, (P, 3, H, W).
        """
        rows = {"HR": batch.images_hr, "LR": batch.images_lr_syn}
        if self.decoder is not None:
            with evaluating(self):
                rows["restored"] = self.decoder(self.extractor(batch.images_lr_syn))
        return rows

    def parameter_groups(self, phase: Phase) -> list[ParameterGroup]:
        """List what a phase moves: D alone, or all the rest.

        Args:
            phase: ``discriminator`` or ``main``.
        """
        is_adversary = phase.name == DISCRIMINATOR
        named = [
            (name, parameter)
            for name, parameter in self.named_parameters()
            if name.startswith("discriminators.") == is_adversary
        ]
        return grouped(named, phase.optimiser, pretrained=filled_names(self))

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Compute the weighted terms of a phase.

        F sees HR images, their twins and LR images in one call: batch statistics are those of the
        mixture that is met at test time [assumed].

        Args:
            batch: P HR images, their twins and P LR images; the latter two are x_L. LR images have
                no HR original: they are not restored [assumed].
            phase: ``discriminator`` or ``main``.

        Returns:
            ``identity``, ``triplet``, ``reconstruction`` and ``adversarial``, as far as they have a
            weight; in ``discriminator`` one term per level, named by its stage.

        Raises:
            ConfigError: if the method was loaded to embed and has lost what it trains with.
        """
        if self.labelled is None:
            raise ConfigError(
                "rain: this model was loaded to embed and has neither classifier, decoder nor "
                "discriminators to train with; resume the run from its checkpoint"
            )
        if phase.name == DISCRIMINATOR:
            return self._discriminator_losses(batch)
        maps = self.extractor(self._images(batch))  # per stage (3P, C, h, w); P with HR alone
        embeddings = self.extractor.pool(maps[-1]).float()  # (3P, D)
        return self._supervised_losses(
            embeddings, batch, self.labelled
        ) | self._unsupervised_losses(maps, batch)

    def _images(self, batch: Batch) -> Tensor:
        if self.config.images == "hr":
            return batch.images_hr
        return torch.cat([batch.images_hr, batch.images_lr_syn, batch.images_lr])

    def _supervised_losses(
        self, embeddings: Tensor, batch: Batch, labelled: Labelled
    ) -> dict[str, Tensor]:
        """Compute L_cls and L_tri, of images with labels.

        L_cls is the mean over HR images plus the mean over LR images and twins, or twice the former
        where there are HR images alone, so that its balance with L_tri stays.
        L_tri takes its positives and negatives from both [assumed].
        """
        config = self.config
        num_pairs = len(batch.labels)
        labels = batch.labels.repeat(len(embeddings) // num_pairs)
        terms = {}
        if self.classifier is not None:
            classes = labelled.classes(labels)
            identity = identity_terms(
                self.classifier(self.neck(embeddings)), classes, smoothing=config.label_smoothing
            )
            mean_hr = mean_of_labelled(identity[:num_pairs], classes[:num_pairs])
            mean_lr = mean_of_labelled(identity[num_pairs:], classes[num_pairs:])
            has_lr = len(identity) > num_pairs
            terms["identity"] = config.weight_identity * (
                mean_hr + (mean_lr if has_lr else mean_hr)
            )
        if config.weight_triplet > 0:
            sources = torch.cat([batch.sources_hr, batch.sources_hr, batch.sources_lr])
            if not labelled.has_all:
                kept = labelled.is_labelled[labels].nonzero().flatten()
                embeddings, labels, sources = embeddings[kept], labels[kept], sources[kept]
            terms["triplet"] = config.weight_triplet * self._triplet(
                embeddings, labels, sources[: len(labels)]
            )
        return terms

    def _triplet(self, embeddings: Tensor, labels: Tensor, sources: Tensor) -> Tensor:
        if len(labels) == 0:
            return embeddings.sum()  # of nothing: zero, with a graph
        config = self.config
        return triplet_terms(
            embeddings, labels, sources, margin=config.margin, mining=config.mining
        ).mean()

    def _unsupervised_losses(self, maps: list[Tensor], batch: Batch) -> dict[str, Tensor]:
        """Compute L_rec of HR images and twins, and L_adv: LR maps are to pass for HR ones.

        HR maps are not pushed towards LR ones [assumed].
        """
        config = self.config
        num_pairs = len(batch.labels)
        terms = {}
        if self.decoder is not None:
            restored = self.decoder([features[: 2 * num_pairs] for features in maps])
            own, of_twins = restored.chunk(2)
            distance = image_l1(own, batch.images_hr) + image_l1(of_twins, batch.images_hr)
            terms["reconstruction"] = config.weight_reconstruction * distance
        if self.discriminators:
            passed = [
                generator_loss(discriminator(maps[int(j)][num_pairs:]).float())
                for j, discriminator in self.discriminators.items()
            ]
            terms["adversarial"] = config.weight_adversarial * torch.stack(passed).sum()
        return terms

    def _discriminator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Teach each D_j that maps of HR images are real and those of LR images are not."""
        num_pairs = len(batch.labels)
        with torch.no_grad(), keeping_statistics(self.extractor):
            maps = self.extractor(self._images(batch))
        terms = {}
        for j, discriminator in self.discriminators.items():
            scores = discriminator(maps[int(j)]).float()
            terms[f"stage_{j}"] = discriminator_loss(scores[:num_pairs], scores[num_pairs:])
        return terms


def build_rain(blueprint: Blueprint, *, streams: Streams) -> tuple[RAIN, str]:
    """Build RAIN, a variant or an ablation.

    Args:
        blueprint: what to build.
        streams: gives the initial weights, and which identities have labels.

    Returns:
        The method, and one line on which start weights matched.
    """
    model, config = blueprint.model, blueprint.settings(RAINConfig)
    with streams.torch_default(Stream.INITIALISATION):
        backbone, report = start_backbone(model)
        method = RAIN(
            Staged(backbone),
            config,
            input_spec=blueprint.input_spec,
            phases=_phases(blueprint, config),
            is_labelled=draw_labelled(blueprint.num_identities, config.labelled, streams=streams),
            height_reference=blueprint.height_reference,
        )
    return method, report.summary() if report else "random weights"


def _phases(blueprint: Blueprint, config: RAINConfig) -> tuple[Phase, ...]:
    schedule = blueprint.schedule
    main = Phase(name="main", optimiser=blueprint.optimiser, schedule=schedule)
    if config.weight_adversarial == 0:
        return (main,)
    return (Phase(name=DISCRIMINATOR, optimiser=config.discriminator, schedule=schedule), main)


def _discriminators(
    extractor: Staged, config: RAINConfig, input_spec: InputSpec
) -> dict[str, Discriminator]:
    if config.weight_adversarial == 0:
        return {}
    shapes = extractor.map_shapes(input_spec.height, input_spec.width)
    if config.levels > len(shapes):
        raise ConfigError(
            f"method.levels: this backbone has {len(shapes)} stages, got {config.levels}"
        )
    return {
        str(j): Discriminator(shapes[j], width=config.discriminator_width)
        for j in range(len(shapes) - config.levels, len(shapes))
    }
