"""Exported networks behind the members of a method: onnxruntime and OpenVINO.

Only the network runs elsewhere. How an image becomes input and which role it takes is decided
here from its native size, as the method itself would.

Letters: N images, S streams, D embedding, H, W network input.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from resolute.core.config import check_threads, unknown_name
from resolute.core.errors import CheckpointError, ConfigError
from resolute.core.images import Images
from resolute.core.types import Embedding, InputSpec
from resolute.data.degrade import resize
from resolute.inference.presets import find_preset
from resolute.inference.sessions import Floats, OnnxRuntime, OpenVino, Session
from resolute.inference.sidecar import GraphFile, Sidecar, check_complete, read_graph, read_sidecar

RUNTIMES = ("torch", "onnxruntime", "openvino")
PRECISIONS = ("f32", "bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An exported network that embeds like the method it was made from.

    Attributes:
        sidecar: what it is.
        sessions: by role, ``hr`` and ``lr``.
        runtime: ``onnxruntime`` or ``openvino``.
        precision: ``f32``, ``bf16`` or, for a quantised file, ``int8``.
    """

    sidecar: Sidecar
    sessions: Mapping[str, Session]
    runtime: str
    precision: str

    @property
    def input_spec(self) -> InputSpec:
        """How pixels become its input."""
        return self.sidecar.input_spec

    @property
    def fingerprint(self) -> str:
        """Name of the space its vectors live in; a lower precision makes another space."""
        own = self.sidecar.fingerprint
        if self.precision == self.sidecar.precision:
            return own
        return hashlib.sha256(f"{own} {self.precision}".encode()).hexdigest()

    def to(self, device: torch.device | str) -> "Exported":  # noqa: ARG002 (runs where it runs)
        """Stay where it is: images of any device are taken.

        Args:
            device: ignored.
        """
        return self

    def embed(self, images: Images) -> Embedding:
        """Describe images as the exported method would.

        Args:
            images: N images, native size, on any device.

        Returns:
            L2-normalised vectors (N, S, D) and qualities (N, S). A tracker's file has one vector
            and no norms.

        Raises:
            CheckpointError: if the graph does not do what its sidecar says.
        """
        vectors, quality, norms = self._describe(images, is_flipped=False)
        if self.sidecar.is_mirrored and self.sidecar.kind == "full":
            mirrored = self._describe(images, is_flipped=True)
            vectors = _unit(vectors + mirrored[0])
            quality, norms = (
                (a + b) / np.float32(2) for a, b in zip((quality, norms), mirrored[1:], strict=True)
            )
        return Embedding(
            vectors=vectors,
            quality=quality,
            metric=self.sidecar.metric,
            fusion=self.sidecar.fusion,
            constant=self.sidecar.constant,
            norms=norms if self.sidecar.kind == "full" else None,
            native_sizes=images.native_sizes.cpu().numpy(),
        )

    def _describe(self, images: Images, *, is_flipped: bool) -> tuple[Floats, Floats, Floats]:
        if self.sidecar.hr == self.sidecar.lr:  # one graph for all roles
            return self._run("hr", images, is_flipped=is_flipped)
        num_images, num_streams = len(images), self.sidecar.num_streams
        vectors = np.zeros((num_images, num_streams, self.sidecar.dim), dtype=np.float32)
        quality = np.zeros((num_images, num_streams), dtype=np.float32)
        norms = np.zeros((num_images, num_streams), dtype=np.float32)
        num_routes = np.zeros((num_images, 1), dtype=np.float32)
        for role, taken in self.sidecar.routing.of(images).items():
            if not len(taken):
                continue
            index = taken.cpu().numpy()
            route = self._run(role, images.take(taken), is_flipped=is_flipped)
            for total, part in zip((vectors, quality, norms), route, strict=True):
                total[index] += part
            num_routes[index] += 1
        return _unit(vectors), quality / num_routes, norms / num_routes

    def _run(self, role: str, images: Images, *, is_flipped: bool) -> tuple[Floats, Floats, Floats]:
        graph: GraphFile = getattr(self.sidecar, role)
        inputs = graph_inputs(
            graph,
            images,
            preset=self.sidecar.preset,
            spec=self.sidecar.input_spec,
            is_flipped=is_flipped,
        )
        outputs = self.sessions[role].run(inputs, self.sidecar.output_names())
        streams = self.sidecar.num_streams
        expected: list[tuple[int, ...]] = [(len(images), self.sidecar.dim)] * streams
        expected += [(len(images),)] * (len(outputs) - streams)
        if [np.shape(output) for output in outputs] != expected:
            raise CheckpointError(
                f"{graph.file}: expected outputs of shapes {expected}, got "
                f"{[np.shape(output) for output in outputs]}"
            )
        vectors = np.stack(outputs[:streams], axis=1)  # (M, S, D)
        if self.sidecar.kind == "tracker":
            ones = np.ones(vectors.shape[:2], dtype=np.float32)
            return vectors, ones, ones
        quality, norms = outputs[streams : 2 * streams], outputs[2 * streams :]
        return vectors, np.stack(quality, axis=1), np.stack(norms, axis=1)


def graph_inputs(
    graph: GraphFile, images: Images, *, preset: str, spec: InputSpec, is_flipped: bool = False
) -> dict[str, Floats]:
    """Make the inputs of a graph from native pixels.

    Args:
        graph: its rates; one input each.
        images: N images.
        preset: how the graph takes pixels.
        spec: input size and interpolation.
        is_flipped: give the mirror images.

    Returns:
        Arrays (N, 3, H, W) by name of the input.
    """
    arrays = {}
    for name, rate in zip(graph.input_names(), graph.rates, strict=True):
        levels = resize(
            images,
            spec.height,
            spec.width,
            rates=None if rate == 1 else torch.full((len(images),), rate),
            interpolation=spec.interpolation,
        )
        pixels = find_preset(preset).pixels(levels.flip(-1) if is_flipped else levels)
        arrays[name] = pixels.contiguous().cpu().numpy()
    return arrays


def open_exported(
    path: str | Path, *, runtime: str = "", precision: str = "", threads: int = 0
) -> Exported:
    """Open an exported graph with its sidecar.

    Args:
        path: a ``.onnx`` or ``.xml`` file; its sidecar and any further graph lie beside it.
        runtime: ``onnxruntime`` or ``openvino``; by default the one the file is made for.
        precision: ``f32`` or ``bf16`` (openvino on processors that have it); by default the
            file's own.
        threads: threads of the runtime; 0 takes torch's number.

    Returns:
        The network, ready to embed.

    Raises:
        CheckpointError: if a file is missing, damaged, not the one its sidecar describes, or holds
            what no export of ours holds.
        ConfigError: if the runtime or precision is unknown, not installed, or cannot run it, or
            the number of threads is none.
    """
    graph = Path(path).expanduser()
    sidecar = read_sidecar(graph)
    is_onnx = graph.suffix == ".onnx"
    runtime = runtime or ("onnxruntime" if is_onnx else "openvino")
    if runtime not in RUNTIMES[1:]:
        raise ConfigError(unknown_name("runtime", runtime, list(RUNTIMES[1:])))
    if runtime == "onnxruntime" and not is_onnx:
        raise ConfigError(f"{graph}: runtime onnxruntime reads .onnx files, this one is OpenVINO's")
    precision = precision or sidecar.precision
    if precision not in (sidecar.precision, "bf16"):
        raise ConfigError(
            f"precision: this file is {sidecar.precision}, expected that or bf16, got "
            f"{precision!r}: int8 is made by resolute export --precision int8"
        )
    if precision == "bf16" and (runtime, sidecar.precision) != ("openvino", "f32"):
        raise ConfigError("precision bf16: needs runtime openvino and a file of precision f32")
    check_complete(graph.parent, sidecar)
    check_threads(threads)
    count = threads or torch.get_num_threads()
    sessions: dict[str, Session] = {}
    for role in ("hr", "lr"):
        described: GraphFile = getattr(sidecar, role)
        if role == "lr" and described == sidecar.hr:
            sessions[role] = sessions["hr"]
            continue
        blobs = read_graph(graph.parent, described)
        if runtime == "onnxruntime":
            sessions[role] = OnnxRuntime(blobs[0], threads=count)
        else:
            sessions[role] = OpenVino(*blobs, precision=precision, threads=count)
    return Exported(sidecar=sidecar, sessions=sessions, runtime=runtime, precision=precision)


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=2, keepdims=True)
    unit: Floats = vectors / np.maximum(norms, 1e-12)
    return unit
