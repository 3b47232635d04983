"""Keep a share of the start: weights between those a run started from and those it ended with.

Fine-tuning on few people forgets what the start weights knew; a point on the line between both
may score better than either end [Wortsman 2022].
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from resolute.core.errors import ConfigError
from resolute.methods.contract import Method


def start_weights(method: Method) -> dict[str, Tensor]:
    """Copy what a method was started with: pre-trained parameters, and the buffers beside them.

    Args:
        method: before any training; its pre-trained parameters are those in groups whose name
            begins with ``pretrained``, as :func:`resolute.methods.contract.grouped` names them.

    Returns:
        Copies by name. Running statistics count as part of their layer.

    Raises:
        ConfigError: if nothing of the method is pre-trained.
    """
    names = {
        name
        for phase in method.phases
        for group in method.parameter_groups(phase)
        if group.name.startswith("pretrained")
        for name, _ in group.parameters
    }
    if not names or not isinstance(method, nn.Module):
        raise ConfigError(
            "keep_start: the run starts from random weights, there is nothing to keep; name a "
            "file in model.weights"
        )
    layers = {name.rpartition(".")[0] for name in names}
    names |= {name for name, _ in method.named_buffers() if name.rpartition(".")[0] in layers}
    state = method.state_dict()
    return {n: state[n].clone() for n in sorted(names) if state[n].is_floating_point()}


@torch.no_grad()
def keep_start(method: nn.Module, start: Mapping[str, Tensor], share: float) -> None:
    """Move a trained method's weights towards its start, in place.

    Variances of batch norms are interpolated like every other tensor, which is exact at both ends
    only [assumed: cheap; no pass over the training images].

    Args:
        method: the trained method.
        start: of :func:`start_weights`.
        share: of the start weights, 0 (as trained) to 1 (pre-trained layers as they were).
    """
    own = method.state_dict()
    for name, kept in start.items():
        own[name].lerp_(kept.to(own[name].device), share)
