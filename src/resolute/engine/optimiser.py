"""Torch optimisers of a method's phases, and their state by parameter name."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resolute.core.errors import CheckpointError, ConfigError
from resolute.methods.config import OptimiserConfig
from resolute.methods.contract import ParameterGroup, Phase

State = dict[str, dict[str, Tensor]]  # parameter name -> name of the moment -> tensor


def build_optimiser(
    config: OptimiserConfig, groups: Sequence[ParameterGroup]
) -> torch.optim.Optimizer:
    """Build the optimiser of one phase.

    Adam adds the decay to the gradient, as in the paper's code base (no AdamW) [FTWA 3.2]. On CPU
    and CUDA the fused kernels are used: one pass over the weights.

    Args:
        config: kind and learning rate.
        groups: parameters of the phase; the learning rate of group i is
            ``config.learning_rate * groups[i].learning_rate_factor``.

    Returns:
        A torch optimiser with one parameter group per group, in their order.
    """
    settings = [
        {
            "params": [parameter for _, parameter in group.parameters],
            "lr": config.learning_rate * group.learning_rate_factor,
            "weight_decay": group.weight_decay,
        }
        for group in groups
    ]
    devices = {parameter.device.type for group in groups for _, parameter in group.parameters}
    # None leaves the choice to torch.
    fused = True if devices <= {"cpu", "cuda"} else None
    if config.name == "adam":
        return torch.optim.Adam(
            settings, lr=config.learning_rate, betas=(config.beta1, 0.999), fused=fused
        )
    return torch.optim.SGD(
        settings,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov,
        fused=fused,
    )


def check_groups(
    method: nn.Module, phases: Sequence[tuple[Phase, Sequence[ParameterGroup]]]
) -> None:
    """Check that every trainable parameter is in one group of a phase, and in one phase at a time.

    Args:
        method: the module that owns the parameters.
        phases: each phase with its groups.

    Raises:
        ConfigError: if a parameter is listed twice in a phase, or in two phases that work at the
            same time, or is trainable and not listed at all, or a phase is empty.
    """
    owners: dict[int, list[tuple[Phase, str]]] = {}
    for phase, groups in phases:
        if not any(group.parameters for group in groups):
            raise ConfigError(f"phase {phase.name}: has no parameters to train")
        for group in groups:
            place = f"{phase.name}/{group.name}"
            for name, parameter in group.parameters:
                for other, first in owners.setdefault(id(parameter), []):
                    if phase.overlaps(other):
                        raise ConfigError(
                            f"parameter {name}: listed in {first} and again in {place}"
                        )
                owners[id(parameter)].append((phase, place))
    left = [
        name
        for name, parameter in method.named_parameters()
        if parameter.requires_grad and id(parameter) not in owners
    ]
    if left:
        raise ConfigError(
            f"parameters {', '.join(left)}: belong to no phase; list them in parameter_groups or "
            "set requires_grad to false"
        )


def capture_state(optimiser: torch.optim.Optimizer, groups: Sequence[ParameterGroup]) -> State:
    """Collect an optimiser's moments by parameter name.

    Args:
        optimiser: of :func:`build_optimiser`.
        groups: the groups it was built of.

    Returns:
        Moments of every parameter that was moved so far.
    """
    return {
        name: {key: value for key, value in optimiser.state[p].items() if value is not None}
        for group in groups
        for name, p in group.parameters
        if optimiser.state.get(p)
    }


def restore_state(
    optimiser: torch.optim.Optimizer, groups: Sequence[ParameterGroup], state: State
) -> None:
    """Put moments back, in the memory layout of their parameters.

    Fused kernels walk weight, gradient and moment side by side in memory: a moment of another
    layout would silently belong to other weights.

    Args:
        optimiser: of :func:`build_optimiser`.
        groups: the groups it was built of.
        state: moments by parameter name, contiguous.

    Raises:
        CheckpointError: if a name is unknown or a moment has another shape than its parameter.
    """
    parameters = {name: p for group in groups for name, p in group.parameters}
    unknown = sorted(set(state) - set(parameters))
    if unknown:
        raise CheckpointError(
            f"optimiser state of {', '.join(unknown)}: this method has no such parameters"
        )
    is_fused = bool(optimiser.defaults.get("fused"))
    for name, moments in state.items():
        parameter = parameters[name]
        restored: dict[str, Tensor] = {}
        for key, saved in moments.items():
            if key == "step":
                restored[key] = saved.to(parameter.device if is_fused else "cpu", copy=True)
            elif saved.shape == parameter.shape:
                restored[key] = torch.empty_like(parameter, requires_grad=False).copy_(saved)
            else:
                raise CheckpointError(
                    f"optimiser state {key} of {name}: expected shape {tuple(parameter.shape)}, "
                    f"got {tuple(saved.shape)}"
                )
        optimiser.state[parameter] = restored
