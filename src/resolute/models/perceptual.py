"""What a network trained on ImageNet sees in images: torchvision's VGG-19 [Simonyan 2015].

Letters: N images, H, W size.
"""

from pathlib import Path
from typing import Self

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from resolute.models.weights import load_weights

SIDE = 224  # pixels, height and width of what it looks at [Wang 2018]
LAYERS_TO_POOL4 = 28


class Perceptual(nn.Module):
    """VGG-19, always in evaluation mode, its weights fixed.

    Its tensors are buffers that stay out of every file: they are read from the weight file again.

    Attributes:
        network: VGG-19 with ``features``, ``avgpool`` and ``classifier``.
    """

    def __init__(self, network: nn.Module) -> None:
        """Take over a network.

        Args:
            network: torchvision's VGG-19; its parameters become buffers.
        """
        super().__init__()
        self.network = network
        for module in network.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach(), persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002, FBT001, FBT002 (torch's signature)
        """Stay in evaluation mode, whatever is asked for.

        Args:
            mode: not looked at.

        Returns:
            The network.
        """
        return super().train(mode=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Look at images.

        Args:
            images: normalised as ImageNet's, shape (N, 3, H, W).

        Returns:
            What pool4 gives, shape (N, 512, 14, 14), and the outputs of all layers, shape
            (N, 1000).
        """
        images = functional.interpolate(
            images, size=(SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False
        )
        pooled = self.network.features[:LAYERS_TO_POOL4](images)  # type: ignore[index, operator]
        found = self.network.features[LAYERS_TO_POOL4:](pooled)  # type: ignore[index, operator]
        found = self.network.avgpool(found).flatten(start_dim=1)  # type: ignore[operator]
        return pooled, self.network.classifier(found)  # type: ignore[operator]


def load_perceptual(path: str | Path) -> Perceptual:
    """Read VGG-19 from a weight file, as torchvision names its tensors.

    Args:
        path: weight file, see :func:`resolute.models.weights.read_state`.

    Raises:
        CheckpointError: if the file cannot be read or does not fill VGG-19.
    """
    with torch.device("meta"):  # nothing is drawn
        network = torchvision.models.vgg19(weights=None, init_weights=False)
    network.to_empty(device="cpu")
    load_weights(network, path)
    return Perceptual(network)
