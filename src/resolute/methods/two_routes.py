"""What methods share that describe a LR image in another way than a HR image.

Letters: N images, S streams, D embedding, H, W network input.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from resolute.core.images import Images
from resolute.core.types import Embedding, InputSpec
from resolute.data.degrade import to_input
from resolute.methods.config import MethodConfig
from resolute.methods.ftwa_matching import BORDER_RATIO, LR_HEIGHT_RATIO
from resolute.methods.graph import Description, Routing
from resolute.methods.maps import maps_by_role
from resolute.methods.modes import evaluating


class TwoRoutes(nn.Module):
    """Base of such methods: they add phases, losses, and ``describe`` and ``maps`` of both roles.

    An image of unknown resolution is told by its native height, and takes both routes near the
    border [ours].

    Attributes:
        input_spec: how pixels become input, in training and for HR images.
        config: how vectors are matched.
        height_reference: h_ref, median native height of HR training images, in pixels.
        is_normalised: whether matching takes vectors of length 1.
        enlargement: Pillow's name of the kernel that brings LR images to the input size.
    """

    is_normalised: bool
    enlargement: str

    def __init__(
        self, config: MethodConfig, *, input_spec: InputSpec, height_reference: float
    ) -> None:
        super().__init__()
        self.input_spec = input_spec
        self.config = config
        self.height_reference = height_reference
        self.is_normalised = True
        self.enlargement = input_spec.interpolation

    @property
    def routing(self) -> Routing:
        """Which route images of unknown resolution take, as in FTWA."""
        border = self.height_reference / LR_HEIGHT_RATIO
        return Routing(hr_above=border / BORDER_RATIO, lr_below=border * BORDER_RATIO)

    def describe_hr(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Describe HR images (N, 3, H, W) by vectors (N, S, D) of any length and quality (N, S)."""
        raise NotImplementedError

    def describe_lr(self, inputs: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Describe LR images of native sizes (N, 2) in the same way."""
        raise NotImplementedError

    def maps_hr(self, inputs: Tensor) -> dict[str, Tensor]:
        """Give the maps (N, C, h, w), by name, that vectors of HR images are pooled from."""
        raise NotImplementedError

    def maps_lr(self, inputs: Tensor) -> dict[str, Tensor]:
        """Give those of LR images, by the same names."""
        raise NotImplementedError

    def feature_maps(self, images: Images) -> dict[str, Tensor]:
        """Show what vectors are pooled from, see :mod:`resolute.methods.maps`.

        Args:
            images: N images on the device of the weights.

        Returns:
            Maps (N, C, h, w) by name.
        """
        with torch.no_grad(), evaluating(self):
            return maps_by_role(
                images,
                border=self.height_reference / LR_HEIGHT_RATIO,
                of_hr=lambda part: self.maps_hr(to_input(part, self._spec("hr"))),
                of_lr=lambda part: self.maps_lr(to_input(part, self._spec("lr"))),
            )

    def embed(self, images: Images) -> Embedding:
        """Describe images by one vector and one quality per stream.

        Args:
            images: N >= 1 images on the device of the weights.

        Returns:
            Vectors (N, S, D), of length 1 if ``is_normalised``, and qualities (N, S).
        """
        with torch.no_grad(), evaluating(self):
            vectors, quality, norms = self._describe(images)
        return Embedding(
            vectors=vectors.float().cpu().numpy(),
            quality=quality.float().cpu().numpy(),
            metric=self.config.metric,
            fusion=self.config.fusion,
            constant=self.config.constant,
            norms=norms.float().cpu().numpy(),
            native_sizes=images.native_sizes.cpu().numpy(),
        )

    def described(self, vectors: Tensor, quality: Tensor) -> Description:
        """Measure the lengths of vectors, and take them away if matching does.

        Args:
            vectors: shape (N, S, D).
            quality: shape (N, S).

        Returns:
            Vectors, qualities, lengths.
        """
        vectors = vectors.float()
        norms = vectors.norm(dim=2)
        return self._scaled(vectors), quality, norms

    def _describe(self, images: Images) -> Description:
        """Sum what the routes say of each image, then average."""
        routes = self.routing.of(images)
        parts = [
            (index, self._route(role, images.take(index)))
            for role, index in routes.items()
            if len(index)
        ]
        sums = [part.new_zeros(len(images), *part.shape[1:]) for part in parts[0][1]]
        for index, route in parts:
            for total, part in zip(sums, route, strict=True):
                total.index_add_(0, index, part)
        num_routes = torch.bincount(torch.cat(list(routes.values())), minlength=len(images))
        vectors, quality, norms = sums
        shares = 1 / num_routes[:, None].to(quality)
        return self._scaled(vectors * shares[:, :, None]), quality * shares, norms * shares

    def _route(self, role: str, images: Images) -> Description:
        sizes, inputs = images.native_sizes, to_input(images, self._spec(role))
        vectors, quality, norms = self._described(role, inputs, sizes)
        if self.config.flip:
            mirrored, _, others = self._described(role, inputs.flip(-1), sizes)
            vectors, norms = self._scaled((vectors + mirrored) / 2), (norms + others) / 2
        return vectors, quality, norms

    def _spec(self, role: str) -> InputSpec:
        """Say how pixels of one role become input."""
        spec = self.input_spec
        return spec if role == "hr" else replace(spec, interpolation=self.enlargement)

    def _described(self, role: str, inputs: Tensor, sizes: Tensor) -> Description:
        is_hr = role == "hr"
        return self.described(
            *(self.describe_hr(inputs) if is_hr else self.describe_lr(inputs, sizes))
        )

    def _scaled(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=2) if self.is_normalised else vectors
