"""CAD-Net: features that do not tell the resolution, beside those of a restored image.

The paper of FTWA calls it CRGAN, which is the name of its part E, G, D_F, D_I.

======================  ==========================================================
paper                   here
======================  ==========================================================
x_H; x_L                ``images_hr``; ``images_lr_syn`` and ``images_lr`` (`Batch`)
E, G                    ``encoder``, ``decoder``
D_F, D_I                ``discriminators["feature"]``, ``discriminators["image"]``
F                       ``encoder_restored``
f_H, f_L                ``maps[-1]``, rows of HR and of LR images
G(f_H), G(f_L)          ``restored``, the same rows
g                       the deep map of ``encoder_restored``
v = [f, g], C           ``embeddings``, ``classifier``
lambda_1, _2, _3        ``weight_feature``, ``weight_reconstruction``, ``weight_image``
======================  ==========================================================

Letters: P pairs of a HR and a LR image, N images, D embedding, C, h, w feature map.
"""

import torch
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
from resolute.methods.modes import evaluating, keeping_statistics
from resolute.methods.one_vector import OneVector
from resolute.methods.settings.cad_net import CADNetConfig
from resolute.models.decoders import Decoder, decoder_of
from resolute.models.discriminators import Discriminator
from resolute.models.pretrained import start_backbone
from resolute.models.staged import Staged
from resolute.models.swa import BNNeck, Classifier
from resolute.models.weights import filled_names

DISCRIMINATOR = "discriminator"  # name of the phase before ``main``


class CADNet(OneVector):
    """Cross-resolution adversarial dual network [CAD-Net].

    Attributes:
        config: weights of the terms, and which branches there are.
        phases: ``discriminator`` where there are any, then ``main``.
        encoder: E.
        decoder: G, with skip connections from E; None in a model that was loaded to embed by f.
        encoder_restored: F, own weights, reads what G gives; None with f alone.
        neck: batch norm before the classifier; the identity where the backbone has its own, or
            there is no classifier.
        classifier: C; None without cross entropy.
        discriminators: D_F under ``feature`` and D_I under ``image``, as far as they have a weight.
    """

    config: CADNetConfig
    phases: tuple[Phase, ...]

    def __init__(
        self,
        encoder: Staged,
        encoder_restored: Staged | None,
        config: CADNetConfig,
        *,
        input_spec: InputSpec,
        phases: tuple[Phase, ...],
        num_identities: int,
        height_reference: float,
    ) -> None:
        super().__init__(config, input_spec=input_spec, height_reference=height_reference)
        self.phases = phases
        self.encoder = encoder
        self.decoder: Decoder | None = decoder_of(
            encoder,
            config.decoder_widths,
            num_convs=config.decoder_convs,
            has_skips=True,
            input_spec=input_spec,
        )
        self.encoder_restored = encoder_restored
        has_classifier = config.weight_identity > 0
        has_neck = has_classifier and encoder.uses_neck
        dim = encoder.embedding_dim * (2 if config.branches == "both" else 1)
        self.neck: nn.Module = BNNeck(dim) if has_neck else nn.Identity()
        self.classifier = Classifier(dim, num_identities) if has_classifier else None
        self.discriminators: nn.ModuleDict | None = nn.ModuleDict(
            _discriminators(encoder, config, input_spec)
        )

    @property
    def training_only(self) -> tuple[str, ...]:
        """Names of the parts that embedding does without; with f alone G is one of them."""
        parts = ("classifier", "discriminators")
        return (*parts, "decoder") if self.config.branches == "f" else parts

    def vectors(self, inputs: Tensor) -> Tensor:
        """Describe images by v, after the neck where there is one.

        Args:
            inputs: normalised RGB, shape (N, 3, H, W).

        Returns:
            Shape (N, D): f and g side by side, or one of them.
        """
        maps = self.encoder(inputs)
        vectors: Tensor = self.neck(self._join(maps, self._read_by_f(maps)))
        return vectors

    def feature_maps(self, images: Images) -> dict[str, Tensor]:
        """Show the deep maps of E and of F.

        Args:
            images: N images.

        Returns:
            ``f`` and ``g`` as far as v is made of them, each (N, C, h, w).
        """
        maps = self.encoder(to_input(images, self.input_spec))
        shown = {} if self.config.branches == "g" else {"f": maps[-1]}
        if self.encoder_restored is not None:
            shown["g"] = self.encoder_restored(self._read_by_f(maps))[-1]
        return shown

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
                rows["restored"] = self.decoder(self.encoder(batch.images_lr_syn))
        return rows

    def parameter_groups(self, phase: Phase) -> list[ParameterGroup]:
        """List what a phase moves: D_F and D_I alone, or all the rest.

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

        Each network sees HR images, their twins and LR images in one call: batch statistics are
        those of the mixture that is met at test time [assumed].

        Args:
            batch: P HR images, their twins and P LR images; the latter two are x_L. LR images have
                no HR original: they are in all terms but L_rec [assumed].
            phase: ``discriminator`` or ``main``.

        Returns:
            ``identity``, ``triplet``, ``feature``, ``reconstruction`` and ``image``, as far as they
            have a weight; in ``discriminator`` the terms ``feature`` and ``image``.

        Raises:
            ConfigError: if the method was loaded to embed and has lost what it trains with.
        """
        if self.discriminators is None or self.decoder is None:
            raise ConfigError(
                "cad-net: this model was loaded to embed and has neither classifier nor "
                "discriminators to train with; resume the run from its checkpoint"
            )
        images = torch.cat([batch.images_hr, batch.images_lr_syn, batch.images_lr])
        if phase.name == DISCRIMINATOR:
            return self._discriminator_losses(images, self.decoder, self.discriminators)
        maps = self.encoder(images)  # per stage (3P, C, h, w)
        restored = self.decoder(maps)  # (3P, 3, H, W)
        embeddings = self._join(maps, restored).float()  # (3P, D)
        return self._supervised_losses(embeddings, batch) | self._restoring_losses(
            maps[-1], restored, batch.images_hr, self.discriminators
        )

    def _read_by_f(self, maps: list[Tensor]) -> Tensor | None:
        """Restore images where F is there to read them."""
        if self.encoder_restored is None or self.decoder is None:
            return None
        restored: Tensor = self.decoder(maps)
        return restored

    def _join(self, maps: list[Tensor], restored: Tensor | None) -> Tensor:
        """Pool the deep maps of E and F and put them side by side, as far as there are."""
        parts = [] if self.config.branches == "g" else [self.encoder.pool(maps[-1])]
        if self.encoder_restored is not None:
            parts.append(self.encoder_restored.pool(self.encoder_restored(restored)[-1]))
        return torch.cat(parts, dim=1)

    def _supervised_losses(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute L_cls: cross entropy, and triplets within HR and within LR images.

        Both are the mean over HR images plus the mean over LR images. Where an identity has one HR
        picture in a batch there is no triplet among HR images.
        """
        config = self.config
        num_pairs = len(batch.labels)
        halves = [num_pairs, 2 * num_pairs]
        labels = batch.labels.repeat(3)
        terms = {}
        if self.classifier is not None:
            logits = self.classifier(self.neck(embeddings))
            identity = identity_terms(logits, labels, smoothing=config.label_smoothing)
            means = [part.mean() for part in torch.split(identity, halves)]
            terms["identity"] = config.weight_identity * torch.stack(means).sum()
        if config.weight_triplet > 0:
            sources = torch.cat([batch.sources_hr, batch.sources_hr, batch.sources_lr])
            triplets = [
                triplet_terms(*part, margin=config.margin, mining=config.mining).mean()
                for part in zip(
                    torch.split(embeddings, halves),
                    torch.split(labels, halves),
                    torch.split(sources, halves),
                    strict=True,
                )
            ]
            terms["triplet"] = config.weight_triplet * torch.stack(triplets).sum()
        return terms

    def _restoring_losses(
        self,
        features: Tensor,
        restored: Tensor,
        images_hr: Tensor,
        discriminators: nn.ModuleDict,
    ) -> dict[str, Tensor]:
        """Compute what trains E and G beside L_cls: L_rec and both adversarial terms.

        f_L is to pass for f_H, both G(f_H) and G(f_L) for HR images. f_H is not pushed towards
        f_L [assumed].
        """
        config = self.config
        num_pairs = len(images_hr)
        terms = {}
        if "feature" in discriminators:
            scores = discriminators["feature"](features[num_pairs:]).float()
            terms["feature"] = config.weight_feature * generator_loss(scores)
        if config.weight_reconstruction > 0:
            own, of_twins = restored[: 2 * num_pairs].chunk(2)
            distance = image_l1(own, images_hr) + image_l1(of_twins, images_hr)
            terms["reconstruction"] = config.weight_reconstruction * distance
        if "image" in discriminators:
            scores = discriminators["image"](restored).float()
            terms["image"] = config.weight_image * generator_loss(scores)
        return terms

    def _discriminator_losses(
        self, images: Tensor, decoder: Decoder, discriminators: nn.ModuleDict
    ) -> dict[str, Tensor]:
        """Teach D_F that f_H is real and f_L is not, D_I that x_H is and no restored image is."""
        num_pairs = len(images) // 3
        with torch.no_grad(), keeping_statistics(self.encoder, decoder):
            maps = self.encoder(images)
            restored = decoder(maps) if "image" in discriminators else None
        terms = {}
        if "feature" in discriminators:
            scores = discriminators["feature"](maps[-1]).float()
            terms["feature"] = discriminator_loss(scores[:num_pairs], scores[num_pairs:])
        if restored is not None:
            judged = torch.cat([images[:num_pairs], restored])  # (4P, 3, H, W)
            scores = discriminators["image"](judged).float()
            terms["image"] = discriminator_loss(scores[:num_pairs], scores[num_pairs:])
        return terms


def build_cad_net(blueprint: Blueprint, *, streams: Streams) -> tuple[CADNet, str]:
    """Build CAD-Net or one of its branches. E and F start from the same weights.

    Args:
        blueprint: what to build.
        streams: gives the initial weights.

    Returns:
        The method, and one line on which start weights matched.
    """
    model, config = blueprint.model, blueprint.settings(CADNetConfig)
    with streams.torch_default(Stream.INITIALISATION):
        backbone, report = start_backbone(model)
        has_second = config.branches != "f"
        method = CADNet(
            Staged(backbone, has_pooling=config.branches != "g"),
            Staged(start_backbone(model)[0]) if has_second else None,
            config,
            input_spec=blueprint.input_spec,
            phases=_phases(blueprint, config),
            num_identities=blueprint.num_identities,
            height_reference=blueprint.height_reference,
        )
    return method, report.summary() if report else "random weights"


def _phases(blueprint: Blueprint, config: CADNetConfig) -> tuple[Phase, ...]:
    schedule = blueprint.schedule
    main = Phase(name="main", optimiser=blueprint.optimiser, schedule=schedule)
    if config.weight_feature == config.weight_image == 0:
        return (main,)
    return (Phase(name=DISCRIMINATOR, optimiser=config.discriminator, schedule=schedule), main)


def _discriminators(
    encoder: Staged, config: CADNetConfig, input_spec: InputSpec
) -> dict[str, Discriminator]:
    height, width = input_spec.height, input_spec.width
    discriminators = {}
    if config.weight_feature > 0:
        shape = encoder.map_shapes(height, width)[-1]
        discriminators["feature"] = Discriminator(shape, width=config.feature_width)
    if config.weight_image > 0:
        shape = (3, height, width)
        discriminators["image"] = Discriminator(shape, width=config.image_width, kernel=4)
    return discriminators
