import pytest
import torch
from engine.fakes import TinyMethod, bits

from resolute.core.errors import CheckpointError
from resolute.inference.model_file import load_model, load_weights, read_metadata, save_model


def test_model_file_travels(tmp_path):
    method = TinyMethod(seed=1)
    save_model(tmp_path / "m", method, {"input_spec": {"height": 16}})
    assert read_metadata(tmp_path / "m") == {"input_spec": {"height": 16}}
    weights, metadata = load_model(tmp_path / "m")
    other = TinyMethod(seed=2)
    load_weights(other, weights, where="m")
    assert bits(other) == bits(method)
    assert metadata == {"input_spec": {"height": 16}}


def test_weights_that_do_not_fit_are_named():
    method = TinyMethod()
    weights = method.state_dict()
    del weights["classifier.weight"]
    weights["head.weight"] = torch.zeros(1)
    weights["stem.0.weight"] = torch.zeros(2, 2)
    with pytest.raises(
        CheckpointError,
        match=r"here: does not fit the method: classifier.weight is missing; head.weight is "
        r"unknown; stem.0.weight: expected shape \(8, 3, 3, 3\), got \(2, 2\)$",
    ):
        load_weights(method, weights, where="here")
    with pytest.raises(CheckpointError, match=r"is missing and [0-9]+ more$"):
        load_weights(method, {}, where="here")


def test_weights_keep_the_layout_of_the_method():
    method = TinyMethod().to(memory_format=torch.channels_last)
    load_weights(method, TinyMethod(seed=1).state_dict(), where="here")
    assert method.body[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(method.body[0].weight, TinyMethod(seed=1).body[0].weight)
