"""Trace a module into the bytes of one ONNX file that any consumer can open.

Opset 18, IR version 10, weights inside, standard operators only, batch as the one free axis.
"""

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from resolute.core.errors import ConfigError
from resolute.core.types import InputSpec
from resolute.inference.presets import IMAGENET, Preset

OPSET = 18  # what torch's exporter writes by itself; 18 of the standard, no later one is needed
IR_VERSION = 10  # BoxMOT and older runtimes read no later one
BATCH = "batch"


def trace(
    module: nn.Module, spec: InputSpec, *, inputs: Sequence[str], outputs: Sequence[str]
) -> bytes:
    """Trace a module.

    Args:
        module: in eval mode, on the CPU; takes one tensor (N, 3, H, W) per input.
        spec: input size.
        inputs: names of the inputs.
        outputs: names of the outputs.

    Returns:
        The ONNX file. It holds no path and no name of this machine.

    Raises:
        ConfigError: if the package onnx is not installed, or the module cannot be traced.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError:
        raise ConfigError('export needs onnx: pip install "resolute-reid[onnx]"') from None
    # Two images: one alone would be taken for a constant.
    examples = tuple(torch.zeros(2, 3, spec.height, spec.width) for _ in inputs)
    batch = torch.export.Dim(BATCH)
    free: Any = tuple({0: batch} for _ in inputs)
    with warnings.catch_warnings(), torch.no_grad():
        # Deprecations between torch's own parts, which differ from version to version.
        for package in ("torch", "onnxscript", "onnx_ir", "copyreg"):
            warnings.filterwarnings("ignore", module=rf"{package}(\.|$)")
        try:
            program = torch.onnx.export(
                module,
                examples,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=(free,) if _takes_many(module) else free,
                external_data=False,
                optimize=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(f"this method cannot be traced: {reason}") from error
    if program is None:
        raise ConfigError("this method cannot be traced: torch gave no program")
    model = program.model_proto
    _strip(model)
    model.ir_version = min(model.ir_version, IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    blob: bytes = model.SerializeToString(deterministic=True)
    return blob


def add_head(blob: bytes, preset: Preset, spec: InputSpec) -> bytes:
    """Put the step from a consumer's pixels to normalised input in front of a traced graph.

    Mean and deviation stay an explicit step: folded into the first convolution they would be
    wrong at its zero-padded border.

    Args:
        blob: file of :func:`trace`, which takes normalised input.
        preset: how the consumer gives pixels.
        spec: how the method normalises.

    Returns:
        The file with the same names of inputs and outputs.
    """
    import onnx

    mean, std = np.array(spec.mean), np.array(spec.std)
    if preset.is_normalised:
        scale, shift = np.array(IMAGENET.std) / std, (np.array(IMAGENET.mean) - mean) / std
    else:
        scale, shift = 1 / (preset.white * std), -mean / std
    if not preset.is_bgr and np.all(scale == 1) and np.all(shift == 0):
        return blob
    model = onnx.load_model_from_string(blob)
    graph = model.graph
    constants = {
        "head_order": np.array([2, 1, 0], dtype=np.int64),
        "head_scale": scale.astype(np.float32).reshape(1, 3, 1, 1),
        "head_shift": shift.astype(np.float32).reshape(1, 3, 1, 1),
    }
    if not preset.is_bgr:
        del constants["head_order"]
    graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in constants.items())
    head: list[Any] = []
    node = onnx.helper.make_node
    for name in [item.name for item in graph.input]:
        for later in graph.node:
            later.input[:] = [f"{name}_normalised" if i == name else i for i in later.input]
        first = name
        if preset.is_bgr:
            first = f"{name}_rgb"
            head.append(node("Gather", [name, "head_order"], [first], axis=1))
        head.append(node("Mul", [first, "head_scale"], [f"{name}_scaled"]))
        head.append(node("Add", [f"{name}_scaled", "head_shift"], [f"{name}_normalised"]))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*head, *rest])
    onnx.checker.check_model(model, full_check=True)
    whole: bytes = model.SerializeToString(deterministic=True)
    return whole


def _takes_many(module: nn.Module) -> bool:
    parameters = inspect.signature(module.forward).parameters.values()
    return any(p.kind == p.VAR_POSITIONAL for p in parameters)


def _strip(model: Any) -> None:
    """Remove what tracing wrote about the machine: stack traces, paths, module names."""
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input):
        del item.metadata_props[:]
        item.doc_string = ""
    for item in graph.output:
        del item.metadata_props[:]
