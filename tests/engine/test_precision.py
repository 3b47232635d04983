import logging

import pytest
import torch

from resolute.engine.precision import warn_of_slow_bf16


@pytest.mark.parametrize(
    ("known", "device", "warns"),
    [
        ({"avx2": True, "avx512_bf16": False, "cpu_name": "Old"}, "cpu", True),
        ({"avx2": True, "avx512_bf16": True}, "cpu", False),
        ({}, "cpu", False),
        ({"avx2": True}, "cuda", False),
    ],
)
def test_warns_where_the_processor_lacks_bf16(known, device, warns, monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    with caplog.at_level(logging.WARNING):
        warn_of_slow_bf16(torch.device(device))
    assert ("no bf16 instructions" in caplog.text) == warns
    assert ("Old" in caplog.text) == warns
