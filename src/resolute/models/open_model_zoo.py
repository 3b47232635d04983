"""Read Open Model Zoo's person-reidentification-retail-0277 from its OpenVINO graph.

The graph is parsed, never run, and needs no OpenVINO. Its batch norms are folded into the
convolutions in front of them; :mod:`resolute.models.batch_norm` takes them apart again.
"""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resolute.core.errors import CheckpointError

NETWORK = "person-reidentification-retail-0277"

_LARGEST_GRAPH = 2**25  # bytes of XML; 0277 has 0.6 MB [ours]
_TYPES = {"f16": "<f2", "f32": "<f4", "i32": "<i4", "i64": "<i8"}
BATCH_NORM_EPS = 1e-5  # torch's, which makes variance 1 - eps a scale of 1
_REAL = ("f16", "f32")
_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul", "Multiply", "Add", "PReLU")
# Gates of the first and of the second block of a stage: operation and parameter.
_GATES = (
    (
        ("Convolution", "fc1.weight"),
        ("Add", "fc1.bias"),
        ("Convolution", "fc2.weight"),
        ("Add", "fc2.bias"),
    ),
    (("Multiply", "gn.weight"), ("Add", "gn.bias")),
)
# Missing or unreadable numbers and names in the parsed graph.
_MALFORMED = (LookupError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """One operation of the graph: its attributes, and what it reads in the order of its ports."""

    kind: str
    name: str
    data: dict[str, str]
    inputs: list["_Layer"]


def read_graph(path: str | Path) -> dict[str, Tensor]:
    """Read the network's tensors under Torchreid's names.

    The operations with weights come in one order in every graph of this network. Each is checked
    by kind, and by name where the graph kept Torchreid's; what stands between them is not looked
    at. Pixels are RGB: the graph turns its BGR input round first. What scales them there is left
    out, because ``in_first`` normalises every image per channel. Batch norms have mean 0, scale 1,
    and the shift that was folded.

    Args:
        path: ``.xml`` file, its ``.bin`` beside it.

    Returns:
        Float32 tensors by name, in torch's shapes.

    Raises:
        CheckpointError: if a file is missing or damaged, or the graph is another network's.
    """
    path = Path(path).expanduser()
    layers = _parse(path)
    try:
        blob = path.with_suffix(".bin").read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path.with_suffix('.bin')}: cannot be read ({error.strerror}): the weights of an "
            "OpenVINO graph lie in a .bin of the same name beside it"
        ) from error
    try:
        return _with_batch_norm(_state(layers, blob, path))
    except _MALFORMED as error:
        raise CheckpointError(f"{path}: damaged OpenVINO graph ({error!r})") from error


def _parse(path: Path) -> list[_Layer]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_GRAPH + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > _LARGEST_GRAPH:
        raise CheckpointError(f"{path}: more than {_LARGEST_GRAPH} bytes, no graph of {NETWORK}")
    try:
        text = content.decode()  # text, so that no other encoding can hide an entity
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise CheckpointError(
                f"{path}: refused, because it declares a document type, which may name other "
                "files or grow without end; OpenVINO writes none"
            )
        net = ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise CheckpointError(f"{path}: not readable as XML ({error}): download it again") from None
    found = net.find("layers")
    if net.tag != "net" or found is None:
        raise CheckpointError(f"{path}: expected an OpenVINO graph (<net>), got <{net.tag}>")
    try:
        return _linked(found, net.findall("edges/edge"))
    except _MALFORMED as error:
        raise CheckpointError(f"{path}: damaged OpenVINO graph ({error!r})") from error


def _linked(elements: ElementTree.Element, edges: list[ElementTree.Element]) -> list[_Layer]:
    layers: dict[str, _Layer] = {}
    for element in elements:
        data = element.find("data")
        layers[element.attrib["id"]] = _Layer(
            kind=element.attrib["type"],
            name=element.attrib["name"],
            data={} if data is None else dict(data.attrib),
            inputs=[],
        )
    for edge in sorted(edges, key=lambda edge: int(edge.attrib["to-port"])):
        layers[edge.attrib["to-layer"]].inputs.append(layers[edge.attrib["from-layer"]])
    return list(layers.values())


def _state(layers: list[_Layer], blob: bytes, path: Path) -> dict[str, Tensor]:
    foreign = f"only {NETWORK} is read; score another graph as it is with benchmarks/anchors.py"
    turns = [layer for layer in layers if layer.kind == "Gather" and _is_bgr_turned(layer, blob)]
    kinds = [layer.kind for layer in layers]
    if not turns or "MVN" not in kinds:
        raise CheckpointError(
            f"{path}: expected a graph that turns BGR pixels round and normalises them per image, "
            f"got another: {foreign}"
        )
    # In front of the first normalisation stands only the scaling of pixels.
    uses = list(_weights(layers[kinds.index("MVN") :]))
    slots = list(_slots())
    names = {name for _, name in slots}
    if len(uses) != len(slots):
        raise CheckpointError(
            f"{path}: expected {len(slots)} operations, got {len(uses)} with weights: {foreign}"
        )
    state: dict[str, Tensor] = {}
    for (layer, constant), (kind, name) in zip(uses, slots, strict=True):
        stored = constant.name.removesuffix("_compressed")
        is_transposed = layer.data.get("transpose_b", "true") != "true"
        if layer.kind != kind or is_transposed or (stored in names and stored != name):
            raise CheckpointError(
                f"{path}: expected {kind} with {name}, got {layer.kind} {layer.name} with "
                f"{stored}: {foreign}"
            )
        tensor = _as_torch(kind, _values(constant, blob))
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: values are not finite in {name}")
        if name in state and not torch.equal(state[name], tensor):
            raise CheckpointError(f"{path}: the streams of a block differ in {name}: {foreign}")
        state[name] = tensor
    return state


def _weights(layers: list[_Layer]) -> Iterator[tuple[_Layer, _Layer]]:
    """Give the operations with weights and the constants they read, in the order of the graph."""
    for layer in layers:
        if layer.kind not in _WEIGHTED:
            continue
        for given in layer.inputs:
            source = given.inputs[0] if given.kind == "Convert" and given.inputs else given
            if source.kind == "Const" and source.data["element_type"] in _REAL:
                yield layer, source


def _values(constant: _Layer, blob: bytes) -> NDArray[Any]:
    shape = [int(side) for side in constant.data["shape"].split(",") if side.strip()]
    offset, size = int(constant.data["offset"]), int(constant.data["size"])
    kind = np.dtype(_TYPES[constant.data["element_type"]])
    count = math.prod(shape)
    if min(shape, default=1) < 1 or size != count * kind.itemsize:
        raise ValueError(f"{constant.name}: shape {shape} in {size} bytes")
    if not 0 <= offset <= len(blob) - size:
        raise ValueError(f"{constant.name}: bytes {offset} to {offset + size} of {len(blob)}")
    return np.frombuffer(blob, kind, count, offset).reshape(shape)


def _as_torch(kind: str, values: NDArray[Any]) -> Tensor:
    tensor = torch.from_numpy(values.astype(np.float32))
    if kind in ("Multiply", "Add", "PReLU"):
        return tensor.flatten()  # (1, C, 1, 1) to (C,)
    # Channels of depth-wise kernels stand in groups of one: (C, 1, 1, h, w) to (C, 1, h, w).
    return tensor.flatten(0, 1) if kind == "GroupConvolution" else tensor


def _with_batch_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give every folded batch norm the rest of its tensors, so that it only shifts."""
    shifts = [name for name in state if name.endswith(("bn.bias", "fc.1.bias"))]
    for name in shifts:
        layer = name.removesuffix(".bias")
        if layer == "conv1.bn":
            continue  # instance norm, which has no statistics
        ones = torch.ones_like(state[name])
        state.setdefault(f"{layer}.weight", ones)
        state[f"{layer}.running_mean"] = torch.zeros_like(ones)
        state[f"{layer}.running_var"] = ones - BATCH_NORM_EPS
    return state


def _is_bgr_turned(gather: _Layer, blob: bytes) -> bool:
    source, *rest = gather.inputs
    if source.kind != "Parameter" or any(given.kind != "Const" for given in rest):
        return False
    return [_values(given, blob).tolist() for given in rest] == [[2, 1, 0], [1]]


def _slots() -> Iterator[tuple[str, str]]:
    """Give operation and parameter name of every weight, in the order of the graph."""
    yield from (("Multiply", "in_first.weight"), ("Add", "in_first.bias"))
    yield "Convolution", "conv1.conv.weight"
    yield from (("Multiply", "conv1.bn.weight"), ("Add", "conv1.bn.bias"))
    for stage in ("conv2", "conv3", "conv4"):
        for number, gate in enumerate(_GATES):
            yield from _block(f"{stage}.{number}", gate)
        if stage != "conv4":
            yield from _folded(f"{stage}.2.0")
    yield from _folded("conv5")
    yield from (("GroupConvolution", "global_avgpool.weight"), ("Add", "global_avgpool.bias"))
    yield from (("MatMul", "fc.0.weight"), ("Add", "fc.0.bias"))
    yield from (("Multiply", "fc.1.weight"), ("Add", "fc.1.bias"), ("PReLU", "fc.2.weight"))


def _block(block: str, gate: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str]]:
    yield from _folded(f"{block}.conv1")
    for depth, stream in enumerate("abcd", start=1):
        for index in range(depth):
            light = f"{block}.conv2{stream}" + (f".{index}" if depth > 1 else "")
            yield "Convolution", f"{light}.conv1.weight"
            yield "GroupConvolution", f"{light}.conv2.weight"
            yield "Add", f"{light}.bn.bias"
        yield from ((kind, f"{block}.gate.{name}") for kind, name in gate)
    yield from _folded(f"{block}.conv3")
    if block.endswith(".0"):
        yield from _folded(f"{block}.downsample")


def _folded(name: str) -> Iterator[tuple[str, str]]:
    yield from (("Convolution", f"{name}.conv.weight"), ("Add", f"{name}.bn.bias"))
