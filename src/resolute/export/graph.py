"""The modules that are traced: normalised images in, named tensors out.

Letters: N images, S streams, D embedding, E = S * D, H, W network input.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from resolute.core.types import InputSpec
from resolute.export.gate import Gate, Versions
from resolute.inference.one_vector import join
from resolute.methods.graph import Description, Graphs, Role


class Full(nn.Module):
    """One role with everything a gallery stores: vectors, qualities, norms and the one vector."""

    def __init__(self, role: Role, graphs: Graphs) -> None:
        super().__init__()
        self.network = role.network
        self._fusion, self._constant = graphs.fusion, graphs.constant

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Describe images.

        Args:
            images: normalised, one tensor per rate of the role, each (N, 3, H, W).

        Returns:
            v per stream (N, D), w per stream (N,), n per stream (N,), embedding (N, E).
        """
        vectors, quality, norms = self.network(*images)
        fused = join(vectors, quality, fusion=self._fusion, constant=self._constant)
        return (*vectors.unbind(1), *quality.unbind(1), *norms.unbind(1), fused)


class Tracker(nn.Module):
    """One image in, one vector out, whatever its native size was.

    Attributes:
        gate: chooses the role of each image; None where one role takes all.
    """

    def __init__(self, graphs: Graphs, *, branch: str, gate: Gate | None, spec: InputSpec) -> None:
        super().__init__()
        self.gate = gate
        roles = {"hr": graphs.hr, "lr": graphs.lr}
        names = ("hr", "lr") if gate is not None else (branch,)
        self.networks = nn.ModuleList(roles[name].network for name in names)
        self.versions = nn.ModuleList(
            Versions(spec, roles[name].rates, height_reference=graphs.height_reference)
            for name in names
        )
        self._graphs = graphs

    def forward(self, images: Tensor) -> Tensor:
        """Embed images.

        Args:
            images: normalised, shape (N, 3, H, W).

        Returns:
            L2-normalised vectors, shape (N, E).
        """
        vectors = [
            self._embed(network, versions, images)
            for network, versions in zip(self.networks, self.versions, strict=True)
        ]
        if self.gate is None:
            return vectors[0]
        is_hr = self.gate(images) > self.gate.threshold  # (N,)
        return torch.where(is_hr[:, None], vectors[0], vectors[1])

    def _embed(self, network: nn.Module, versions: nn.Module, inputs: Tensor) -> Tensor:
        vectors, quality, _ = self._describe(network, versions, inputs)
        if self._graphs.is_mirrored:
            mirrored = self._describe(network, versions, inputs.flip(-1))
            vectors = functional.normalize(vectors + mirrored[0], dim=2)
            quality = (quality + mirrored[1]) / 2
        fusion, constant = self._graphs.fusion, self._graphs.constant
        return join(vectors, quality, fusion=fusion, constant=constant)

    def _describe(self, network: nn.Module, versions: nn.Module, inputs: Tensor) -> Description:
        described: Description = network(*versions(inputs))
        return described
