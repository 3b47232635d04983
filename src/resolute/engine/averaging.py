"""A running average of a method's weights, which often scores better than the last ones."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from resolute.core.errors import CheckpointError, ConfigError


class Average:
    """Exponential moving average of parameters and floating-point buffers [Polyak 1992].

    After step t it is the mean of the weights after steps 1 to t, those after step s weighed by
    momentum^(t - s): the weights before the first step have no part in it. Running statistics of
    batch norms are averaged like weights; counters are not. [ours]
    """

    def __init__(self, method: nn.Module, momentum: float) -> None:
        if not 0 < momentum < 1:
            raise ConfigError(f"average: expected a momentum 0 < m < 1, got {momentum}")
        self._momentum = momentum
        # The parameters and buffers themselves, not copies: they move under our eyes.
        own = method.state_dict(keep_vars=True)
        self._own = {name: t for name, t in own.items() if t.is_floating_point()}
        self._means = {name: t.detach().clone() for name, t in self._own.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step.

        Args:
            step: number of the step, from 1.
        """
        share = (1 - self._momentum) / (1 - self._momentum**step)
        own = [tensor.detach() for tensor in self._own.values()]
        torch._foreach_lerp_(list(self._means.values()), own, share)

    @torch.no_grad()
    def put(self) -> None:
        """Overwrite the method's weights with their averages."""
        for name, tensor in self._own.items():
            tensor.copy_(self._means[name])

    def state(self) -> dict[str, Tensor]:
        """Return the averages by name, for a checkpoint."""
        return dict(self._means)

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint.

        Args:
            state: of :meth:`state`; empty if the run was not averaged so far, whose present
                weights then stand for all steps before.

        Raises:
            CheckpointError: if names or shapes are not those of the method.
        """
        state = state or self._own
        faults = sorted(state.keys() ^ self._means.keys()) or [
            name for name, mean in self._means.items() if mean.shape != state[name].shape
        ]
        if faults:
            raise CheckpointError(f"averaged weights: do not fit the method: {faults[0]}")
        for name, mean in self._means.items():
            mean.copy_(state[name])
