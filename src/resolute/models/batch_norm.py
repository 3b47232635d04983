"""Give batch norms statistics of real images without changing what the network computes.

Letters: N images, C channels, H, W input size.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from resolute.core.errors import ShapeError


def measure_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set the running statistics of every batch norm to those of some images.

    Weights and biases change with them, so that in evaluation every layer gives what it gave
    before, to rounding. A batch norm that was folded into its convolution knows only its shift:
    normalised by a batch it would lose the scale of its channels, and training would begin from
    another network. With statistics like those of the batches it gives about the same in both
    modes [ours].

    Args:
        network: in any mode, which it keeps; its batch norms are changed in place.
        batches: normalised images, each of shape (N, 3, H, W), on the network's device.

    Returns:
        Number of images measured.

    Raises:
        ShapeError: if there are no images.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    sums: dict[nn.Module, Tensor] = {}
    counts: dict[nn.Module, int] = dict.fromkeys(layers, 0)

    def add(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        values = inputs[0].detach().transpose(0, 1).flatten(1).double()  # (C, N h w)
        found = torch.stack([values.sum(dim=1), values.square().sum(dim=1)])  # (2, C)
        sums[layer] = sums[layer] + found if layer in sums else found
        counts[layer] += values.shape[1]

    hooks = [layer.register_forward_pre_hook(add) for layer in layers]
    was_training = network.training
    network.eval()
    num_images = 0
    try:
        with torch.no_grad():
            for images in batches:
                network(images)
                num_images += len(images)
    finally:
        for hook in hooks:
            hook.remove()
        network.train(was_training)
    if not num_images:
        raise ShapeError("measure_batch_norm: expected at least one image, got none")
    for layer in layers:
        mean, square = sums[layer] / counts[layer]
        _restate(layer, mean, (square - mean.square()).clamp_min(0))
    return num_images


def _restate(layer: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    if layer.running_mean is None or layer.running_var is None:
        return  # normalises by its batch in both modes
    with torch.no_grad():
        scale = layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()  # (C,)
        shift = layer.bias.double() - scale * layer.running_mean.double()
        layer.weight.copy_(scale * (variance + layer.eps).sqrt())
        layer.bias.copy_(shift + scale * mean)
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
