"""CSR-GAN: a chain of super-resolving generators before an identity network [Wang 2018].

======================  ==========================================================
publication             here
======================  ==========================================================
G8, G4, G2              ``chain.generators``: 16x6 to 32x12 to 64x24 to 128x48
D of each stage         ``discriminators``
VGG-19 pool4, fc8       ``perceptual``: read at the first step, if a file is named
ReID network            ``backbone``, ``classifier``
entry by height / 128   :meth:`CSRGAN.entries_of`: native height over the chain's
======================  ==========================================================

Phases: ``warmup`` teaches the chain pixels; then ``discriminator``, ``generator`` and ``identity``
take turns on each batch. No gradient passes from the identity network into the chain.

Letters: P pairs of a HR and a LR image, N images, D embedding, H, W network input, h, w a stage's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from resolute.core.errors import ConfigError
from resolute.core.images import Batch
from resolute.core.rng import Stream, Streams
from resolute.core.types import InputSpec
from resolute.losses.adversarial import discriminator_loss, generator_loss
from resolute.losses.identity import identity_terms
from resolute.methods.blueprint import Blueprint
from resolute.methods.config import ScheduleConfig
from resolute.methods.contract import ParameterGroup, Phase, grouped
from resolute.methods.csr_gan_matching import CSRGANMatcher, chain_size, resized
from resolute.methods.modes import evaluating, keeping_statistics
from resolute.methods.settings.csr_gan import NUM_STAGES, CSRGANConfig
from resolute.models.perceptual import Perceptual, load_perceptual
from resolute.models.pretrained import start_backbone
from resolute.models.srgan import Chain, Generator, SRDiscriminator
from resolute.models.swa import Classifier
from resolute.models.weights import filled_names

# Phases. The first two move the same weights, one after the other.
WARMUP, GENERATOR, DISCRIMINATOR, IDENTITY = "warmup", "generator", "discriminator", "identity"
_CONSTANT = ScheduleConfig(warmup=0.0, milestones=())


@dataclass(frozen=True, slots=True)
class Made:
    """What one generator made of HR images that were shrunk, and what it should be.

    Attributes:
        fake: in -1..1, shape (N, 3, h, w).
        real: the HR images at that size, shape (N, 3, h, w).
    """

    fake: Tensor
    real: Tensor


class CSRGAN(CSRGANMatcher):
    """Restores what is small, then describes it [Wang 2018].

    Attributes:
        phases: ``warmup``, ``discriminator``, ``generator``, ``identity``.
        dropout: before the classifier.
        classifier: logits per training identity.
        discriminators: one per generator; None where the method only embeds.
        perceptual: VGG-19; None until it is needed, and where no file is named.
    """

    training_only = ("discriminators", "perceptual")

    discriminators: nn.ModuleList | None
    perceptual: Perceptual | None

    def __init__(
        self,
        chain: Chain,
        backbone: nn.Module,
        config: CSRGANConfig,
        *,
        input_spec: InputSpec,
        phases: tuple[Phase, ...],
        num_identities: int,
        height_reference: float,
    ) -> None:
        super().__init__(
            chain, backbone, config, input_spec=input_spec, height_reference=height_reference
        )
        self.phases = phases
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = Classifier(backbone.embedding_dim, num_identities)  # type: ignore[arg-type]
        width = config.discriminator_width
        self.discriminators = nn.ModuleList(
            SRDiscriminator(s, width=width) for s in chain.sizes[1:]
        )
        self.perceptual = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its scores has to know: its rates, its chain, if it had VGG-19."""
        notes = []
        if not self.config.perceptual_weights:
            notes.append("CSR-GAN without its two perceptual terms: no VGG-19 weights were given")
        notes.append(
            "CSR-GAN shrinks HR images to an eighth in training: r = 8 is no unseen rate to it"
        )
        height, half = self.chain.sizes[-1][0], self.chain.sizes[-2][0]
        if min(self.height_reference, self.input_spec.height) > height + height / 8:
            notes.append(
                f"CSR-GAN's chain ends at {height} pixels, below the HR images' "
                f"{self.height_reference:g}: LR images above {half} pass no generator"
            )
        return tuple(notes)

    def parameter_groups(self, phase: Phase) -> list[ParameterGroup]:
        """List what a phase moves.

        Args:
            phase: ``warmup`` and ``generator`` move the chain, ``discriminator`` what judges it,
                ``identity`` backbone and classifier.
        """
        parts = {
            WARMUP: ("chain.",),
            GENERATOR: ("chain.",),
            DISCRIMINATOR: ("discriminators.",),
            IDENTITY: ("backbone.", "classifier."),
        }[phase.name]
        named = [(n, p) for n, p in self.named_parameters() if n.startswith(parts)]
        pretrained = filled_names(self) if phase.name == IDENTITY else frozenset()
        return grouped(named, phase.optimiser, pretrained=pretrained)

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Compute the weighted terms of a phase.

        Args:
            batch: P HR images and P LR images; the chain makes its own small images of the former.
            phase: one of the four.

        Returns:
            ``warmup``: ``pixel``. ``discriminator``: ``real_or_fake``. ``generator``: ``pixel``,
            ``adversarial`` and, with VGG-19, ``perceptual`` and ``logits``. ``identity``:
            ``identity`` of HR images, ``identity_restored`` of what the chain made.

        Raises:
            ConfigError: if the method was loaded to embed and has lost what judges images.
            CheckpointError: if the file of VGG-19 is damaged or none.
        """
        if self.discriminators is None:
            raise ConfigError("csr-gan: loaded to embed, without discriminators; it cannot train")
        if self.config.perceptual_weights and self.perceptual is None:
            self.perceptual = load_perceptual(self.config.perceptual_weights).to(
                batch.images_hr.device
            )
        if phase.name == IDENTITY:
            return self._identity_losses(batch)
        if phase.name == DISCRIMINATOR:
            with torch.no_grad(), keeping_statistics(self.chain):
                made = self._made(batch.images_hr)
            return {"real_or_fake": _total(map(_judged, self.discriminators, made))}
        made = self._made(batch.images_hr)
        pixel = _total(functional.mse_loss(m.fake, m.real) for m in made)
        terms = {"pixel": self.config.weight_pixel * pixel}
        if phase.name == GENERATOR:
            terms["adversarial"] = self.config.weight_adversarial * self._deceived(made)
            terms |= self._perceptual_losses(made)
        return terms

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Show LR images before and after the chain, where their height sends them through it.

        Args:
            batch: P HR images and their twins.

        Returns:
            ``HR``, ``LR`` and ``restored``: normalised, shape (P, 3, H, W).
        """
        twins, heights = batch.images_lr_syn, batch.heights_lr_syn
        restored = self.restored_inputs(twins, heights)
        return {"HR": batch.images_hr, "LR": twins, "restored": restored}

    def _identity_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the cross entropy of HR images, and of images that the chain restored."""
        with torch.no_grad(), evaluating(self.chain):
            rows = self._entering_rows(len(batch.labels), batch.labels.device)
            restored = [self.to_network(self._made(batch.images_hr)[-1].fake)]
            labels = [batch.labels, batch.labels[torch.cat(rows)]]
            if self.config.native_lr:
                restored.append(self.restored_inputs(batch.images_lr, batch.heights_lr))
                labels.append(batch.labels)
        embeddings = self.backbone(torch.cat([batch.images_hr, *restored])).float()
        terms = identity_terms(
            self.classifier(self.dropout(embeddings)),
            torch.cat(labels),
            smoothing=self.config.label_smoothing,
        )
        num_hr = len(batch.labels)
        return {"identity": terms[:num_hr].mean(), "identity_restored": terms[num_hr:].mean()}

    def _made(self, images_hr: Tensor) -> list[Made]:
        """Shrink HR images, send them through the chain, and lay beside it what was meant."""
        unit = self.unit(images_hr)
        rows = self._entering_rows(len(unit), unit.device)
        entering = [resized(unit[r], size) for r, size in zip(rows, self.chain.sizes, strict=False)]
        fakes = self.chain(entering)
        reals = [
            resized(unit[torch.cat(rows[: stage + 1])], size)
            for stage, size in enumerate(self.chain.sizes[1:])
        ]
        return [Made(fake.float(), real) for fake, real in zip(fakes, reals, strict=True)]

    def _entering_rows(self, count: int, device: torch.device) -> list[Tensor]:
        """Say which training images enter at which generator."""
        rows = torch.arange(count, device=device)
        if self.config.entries == "smallest":
            return [rows, *(rows[:0] for _ in range(NUM_STAGES - 1))]
        return [rows[stage::NUM_STAGES] for stage in range(NUM_STAGES)]

    def _deceived(self, made: Sequence[Made]) -> Tensor:
        judges = list(self.discriminators or [])
        with keeping_statistics(*judges):
            scores = [judge(m.fake).float() for judge, m in zip(judges, made, strict=True)]
        return _total(map(generator_loss, scores))

    def _perceptual_losses(self, made: Sequence[Made]) -> dict[str, Tensor]:
        if self.perceptual is None:
            return {}
        errors = []
        for m in made:
            seen = self.perceptual(self.normalised(m.fake))
            with torch.no_grad():
                wanted = self.perceptual(self.normalised(m.real))
            pairs = zip(seen, wanted, strict=True)
            errors.append([functional.mse_loss(a.float(), b.float()) for a, b in pairs])
        return {
            "perceptual": self.config.weight_perceptual * _total(pooled for pooled, _ in errors),
            "logits": self.config.weight_logits * errors[-1][1],
        }


def build_csr_gan(blueprint: Blueprint, *, streams: Streams) -> tuple[CSRGAN, str]:
    """Build CSR-GAN.

    Args:
        blueprint: what to build.
        streams: gives the initial weights.

    Returns:
        The method, and one line on which start weights matched and where VGG-19 comes from.
    """
    model, config = blueprint.model, blueprint.settings(CSRGANConfig)
    with streams.torch_default(Stream.INITIALISATION):
        backbone, report = start_backbone(model)
        generators = [
            Generator(
                width=config.generator_width,
                num_blocks=config.generator_blocks,
                residual=config.generator_residual,
            )
            for _ in range(NUM_STAGES)
        ]
        method = CSRGAN(
            Chain(
                generators,
                size=chain_size(config, blueprint.input_spec, blueprint.height_reference),
            ),
            backbone,
            config,
            input_spec=blueprint.input_spec,
            phases=_phases(blueprint, config),
            num_identities=blueprint.num_identities,
            height_reference=blueprint.height_reference,
        )
    start = report.summary() if report else "random weights"
    if config.perceptual_weights:
        start += f"; perceptual terms: VGG-19 from {Path(config.perceptual_weights).name}"
    return method, start


def _phases(blueprint: Blueprint, config: CSRGANConfig) -> tuple[Phase, ...]:
    share, schedule = config.warmup_share, config.gan_schedule
    generator, discriminator = config.generator, config.discriminator
    return (
        Phase(name=WARMUP, optimiser=generator, schedule=_CONSTANT, last=share),
        Phase(name=DISCRIMINATOR, optimiser=discriminator, schedule=schedule, first=share),
        Phase(name=GENERATOR, optimiser=generator, schedule=schedule, first=share),
        Phase(
            name=IDENTITY, optimiser=blueprint.optimiser, schedule=blueprint.schedule, first=share
        ),
    )


def _judged(discriminator: nn.Module, made: Made) -> Tensor:
    real, fake = discriminator(made.real), discriminator(made.fake)
    return discriminator_loss(real.float(), fake.float())


def _total(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()
