"""One update of one phase: select its parameters, add up its losses, step its optimiser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn

from resolute.core.errors import ConfigError
from resolute.core.images import Batch
from resolute.engine.config import TrainConfig
from resolute.engine.distributed import Step, StepModule, World, wrap_step
from resolute.engine.optimiser import build_optimiser, check_groups
from resolute.engine.precision import precision_of
from resolute.engine.schedule import epoch_at, learning_rate_factor
from resolute.methods.contract import Method, ParameterGroup, Phase, as_method

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(slots=True, kw_only=True)
class PhaseRun:
    """A phase at work.

    Attributes:
        method: whose phase it is.
        phase: what it is.
        groups: its parameters.
        first_epoch: first epoch in which it works; ``frozen_epochs`` are counted from there.
        optimiser: moves them; one torch parameter group per group.
        step: computes its losses; DDP among several processes.
        rest: parameters of other phases alone, which must not gather gradients here.
        amp_device: kind of device to autocast on.
        has_amp: whether the forward pass runs in bf16 where torch deems it safe.
        keeps_frozen: whether frozen parameters get a gradient all the same and lose it before
            the optimiser sees it: DDP waits for every parameter it was built with.
    """

    method: Method
    phase: Phase
    groups: Sequence[ParameterGroup]
    first_epoch: int
    optimiser: torch.optim.Optimizer
    step: Step
    rest: Sequence[nn.Parameter]
    amp_device: str
    has_amp: bool
    keeps_frozen: bool

    def is_active(self, epoch: int, epochs: int) -> bool:
        """Tell whether the phase works in an epoch.

        Args:
            epoch: from 0.
            epochs: epochs in the run.
        """
        return epoch_at(self.phase.first, epochs) <= epoch < epoch_at(self.phase.last, epochs)

    def factor(self, step: int, *, steps_per_epoch: int, epochs: int) -> float:
        """Compute what the phase's learning rate is multiplied by; its schedule spans the phase.

        Args:
            step: steps made in the run so far.
            steps_per_epoch: steps in one epoch.
            epochs: epochs in the run.

        Returns:
            A factor in [0, 1].
        """
        first, last = epoch_at(self.phase.first, epochs), epoch_at(self.phase.last, epochs)
        return learning_rate_factor(
            step - first * steps_per_epoch,
            steps_per_epoch=steps_per_epoch,
            epochs=last - first,
            schedule=self.phase.schedule,
        )

    def freezes(self, group: ParameterGroup, epoch: int) -> bool:
        """Tell whether the phase works without moving a group of its parameters yet.

        Args:
            group: one of its groups.
            epoch: from 0.
        """
        return self.first_epoch <= epoch < self.first_epoch + group.frozen_epochs

    def select(self, epoch: int) -> None:
        """Let gradients flow to this phase's parameters alone, and not to frozen ones.

        Args:
            epoch: from 0.
        """
        for parameter in self.rest:
            parameter.requires_grad = False
        for group in self.groups:
            is_needed = self.keeps_frozen or not self.freezes(group, epoch)
            for _, parameter in group.parameters:
                parameter.requires_grad = is_needed

    def autocast(self) -> torch.autocast:
        """Return the block in which losses are computed: bf16 where torch deems it safe, or not."""
        return torch.autocast(self.amp_device, dtype=torch.bfloat16, enabled=self.has_amp)

    def update(self, batch: Batch, *, epoch: int, factor: float) -> dict[str, Tensor]:
        """Make one optimiser step.

        Frozen parameters have no gradient when the optimiser steps: neither they nor their
        moments move, and no decay acts on them.

        Args:
            batch: on the method's device.
            epoch: from 0.
            factor: multiplies the phase's learning rate.

        Returns:
            Loss terms by name, without graph.

        Raises:
            ConfigError: if the method returns no loss terms for this phase.
        """
        self.select(epoch)
        base = self.phase.optimiser.learning_rate * factor
        for settings, group in zip(self.optimiser.param_groups, self.groups, strict=True):
            settings["lr"] = base * group.learning_rate_factor
        with self.autocast():
            losses = self.step(batch, self.phase.name)
        if not losses:
            raise ConfigError(f"phase {self.phase.name}: the method returned no loss terms")
        torch.autograd.backward(torch.stack([loss.float() for loss in losses.values()]).sum())
        self._prepare_gradients(epoch)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return {name: loss.detach() for name, loss in losses.items()}

    def _prepare_gradients(self, epoch: int) -> None:
        moving: list[nn.Parameter] = []
        for group in self.groups:
            for _, parameter in group.parameters:
                if self.freezes(group, epoch):
                    parameter.grad = None
                else:
                    moving.append(parameter)
        if self.phase.optimiser.clip_norm:
            nn.utils.clip_grad_norm_(moving, self.phase.optimiser.clip_norm)


def start_phases(
    method: nn.Module,
    *,
    config: TrainConfig,
    world: World,
    device: torch.device,
    has_unused_parameters: bool,
) -> list[PhaseRun]:
    """Build optimiser and step of every phase; the method is on its device already.

    Args:
        method: keeps the contract.
        config: epochs, amp and compile.
        world: this process's place.
        device: where the method is.
        has_unused_parameters: see :func:`resolute.engine.distributed.wrap_step`.

    Returns:
        Phases in the method's order.

    Raises:
        ConfigError: if the method does not keep the contract, a parameter belongs to no phase or
            to two at a time, or a phase never works or has nothing to move in an epoch.
    """
    kept = as_method(method)
    groups = {phase.name: kept.parameter_groups(phase) for phase in kept.phases}
    check_groups(method, [(phase, groups[phase.name]) for phase in kept.phases])
    for phase in kept.phases:
        _check_epochs(phase, groups[phase.name], config.epochs)
    module = StepModule(kept)
    runs = []
    for phase in kept.phases:
        run = PhaseRun(
            method=kept,
            phase=phase,
            groups=groups[phase.name],
            first_epoch=epoch_at(phase.first, config.epochs),
            optimiser=build_optimiser(phase.optimiser, groups[phase.name]),
            step=module,
            rest=_rest(groups, phase.name),
            amp_device=device.type,
            has_amp=precision_of(device, is_mixed=config.amp) == "bf16",
            keeps_frozen=world.size > 1,
        )
        run.select(epoch=0)
        step = wrap_step(module, world, device, has_unused_parameters=has_unused_parameters)
        run.step = torch.compile(step) if config.compile else step
        runs.append(run)
    return runs


def set_modes(method: nn.Module, runs: Sequence[PhaseRun], epoch: int) -> None:
    """Put the method in training mode, and frozen batch norms in evaluation mode.

    A frozen layer is to stay what it was when it was pre-trained: its running statistics do not
    move, and it normalises by them (as `fixbase_epoch` of Torchreid) [ours].

    Args:
        method: the method.
        runs: its phases.
        epoch: from 0.
    """
    method.train()
    frozen = {
        id(parameter)
        for run in runs
        for group in run.groups
        if run.freezes(group, epoch)
        for _, parameter in group.parameters
    }
    for module in method.modules():
        own = [id(parameter) for parameter in module.parameters(recurse=False)]
        if isinstance(module, _BATCH_NORMS) and own and frozen.issuperset(own):
            module.eval()


def _rest(groups: Mapping[str, Sequence[ParameterGroup]], phase: str) -> list[nn.Parameter]:
    """Return the parameters of other phases that are not this phase's too."""
    named = {
        name: {n: p for g in members for n, p in g.parameters} for name, members in groups.items()
    }
    own = {id(p) for p in named[phase].values()}
    return [p for members in named.values() for p in members.values() if id(p) not in own]


def _check_epochs(phase: Phase, groups: Sequence[ParameterGroup], epochs: int) -> None:
    first, last = epoch_at(phase.first, epochs), epoch_at(phase.last, epochs)
    if first == last:
        enough = next(
            n for n in count(epochs + 1) if epoch_at(phase.first, n) < epoch_at(phase.last, n)
        )
        raise ConfigError(
            f"phase {phase.name}: works from {phase.first:g} to {phase.last:g} of the run, which "
            f"is no whole epoch of {epochs}; raise train.epochs to {enough}"
        )
    frozen = min(group.frozen_epochs for group in groups)
    if frozen:
        raise ConfigError(
            f"phase {phase.name}: every parameter is frozen until epoch {first + frozen}; lower "
            "optimiser.frozen_epochs"
        )
