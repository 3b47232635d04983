"""OpenVINO's own format, and quantisation to 8 bits after training."""

import contextlib
import io
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resolute.inference.sessions import Floats

Feed = Mapping[str, Floats]  # inputs by name, one batch


def write_ir(blob: bytes, path: Path, *, calibration: Iterable[Feed] | None = None) -> None:
    """Convert an ONNX graph to OpenVINO IR in full precision, or quantised to int8.

    Args:
        blob: the ONNX file.
        path: ``.xml`` file to write; ``.bin`` comes beside it.
        calibration: inputs on which the ranges of int8 are measured; None keeps float32.
    """
    import openvino

    model = openvino.Core().read_model(blob)
    if calibration is not None:
        model = _quantised(model, [dict(feed) for feed in calibration])
    openvino.save_model(model, path, compress_to_fp16=False)


def _quantised(model: Any, feeds: list[dict[str, Floats]]) -> Any:
    # Deprecations between packages that nncf brings along, and its progress bar.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        import nncf  # type: ignore[import-not-found]

        # Mixed: activations that are not symmetric around zero get ranges of their own.
        preset = nncf.QuantizationPreset.MIXED
        return nncf.quantize(model, nncf.Dataset(feeds), preset=preset, subset_size=len(feeds))
