"""The runtimes that an exported graph can run in, with what they refuse to open.

Each package is loaded when asked for; nothing here executes anything but standard operators.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import CheckpointError, ConfigError
from resolute.inference.signal_stack import signal_stack_kept

Floats = NDArray[np.float32]
# onnxruntime's own errors share no class of theirs.
_ORT_ERRORS = (
    "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf",
    "ModelLoaded", "NoModel", "NoSuchFile", "NotImplemented", "RuntimeException",
)  # fmt: skip
# Messages of an ONNX file that hold no tensor.
_PLAIN = ("StringStringEntryProto", "OperatorSetIdProto", "ValueInfoProto", "TypeProto")


class Session(Protocol):
    """One graph, ready to run, from any number of threads."""

    def run(self, inputs: Mapping[str, Floats], outputs: Sequence[str]) -> list[Floats]:
        """Run the graph on named arrays and return the named outputs."""


class OnnxRuntime:
    """A graph in onnxruntime, on the CPU."""

    def __init__(self, model: bytes, *, threads: int) -> None:
        """Check the graph and compile it.

        Args:
            model: the file.
            threads: number of threads.

        Raises:
            CheckpointError: if the graph is damaged or holds what no export of ours holds.
            ConfigError: if onnxruntime is not installed.
        """
        try:
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as state
        except ImportError:
            raise ConfigError(_missing("onnxruntime", "onnx")) from None
        check_onnx(model)
        self._errors = tuple(getattr(state, name) for name in _ORT_ERRORS if hasattr(state, name))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin between two batches would take the processor from the decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except (*self._errors, ValueError) as error:
            raise CheckpointError(f"onnxruntime cannot run this graph: {_line(error)}") from None

    def run(self, inputs: Mapping[str, Floats], outputs: Sequence[str]) -> list[Floats]:
        """Run the graph.

        Args:
            inputs: arrays by name.
            outputs: names of what to return.

        Returns:
            The outputs in that order.

        Raises:
            CheckpointError: if the graph does not take these inputs or lacks an output.
        """
        try:
            found: list[Floats] = self._session.run(list(outputs), dict(inputs))
        except (*self._errors, ValueError) as error:
            raise CheckpointError(f"onnxruntime cannot run this graph: {_line(error)}") from None
        return found


class OpenVino:
    """A graph in OpenVINO, on the CPU."""

    def __init__(self, model: bytes, weights: bytes, *, precision: str, threads: int) -> None:
        """Check the graph and compile it.

        Args:
            model: an ONNX file, or the XML of an IR.
            weights: the binary of an IR.
            precision: ``bf16`` computes in it; anything else in float32 or as quantised.
            threads: number of threads.

        Raises:
            CheckpointError: if the graph is damaged.
            ConfigError: if OpenVINO is not installed, or the processor has no bf16.
        """
        try:
            import openvino
        except ImportError:
            raise ConfigError(_missing("openvino", "openvino")) from None
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        ):
            raise ConfigError("precision bf16: this processor cannot compute in it; use f32")
        if not weights:
            check_onnx(model)
        settings: dict[str, Any] = {
            # OpenVINO would take bf16 by itself where it can, and drift.
            "INFERENCE_PRECISION_HINT": precision if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            # Without weights the binding takes no second argument.
            graph = core.read_model(*([model, weights] if weights else [model]))
            with signal_stack_kept():
                self._compiled = core.compile_model(graph, "CPU", settings)
        except (RuntimeError, ValueError, TypeError) as error:
            raise CheckpointError(f"openvino cannot run this graph: {_line(error)}") from None
        self._request = self._compiled.create_infer_request()
        self._turn = threading.Lock()

    def run(self, inputs: Mapping[str, Floats], outputs: Sequence[str]) -> list[Floats]:
        """Run the graph.

        Args:
            inputs: arrays by name.
            outputs: names of what to return.

        Returns:
            The outputs in that order, copied out of the runtime's memory.

        Raises:
            CheckpointError: if the graph does not take these inputs or lacks an output.
        """
        try:
            # A request holds the outputs of its last call alone. One per thread would take the
            # graph's memory for each and gain little: compiled for latency, calls queue anyway.
            with self._turn:
                self._request.infer(dict(inputs), share_inputs=True)
                found = [self._request.get_tensor(name).data for name in outputs]
                return [np.array(output, np.float32) for output in found]
        except (RuntimeError, ValueError, TypeError) as error:
            raise CheckpointError(f"openvino cannot run this graph: {_line(error)}") from None


def check_onnx(model: bytes) -> None:
    """Refuse an ONNX file that is damaged or holds what no export of ours holds.

    Args:
        model: the file.

    Raises:
        CheckpointError: if it cannot be parsed, keeps weights in other files, or asks for
            operators outside the standard.
        ConfigError: if the package onnx is not installed.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError(_missing("onnx", "onnx")) from None
    try:
        parsed = onnx.load_model_from_string(model)
    except DecodeError:
        raise CheckpointError("expected an ONNX graph: the bytes cannot be parsed") from None
    # Weights in other files have been a way to read any file of the machine.
    if any(onnx.external_data_helper.uses_external_data(t) for t in _tensors(parsed, onnx)):
        raise CheckpointError("expected one file: this graph keeps weights in other files")
    domains = sorted({item.domain for item in parsed.opset_import} - {"", "ai.onnx"})
    if domains or not parsed.graph.node:
        raise CheckpointError(f"expected standard operators, got domains {domains or 'none'}")


def _tensors(model: Any, onnx: Any) -> list[Any]:
    """List every tensor of a parsed model, those inside operators and subgraphs too."""
    found: list[Any] = []
    pending: list[Any] = [model]
    while pending:
        message = pending.pop()
        if isinstance(message, onnx.TensorProto):
            found.append(message)
            continue
        for field, value in message.ListFields():
            if field.message_type is None or field.message_type.name in _PLAIN:
                continue
            pending += value if hasattr(value, "__len__") else [value]
    return found


def _missing(package: str, extra: str) -> str:
    return f'{package} is not installed: pip install "resolute-reid[{extra}]"'


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
