"""What methods share that describe every image by one vector, whatever its resolution.

Letters: N images, D embedding, H, W network input.
"""

from torch import Tensor, nn, no_grad
from torch.nn import functional

from resolute.core.images import Images
from resolute.core.types import Embedding, InputSpec
from resolute.data.degrade import to_input
from resolute.methods.config import MethodConfig
from resolute.methods.graph import ONE_WAY, Description, Graphs, Role, Traced
from resolute.methods.modes import evaluating


class OneVector(nn.Module):
    """Base of such methods: they add phases, losses and :meth:`vectors`.

    Attributes:
        input_spec: how pixels become input.
        config: how vectors are matched.
        height_reference: h_ref, median native height of HR training images, in pixels.
    """

    def __init__(
        self, config: MethodConfig, *, input_spec: InputSpec, height_reference: float
    ) -> None:
        super().__init__()
        self.input_spec = input_spec
        self.config = config
        self.height_reference = height_reference

    def vectors(self, inputs: Tensor) -> Tensor:
        """Describe network inputs (N, 3, H, W) by vectors (N, D) of any length, to be traced."""
        raise NotImplementedError

    def inputs(self, images: Images) -> Tensor:
        """Turn native pixels into network input (N, 3, H, W); a method may do more on the way."""
        return to_input(images, self.input_spec)

    def embed(self, images: Images) -> Embedding:
        """Describe images by one vector each.

        Args:
            images: N images on the device of the weights.

        Returns:
            L2-normalised vectors (N, 1, D), quality 1.
        """
        with no_grad(), evaluating(self):
            inputs = self.inputs(images)
            vectors, quality, norms = self._describe(inputs)
            if self.config.flip:
                mirrored, _, others = self._describe(inputs.flip(-1))
                vectors = functional.normalize(vectors + mirrored, dim=2)
                norms = (norms + others) / 2
        return Embedding(
            vectors=vectors.float().cpu().numpy(),
            quality=quality.float().cpu().numpy(),
            metric=self.config.metric,
            fusion=self.config.fusion,
            constant=self.config.constant,
            norms=norms.float().cpu().numpy(),
            native_sizes=images.native_sizes.cpu().numpy(),
        )

    def graphs(self) -> Graphs:
        """Give the one role of all images, see :mod:`resolute.methods.graph`."""
        role = Role(rates=(1.0,), network=Traced(self, self._describe))
        return Graphs(
            hr=role,
            lr=role,
            routing=ONE_WAY,
            metric=self.config.metric,
            fusion=self.config.fusion,
            constant=self.config.constant,
            is_mirrored=self.config.flip,
            height_reference=self.height_reference,
        )

    def _describe(self, inputs: Tensor) -> Description:
        vectors = self.vectors(inputs)[:, None]  # (N, 1, D)
        norms = vectors.norm(dim=2)
        return functional.normalize(vectors, dim=2), norms.new_ones(norms.shape), norms
