"""A teacher: a copy of the way of a HR image through the network, which no gradient moves.

Letters: N images, H, W input size, D embedding.
"""

import copy
from typing import Self

import torch
from torch import Tensor, nn

from resolute.models.two_stream import TwoStream


class Teacher(nn.Module):
    """Copy of E_H, E_ID and pooling, always in evaluation mode [ours].

    Its weights are buffers: they go where the module goes and into its checkpoints, and are no
    parameters to train, count or average gradients of.

    Attributes:
        path: the copy, from images to embeddings v_HR.
    """

    def __init__(self, network: TwoStream) -> None:
        """Copy a network as it is now.

        Args:
            network: is left as it is.
        """
        super().__init__()
        self.path = copy.deepcopy(_path(network))
        for module in self.path.modules():
            _freeze(module)
        self.eval()

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002, FBT001, FBT002 (torch's signature)
        """Stay in evaluation mode, whatever is asked for.

        Args:
            mode: not looked at.

        Returns:
            The teacher.
        """
        return super().train(mode=False)

    @torch.no_grad()
    def forward(self, images_hr: Tensor) -> Tensor:
        """Embed HR images.

        Args:
            images_hr: normalised RGB, shape (N, 3, H, W).

        Returns:
            Embeddings v_HR without graph, shape (N, D).
        """
        embeddings: Tensor = self.path(images_hr)
        return embeddings

    @torch.no_grad()
    def follow(self, network: TwoStream, *, momentum: float) -> None:
        """Move towards a network: ``own = momentum own + (1 - momentum) network``.

        Running statistics are averaged like weights; counters are copied.

        Args:
            network: of the same parts.
            momentum: 0 copies the network, 1 stays.
        """
        own, other = self.path.state_dict(), _path(network).state_dict()
        names = [name for name, tensor in own.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([own[n] for n in names], [other[n] for n in names], 1 - momentum)
        for name in own.keys() - set(names):
            own[name].copy_(other[name])


def _path(network: TwoStream) -> nn.Sequential:
    return nn.Sequential(network.encoder_hr, network.encoder_id, network.pool)


def _freeze(module: nn.Module) -> None:
    """Turn a module's own parameters into buffers of the same names."""
    named = [(name, p) for name, p in module.named_parameters(recurse=False)]
    for name, parameter in named:
        delattr(module, name)
        module.register_buffer(name, parameter.detach())
