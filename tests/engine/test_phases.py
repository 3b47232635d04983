"""Several phases with optimisers of their own: they keep apart, and a run of them can be killed."""

import json
import os
import signal

import pytest
import torch
from engine.fakes import (
    STEPS_PER_EPOCH,
    TinyAdversarial,
    bits,
    run,
    stop_after,
)
from engine.killing import Trainer, tiny
from report.made import made
from report.reading import Page

from resolute.core.errors import ReidError
from resolute.engine.checkpoint import load_checkpoint
from resolute.engine.phases import PhaseRun
from resolute.inference.model_file import load_model
from resolute.report.curves import read_curves
from resolute.report.series import Series
from resolute.report.training import training_section

EPOCHS = 4
PER_STEP = {"pixels": 1, "generator": 1, "discriminator": 2, "identity": 1}
LATE = ("generator", "discriminator")


def rows(run_dir):
    return [json.loads(line) for line in (run_dir / "scalars.jsonl").read_text().splitlines()]


def working(step):
    """The phases of a step, from 1, in their order."""
    is_late = step > EPOCHS * STEPS_PER_EPOCH // 2
    return [*(LATE if is_late else ("pixels",)), "identity"]


def test_no_update_touches_what_is_another_phases(tmp_path, monkeypatch):
    seen = []
    update = PhaseRun.update

    def watched(self, *args, **rest):
        before = {n: p.detach().clone() for n, p in self.method.named_parameters()}
        losses = update(self, *args, **rest)
        own = {n for group in self.groups for n, _ in group.parameters}
        for name, parameter in self.method.named_parameters():
            assert torch.equal(parameter, before[name]) == (name not in own), name
            assert parameter.grad is None, name
        held = {id(p) for p in self.optimiser.state}
        assert held == {id(p) for n, p in self.method.named_parameters() if n in own}
        seen.append(self.phase.name)
        return losses

    monkeypatch.setattr(PhaseRun, "update", watched)
    run(tmp_path, method=TinyAdversarial())
    steps = range(1, EPOCHS * STEPS_PER_EPOCH + 1)
    assert seen == [n for s in steps for n in working(s) for _ in range(PER_STEP[n])]


# Middles of epochs and of each phase's share, and the step at which phases change hands.
@pytest.mark.parametrize("steps", [3, 8, 10, 13, 17])
def test_stopped_anywhere_and_resumed_gives_the_same_bits(steps, tmp_path):
    whole, _ = run(tmp_path / "whole", method=TinyAdversarial())
    run(tmp_path / "part", method=TinyAdversarial(), stop=stop_after(steps))
    checkpoint = load_checkpoint(tmp_path / "part" / "checkpoint.safetensors")
    assert checkpoint.state.step == steps
    done = {name for step in range(1, steps + 1) for name in working(step)}
    assert checkpoint.optimisers.keys() == done
    rest, _ = run(tmp_path / "part", method=TinyAdversarial(), resume="exact")
    assert bits(rest) == bits(whole)
    traces = [[strip(row) for row in rows(tmp_path / name)] for name in ("whole", "part")]
    assert traces[0] == traces[1]


def strip(row):
    return {name: value for name, value in row.items() if name != "images_per_s"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_anywhere_and_resumed_gives_the_same_bits(number, tmp_path):
    # A fresh random row each time: whatever it is, the bits are the same.
    row = 1 + int.from_bytes(os.urandom(2), "little") % 60
    whole, _ = run(tmp_path / "whole", method=TinyAdversarial(), checkpoint_every=2)
    folder = tmp_path / "part"
    words = ("method=adversarial", "epochs=4", "threads=1")
    command = tiny(folder, *words, "pause=0.02")
    Trainer(command, folder).wait_for_step(row).send(number).finish()
    code, text = Trainer(tiny(folder, *words, "resume=exact"), folder).finish()
    assert code == 0, (row, text)
    weights, _ = load_model(folder / "rank0.safetensors")
    assert {n: t.numpy().tobytes() for n, t in weights.items()} == bits(whole), row


class Diverging(TinyAdversarial):
    """One loss term of one phase becomes NaN at one update."""

    def __init__(self, phase, term, at):
        super().__init__()
        self.where = phase, term, at
        self.count = 0

    def losses(self, batch, phase):
        losses = super().losses(batch, phase)
        name, term, at = self.where
        if phase.name == name:
            self.count += 1
            if self.count == at:
                losses[term] = losses[term] * float("nan")
        return losses


@pytest.mark.parametrize(
    ("phase", "term", "at", "step"),
    [
        ("pixels", "distance", 8, 8),
        ("generator", "adversarial", 2, 12),
        ("discriminator", "made", 6, 13),  # the second update of its third step
        ("identity", "cross_entropy", 14, 14),
    ],
)
def test_a_diverged_run_names_phase_and_loss_and_can_go_on(phase, term, at, step, tmp_path):
    epoch = (step - 1) // STEPS_PER_EPOCH
    message = rf"loss term '{term}' of phase '{phase}' became nan at step {step} \(epoch {epoch}\)"
    with pytest.raises(ReidError, match=message):
        run(tmp_path / "part", method=Diverging(phase, term, at))
    checkpoint = load_checkpoint(tmp_path / "part" / "checkpoint.safetensors")
    assert checkpoint.state.step == epoch * STEPS_PER_EPOCH
    tensors = [*checkpoint.model.values()]
    tensors += [
        t for state in checkpoint.optimisers.values() for m in state.values() for t in m.values()
    ]
    assert all(t.isfinite().all() for t in tensors)
    assert all(row["step"] <= step for row in rows(tmp_path / "part"))
    rest, result = run(tmp_path / "part", method=TinyAdversarial(), resume="exact")
    assert result.is_finished
    whole, _ = run(tmp_path / "whole", method=TinyAdversarial())
    assert bits(rest) == bits(whole)


def test_a_broken_weight_of_one_phase_is_not_saved(tmp_path):
    class Spoiled(TinyAdversarial):
        def losses(self, batch, phase):
            losses = super().losses(batch, phase)
            if phase.name == "identity":
                # A finite loss with an infinite gradient, as the root of zero has.
                losses["root"] = self.identity[0].weight.square().sum().mul(0).sqrt()
            return losses

    with pytest.raises(ReidError, match=r"parameter identity\.0\.weight is no longer finite"):
        run(tmp_path, method=Spoiled(), max_steps=1)
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").state.step == 0


def test_losses_of_each_phase_are_logged_and_reported(tmp_path):
    _, result = run(tmp_path, method=TinyAdversarial())
    terms = {
        "pixels": {"distance"},
        "generator": {"adversarial", "pixels"},
        "discriminator": {"real", "made"},
        "identity": {"cross_entropy"},
    }
    logged = {}
    for row in rows(tmp_path):
        logged.setdefault(row["phase"], set()).update(row["losses"])
    assert logged == terms
    late = {f"{p}/{t}" for p in (*LATE, "identity") for t in terms[p]}
    assert set(result.losses) == late  # of the last epoch
    curves = read_curves(tmp_path)
    names = {f"{phase}/losses/{term}" for phase, found in terms.items() for term in found}
    assert {name for name in curves if "losses/" in name} == names
    half = EPOCHS * STEPS_PER_EPOCH // 2
    assert curves["pixels/losses/distance"].steps.tolist() == list(range(1, half + 1))
    assert curves["generator/losses/adversarial"].steps.tolist() == [
        half + 1 + i for i in range(half)
    ]
    shown = made(curves=curves)
    page = Page(str(training_section([series_of(shown)])))
    for phase, found in terms.items():
        for term in found:
            assert f"{phase}: losses: {term.replace('_', ' ')}" in page.text


def series_of(exhibit):
    return Series(number=0, label=exhibit.method, exhibits=(exhibit,))
