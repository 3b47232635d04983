import pytest
from service.serving import Served, fill, small_model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def served(tmp_path, model):
    with Served(fill(tmp_path / "gallery", model), model, rate=0) as client:
        yield client
