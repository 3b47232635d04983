"""The two kinds of artifact as traced graphs, each with what torch gives for the same images.

Letters: N images, S streams, D embedding, E length of a tracker's vector.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resolute.core.images import Images
from resolute.core.types import Embedding, InputSpec
from resolute.data.degrade import to_input
from resolute.export.config import ExportConfig
from resolute.export.gate import Gate, GateReport
from resolute.export.graph import Full, Tracker
from resolute.export.onnx_file import trace
from resolute.export.samples import Samples
from resolute.inference.model import Model
from resolute.inference.one_vector import join
from resolute.methods.graph import ONE_WAY, Graphs, Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedModel:
    """Graphs before they are written: normalised input, full precision.

    Attributes:
        blobs: ONNX files by role; ``hr`` alone where both roles share it.
        rates: inputs of each role, see :class:`resolute.methods.graph.Role`.
        routing: roles of images of unknown resolution.
        reference: what torch gives for the same images.
        identity: what decides the vectors beside the model; empty where they are the model's own.
        gate: how ``auto`` was set; None where there is no gate.
    """

    blobs: dict[str, bytes]
    rates: dict[str, tuple[float, ...]]
    routing: Routing
    reference: Callable[[Images], Embedding]
    identity: dict[str, Any]
    gate: GateReport | None = None


def trace_full(model: Model, graphs: Graphs) -> TracedModel:
    """Trace all roles with everything a gallery stores.

    Args:
        model: what is exported.
        graphs: its parts.

    Returns:
        One graph per role; its vectors are the model's own.
    """
    spec = model.input_spec
    roles = {"hr": graphs.hr} if graphs.lr is graphs.hr else {"hr": graphs.hr, "lr": graphs.lr}
    blobs = {}
    for name, role in roles.items():
        inputs = ["images", *(f"images_{i}" for i in range(1, len(role.rates)))]
        module = Full(role, graphs).eval()
        examples = [torch.zeros(1, 3, spec.height, spec.width) for _ in inputs]
        with torch.no_grad():
            num_streams = (len(module(*examples)) - 1) // 3
        streams = ("hr", "lr")[:num_streams]
        outputs = [f"{letter}_{stream}" for letter in "vwn" for stream in streams]
        blobs[name] = trace(module, spec, inputs=inputs, outputs=[*outputs, "embedding"])
    return TracedModel(
        blobs=blobs,
        rates={name: role.rates for name, role in roles.items()},
        routing=graphs.routing,
        reference=model.method.embed,
        identity={},
    )


def trace_tracker(
    model: Model, graphs: Graphs, config: ExportConfig, samples: Samples
) -> TracedModel:
    """Trace one image in, one vector out.

    Args:
        model: what is exported.
        graphs: its parts.
        config: which branch.
        samples: set the gate of the branch ``auto``.

    Returns:
        One graph.

    Raises:
        ConfigError: if the gate cannot tell HR from LR.
    """
    spec = model.input_spec
    gate, report = None, None
    if config.branch == "auto" and graphs.lr is not graphs.hr:
        gate = Gate(spec, height_reference=graphs.height_reference)
        report = _set_gate(gate, samples, spec)
    branch = "hr" if config.branch == "auto" else config.branch
    module = Tracker(graphs, branch=branch, gate=gate, spec=spec).eval()

    def reference(images: Images) -> Embedding:
        with torch.no_grad():
            vectors = module(to_input(images, spec))[:, None]  # (N, 1, E)
        ones = np.ones(vectors.shape[:2], dtype=np.float32)
        return Embedding(vectors=vectors.numpy(), quality=ones)

    return TracedModel(
        blobs={"hr": trace(module, spec, inputs=["images"], outputs=["output0"])},
        rates={"hr": (1.0,)},
        routing=ONE_WAY,
        reference=reference,
        identity={
            "branch": config.branch if gate is not None else branch,
            "fusion": graphs.fusion,
            "constant": graphs.constant,
            "threshold": report.threshold if report else 0.0,
        },
        gate=report,
    )


def native_cosine(model: Model, graphs: Graphs, traced: TracedModel, images: Images) -> float:
    """Compare a tracker's vectors with those that the native sizes would give.

    Args:
        model: what is exported.
        graphs: its parts.
        traced: the tracker.
        images: N images of all kinds of resolution.

    Returns:
        Mean cosine over the images.
    """
    own = model.method.embed(images)
    vectors, quality = torch.from_numpy(own.vectors), torch.from_numpy(own.quality)
    kept = join(vectors, quality, fusion=graphs.fusion, constant=graphs.constant).numpy()
    lost = traced.reference(images).vectors[:, 0]
    return float(np.einsum("ne,ne->n", kept, lost).mean())


def _set_gate(gate: Gate, samples: Samples, spec: InputSpec) -> GateReport:
    # Measured in the octaves of the images' own height: sharpness is a ratio, so the threshold
    # holds for any reference height.
    measure = Gate(spec, height_reference=samples.height)

    def sharpness(kind: str) -> NDArray[np.float32]:
        parts = [measure(to_input(images, spec)) for images in samples.batches(kind)]
        found: NDArray[np.float32] = torch.cat(parts).numpy()
        return found

    return gate.set_threshold(sharpness("hr"), sharpness("lr"), source=samples.source)
