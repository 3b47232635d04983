"""Settings for programs that read their own: DeepStream's tracker and Triton."""

from collections.abc import Sequence

from resolute.core.types import InputSpec
from resolute.core.version import __version__
from resolute.inference.presets import IMAGENET, find_preset

_MEANS = tuple(round(255 * m, 3) for m in IMAGENET.mean)
_LARGEST_BATCH = 128


def deepstream(file: str, sha256: str, *, preset: str, spec: InputSpec, size: int) -> str:
    """Write the ``ReID:`` block of nvtracker's settings.

    Args:
        file: name of the graph.
        sha256: of the graph.
        preset: how it takes pixels.
        spec: input size.
        size: length of its vector.

    Returns:
        YAML.
    """
    pixels = find_preset(preset)
    note = ""
    offsets, factor = [0.0, 0.0, 0.0], pixels.white / 255
    if pixels.is_normalised:
        # nvtracker has one factor for three channels: the mean of 1 / (255 deviation).
        offsets, factor = list(_MEANS), sum(1 / (255 * s) for s in IMAGENET.std) / 3
        note = "# one factor for three deviations: within 1 %; the preset raw-rgb is exact\n"
    lines = {
        "reidType": "1  # 1 = DeepSORT, 2 = re-association",
        "onnxFile": f'"{file}"',
        "batchSize": "100",
        "networkMode": "0  # 0 = fp32, 1 = fp16",
        "inferDims": f"[3, {spec.height}, {spec.width}]",
        "inputOrder": "0  # NCHW",
        "colorFormat": f"{int(pixels.is_bgr)}  # 0 = RGB, 1 = BGR",
        "netScaleFactor": f"{factor:.8g}",
        "offsets": str(offsets),
        "keepAspc": "0  # the network was trained on stretched crops",
        "reidFeatureSize": str(size),
        "reidHistorySize": "100",
        "addFeatureNormalization": "0  # the vector has length 1 already",
    }
    body = "\n".join(f"  {key}: {value}" for key, value in lines.items())
    return f"{_origin(file, sha256)}{note}ReID:\n{body}\n"


def triton(name: str, file: str, sha256: str, *, sizes: Sequence[int]) -> str:
    """Write ``config.pbtxt`` of a model repository.

    Args:
        name: name of the model in the repository.
        file: name of the graph, to be copied to ``NAME/1/model.onnx``.
        sha256: of the graph.
        sizes: input height, input width, length of the vector.

    Returns:
        Protobuf text.
    """
    height, width, size = sizes
    origin = _origin(file, sha256)
    return f"""{origin}# copy to {name}/config.pbtxt, the graph to {name}/1/model.onnx
name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: {_LARGEST_BATCH}
input [ {{ name: "images" data_type: TYPE_FP32 dims: [ 3, {height}, {width} ] }} ]
output [ {{ name: "output0" data_type: TYPE_FP32 dims: [ {size} ] }} ]
dynamic_batching {{ max_queue_delay_microseconds: 2000 }}
"""


def _origin(file: str, sha256: str) -> str:
    return f"# made by resolute {__version__} for {file}\n# sha256 {sha256}\n"
