"""One kept result that the tests of tables vary, the same whatever else is kept beside it."""

from pathlib import Path

import pytest

from resolute.engine.result import Result

ANCHOR = (
    Path(__file__).parents[2] / "results" / "mlr-viper" / "osnet_gn_x0_5_msmt17-untrained-t0.json"
)


@pytest.fixture(scope="session")
def anchor():
    """The start itself, untrained, on the first half of MLR-VIPeR."""
    return Result.read(ANCHOR)
