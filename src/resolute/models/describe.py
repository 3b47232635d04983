"""Count parameters and multiply-accumulates, without running the network.

Letters: N images, C channels, H, W input size, h, w size of a map, D embedding.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resolute.core.types import InputSpec
from resolute.models.backbone import Backbone, check_input_size
from resolute.models.osnet import LearnedPooling


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of a network, for one image.

    Attributes:
        part: ``shallow``, ``deep`` or ``pooling``.
        name: name of the step within its part.
        parameters: number of trained values.
        macs: multiply-accumulates of convolutions, linear layers and learned pooling; norms,
            activations and plain pooling are not counted.
        output_shape: shape of its output without the N axis.
    """

    part: str
    name: str
    parameters: int
    macs: int
    output_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Size and cost of a backbone for one image.

    Attributes:
        input_shape: (3, H, W).
        stages: steps in order.
    """

    input_shape: tuple[int, int, int]
    stages: tuple[Stage, ...]

    @property
    def parameters(self) -> int:
        """Number of trained values."""
        return sum(stage.parameters for stage in self.stages)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(stage.macs for stage in self.stages)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the embedding, (D,)."""
        return self.stages[-1].output_shape

    def table(self) -> str:
        """Return one line of text per stage, and the sums."""
        lines = [f"{'part':<10}{'stage':<16}{'parameters':>12}{'MMAC':>10}  output"]
        for s in self.stages:
            shape = "x".join(str(side) for side in s.output_shape)
            lines.append(
                f"{s.part:<10}{s.name:<16}{s.parameters:>12,}{s.macs / 1e6:>10,.1f}  {shape}"
            )
        lines.append(f"{'total':<26}{self.parameters:>12,}{self.macs / 1e6:>10,.1f}")
        return "\n".join(lines)


def describe(backbone: Backbone, input_spec: InputSpec) -> Description:
    """Describe a backbone stage by stage.

    Args:
        backbone: any backbone; it is neither run nor changed.
        input_spec: its input size.

    Returns:
        Parameters, multiply-accumulates and output shape of each stage.

    Raises:
        ConfigError: if the backbone is bound to another input size.
    """
    check_input_size(backbone, input_spec.height, input_spec.width)
    input_shape = (3, input_spec.height, input_spec.width)
    shape: tuple[int, ...] = input_shape
    stages: list[Stage] = []
    for part, module in (
        ("shallow", backbone.shallow()),
        ("deep", backbone.deep()),
        ("pooling", backbone.pooling()),
    ):
        for name, step in _steps(part, module):
            stage = measure(step, shape, part=part, name=name)
            stages.append(stage)
            shape = stage.output_shape
    return Description(input_shape=input_shape, stages=tuple(stages))


def measure(
    module: nn.Module, input_shape: tuple[int, ...], *, part: str = "", name: str = ""
) -> Stage:
    """Measure one module, such as RAFT, for one image.

    Args:
        module: takes one tensor, gives one; it is neither run nor changed.
        input_shape: shape of its input without the N axis.
        part: goes into the result.
        name: goes into the result.

    Returns:
        Its parameters, multiply-accumulates and output shape.
    """
    twin = copy.deepcopy(module).to("meta").eval()  # a meta tensor has a shape and no values
    counts: list[int] = []

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append(_macs(layer, output))

    for layer in twin.modules():
        layer.register_forward_hook(count)
    with torch.no_grad():
        output = twin(torch.empty((1, *input_shape), device="meta"))
    return Stage(
        part=part,
        name=name,
        parameters=sum(p.numel() for p in module.parameters()),
        macs=sum(counts),
        output_shape=tuple(output.shape[1:]),
    )


def _steps(part: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, nn.Sequential):
        yield from module.named_children()
    else:
        yield part, module


def _macs(layer: nn.Module, output: Tensor) -> int:
    """Count per output value the products summed into it."""
    if isinstance(layer, nn.Conv2d):
        return output.numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    if isinstance(layer, LearnedPooling):
        return layer.weight.numel()
    return 0
