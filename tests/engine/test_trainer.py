import json
import logging
import math
import time
from dataclasses import asdict, replace

import pytest
import torch
from engine.fakes import (
    METADATA,
    STEPS_PER_EPOCH,
    TinyGan,
    TinyLoader,
    TinyMethod,
    bits,
    run,
    stop_after,
)
from torch import nn

from resolute.core.errors import CheckpointError, ConfigError, ReidError
from resolute.core.rng import Stream, Streams
from resolute.engine.checkpoint import load_checkpoint, save_checkpoint
from resolute.engine.config import TrainConfig
from resolute.engine.distributed import World
from resolute.engine.phases import set_modes, start_phases
from resolute.engine.schedule import learning_rate_factor
from resolute.engine.watch import Watch
from resolute.methods.config import OptimiserConfig, ScheduleConfig

CPU = torch.device("cpu")


def rows(run_dir):
    return [json.loads(line) for line in (run_dir / "scalars.jsonl").read_text().splitlines()]


def start(method, **settings):
    return start_phases(
        method,
        config=TrainConfig(device="cpu", **settings),
        world=World(),
        device=CPU,
        has_unused_parameters=False,
    )


def literal_run(method, epochs, clip=0.0):
    """The loop as one would write it down for one phase and plain Adam."""
    optimiser = torch.optim.Adam(method.parameters(), lr=0.01, weight_decay=5e-4)
    loader, phase = TinyLoader(), method.phases[0]
    method.train()
    for step in range(epochs * STEPS_PER_EPOCH):
        epoch, position = divmod(step, STEPS_PER_EPOCH)
        rate = learning_rate_factor(
            step, steps_per_epoch=STEPS_PER_EPOCH, epochs=epochs, schedule=phase.schedule
        )
        optimiser.param_groups[0]["lr"] = 0.01 * rate
        with Streams(3).torch_default(Stream.DROPOUT, epoch, position, 0):
            losses = method.losses(loader.batch(epoch, position), phase)
        optimiser.zero_grad()
        (losses["identity"] + losses["gap"]).backward()
        if clip:
            norm = math.sqrt(sum(float(p.grad.square().sum()) for p in method.parameters()))
            for parameter in method.parameters():
                parameter.grad *= min(1.0, clip / (norm + 1e-6))
        optimiser.step()
    return method


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_run_is_the_literal_loop(clip, tmp_path):
    config = OptimiserConfig(learning_rate=0.01, clip_norm=clip)
    method, result = run(tmp_path, method=TinyMethod(optimiser=config))
    expected = literal_run(TinyMethod(), 4, clip).state_dict()
    for name, tensor in method.state_dict().items():
        assert torch.allclose(tensor, expected[name], atol=1e-5), name
    assert (result.steps, result.epochs, result.is_finished) == (20, 4, True)
    last = [row["losses"] for row in rows(tmp_path) if row["epoch"] == 3]
    assert result.losses["main/gap"] == pytest.approx(sum(r["gap"] for r in last) / len(last))
    assert result.images_per_s == pytest.approx(240 / result.duration_s, rel=0.2)


def test_it_learns(tmp_path):
    _, result = run(tmp_path, method=TinyMethod(dropout=0.0), epochs=25)
    first = rows(tmp_path)[0]["losses"]["identity"]
    assert result.losses["main/identity"] < 0.6 * first


def test_same_seed_same_bits_and_another_seed_others(tmp_path):
    state = torch.get_rng_state()
    first, _ = run(tmp_path / "a")
    torch.randn(7)  # the caller's random state must not matter
    second, _ = run(tmp_path / "b")
    third, _ = run(tmp_path / "c", streams=Streams(4))
    torch.set_rng_state(state)
    assert bits(first) == bits(second) != bits(third)


def test_process_is_given_back_as_it_was(tmp_path):
    method = TinyMethod()
    method.stem[0].weight.requires_grad_(False)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    run(tmp_path, method=method, threads=threads + 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.get_deterministic_debug_mode() == 0
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert not method.stem[0].weight.requires_grad
    assert method.stem[1].bias.requires_grad


# ---------------------------------------------------------------------- phases


def test_a_phase_moves_its_own_parameters_alone():
    gan = TinyGan()
    generator, discriminator = start(gan)
    batch = TinyLoader().batch(0, 0)
    for moving, resting, part in (
        (generator, discriminator, gan.generator),
        (discriminator, generator, gan.discriminator),
    ):
        before = {n: p.detach().clone() for n, p in gan.named_parameters()}
        moving.update(batch, epoch=0, factor=1.0)
        own = {id(p) for p in part.parameters()}
        for name, parameter in gan.named_parameters():
            assert torch.equal(parameter, before[name]) == (id(parameter) not in own), name
            assert parameter.grad is None
        assert moving.optimiser.state
        assert set(resting.optimiser.state).isdisjoint(set(part.parameters()))


def test_each_phase_makes_its_number_of_updates(tmp_path):
    run(tmp_path, method=TinyGan(), epochs=1)
    found = [(row["step"], row["phase"], row["update"]) for row in rows(tmp_path)]
    per_step = [("generator", 0), ("discriminator", 0), ("discriminator", 1)]
    assert found == [(s + 1, *u) for s in range(STEPS_PER_EPOCH) for u in per_step]


def test_phases_work_in_their_part_of_the_run(tmp_path):
    gan = TinyGan()
    gan.phases = (
        replace(gan.phases[0], last=0.5),
        replace(gan.phases[1], first=0.25, updates_per_step=1),
    )
    run(tmp_path, method=gan)
    epochs = {}
    for row in rows(tmp_path):
        epochs.setdefault(row["phase"], set()).add(row["epoch"])
    assert epochs == {"generator": {0, 1}, "discriminator": {1, 2, 3}}


def test_phase_that_never_works_is_refused(tmp_path):
    gan = TinyGan()
    gan.phases = (replace(gan.phases[0], first=0.9), gan.phases[1])
    with pytest.raises(ConfigError, match=r"phase generator: works from 0.9 to 1 of the run"):
        run(tmp_path, method=gan)


# ---------------------------------------------------------------------- frozen epochs


def test_frozen_parameters_do_not_move_and_then_do():
    config = OptimiserConfig(learning_rate=0.01, frozen_epochs=2)
    method = TinyMethod(optimiser=config)
    (phase,) = start(method)
    before = {n: t.clone() for n, t in method.state_dict().items()}
    for epoch in (0, 1, 2):
        set_modes(method, [phase], epoch)
        phase.update(TinyLoader().batch(epoch, 0), epoch=epoch, factor=1.0)
        for name, tensor in method.state_dict().items():
            is_still = name.startswith("stem.") and epoch < 2
            assert torch.equal(tensor, before[name]) == is_still, (name, epoch)
        steps = {int(s["step"]) for p, s in phase.optimiser.state.items() if p is stem(method)}
        assert steps == ({1} if epoch == 2 else set())
    assert phase.optimiser.state[method.classifier.weight]["step"] == 3


def test_frozen_epochs_are_counted_from_the_start_of_the_phase():
    config = OptimiserConfig(learning_rate=0.01, frozen_epochs=2)
    method = TinyMethod(optimiser=config)
    main = method.phases[0]
    method.phases = (replace(main, name="warmup", last=0.5), replace(main, first=0.5))
    _, late = start(method, epochs=6)
    assert late.first_epoch == 3
    for epoch, is_frozen in ((3, True), (4, True), (5, False)):
        set_modes(method, [late], epoch)
        late.select(epoch)
        assert stem(method).requires_grad != is_frozen
        assert method.stem[1].training != is_frozen


def stem(method):
    return method.stem[0].weight


def test_frozen_batch_norm_normalises_by_its_own_statistics():
    method = TinyMethod(optimiser=OptimiserConfig(frozen_epochs=1))
    phases = start(method)
    set_modes(method, phases, 0)
    assert not method.stem[1].training
    assert method.body[1].training
    assert method.dropout.training
    set_modes(method, phases, 1)
    assert method.stem[1].training


def test_nothing_to_move_is_refused(tmp_path):
    method = TinyMethod(optimiser=OptimiserConfig(frozen_epochs=1))
    groups = method.parameter_groups(method.phases[0])
    method.parameter_groups = lambda phase: [replace(g, frozen_epochs=1) for g in groups]
    with pytest.raises(ConfigError, match="phase main: every parameter is frozen until epoch 1"):
        run(tmp_path, method=method)


def test_a_phase_without_a_whole_epoch_says_how_many_are_enough(tmp_path):
    method = TinyMethod()
    main = method.phases[0]
    method.phases = (replace(main, name="warmup", last=1 / 6), replace(main, first=1 / 6))
    with pytest.raises(ConfigError, match=r"phase warmup: works .* raise train.epochs to 3$"):
        run(tmp_path, method=method, epochs=2)


# ---------------------------------------------------------------------- learning rates, options


def test_groups_get_their_learning_rate():
    method = TinyMethod(optimiser=OptimiserConfig(learning_rate=0.01, pretrained_factor=0.1))
    (phase,) = start(method)
    phase.update(TinyLoader().batch(0, 0), epoch=0, factor=0.5)
    found = {
        group.name: settings["lr"]
        for group, settings in zip(phase.groups, phase.optimiser.param_groups, strict=True)
    }
    assert found == {
        "new.bias": pytest.approx(0.005),
        "new.weight": pytest.approx(0.005),
        "pretrained.bias": pytest.approx(0.0005),
        "pretrained.weight": pytest.approx(0.0005),
    }


def test_rows_carry_the_schedule(tmp_path):
    schedule = ScheduleConfig(warmup=0.5, milestones=(0.75,))
    run(tmp_path, method=TinyMethod(schedule=schedule))
    rates = [row["learning_rate"] for row in rows(tmp_path)]
    assert rates[0] == pytest.approx(0.0001)
    assert rates[10] == pytest.approx(0.01)
    assert rates[15] == pytest.approx(0.002)


@pytest.mark.parametrize("has_bf16", [True, False])
def test_channels_last_and_amp_take_effect(has_bf16, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": has_bf16}, raising=False)
    caplog.set_level(logging.INFO)
    seen = []

    class Spy(TinyMethod):
        def losses(self, batch, phase):
            maps = self.stem(batch.images_hr)
            seen.append((maps.is_contiguous(memory_format=torch.channels_last), maps.dtype))
            return super().losses(batch, phase)

    run(tmp_path / "a", method=Spy(), channels_last=True, amp=True, max_steps=1)
    run(tmp_path / "b", method=Spy(), max_steps=1)
    assert [is_last for is_last, _ in seen] == [True, False]
    method = Spy()
    hook = method.stem[0].register_forward_hook(lambda *a: seen.append(a[2].dtype))
    _, result = run(tmp_path / "c", method=method, amp=True, max_steps=1)
    hook.remove()
    assert (torch.bfloat16 in seen) == has_bf16
    assert result.precision == ("bf16" if has_bf16 else "float32")
    assert ("no bf16 instructions on this cpu: float32" in caplog.text) != has_bf16


def test_channels_last_computes_the_same(tmp_path):
    plain, _ = run(tmp_path / "a")
    last, _ = run(tmp_path / "b", channels_last=True)
    for name, tensor in plain.state_dict().items():
        assert torch.allclose(tensor, last.state_dict()[name], atol=1e-3), name


@pytest.mark.slow
def test_compiled_step_computes_the_same(tmp_path):
    plain, _ = run(tmp_path / "a", method=TinyMethod(dropout=0.0), epochs=1)
    fast, _ = run(tmp_path / "b", method=TinyMethod(dropout=0.0), epochs=1, compile=True)
    for name, tensor in plain.state_dict().items():
        assert torch.allclose(tensor, fast.state_dict()[name], atol=1e-4), name


def test_max_steps_ends_the_run_with_a_checkpoint(tmp_path):
    _, result = run(tmp_path, max_steps=7)
    assert (result.steps, result.epochs, result.is_finished) == (7, 1, True)
    assert load_checkpoint(result.checkpoint).state.step == 7
    whole, _ = run(tmp_path / "whole")
    rest, _ = run(tmp_path, resume="exact")
    assert bits(rest) == bits(whole)


def test_checkpoints_come_when_they_are_due(tmp_path):
    found = []

    def note(epoch, step):
        found.append((epoch, step, load_checkpoint(tmp_path / "checkpoint.safetensors").state.step))

    run(tmp_path, loader=TinyLoader(hook=note), checkpoint_every=2, epochs=3)
    assert {(epoch, saved) for epoch, _, saved in found} == {(0, 0), (1, 0), (2, 10)}
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").state.step == 15


@pytest.mark.parametrize(("clock_s", "saved"), [(20, {0, 10}), (31, {0, 5, 10})])
def test_short_epochs_share_a_checkpoint(clock_s, saved, tmp_path, monkeypatch):
    now, found = [0.0], set()

    def note(epoch, step):
        now[0] = (epoch + 1) * clock_s
        found.add(load_checkpoint(tmp_path / "checkpoint.safetensors").state.step)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run(tmp_path, loader=TinyLoader(hook=note), epochs=3, checkpoint_pause=30.0)
    assert found == saved
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").state.step == 15


# ---------------------------------------------------------------------- what goes wrong


def test_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(
        ReidError, match=r"'identity' of phase 'main' became nan at step 8 .epoch 1"
    ):
        run(tmp_path, loader=TinyLoader(nan_at=(1, 2)))
    checkpoint = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert checkpoint.state.step == STEPS_PER_EPOCH
    assert all(t.isfinite().all() for t in checkpoint.model.values())
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, 8))
    whole, _ = run(tmp_path / "whole")
    rest, _ = run(tmp_path, resume="exact")
    assert bits(rest) == bits(whole)


def test_broken_weight_is_not_saved(tmp_path):
    class Spoiled(TinyMethod):
        def losses(self, batch, phase):
            losses = super().losses(batch, phase)
            # A finite loss with an infinite gradient, as the root of zero has.
            return {**losses, "root": self.classifier.weight.square().sum().mul(0).sqrt()}

    with pytest.raises(
        ReidError, match=r"parameter classifier.weight is no longer finite after step 1"
    ):
        run(tmp_path, method=Spoiled(), max_steps=1)
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").state.step == 0


def test_loader_that_runs_short_is_named(tmp_path):
    class Short(TinyLoader):
        def batches(self, epoch, start_step, device):
            return iter([self.batch(0, 0)] * 3)

    with pytest.raises(ReidError, match="loader: expected 5 batches in epoch 0, got 3"):
        run(tmp_path, loader=Short())


def test_loader_is_closed_when_the_run_ends_early(tmp_path):
    closed = []

    class Open(TinyLoader):
        def batches(self, epoch, start_step, device):
            try:
                yield from super().batches(epoch, start_step, device)
            finally:
                closed.append(epoch)

    run(tmp_path, loader=Open(), max_steps=7)
    assert closed == [0, 1]


def test_method_without_the_contract_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="Linear: expected input_spec, phases, parameter_groups"):
        run(tmp_path, method=nn.Linear(2, 2))


def test_method_without_losses_is_refused(tmp_path):
    method = TinyMethod()
    method.losses = lambda batch, phase: {}
    with pytest.raises(ConfigError, match="phase main: the method returned no loss terms"):
        run(tmp_path, method=method)


def test_a_folder_holds_one_run(tmp_path):
    run(tmp_path, max_steps=1)
    with pytest.raises(ConfigError, match="holds a run; resume it or choose another folder"):
        run(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="file: cannot become a run folder"):
        run(tmp_path / "file")
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        run(tmp_path / "none", resume="exact")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threads": 2}, "threads was 1 and is 2"),
        ({"streams": Streams(9)}, "seed was 3 and is 9"),
        ({"loader": TinyLoader(steps_per_epoch=6)}, "steps_per_epoch was 5 and is 6"),
        (
            {"metadata": {**METADATA, "config": {"train": {"epochs": 9}}}},
            r"config\.train\.epochs was 4 and is 9",
        ),
        ({"metadata": {**METADATA, "split_digest": "x"}}, "split_digest was 'abc' and is 'x'"),
        ({"metadata": {}}, "config.train.epochs was 4 and is absent"),
    ],
)
def test_resuming_another_run_is_refused(change, message, tmp_path):
    run(tmp_path, max_steps=2)
    with pytest.raises(CheckpointError, match=message):
        run(tmp_path, resume="exact", **change)


def test_changes_can_be_accepted_but_for_the_length_of_an_epoch(tmp_path, caplog):
    run(tmp_path, max_steps=2)
    with pytest.raises(CheckpointError, match="steps_per_epoch was 5 and is 6"):
        run(tmp_path, resume="changed", loader=TinyLoader(steps_per_epoch=6))
    _, result = run(tmp_path, resume="changed", threads=2)
    assert result.is_finished
    assert "goes on with changes: threads was 1 and is 2" in caplog.text


def test_changes_that_move_no_weight_need_no_asking(tmp_path):
    def metadata(**train):
        return {
            "config": {"train": train, "evaluation": {"protocol": "mlr"}, "data": {"root": "a"}}
        }

    run(tmp_path, max_steps=2, metadata=metadata(max_steps=2, threads=1))
    other = metadata(max_steps=0, threads=0)
    other["config"] |= {"data": {"root": "b"}, "evaluation": {"protocol": "market"}}
    _, result = run(tmp_path, resume="exact", metadata=other)
    assert result.is_finished


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path):
    run(tmp_path, max_steps=2)
    path = tmp_path / "checkpoint.safetensors"
    good = load_checkpoint(path)
    save_checkpoint(path, replace(good, model={**good.model, "extra": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match="does not fit the method: extra is unknown"):
        run(tmp_path, resume="exact")
    save_checkpoint(path, replace(good, optimisers={"other": {}}))
    run(tmp_path, resume="exact")  # nothing stored of a phase is nothing unknown
    save_checkpoint(path, replace(good, optimisers={"other": good.optimisers["main"]}))
    with pytest.raises(CheckpointError, match="this method has no phase other"):
        run(tmp_path, resume="exact")
    blob = bytearray(path.read_bytes())
    blob[-100] ^= 1
    path.write_bytes(blob)
    with pytest.raises(CheckpointError, match="damaged: expected sha256"):
        run(tmp_path, resume="exact")


# ---------------------------------------------------------------------- scalars and watched parts


def test_resumed_rows_have_no_step_twice(tmp_path):
    run(tmp_path, stop=stop_after(8), method=TinyGan())
    with (tmp_path / "scalars.jsonl").open("a") as file:
        file.write('{"step": 9, "epoch": 1, "phase": "generator", "update": 0}\n{"step": 1')
    run(tmp_path, resume="exact", method=TinyGan())
    found = [(row["step"], row["phase"], row["update"]) for row in rows(tmp_path)]
    assert len(found) == len(set(found)) == 4 * STEPS_PER_EPOCH * 3
    assert [step for step, _, _ in found] == sorted(step for step, _, _ in found)


def test_watching_writes_norms_and_changes_no_bit(tmp_path):
    plain, _ = run(tmp_path / "plain")
    method = TinyMethod()
    parts = {"stem": method.stem, "classifier": method.classifier}
    run(tmp_path / "watched", method=method, watch=Watch(parts=parts, every=2))
    assert bits(method) == bits(plain)
    norms = [row for row in rows(tmp_path / "watched") if "gradient_norms" in row]
    assert [(row["step"], row["epoch"]) for row in norms] == [(1, 0), (1, 0), (11, 2), (11, 2)]
    first, second = (row["gradient_norms"] for row in norms[:2])
    assert first["stem"]["identity"] > 0 < first["stem"]["gap"]
    assert second["classifier"]["gap"] == 0.0


def test_state_travels_whole(tmp_path):
    _, result = run(tmp_path, method=TinyGan(), max_steps=6)
    checkpoint = load_checkpoint(result.checkpoint)
    assert asdict(checkpoint.state) == {
        "step": 6,
        "steps_per_epoch": 5,
        "seed": 3,
        "threads": 1,
        "world_size": 1,
        "device": "cpu",
        "precision": "float32",
        "torch_version": str(torch.__version__),
    }
    assert checkpoint.metadata == METADATA
    assert checkpoint.optimisers.keys() == {"generator", "discriminator"}
    moments = checkpoint.optimisers["discriminator"]["discriminator.0.weight"]
    assert moments.keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert int(moments["step"]) == 12
    assert checkpoint.rng.keys() == {"cpu"}


class TwoPhases(TinyMethod):
    """The stem alone for the first half, then everything."""

    def __init__(self):
        super().__init__()
        main = self.phases[0]
        self.phases = (replace(main, name="early", last=0.5), replace(main, first=0.5))

    def parameter_groups(self, phase):
        groups = super().parameter_groups(phase)
        pretrained = [g for g in groups if g.name.startswith("pretrained")]
        return pretrained if phase.name == "early" else groups


def test_a_phase_may_take_over_what_another_has_moved(tmp_path):
    method, _ = run(tmp_path, method=TwoPhases(), epochs=4)
    steps = rows(tmp_path)
    assert [row["phase"] for row in steps] == ["early"] * 10 + ["main"] * 10
    # Each phase has its schedule to itself.
    rates = [row["learning_rate"] for row in steps]
    assert rates[:10] == rates[10:]
    start = TwoPhases().state_dict()
    early, _ = run(tmp_path / "early", method=TwoPhases(), epochs=4, max_steps=10)
    moved = {n for n, p in early.named_parameters() if not torch.equal(p, start[n])}
    assert moved == {n for n in moved if n.startswith("stem.")} != set()
    assert all(not torch.equal(p, start[n]) for n, p in method.named_parameters())


def test_two_phases_resume_to_the_same_bits(tmp_path):
    whole, _ = run(tmp_path / "whole", method=TwoPhases(), epochs=4)
    for number in (5, 13):
        folder = tmp_path / str(number)
        run(folder, method=TwoPhases(), epochs=4, stop=stop_after(number))
        again, _ = run(folder, method=TwoPhases(), epochs=4, resume="exact")
        assert bits(again) == bits(whole)
