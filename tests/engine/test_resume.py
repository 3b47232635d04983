import pytest
import torch
from engine.fakes import STEPS_PER_EPOCH, TinyGan, TinyMethod, bits, run, stop_after

from resolute.methods.config import OptimiserConfig


def staged(name, **changes):
    return lambda: TinyMethod(
        optimiser=OptimiserConfig(name=name, learning_rate=0.01, pretrained_factor=0.5, **changes)
    )


CASES = {
    "adam": (staged("adam"), {}),
    "sgd": (staged("sgd"), {}),
    "channels_last": (staged("adam"), {"channels_last": True}),
    "channels_last sgd": (staged("sgd"), {"channels_last": True}),
    "frozen": (staged("adam", frozen_epochs=2), {}),
    "clipped": (staged("adam", clip_norm=0.1), {}),
    "amp": (staged("adam"), {"amp": True}),
    "averaged": (staged("adam"), {"average": 0.8, "channels_last": True}),
    "gan": (TinyGan, {}),
}


@pytest.mark.parametrize("steps", [1, STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH + 3])
@pytest.mark.parametrize("name", CASES)
def test_resumed_run_gives_the_bits_of_the_uninterrupted_run(name, steps, tmp_path, monkeypatch):
    # bf16 is to be tested on processors without instructions for it, too.
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": True}, raising=False)
    build, settings = CASES[name]
    check(build, settings, steps, tmp_path)


def test_bits_hold_for_two_threads_too(tmp_path):
    check(staged("adam"), {"threads": 2}, 8, tmp_path)


def check(build, settings, steps, tmp_path):
    whole, _ = run(tmp_path / "whole", method=build(), **settings)
    first, part = run(tmp_path / "part", method=build(), stop=stop_after(steps), **settings)
    assert part.steps == steps
    assert not part.is_finished
    second, rest = run(tmp_path / "part", method=build(), resume="exact", **settings)
    assert rest.is_finished
    assert bits(first) != bits(whole)
    assert bits(second) == bits(whole)
