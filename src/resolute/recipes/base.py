"""What the recipes of all methods share: a benchmark and how it is fed and scored."""

from typing import Literal

from resolute.data.benchmark import MLR, DataConfig
from resolute.data.config import LoaderConfig
from resolute.engine.config import EvaluationConfig, RunConfig
from resolute.methods.variants import VARIANTS

# Data sets with one picture per identity and view cannot fill K = 2 [FTWA batches, assumed].
ONE_PICTURE_PER_VIEW = ("viper",)
# Benchmarks whose low resolution is real: nothing is degraded, the MLR protocol holds.
NATIVE_LR = ("caviar",)


def start(method: str, data: str) -> RunConfig:
    """Return the settings that follow from method and benchmark alone; the rest are defaults.

    Args:
        method: a row of one of the tables.
        data: a benchmark.

    Returns:
        The complete settings.
    """
    base = data.removeprefix(MLR)
    return RunConfig(
        name=method,
        data=DataConfig(name=data),
        loader=LoaderConfig(num_instances=1 if base in ONE_PICTURE_PER_VIEW else 2),
        method=VARIANTS[method],
        evaluation=EvaluationConfig(protocol=_protocol(data)),
    )


def _protocol(data: str) -> Literal["mlr", "market", "cuhk03-classic"]:
    if data.startswith(MLR) or data in NATIVE_LR:
        return "mlr"
    return "cuhk03-classic" if data.startswith("cuhk03-classic-") else "market"
