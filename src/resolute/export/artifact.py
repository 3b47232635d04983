"""From a run to files that other programs run, each checked against torch before it appears."""

import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resolute.core.errors import ConfigError
from resolute.core.images import Images
from resolute.core.types import InputSpec
from resolute.core.version import __version__
from resolute.engine.provenance import portable, sha256_of
from resolute.engine.run import CONFIG_NAME
from resolute.engine.score import all_versions
from resolute.export.config import ExportConfig
from resolute.export.gate import GateReport
from resolute.export.onnx_file import add_head
from resolute.export.openvino_ir import write_ir
from resolute.export.parity import Parity, check_parity
from resolute.export.samples import Samples, drawn_people
from resolute.export.snippets import deepstream, triton
from resolute.export.tracing import TracedModel, native_cosine, trace_full, trace_tracker
from resolute.inference.calibration import CALIBRATION_NAME
from resolute.inference.load import find_model, load
from resolute.inference.model import Model
from resolute.inference.presets import find_preset
from resolute.inference.runtimes import Exported, graph_inputs, open_exported
from resolute.inference.shipped import is_shipped
from resolute.inference.sidecar import GraphFile, Sidecar
from resolute.methods.graph import Graphs, Traceable

NUM_PARITY = 17  # images


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What an export wrote and what was found on the way.

    Attributes:
        files: the graph first, then everything beside it.
        parity: closeness to torch, per runtime and batch size.
        gate: how ``auto`` was set; None where no gate is needed.
        native_cosine: of a tracker: mean cosine with the vector that the native size, which a
            tracker throws away, would give; None for ``full``.
    """

    files: tuple[Path, ...]
    parity: tuple[Parity, ...]
    gate: GateReport | None
    native_cosine: float | None


def export(
    run: str | Path,
    config: ExportConfig,
    *,
    out: Path | None = None,
    samples: Samples | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> list[Written]:
    """Write one exported graph per preset with everything that belongs beside it.

    Args:
        run: run folder, model file or name of a model.
        config: what to write.
        out: folder to write to; ``export`` in the run folder by default. Must be given for a model
            that comes with the package.
        samples: images that set the gate and int8, and that parity is checked on; drawn people by
            default.
        overrides: settings of the method to change by name, for example ``{"fusion": "hr"}``.

    Returns:
        Per preset, the files and what was measured.

    Raises:
        ConfigError: if the method cannot be exported, a package is missing, the gate cannot tell
            HR from LR, or it is not said where a model of the package is to be written.
        CheckpointError: if there is no model, or the exported file differs from torch; then
            nothing is written.
    """
    source = find_model(run)
    if out is None and is_shipped(source):
        raise ConfigError(
            f"{run}: comes with the package, whose folder is not written to; say where: --out DIR"
        )
    return export_model(
        load(run, overrides=overrides),
        config,
        source=source,
        out=out or source.parent / "export",
        samples=samples,
    )


def export_model(
    model: Model,
    config: ExportConfig,
    *,
    source: Path,
    out: Path,
    samples: Samples | None = None,
) -> list[Written]:
    """Write a loaded model; see :func:`export`.

    Args:
        model: what is exported; on the CPU.
        config: what to write.
        source: file it was loaded from; settings and calibration beside it are copied.
        out: folder to write to.
        samples: images that set the gate and int8, and that parity is checked on.

    Returns:
        Per preset, the files and what was measured.

    Raises:
        ConfigError: if the method has no graphs to export, or was exported already.
    """
    if isinstance(model.method, Exported):
        raise ConfigError(f"{source}: an exported file already; give the run folder it was made of")
    if not isinstance(model.method, Traceable):
        raise ConfigError(
            f"method {model.blueprint.name}: has no graphs() to export, see resolute.methods.graph"
        )
    runtimes = _runtimes(config)
    graphs = model.method.graphs()
    samples = samples or drawn_people()
    is_full = config.artifact == "full"
    traced = trace_full(model, graphs) if is_full else trace_tracker(model, graphs, config, samples)
    images = samples.mixture(NUM_PARITY)
    kept = None if is_full else native_cosine(model, graphs, traced, images)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for preset in config.preset:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as scratch:
            graph = Path(scratch) / config.file_name(preset)
            files = _write_graphs(graph, config, traced, samples, (preset, model.input_spec))
            sidecar = _describe(model, graphs, config, traced, files)
            sidecar = replace(sidecar, preset=preset, source_sha256=sha256_of(source))
            sidecar.write(graph, backbone=model.blueprint.model.backbone)
            parity = _check(graph, runtimes, traced, images)
            _write_beside(graph, config, sidecar)
            is_own_space = sidecar.fingerprint == model.fingerprint
            _copy_beside(source.parent, Path(scratch), with_calibration=is_own_space)
            names = sorted(path.name for path in Path(scratch).iterdir())
            names.sort(key=lambda name: name != graph.name)
            for name in names:
                (Path(scratch) / name).replace(out / name)
        paths = tuple(out / name for name in names)
        written.append(Written(files=paths, parity=parity, gate=traced.gate, native_cosine=kept))
    return written


def _check(
    graph: Path, runtimes: Sequence[str], traced: TracedModel, images: Images
) -> tuple[Parity, ...]:
    rows: list[Parity] = []
    for runtime in runtimes:
        opened = open_exported(graph, runtime=runtime)
        rows += check_parity(graph, opened, traced.reference, images)
    return tuple(rows)


def _runtimes(config: ExportConfig) -> list[str]:
    """Name the runtimes that parity is checked in: all that are installed and read the format.

    Raises:
        ConfigError: if there is none, or int8 is asked for without its package.
    """
    wanted = ["onnxruntime", "openvino"] if config.format == "onnx" else ["openvino"]
    found = [name for name in wanted if importlib.util.find_spec(name)]
    if not found:
        extra = "onnx" if config.format == "onnx" else "openvino"
        raise ConfigError(
            f"export checks the file in {' or '.join(wanted)}, which is not installed: "
            f'pip install "resolute-reid[{extra}]"'
        )
    if config.precision == "int8" and not importlib.util.find_spec("nncf"):
        raise ConfigError('precision int8 needs nncf: pip install "resolute-reid[int8]"')
    return found


def _write_graphs(
    graph: Path,
    config: ExportConfig,
    traced: TracedModel,
    samples: Samples,
    pixels: tuple[str, InputSpec],
) -> dict[str, GraphFile]:
    """Write the graph of every role and describe the files."""
    preset, spec = pixels
    files = {}
    for role, blob in traced.blobs.items():
        path = graph if role == "hr" else graph.with_stem(f"{graph.stem}-{role}")
        whole = add_head(blob, find_preset(preset), spec)
        described = GraphFile(file=path.name, sha256="", rates=traced.rates[role])
        if config.format == "onnx":
            path.write_bytes(whole)
            files[role] = replace(described, sha256=sha256_of(path))
            continue
        feeds = None
        if config.precision == "int8":
            feeds = [
                graph_inputs(described, images, preset=preset, spec=spec)
                for kind in (("hr", "lr") if len(traced.blobs) == 1 else (role,))
                for images in samples.batches(kind, size=1)
            ]
        write_ir(whole, path, calibration=feeds)
        weights = path.with_suffix(".bin")
        files[role] = replace(
            described,
            sha256=sha256_of(path),
            weights=weights.name,
            weights_sha256=sha256_of(weights),
        )
    return files


def _describe(
    model: Model,
    graphs: Graphs,
    config: ExportConfig,
    traced: TracedModel,
    files: Mapping[str, GraphFile],
) -> Sidecar:
    """Say what the files are; the caller fills in preset and source."""
    spec = model.input_spec
    one = Images(
        pixels=torch.zeros(1, 3, spec.height, spec.width, dtype=torch.uint8),
        native_sizes=torch.tensor([[spec.height, spec.width]]),
        resolution=torch.zeros(1, dtype=torch.int64),
    )
    _, num_streams, dim = traced.reference(one).vectors.shape
    metadata = {**model.metadata, "blueprint": portable(model.blueprint.to_mapping())}
    return Sidecar(
        version=__version__,
        kind=config.artifact,
        method=model.blueprint.name,
        preset="",
        branch=str(traced.identity.get("branch", "")),
        precision=config.precision,
        input_spec=spec,
        hr=files["hr"],
        lr=files.get("lr", files["hr"]),
        routing=traced.routing,
        num_streams=num_streams,
        dim=dim,
        metric=graphs.metric,
        fusion=graphs.fusion,
        constant=graphs.constant,
        is_mirrored=graphs.is_mirrored,
        fingerprint=_fingerprint(model, config, traced, files),
        source_sha256="",
        gate=traced.gate.to_mapping() if traced.gate else {},
        versions={**all_versions(), **_versions()},
        run=metadata,
    )


def _fingerprint(
    model: Model, config: ExportConfig, traced: TracedModel, files: Mapping[str, GraphFile]
) -> str:
    """Name the space of the vectors: the model's own for ``full`` in float32, else another."""
    identity = dict(traced.identity)
    if config.precision != "f32":
        identity["graphs"] = sorted(file.weights_sha256 for file in files.values())
    if not identity:
        return model.fingerprint
    text = f"{model.fingerprint} {json.dumps(identity, sort_keys=True)}"
    return hashlib.sha256(text.encode()).hexdigest()


def _write_beside(graph: Path, config: ExportConfig, sidecar: Sidecar) -> None:
    """Write the settings of programs that read their own."""
    if (config.artifact, config.format) != ("tracker", "onnx"):
        return
    spec, file = sidecar.input_spec, sidecar.hr
    texts = {
        "deepstream.yml": deepstream(
            file.file, file.sha256, preset=sidecar.preset, spec=spec, size=sidecar.dim
        ),
        "config.pbtxt": triton(
            graph.stem, file.file, file.sha256, sizes=(spec.height, spec.width, sidecar.dim)
        ),
    }
    for ending, text in texts.items():
        graph.with_name(f"{graph.stem}.{ending}").write_text(text, encoding="utf-8")


def _copy_beside(run: Path, folder: Path, *, with_calibration: bool) -> None:
    """Copy what evaluating and comparing with the file alone needs."""
    names = [CONFIG_NAME, CALIBRATION_NAME] if with_calibration else [CONFIG_NAME]
    for name in names:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)


def _versions() -> dict[str, str]:
    packages = ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf")
    found = {name: importlib.util.find_spec(name) for name in packages}
    return {name: _version(name) for name, spec in found.items() if spec}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        # The module of a package by another name: onnxruntime of onnxruntime-gpu, say.
        return str(getattr(importlib.import_module(name), "__version__", "unknown"))
