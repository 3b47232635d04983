"""The allocator setting is taken where there is glibc, and changes no number."""

import subprocess
import sys

import pytest

CODE = """
import sys, torch
from resolute.engine.memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
layer = torch.nn.Conv2d(3, 8, 3)
with torch.no_grad():
    layer.weight.copy_(torch.linspace(-1, 1, layer.weight.numel()).view_as(layer.weight))
    layer.bias.zero_()
out = layer(torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64)).square().sum()
out.backward()
print(kept, out.item().hex(), layer.weight.grad.sum().item().hex())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_it_is_taken_and_changes_no_bit():
    kept, plain = (
        subprocess.run(
            [sys.executable, "-c", CODE, word], capture_output=True, text=True, check=True
        ).stdout.split()
        for word in ("keep", "plain")
    )
    assert kept[0] in ("True", "False")  # False where the C library is not glibc
    assert kept[1:] == plain[1:]
