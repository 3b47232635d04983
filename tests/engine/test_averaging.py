"""The running average against its definition, and what files hold of it."""

import json

import pytest
import torch
from engine.fakes import STEPS_PER_EPOCH, TinyLoader, TinyMethod, bits, run, stop_after
from engine.small import small_config

from resolute.core.errors import CheckpointError, ConfigError
from resolute.engine.averaging import Average
from resolute.engine.checkpoint import load_checkpoint
from resolute.engine.distributed import World
from resolute.engine.run import train
from resolute.inference.model_file import load_model


def literal_mean(snapshots, momentum):
    """The definition: snapshots weighed by momentum^(t - s), weights adding up to 1."""
    weights = [momentum ** (len(snapshots) - 1 - s) for s in range(len(snapshots))]
    total = sum(weights)
    return {
        name: sum(w * snap[name].double() for w, snap in zip(weights, snapshots, strict=True))
        / total
        for name in snapshots[0]
    }


def scalars(folder):
    return (folder / "scalars.jsonl").read_text().splitlines()


def every_step(monkeypatch, folder, **settings):
    """Train, and keep the weights after each step."""
    seen, update = [], Average.update

    def spy(self, step):
        seen.append({n: t.detach().clone() for n, t in self._own.items()})
        update(self, step)

    monkeypatch.setattr(Average, "update", spy)
    method, result = run(folder, **settings)
    return method, result, seen


@pytest.mark.parametrize("momentum", [0.5, 0.99])
def test_average_is_the_weighted_mean_of_all_steps(momentum, monkeypatch, tmp_path):
    method, _, seen = every_step(monkeypatch, tmp_path, average=momentum)
    assert len(seen) == 4 * STEPS_PER_EPOCH
    expected = literal_mean(seen, momentum)
    found = method.state_dict()
    assert set(found) - set(expected) == {
        "stem.1.num_batches_tracked",
        "body.1.num_batches_tracked",
    }
    for name, mean in expected.items():
        assert torch.allclose(found[name].double(), mean, atol=1e-6), name
        assert not torch.equal(found[name], seen[-1][name]), name


def test_running_statistics_are_averaged_and_counters_are_not(tmp_path):
    plain, _ = run(tmp_path / "a")
    averaged, _ = run(tmp_path / "b", average=0.9)
    assert averaged.stem[1].num_batches_tracked == plain.stem[1].num_batches_tracked > 0
    assert not torch.equal(averaged.stem[1].running_var, plain.stem[1].running_var)


def test_averaging_does_not_change_the_training(tmp_path):
    plain, first = run(tmp_path / "a")
    _, second = run(tmp_path / "b", average=0.9)
    kept = load_checkpoint(second.checkpoint)
    assert all(torch.equal(kept.model[n], t) for n, t in plain.state_dict().items())
    losses = [[json.loads(line)["losses"] for line in scalars(tmp_path / name)] for name in "ab"]
    assert losses[0] == losses[1]
    assert not load_checkpoint(first.checkpoint).average


def test_one_step_averages_to_itself(tmp_path):
    plain, _ = run(tmp_path / "a", max_steps=1)
    averaged, _ = run(tmp_path / "b", max_steps=1, average=0.999)
    assert bits(plain) == bits(averaged)


def test_checkpoint_holds_weights_and_averages_and_resumes_to_the_bit(tmp_path):
    _, whole = run(tmp_path / "whole", average=0.7)
    run(tmp_path / "part", average=0.7, stop=stop_after(7))
    _, rest = run(tmp_path / "part", average=0.7, resume="exact")
    one, two = (load_checkpoint(result.checkpoint) for result in (whole, rest))
    for part in ("model", "average"):
        expected, found = getattr(one, part), getattr(two, part)
        assert expected.keys() == found.keys() != set()
        assert all(torch.equal(found[name], t) for name, t in expected.items())


def test_averaging_may_begin_at_a_resumption_that_accepts_changes(tmp_path):
    def metadata(average):
        return {"config": {"train": {"average": average}}}

    run(tmp_path, stop=stop_after(19), metadata=metadata(0.0))
    before = load_checkpoint(tmp_path / "checkpoint.safetensors").model
    with pytest.raises(CheckpointError, match=r"config.train.average was 0.0 and is 0.9"):
        run(tmp_path, resume="exact", average=0.9, metadata=metadata(0.9))
    method, result = run(tmp_path, resume="changed", average=0.9, metadata=metadata(0.9))
    after = load_checkpoint(result.checkpoint).model
    share = (1 - 0.9) / (1 - 0.9**20)
    for name, parameter in method.named_parameters():
        expected = before[name].lerp(after[name], share)
        assert torch.allclose(parameter, expected, atol=1e-6), name


def test_other_averages_are_refused():
    average = Average(TinyMethod(), 0.9)
    state = average.state()
    with pytest.raises(CheckpointError, match="averaged weights: do not fit the method: extra"):
        average.restore({**state, "extra": torch.zeros(1)})
    wrong = {**state, "classifier.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"do not fit the method: classifier.weight"):
        average.restore(wrong)
    for momentum in (0.0, 1.0):
        with pytest.raises(ConfigError, match="average: expected a momentum 0 < m < 1"):
            Average(TinyMethod(), momentum)


def test_momenta_out_of_range_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"train.average: expected 0 <= momentum < 1, got 1.0"):
        run(tmp_path, average=1.0)


def test_average_lies_in_memory_like_its_weights():
    method = TinyMethod().to(memory_format=torch.channels_last)
    average = Average(method, 0.9)
    for name, mean in average.state().items():
        assert mean.stride() == method.state_dict()[name].stride(), name


def test_rank_zero_alone_keeps_an_average(monkeypatch, tmp_path):
    # A second rank of a world without process group: only the parts before the loop matter.
    built = []
    monkeypatch.setattr("resolute.engine.trainer.Average", lambda *a: built.append(a))
    monkeypatch.setattr("resolute.engine.trainer.start_phases", lambda *a, **k: [])
    monkeypatch.setattr("resolute.engine.trainer._Loop.run", lambda self: None)
    run(tmp_path, loader=TinyLoader(rank=1), world=World(rank=1, size=2), average=0.9)
    assert not built


def test_the_model_file_holds_the_average_and_says_so(tmp_path):
    config = small_config(cache=tmp_path / "cache", train__average="0.8", train__epochs="1")
    train(config, tmp_path / "run")
    weights, metadata = load_model(tmp_path / "run" / "model.safetensors")
    kept = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert metadata["training"]["weights"] == "running average, momentum 0.8"
    assert all(torch.equal(weights[name], mean) for name, mean in kept.average.items())
    moved = [name for name in kept.average if not torch.equal(weights[name], kept.model[name])]
    assert len(moved) > len(weights) / 2
