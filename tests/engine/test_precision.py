import pytest
import torch

from resolute.engine.precision import precision_of


@pytest.mark.parametrize(
    ("known", "is_mixed", "wanted"),
    [
        ({"avx2": True, "avx512_bf16": False}, True, "float32"),
        ({"avx2": True, "avx512_bf16": True}, True, "bf16"),
        ({"avx2": True, "avx512_bf16": True}, False, "float32"),
        ({}, True, "bf16"),
    ],
)
def test_bf16_where_the_processor_has_it(known, is_mixed, wanted, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert precision_of(torch.device("cpu"), is_mixed=is_mixed) == wanted


@pytest.mark.parametrize(("has_bf16", "wanted"), [(True, "bf16"), (False, "float32")])
def test_bf16_where_the_gpu_has_it(has_bf16, wanted, monkeypatch):
    asked = []
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda **how: asked.append(how) or has_bf16
    )
    assert precision_of(torch.device("cuda"), is_mixed=True) == wanted
    assert asked == [{"including_emulation": False}]
