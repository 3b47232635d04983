"""The JSON file beside an exported network, and reading both without trusting either.

``model.onnx.metadata.json`` holds the keys that BoxMOT looks for, and under ``resolute`` what our
own loading needs. The sha256 of every graph stands in it; a graph is read once, checked, and
given to the runtime as those very bytes.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resolute.core.config import from_mapping, to_mapping
from resolute.core.errors import CheckpointError
from resolute.core.types import InputSpec
from resolute.methods.graph import Routing

SUFFIX = ".metadata.json"
FORMAT = 1
_LARGEST_SIDECAR = 16 * 2**20  # bytes
_LARGEST_GRAPH = 2**31  # bytes; a protobuf cannot be larger

Kind = Literal["tracker", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFile:
    """One graph on disk.

    Attributes:
        file: its name, in the folder of the sidecar.
        sha256: of its bytes.
        weights: name of the file with its weights; empty where the graph holds them.
        weights_sha256: of that file.
        rates: one input per entry: what the native size is divided by on the way to it.
    """

    file: str
    sha256: str
    weights: str = ""
    weights_sha256: str = ""
    rates: tuple[float, ...] = (1.0,)

    def input_names(self) -> tuple[str, ...]:
        """Name the inputs of the graph: ``images``, then ``images_1`` for the next rate."""
        return ("images", *(f"images_{i}" for i in range(1, len(self.rates))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """What an exported network is.

    Attributes:
        format: version of this description.
        version: version of this library that wrote it.
        kind: tracker = one image in, one vector out; full = all streams, their qualities and norms.
        method: name of the method.
        preset: how pixels are given, see :mod:`resolute.inference.presets`.
        branch: hr, lr or auto: which role every image of a tracker takes.
        precision: f32 or int8.
        input_spec: input size, and how the method normalises.
        hr: graph for HR images.
        lr: graph for LR images; may be the same file.
        routing: roles of images of unknown resolution.
        num_streams: vectors per image S.
        dim: length D of each.
        metric: as in `Embedding`.
        fusion: as in `Embedding`.
        constant: as in `Embedding`.
        is_mirrored: each image is to be averaged with its mirror image by whoever runs the graph.
        fingerprint: of the space the vectors live in.
        source_sha256: of the model file it was made from.
        gate: how ``auto`` decides and how well: threshold, what it was measured on, accuracies.
        versions: of the packages that made it.
        run: metadata of the model file.
    """

    format: int = FORMAT
    version: str
    kind: Kind
    method: str
    preset: str
    branch: str
    precision: str
    input_spec: InputSpec
    hr: GraphFile
    lr: GraphFile
    routing: Routing
    num_streams: int
    dim: int
    metric: str
    fusion: str
    constant: float
    is_mirrored: bool
    fingerprint: str
    source_sha256: str
    gate: dict[str, Any]
    versions: dict[str, str]
    run: dict[str, Any]

    def file_names(self) -> tuple[str, ...]:
        """Name the files of the network, each once; all lie in one folder."""
        names = (self.hr.file, self.hr.weights, self.lr.file, self.lr.weights)
        return tuple(dict.fromkeys(name for name in names if name))

    def output_names(self) -> tuple[str, ...]:
        """Name the outputs of the graph that our own loading reads, in order."""
        if self.kind == "tracker":
            return ("output0",)
        streams = ("hr", "lr")[: self.num_streams]
        return tuple(f"{letter}_{stream}" for letter in "vwn" for stream in streams)

    def write(self, path: Path, *, backbone: str) -> None:
        """Write the sidecar of a graph.

        Args:
            path: the graph; the sidecar's name is its name with ``.metadata.json``.
            backbone: name of the network, for BoxMOT.
        """
        size = [self.input_spec.height, self.input_spec.width]
        document = {
            "model_name": backbone,
            "preprocess": "resize",
            "img_size": size,
            "model_kwargs": {"img_size": size},
            "source_sha256": self.source_sha256,
            "artifact_sha256": self.hr.sha256,
            "resolute": to_mapping(self),
        }
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"
        sidecar_of(path).write_text(text, encoding="utf-8")


def sidecar_of(graph: Path) -> Path:
    """Name the sidecar of a graph.

    Args:
        graph: for example ``model.onnx``.

    Returns:
        ``model.onnx.metadata.json`` in the same folder.
    """
    return graph.with_name(graph.name + SUFFIX)


def read_sidecar(graph: Path) -> Sidecar:
    """Read and check the sidecar of a graph.

    Args:
        graph: the exported file.

    Returns:
        What the file says it is.

    Raises:
        CheckpointError: if there is no sidecar, or it is too large, damaged, of a later version,
            or names a file outside its folder.
    """
    path = sidecar_of(graph)
    if _is_absent(path):
        raise CheckpointError(
            f"{graph}: needs {path.name} beside it; only files of `resolute export` can be opened, "
            "and of two graphs the one that has it"
        )
    try:
        document = json.loads(read_bounded(path, _LARGEST_SIDECAR))
        mapping = document["resolute"]
        if mapping["format"] != FORMAT:
            raise CheckpointError(
                f"{path}: expected format {FORMAT}, got {mapping['format']!r}: export it again, "
                "or use the version of this library that wrote it"
            )
        sidecar = from_mapping(Sidecar, mapping)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: no sidecar of an exported network ({error})") from None
    for name in sidecar.file_names():
        if name != Path(name).name or "\\" in name or name in (".", ".."):
            raise CheckpointError(f"{path}: expected file names beside it, got {name!r}")
    if not 1 <= sidecar.num_streams <= 2 or sidecar.dim < 1 or not sidecar.hr.rates:
        raise CheckpointError(f"{path}: streams, length or rates are out of range")
    return sidecar


def check_complete(folder: Path, sidecar: Sidecar) -> None:
    """See that all files of a network are there.

    Args:
        folder: where the sidecar is.
        sidecar: what it says.

    Raises:
        CheckpointError: if one is missing; the message names all that belong together.
    """
    for name in sidecar.file_names():
        if _is_absent(folder / name):
            whole = ", ".join((*sidecar.file_names(), sidecar.hr.file + SUFFIX))
            raise CheckpointError(
                f"{folder / name}: expected a file, found none; copy together, under these names: "
                f"{whole}"
            )


def _is_absent(path: Path) -> bool:
    return not path.exists() and not path.is_symlink()


def read_graph(folder: Path, graph: GraphFile) -> tuple[bytes, bytes]:
    """Read a graph and its separate weights and verify their digests.

    Args:
        folder: where the sidecar is.
        graph: what the sidecar says.

    Returns:
        The bytes of both; none for weights inside the graph.

    Raises:
        CheckpointError: if a file is missing, a link, too large, or not the one described.
    """
    blobs = []
    for name, sha256 in ((graph.file, graph.sha256), (graph.weights, graph.weights_sha256)):
        blob = read_bounded(folder / name, _LARGEST_GRAPH) if name else b""
        if name and hashlib.sha256(blob).hexdigest() != sha256:
            raise CheckpointError(
                f"{folder / name}: expected sha256 {sha256}, got "
                f"{hashlib.sha256(blob).hexdigest()}: copy graph and sidecar again, together"
            )
        blobs.append(blob)
    return blobs[0], blobs[1]


def read_bounded(path: Path, largest: int) -> bytes:
    """Read a plain file that is not larger than it may be.

    Args:
        path: the file.
        largest: limit in bytes.

    Returns:
        Its bytes.

    Raises:
        CheckpointError: if it is missing, no plain file, or larger.
    """
    try:
        if path.is_symlink() or not path.is_file():
            raise CheckpointError(f"{path}: expected a file, found none or a link")
        with path.open("rb") as file:
            blob = file.read(largest + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if len(blob) > largest:
        raise CheckpointError(f"{path}: expected at most {largest} bytes, got more")
    return blob
