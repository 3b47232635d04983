"""How CSR-GAN describes an image: through as many generators as its height asks for.

Letters: N images, D embedding, H, W network input, h, w what a generator takes, in pixels.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn, no_grad
from torch.nn import functional

from resolute.core.errors import ConfigError
from resolute.core.images import Images
from resolute.core.types import InputSpec
from resolute.data.degrade import resize, to_input
from resolute.methods.graph import Graphs
from resolute.methods.modes import evaluating
from resolute.methods.one_vector import OneVector
from resolute.methods.settings.csr_gan import NUM_STAGES, CSRGANConfig
from resolute.models.backbone import Backbone
from resolute.models.srgan import Chain

Enter = Callable[[Tensor, int], Tensor]  # (rows, stage) -> their images at the stage's size


class CSRGANMatcher(OneVector):
    """The chain and the backbone; what only trains is in :mod:`resolute.methods.csr_gan`.

    Attributes:
        config: loss weights, entries and so on.
        chain: three generators.
        backbone: from images to embeddings.
    """

    config: CSRGANConfig

    def __init__(
        self,
        chain: Chain,
        backbone: nn.Module,
        config: CSRGANConfig,
        *,
        input_spec: InputSpec,
        height_reference: float,
    ) -> None:
        super().__init__(config, input_spec=input_spec, height_reference=height_reference)
        self.chain = chain
        self.backbone = backbone

    def vectors(self, inputs: Tensor) -> Tensor:
        """Describe restored network inputs.

        Args:
            inputs: normalised RGB, shape (N, 3, H, W).

        Returns:
            Embeddings, shape (N, D).
        """
        vectors: Tensor = self.backbone(inputs)
        return vectors.float()

    def inputs(self, images: Images) -> Tensor:
        """Turn native pixels into network input, through the chain where they are few.

        Args:
            images: N native-size images.

        Returns:
            Normalised RGB, shape (N, 3, H, W).
        """

        def enter(rows: Tensor, stage: int) -> Tensor:
            height, width = self.chain.sizes[stage]
            levels = resize(images.take(rows), height, width, interpolation="bicubic")
            return levels / 127.5 - 1

        inputs = to_input(images, self.input_spec)
        return self._restored(inputs, images.native_sizes[:, 0], enter)

    def entries_of(self, heights: Tensor) -> Tensor:
        """Say at which generator images enter [Wang 2018].

        Args:
            heights: native heights in pixels, shape (N,).

        Returns:
            0 for all three generators, up to an eighth of the chain's height; 1 up to a quarter; 2
            up to a half; 3 for none; shape (N,), int64.
        """
        taken = torch.tensor([height for height, _ in self.chain.sizes[:-1]], device=heights.device)
        return (heights[:, None] > taken).sum(dim=1)

    def graphs(self) -> Graphs:
        """Refuse: the way through the chain depends on the native size.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "csr-gan: cannot be exported: how many generators an image passes depends on its "
            "native height, which a graph of network inputs does not see"
        )

    def feature_maps(self, images: Images) -> dict[str, Tensor]:
        """Show the map that embeddings are pooled from, see :mod:`resolute.methods.maps`.

        Args:
            images: N images on the device of the weights.
        """
        backbone: Backbone = self.backbone  # type: ignore[assignment]
        with no_grad(), evaluating(self):
            features: Tensor = backbone.deep()(backbone.shallow()(self.inputs(images)))
        return {"features": features}

    def restored_inputs(self, inputs: Tensor, heights: Tensor) -> Tensor:
        """Restore network inputs as :meth:`inputs` restores native pixels.

        Where an image enters, it is not smaller than its native pixels: nothing is lost but what
        enlarging blurred.

        Args:
            inputs: normalised RGB, shape (N, 3, H, W).
            heights: native heights in pixels, shape (N,).

        Returns:
            Those that pass the chain restored, the others as they are, shape (N, 3, H, W).
        """
        unit = self.unit(inputs)

        def enter(rows: Tensor, stage: int) -> Tensor:
            return resized(unit[rows], self.chain.sizes[stage])

        return self._restored(inputs, heights, enter)

    def _restored(self, inputs: Tensor, heights: Tensor, enter: Enter) -> Tensor:
        entries = self.entries_of(heights)
        rows = [(entries == stage).nonzero().flatten() for stage in range(NUM_STAGES)]
        passing = torch.cat(rows)
        if len(passing) == 0:
            return inputs
        entering = [
            enter(r, stage) if len(r) else inputs.new_empty(0, 3, *self.chain.sizes[stage])
            for stage, r in enumerate(rows)
        ]
        restored = inputs.clone()
        restored[passing] = self.to_network(self.chain(entering)[-1].float())
        return restored

    def to_network(self, images: Tensor) -> Tensor:
        """Bring images from the chain's size to normalised network input.

        Args:
            images: in -1..1, shape (N, 3, h, w).

        Returns:
            Shape (N, 3, H, W).
        """
        spec = self.input_spec
        return self.normalised(resized(images, (spec.height, spec.width)))

    def unit(self, images: Tensor) -> Tensor:
        """Bring normalised images into -1..1, as the chain takes them.

        Args:
            images: normalised RGB, shape (N, 3, h, w).

        Returns:
            The same shape.
        """
        return (2 * (images * self._std(images) + self._mean(images)) - 1).clamp(-1, 1)

    def normalised(self, images: Tensor) -> Tensor:
        """Bring images from -1..1 to the mean and deviation that networks take.

        Args:
            images: shape (N, 3, h, w).

        Returns:
            The same shape.
        """
        return ((images + 1) / 2 - self._mean(images)) / self._std(images)

    def _mean(self, images: Tensor) -> Tensor:
        return images.new_tensor(self.input_spec.mean).view(3, 1, 1)

    def _std(self, images: Tensor) -> Tensor:
        return images.new_tensor(self.input_spec.std).view(3, 1, 1)


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample images in -1..1, bicubic, antialiased where they shrink.

    Args:
        images: shape (N, 3, h, w); N may be 0.
        size: wanted (height, width) in pixels.

    Returns:
        Images in -1..1 of that size.
    """
    if len(images) == 0:
        return images.new_empty(0, 3, *size)
    sampled = functional.interpolate(
        images, size=size, mode="bicubic", antialias=True, align_corners=False
    )
    return sampled.clamp(-1, 1)


def chain_size(config: CSRGANConfig, spec: InputSpec, height_reference: float) -> tuple[int, int]:
    """Say how large the images are that the chain makes.

    Args:
        config: may give height and width.
        spec: input size of the backbone.
        height_reference: median native height of HR training images, in pixels.

    Returns:
        (height, width) in pixels, multiples of 8.
    """
    step = 2**NUM_STAGES
    height = config.chain_height or step * math.ceil(min(height_reference, spec.height) / step)
    width = config.chain_width or step * math.ceil(height * spec.width / spec.height / step)
    return height, width
