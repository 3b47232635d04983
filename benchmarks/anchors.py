r"""Score networks that others trained, as they come: what a practitioner would pick today.

ONNX files are fed as Torchreid feeds its networks (RGB, ImageNet mean and std), OpenVINO IR as the
Open Model Zoo does (BGR, 0 to 255). LR images are enlarged to the input size. The results are kept
beside those of ``resolute table``, as rows without training; weight files that ``resolute
convert`` reads need no help from here (``resolute table --anchors``).

    pip install "resolute-reid[onnx,openvino]"
    python benchmarks/anchors.py osnet_x0_25_msmt17.onnx person-reidentification-retail-0277.xml \
        --data mlr-viper --root ~/viper --trials 0-4
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from resolute.cli.table import counts
from resolute.core.config import override, to_mapping
from resolute.core.images import Images
from resolute.core.types import Embedding, InputSpec
from resolute.data.benchmark import open_split
from resolute.data.degrade import to_input
from resolute.engine.config import RunConfig
from resolute.engine.provenance import portable, start_of
from resolute.engine.result import Result
from resolute.engine.score import all_versions, score_split
from resolute.methods.contract import Method
from resolute.methods.variants import VARIANTS
from resolute.models.config import ModelConfig
from resolute.tables.cells import Cell, benchmark_of

Floats = NDArray[np.float32]
Run = Callable[[Floats], Floats]

RGB_IMAGENET = InputSpec()
RGB_LEVELS = InputSpec(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))


class Network:
    """A foreign network that keeps what scoring asks of a method.

    Attributes:
        input_spec: how pixels become its input.
    """

    def __init__(self, run: Run, input_spec: InputSpec, *, is_bgr: bool) -> None:
        self.input_spec = input_spec
        self._run, self._is_bgr = run, is_bgr

    def embed(self, images: Images) -> Embedding:
        """Embed images by one vector each, of length 1."""
        inputs = to_input(images, self.input_spec)  # (N, 3, H, W)
        if self._is_bgr:
            inputs = inputs.flip(1)
        vectors = self._run(np.ascontiguousarray(inputs.numpy()))  # (N, D)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embedding(
            vectors=vectors[:, None].astype(np.float32),
            quality=np.ones((len(vectors), 1), dtype=np.float32),
            native_sizes=images.native_sizes.numpy(),
        )


def open_onnx(file: Path) -> tuple[Network, int, str]:
    """Open an ONNX file; give the network, its number of parameters and the runtime's version."""
    import onnx
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parameters = sum(int(np.prod(t.dims)) for t in onnx.load(str(file)).graph.initializer)

    def run(inputs: Floats) -> Floats:
        return cast(Floats, session.run(None, {name: inputs})[0])

    network = Network(run, RGB_IMAGENET, is_bgr=False)
    return network, parameters, f"onnxruntime {onnxruntime.__version__}"


def open_ir(file: Path) -> tuple[Network, int, str]:
    """Open an OpenVINO IR; give the network, its number of parameters and the runtime's version."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(file))
    parameters = sum(
        int(np.prod(list(op.get_output_shape(0))))
        for op in model.get_ops()
        if op.get_type_name() == "Constant" and op.get_element_type().is_real()
    )
    model.reshape([-1, 3, RGB_LEVELS.height, RGB_LEVELS.width])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(inputs: Floats) -> Floats:
        return cast(Floats, compiled(inputs)[compiled.output(0)])

    network = Network(run, RGB_LEVELS, is_bgr=True)
    return network, parameters, f"openvino {openvino.__version__}"


def config_of(file: Path, data: str, trial: int, changes: dict[str, Any]) -> RunConfig:
    """Return settings that say what was scored: the data, the file, nothing of training."""
    backbone = "osnet_x0_25" if file.suffix == ".onnx" else "osnet_x1_0"
    base = RunConfig(
        name="baseline",
        model=ModelConfig(backbone=backbone, weights=str(file)),
        method=VARIANTS["baseline"],
    )
    return override(base, {"data.name": data, "data.trial": trial, **changes})


def score(file: Path, data: str, trial: int, changes: dict[str, Any]) -> tuple[str, Result]:
    """Score one file on one trial; give the cell's name and the result."""
    config = config_of(file, data, trial, changes)
    network, parameters, runtime = (open_onnx if file.suffix == ".onnx" else open_ir)(file)
    split = open_split(config.data)
    begin = time.perf_counter()
    scored = score_split(cast(Method, network), split, config, device="cpu")
    weights = file.with_suffix(".bin") if file.suffix == ".xml" else file
    start = {**start_of(str(weights), "as it comes"), "name": file.name}
    package, version = runtime.split(maxsplit=1)
    result = Result(
        method=config.name,
        data=split.name,
        split_digest=split.digest(),
        scores=scored.scores,
        start=start,
        model=start["sha256"],
        num_parameters=parameters,
        config=portable(to_mapping(config)),
        training={"steps": 0},
        versions={**all_versions(), package: version},
        command=f"python benchmarks/anchors.py {file.name} --data {data} --root ROOT "
        f"--trials {trial}",
        measures={"scoring_s": round(time.perf_counter() - begin, 1)},
    )
    asked = {path: value for path, value in changes.items() if not path.startswith("data.")}
    return Cell(config=config, recipe="untrained", changes=asked).name, result


def main(words: Sequence[str] | None = None) -> None:
    """Score files and print a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help=".onnx or .xml (with its .bin beside)")
    parser.add_argument("--data", default="mlr-viper", help="benchmark (default: mlr-viper)")
    parser.add_argument("--root", default="", help="folder of the data set")
    parser.add_argument("--trials", default="0", help="splits, as 0-4 or 0,2 (default: 0)")
    parser.add_argument("--cache", default="", help="folder for decoded pixels")
    parser.add_argument("--out", type=Path, default=Path("results"), help="of results (results)")
    options = parser.parse_args(words)
    data = benchmark_of(options.data)
    changes = {"data.root": options.root, "data.cache": options.cache}
    for trial in counts("--trials", options.trials):
        for file in options.files:
            name, result = score(file.expanduser(), data, trial, changes)
            result.write(options.out / data / f"{name}.json")
            report = result.scores["protocol"]
            shown = " / ".join(f"{100 * report.ranks[rank]:.1f}" for rank in (1, 5, 10))
            rates = ", ".join(f"r={r} {100 * g.rank1:.1f}" for r, g in report.per_rate.items())
            print(f"{name}: {shown}; {rates}; {result.measures['scoring_s']} s")


if __name__ == "__main__":
    main()
