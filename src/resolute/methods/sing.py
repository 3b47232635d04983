"""SING: super-resolution and identity learnt jointly, one super-resolution network per factor.

==========================  ======================================================
paper                       here
==========================  ======================================================
HR image                    ``images_hr`` (`Batch`), cut to the size that is left
synthetic LR image          ``images_lr_syn``, the twin of a HR image
native LR image             ``images_lr``
SR network of factor m      ``restoration.networks[i]``, m = ``config.factors[i]``
identity network, fc7       ``network``, then ``neck``; gives ``vectors``
fc8                         ``classifier``
rho                         ``_ratios``: how much smaller an image is than h_ref
alpha_m                     ``rate_weights``; the quality of stream i at matching
theta                       ``config.theta``
D = sum of alpha_m D_m      the fusion ``weighted`` of S = M streams
==========================  ======================================================

Letters: P pairs of a HR and a LR image, N images, M factors, D embedding, h, w what is left of
the input H, W.
"""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from resolute.core.errors import ConfigError
from resolute.core.images import Batch
from resolute.core.rng import Stream, Streams
from resolute.core.types import InputSpec
from resolute.losses.identity import identity_terms
from resolute.losses.super_resolution import image_euclidean
from resolute.methods.blueprint import Blueprint
from resolute.methods.contract import ParameterGroup, Phase, grouped
from resolute.methods.settings.sing import RESTORATION_SCHEDULE, SINGConfig
from resolute.methods.two_routes import TwoRoutes
from resolute.models.backbone import Backbone
from resolute.models.config import ModelConfig
from resolute.models.dgd import DGD, DGDHead
from resolute.models.pretrained import start_backbone
from resolute.models.super_resolution import BORDER, LumaSuperResolution
from resolute.models.swa import BNNeck, Classifier
from resolute.models.weights import filled_names

RESTORATION = "restoration"  # name of the phase before ``main``
ASPECT = 128 / 48  # height / width of the HR images that the area is compared with [SING]


class SING(TwoRoutes):
    """Super-resolution and identity joint learning [SING].

    Attributes:
        config: the method's settings.
        phases: ``main``, and before it ``restoration`` where it has a share of the run.
        restoration: the super-resolution networks; moves in both phases.
        network: identity network up to the embedding.
        neck: batch norm after it where the backbone wants one.
        classifier: logits per identity, in training alone.
    """

    config: SINGConfig
    phases: tuple[Phase, ...]

    def __init__(
        self,
        network: nn.Module,
        neck: nn.Module,
        classifier: nn.Module,
        config: SINGConfig,
        *,
        input_spec: InputSpec,
        phases: tuple[Phase, ...],
        height_reference: float,
    ) -> None:
        super().__init__(config, input_spec=input_spec, height_reference=height_reference)
        self.is_normalised = config.normalise
        self.phases = phases
        self.restoration = LumaSuperResolution(
            len(config.factors), input_spec, widths=config.widths, padding=config.padding
        )
        self.network = network
        self.neck = neck
        self.classifier = classifier
        self.register_buffer("factors", torch.tensor(config.factors), persistent=False)

    factors: Tensor

    def parameter_groups(self, phase: Phase) -> list[ParameterGroup]:
        """List what a phase moves.

        Args:
            phase: ``restoration`` moves the super-resolution networks; ``main`` everything, these
                with factors of their own.
        """
        prefix = "restoration."
        named = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        restoring = [(n, p) for n, p in named if n.startswith(prefix)]
        if phase.name == RESTORATION:
            return grouped(restoring, phase.optimiser, pretrained=frozenset())
        identifying = [(n, p) for n, p in named if not n.startswith(prefix)]
        return [
            *grouped(identifying, phase.optimiser, pretrained=filled_names(self)),
            *self._restoring_groups(restoring, phase),
        ]

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Compute the joint loss: how sharp twins become, and who is who three times.

        All images go through the identity network in one call, so that batch statistics are those
        of the mixture that is met at test time [assumed].

        Args:
            batch: P HR images, their twins and P LR images.
            phase: ``main``, or ``restoration``, which reads no label.

        Returns:
            ``restoration``, ``identity_syn`` (sharpened twins), ``identity_hr``, ``identity_lr``
            (sharpened native LR images); ``restoration`` alone in the phase of that name.
        """
        config = self.config
        images_hr = self.restoration.crop(batch.images_hr)  # (P, 3, h, w)
        restored, order = self._restored(batch.images_lr_syn, self._nearest(batch.rates_syn))
        if phase.name == RESTORATION:
            return {"restoration": self._restoration_loss(restored, images_hr[order], "mean")}
        restored_lr, order_lr = self._restored_lr(batch)
        vectors = self.vectors(torch.cat([restored, images_hr.float(), restored_lr]))
        labels = torch.cat([batch.labels[order], batch.labels, batch.labels[order_lr]])
        terms = identity_terms(self.classifier(vectors), labels, smoothing=config.label_smoothing)
        syn, hr, lr = torch.split(terms, [len(restored), len(images_hr), len(restored_lr)])
        loss = self._restoration_loss(restored, images_hr[order], config.restoration_reduction)
        return {
            "restoration": config.weight_restoration * loss,
            "identity_syn": config.weight_identity * syn.mean(),
            "identity_hr": config.weight_identity * hr.mean(),
            "identity_lr": config.weight_identity * lr.mean(),
        }

    def vectors(self, images: Tensor) -> Tensor:
        """Describe images as the identity network takes them.

        Args:
            images: normalised RGB, shape (N, 3, h, w).

        Returns:
            Vectors of any length, after the neck, shape (N, D), float32.
        """
        vectors: Tensor = self.neck(self.network(images).float())
        return vectors

    def describe_hr(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Describe HR images: all factors have the same vector, and equal trust.

        Args:
            inputs: shape (N, 3, H, W).

        Returns:
            Vectors (N, M, D) and qualities (N, M); one of each with the matching `vectors`.
        """
        vectors = self.vectors(self.restoration.crop(inputs))[:, None]  # (N, 1, D)
        num_streams = 1 if self.config.matching == "vectors" else len(self.config.factors)
        vectors = vectors.expand(-1, num_streams, -1)
        return vectors, vectors.new_ones(vectors.shape[:2])

    def describe_lr(self, inputs: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Describe LR images: every network sharpens them, their size says which to trust.

        Args:
            inputs: shape (N, 3, H, W).
            sizes: native (height, width) in pixels, shape (N, 2).

        Returns:
            As of HR images.
        """
        restored = [self.restoration(inputs, i) for i in range(len(self.config.factors))]
        vectors = self.vectors(torch.cat(restored)).view(len(restored), len(inputs), -1)
        vectors = vectors.transpose(0, 1)  # (M, N, D) to (N, M, D)
        heights, widths = sizes.unbind(dim=1)
        quality = rate_weights(self._ratios(heights, widths), self.factors, theta=self.config.theta)
        if self.config.matching == "distances":
            return vectors, quality
        if self.config.normalise:
            vectors = nn.functional.normalize(vectors, dim=2)
        shares = quality / quality.sum(dim=1, keepdim=True)
        joined = (vectors * shares[:, :, None]).sum(dim=1, keepdim=True)  # (N, 1, D)
        return joined, joined.new_ones(joined.shape[:2])

    def maps_hr(self, inputs: Tensor) -> dict[str, Tensor]:
        """Give the deep map of HR images, the same for every factor.

        Args:
            inputs: shape (N, 3, H, W).

        Returns:
            Maps (N, C, h, w), named ``x2`` for the factor 2.
        """
        features = self._maps(self.restoration.crop(inputs))
        return dict.fromkeys(self._factor_names(), features)

    def maps_lr(self, inputs: Tensor) -> dict[str, Tensor]:
        """Give the deep maps of LR images, sharpened by each network.

        Args:
            inputs: shape (N, 3, H, W).

        Returns:
            As of HR images.
        """
        return {
            name: self._maps(self.restoration(inputs, i))
            for i, name in enumerate(self._factor_names())
        }

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Show what the super-resolution networks make of twins.

        Args:
            batch: P HR images and their twins.

        Returns:
            Rows of P normalised images (3, h, w).
        """
        restored, order = self._restored(batch.images_lr_syn, self._nearest(batch.rates_syn))
        crop = self.restoration.crop
        return {
            "HR": crop(batch.images_hr),
            "LR": crop(batch.images_lr_syn),
            "restored": restored[order.argsort()],
        }

    def _maps(self, images: Tensor) -> Tensor:
        network = cast("Backbone | DGD", self.network)
        maps: Tensor = network.deep()(network.shallow()(images))
        return maps

    def _factor_names(self) -> list[str]:
        return [f"x{factor:g}" for factor in self.config.factors]

    def _restored(self, images: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
        """Sharpen each image by one network.

        A network without images is called all the same: it has a gradient in every step, of zero.

        Args:
            images: shape (N, 3, H, W).
            nearest: position of its factor, shape (N,).

        Returns:
            Sharpened images (N, 3, h, w), sorted by factor, and their former positions (N,).
        """
        places = [(nearest == i).nonzero().flatten() for i in range(len(self.config.factors))]
        parts = [self.restoration(images[place], i) for i, place in enumerate(places)]
        return torch.cat(parts), torch.cat(places)

    def _restored_lr(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sharpen native LR images: each by every network, or by that of the nearest factor."""
        images, heights = batch.images_lr, batch.heights_lr.float()
        if self.config.lr_route == "nearest":
            return self._restored(images, self._nearest(self._ratios(heights, heights / ASPECT)))
        num_factors = len(self.config.factors)
        order = torch.arange(len(images), device=images.device).repeat(num_factors)
        return torch.cat([self.restoration(images, i) for i in range(num_factors)]), order

    def _restoration_loss(self, restored: Tensor, images_hr: Tensor, reduction: str) -> Tensor:
        levels = self.restoration.grey_levels
        return image_euclidean(
            levels(restored),
            levels(images_hr),
            reduction="mean" if reduction == "mean" else "image_sum",
        )

    def _nearest(self, rates: Tensor) -> Tensor:
        return (rates[:, None] - self.factors).abs().argmin(dim=1)  # (N,)

    def _ratios(self, heights: Tensor, widths: Tensor) -> Tensor:
        """Compute rho, how much smaller images are than a HR image, shape (N,)."""
        reference = self.height_reference
        if self.config.ratio == "side":
            return reference / heights
        return reference * (reference / ASPECT) / (heights * widths)

    def _restoring_groups(
        self, named: list[tuple[str, nn.Parameter]], phase: Phase
    ) -> list[ParameterGroup]:
        config, optimiser = self.config, phase.optimiser
        tails = tuple(
            f"restoration.networks.{i}.{len(network) - 1}."  # type: ignore[arg-type]  # a Sequential
            for i, network in enumerate(self.restoration.networks)
        )
        weights = [(n, p) for n, p in named if p.ndim > 1 and not n.startswith(tails)]
        tail = [(n, p) for n, p in named if p.ndim > 1 and n.startswith(tails)]
        biases = [(n, p) for n, p in named if p.ndim <= 1]
        return [
            ParameterGroup(
                name=f"restoration.{name}",
                parameters=tuple(parameters),
                learning_rate_factor=factor,
                weight_decay=decay,
            )
            for name, parameters, factor, decay in (
                ("weight", weights, config.restoration_factor, optimiser.weight_decay),
                ("tail", tail, config.restoration_tail_factor, optimiser.weight_decay),
                ("bias", biases, config.restoration_tail_factor, optimiser.bias_decay),
            )
        ]


def rate_weights(ratios: Tensor, factors: Tensor, *, theta: float) -> Tensor:
    """Weigh factors by how near they are to an image's own rate: exp(-(rho - m)^2 / theta^2).

    Divided by the largest of each image, which no ranking sees, and which keeps an image far from
    every factor from losing all its weights to rounding [ours].

    Args:
        ratios: rho of each image, shape (N,).
        factors: m, shape (M,).
        theta: width, > 0.

    Returns:
        Weights in 0..1, at least one of each image 1, shape (N, M).
    """
    exponents = -((ratios[:, None] - factors) ** 2) / theta**2  # (N, M)
    return (exponents - exponents.amax(dim=1, keepdim=True)).exp()


def build_sing(blueprint: Blueprint, *, streams: Streams) -> tuple[SING, str]:
    """Build SING.

    Args:
        blueprint: what to build.
        streams: gives the initial weights.

    Returns:
        The method, and one line on which start weights matched.

    Raises:
        ConfigError: if the published identity network is asked for with start weights, or the
            backbone is bound to another size than super-resolution leaves.
    """
    model, config = blueprint.model, blueprint.settings(SINGConfig)
    with streams.torch_default(Stream.INITIALISATION):
        network, neck, classifier, start = _identity_parts(
            _after_restoration(model, config), config, blueprint.num_identities
        )
        method = SING(
            network,
            neck,
            classifier,
            config,
            input_spec=blueprint.input_spec,
            phases=_phases(blueprint, config),
            height_reference=blueprint.height_reference,
        )
    return method, start


def _identity_parts(
    model: ModelConfig, config: SINGConfig, num_identities: int
) -> tuple[nn.Module, nn.Module, nn.Module, str]:
    if config.identity_network == "dgd":
        if model.weights:
            raise ConfigError(
                f"model.weights {model.weights}: the identity network 'dgd' has no start weights; "
                "leave model.weights empty, or set method.identity_network backbone"
            )
        return DGD(), nn.Identity(), DGDHead(num_identities), "random weights"
    backbone, report = start_backbone(model)
    neck = BNNeck(backbone.embedding_dim) if backbone.uses_neck else nn.Identity()
    classifier = Classifier(backbone.embedding_dim, num_identities)
    return backbone, neck, classifier, report.summary() if report else "random weights"


def _after_restoration(model: ModelConfig, config: SINGConfig) -> ModelConfig:
    """Return the model section with the size that super-resolution leaves to the identity net."""
    lost = 0 if config.padding else 2 * BORDER
    # A model section wants 32 lines. It is only compared with the size that learned pooling is
    # bound to, which is far larger.
    return replace(model, height=max(32, model.height - lost), width=max(32, model.width - lost))


def _phases(blueprint: Blueprint, config: SINGConfig) -> tuple[Phase, ...]:
    """Return ``main``, after ``restoration`` where the settings give it a share of the run."""
    share = config.restoration_share
    main = Phase(
        name="main", optimiser=blueprint.optimiser, schedule=blueprint.schedule, first=share
    )
    if share == 0:
        return (main,)
    first = Phase(
        name=RESTORATION,
        optimiser=config.restoration_optimiser,
        schedule=RESTORATION_SCHEDULE,
        last=share,
    )
    return (first, main)
