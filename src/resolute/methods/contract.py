"""The one contract that every method keeps.

Engine, evaluation and everything after them know a method by these members alone. An object
from elsewhere that keeps the contract trains and evaluates here without a fork.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from resolute.core.errors import ConfigError
from resolute.core.images import Batch, Images
from resolute.core.types import Embedding, InputSpec
from resolute.methods.config import OptimiserConfig, ScheduleConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One of the updates a method alternates between, with its own optimiser and schedule.

    Attributes:
        name: unique within the method, for example ``main`` or ``generator``.
        optimiser: how its weights move.
        schedule: how its learning rate changes.
        updates_per_step: optimiser steps on each batch.
        first: fraction of the run at which the phase begins, 0 <= first < last.
        last: fraction of the run at which it ends, last <= 1.
    """

    name: str
    optimiser: OptimiserConfig
    schedule: ScheduleConfig
    updates_per_step: int = 1
    first: float = 0.0
    last: float = 1.0

    def __post_init__(self) -> None:
        if self.updates_per_step < 1 or not 0 <= self.first < self.last <= 1:
            raise ConfigError(
                f"phase {self.name}: expected updates >= 1 and 0 <= first < last <= 1"
            )

    def overlaps(self, other: "Phase") -> bool:
        """Tell whether there is a part of the run in which both phases work.

        Args:
            other: another phase.
        """
        return self.first < other.last and other.first < self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """Parameters that share learning rate, decay and freezing.

    Attributes:
        name: unique within the phase; names the group in checkpoints.
        parameters: named parameters.
        learning_rate_factor: multiplies the phase's learning rate.
        weight_decay: L2 decay.
        frozen_epochs: number of first epochs in which these parameters do not move.
    """

    name: str
    parameters: tuple[tuple[str, nn.Parameter], ...]
    learning_rate_factor: float = 1.0
    weight_decay: float = 0.0
    frozen_epochs: int = 0


@runtime_checkable
class Method(Protocol):
    """A method: a torch module that trains by named losses and embeds images.

    Attributes:
        input_spec: how pixels become its input; travels with the weights.
        phases: its updates, in the order of one step.
    """

    input_spec: InputSpec
    phases: tuple[Phase, ...]

    def parameter_groups(self, phase: Phase) -> list[ParameterGroup]:
        """List what a phase updates, each parameter once.

        Every trainable parameter belongs to a phase, and to two only if they work one after the
        other.
        """

    def losses(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Compute the named, already weighted loss terms of a batch; the engine adds them up."""

    def embed(self, images: Images) -> Embedding:
        """Embed native-size images on the module's device, without gradients, in eval mode."""


def as_method(module: nn.Module) -> Method:
    """Check that a module keeps the contract.

    Args:
        module: any module.

    Returns:
        The same object.

    Raises:
        ConfigError: if a member is missing.
    """
    if not isinstance(module, Method):
        raise ConfigError(
            f"{type(module).__name__}: expected input_spec, phases, parameter_groups, losses and "
            "embed, see resolute.methods.contract"
        )
    return module


def shipped_state(method: nn.Module) -> dict[str, Tensor]:
    """Return the weights and buffers that a model file holds: all that embedding needs.

    A method names the submodules that it can be without, such as a teacher, in an attribute
    ``training_only``; they belong in checkpoints, not in model files [ours]. A classifier that is
    not named there stays in, though embedding does not read it.

    Args:
        method: any method, or a module without that attribute.

    Returns:
        Its state dict without those parts.
    """
    left_out = tuple(f"{name}." for name in _training_only(method))
    return {n: t for n, t in method.state_dict().items() if not n.startswith(left_out)}


def drop_training_parts(method: nn.Module) -> None:
    """Set the submodules that serve training alone to None; then the method can embed, not train.

    Args:
        method: changed in place.
    """
    for name in _training_only(method):
        setattr(method, name, None)


@runtime_checkable
class Sparing(Protocol):
    """What a method keeps, beside the contract, if its settings may have `has_unread_space`."""

    def drop_unread_space(self) -> None:
        """Give, from now on, no vectors of the space that the fusion does not read."""


def _training_only(method: nn.Module) -> tuple[str, ...]:
    names: tuple[str, ...] = getattr(method, "training_only", ())
    return names


def grouped(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    optimiser: OptimiserConfig,
    *,
    pretrained: frozenset[str],
) -> list[ParameterGroup]:
    """Sort parameters into new and pre-trained, decayed as weight or as bias.

    Args:
        named_parameters: all parameters of a phase.
        optimiser: gives factors, decays and frozen epochs.
        pretrained: names of parameters that start from weights.

    Returns:
        Up to four groups, none of them empty.
    """
    members: dict[tuple[bool, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            is_bias = parameter.ndim <= 1
            members.setdefault((name in pretrained, is_bias), []).append((name, parameter))
    return [
        ParameterGroup(
            name=f"{'pretrained' if is_pretrained else 'new'}.{'bias' if is_bias else 'weight'}",
            parameters=tuple(parameters),
            learning_rate_factor=optimiser.pretrained_factor if is_pretrained else 1.0,
            weight_decay=optimiser.bias_decay if is_bias else optimiser.weight_decay,
            frozen_epochs=optimiser.frozen_epochs if is_pretrained else 0,
        )
        for (is_pretrained, is_bias), parameters in sorted(members.items())
    ]
