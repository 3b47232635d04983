import socket
import sys
from pathlib import Path

import pytest
import torch
from engine.fakes import TinyGan, TinyLoader, TinyMethod
from engine.killing import Trainer
from engine.ranks import FROZEN, seeded

from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams
from resolute.core.tensorfile import read_tensors
from resolute.engine.checkpoint import load_checkpoint
from resolute.engine.config import TrainConfig
from resolute.engine.distributed import (
    StepModule,
    World,
    agree,
    process_group,
    resolve_device,
    wait_for_all,
    world,
    wrap_step,
)
from resolute.engine.phases import set_modes, start_phases
from resolute.engine.schedule import learning_rate_factor
from resolute.inference.model_file import load_model

RANKS = Path(__file__).with_name("ranks.py")


def launch(folder, mode):
    """Run two ranks as torchrun would; return exit codes and outputs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [
        Trainer(
            [sys.executable, str(RANKS), str(folder), mode],
            folder,
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE="2",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for rank in range(2)
    ]
    return [rank.finish(timeout_s=120) for rank in ranks]


def expect_ends(ends, code=0):
    for found, text in ends:
        assert found == code, text


def weights(path):
    return {name: t.numpy().tobytes() for name, t in load_model(path)[0].items()}


def averaged_losses(method, phase):
    """Both rank batches in one process, each with its own batch statistics and dropout."""
    total = 0.0
    for rank in range(2):
        with seeded(rank):
            total = total + sum(method.losses(TinyLoader(rank=rank).batch(0, 0), phase).values())
    return total / 2


def literal_run():
    """Two ranks in one process: the mean loss of the two batches drives one optimiser."""
    method = TinyMethod(optimiser=FROZEN)
    phases = start_phases(
        method,
        config=TrainConfig(device="cpu"),
        world=World(),
        device=torch.device("cpu"),
        has_unused_parameters=False,
    )
    (run,) = phases
    loaders = [TinyLoader(rank=rank) for rank in range(2)]

    def step(batches, name):
        total = {}
        for rank, batch in enumerate(batches):
            with Streams(3).torch_default(Stream.DROPOUT, epoch, position, rank):
                for key, loss in method.losses(batch, run.phase).items():
                    total[key] = total.get(key, 0.0) + loss / 2
        return total

    run.step = step
    for index in range(20):
        epoch, position = divmod(index, 5)
        set_modes(method, phases, epoch)
        factor = learning_rate_factor(
            index, steps_per_epoch=5, epochs=4, schedule=run.phase.schedule
        )
        batches = [loader.batch(epoch, position) for loader in loaders]
        run.update(batches, epoch=epoch, factor=factor)
    return method


def test_two_ranks_average_gradients_and_train_as_one(tmp_path):
    expect_ends(launch(tmp_path, "gradients"))
    found = [read_tensors(tmp_path / f"gradients{r}", kind="gradients")[0] for r in range(2)]
    expected = {}
    for name, method in {"plain": TinyMethod(), "gan": TinyGan()}.items():
        for phase in method.phases:
            own = [p for g in method.parameter_groups(phase) for p in g.parameters]
            grads = torch.autograd.grad(averaged_losses(method, phase), [p for _, p in own])
            for (key, _), gradient in zip(own, grads, strict=True):
                expected[f"{name}.{phase.name}.{key}"] = gradient
    assert found[0].keys() == found[1].keys() == expected.keys()
    for key, gradient in expected.items():
        assert float(gradient.norm()) > 1e-4, key
        for own in found:
            assert torch.allclose(own[key], gradient, atol=1e-6), key

    # The ranks began with different weights: those of rank 0 count.
    assert (
        weights(tmp_path / "gradients0.weights").keys()
        == weights(tmp_path / "gradients1.weights").keys()
    )
    one, two = (load_model(tmp_path / f"gradients{rank}.weights")[0] for rank in range(2))
    literal = literal_run()
    for name, parameter in literal.named_parameters():
        assert torch.equal(one[name], two[name]), name
        assert torch.allclose(one[name], parameter, atol=1e-4), name
    checkpoint = load_checkpoint(tmp_path / "run/checkpoint.safetensors")
    assert checkpoint.state.world_size == 2
    assert len((tmp_path / "run/scalars.jsonl").read_text().splitlines()) == 20


@pytest.mark.slow
def test_signal_to_one_rank_stops_both_and_both_go_on(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    expect_ends(launch(tmp_path / "a", "whole"))
    ends = launch(tmp_path / "b", "interrupt")
    assert all(code != 0 and "KeyboardInterrupt" in text for code, text in ends), ends
    assert load_checkpoint(tmp_path / "b/run/checkpoint.safetensors").state.step == 8
    expect_ends(launch(tmp_path / "b", "resume"))
    for rank in range(2):
        assert weights(tmp_path / f"b/resume{rank}.weights") == weights(
            tmp_path / f"a/whole{rank}.weights"
        )


def test_world_reads_the_variables_of_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert world() == World()
    assert world().is_main
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(
        ConfigError, match="expected RANK, WORLD_SIZE and LOCAL_RANK as set by torc"
    ):
        world()
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert world() == World(rank=3, size=4, local_rank=1)
    assert not world().is_main
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(ConfigError, match="expected 0 <= rank < size, got rank 4 of 4"):
        world()


def test_one_process_needs_no_group(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with process_group("cpu") as here:
        assert here == World()
        assert not torch.distributed.is_initialized()
    assert agree(2, here, torch.device("cpu")) == 2
    wait_for_all(here)


def test_several_processes_without_a_group_are_refused():
    with pytest.raises(
        ConfigError, match="expected a process group of 2 processes; start with tor"
    ):
        wrap_step(
            StepModule(TinyMethod()),
            World(size=2),
            torch.device("cpu"),
            has_unused_parameters=False,
        )


def test_devices_are_named_or_refused(monkeypatch):
    assert resolve_device("cpu", World()) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto", World()) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    second = World(rank=1, size=2, local_rank=1)
    assert resolve_device("auto", second) == torch.device("cuda", 1)
    assert resolve_device("cuda:0", second) == torch.device("cuda", 0)
    with pytest.raises(
        ConfigError, match=r"cuda:2 asked for, 2 GPUs found; set train.device to cpu"
    ):
        resolve_device("cuda:2", World())
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="mps asked for, none found"):
        resolve_device("mps", World())
    for name in ("gpu", "meta"):
        with pytest.raises(
            ConfigError, match=f"expected auto, cpu, cuda, cuda:N or mps, got '{name}"
        ):
            resolve_device(name, World())
