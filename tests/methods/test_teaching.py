"""What a teacher adds: its terms, who it is, what is kept of it, and the phase without labels."""

import copy

import pytest
import torch
from methods.builders import random_batch, small_case, small_method
from torch.nn import functional

from resolute.core.errors import ConfigError
from resolute.losses.transfer import cosine_loss, similarity_matrix_loss
from resolute.methods.config import OptimiserConfig
from resolute.methods.contract import drop_training_parts, shipped_state
from resolute.methods.settings.ftwa import FTWAConfig

TAUGHT = {"weight_distill": 2.0, "weight_transfer": 0.5, "weight_similarity": 3.0}


def main(method):
    return method.phases[-1]


def move(method, step=1.0):
    """Make every weight another one, T and W too."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.02 * step * torch.randn(p.shape, generator=generator))
    return method


def imitation(students, targets, weight):
    return cosine_loss(students, targets) + weight * similarity_matrix_loss(students, targets)


@pytest.mark.parametrize("teacher", ["self", "start", "average"])
def test_both_terms_by_hand(teacher):
    method = small_method("ftwa", teacher=teacher, **TAUGHT).eval()
    start = copy.deepcopy(method.network)
    move(method)
    network, batch = method.network, random_batch()
    source = network if teacher == "self" else start  # in eval mode an average does not follow
    targets = source.pool(source.encoder_id(source.encoder_hr(batch.images_hr)))
    features_lr_syn = network.encoder_id(network.encoder_lr(batch.images_lr_syn))
    losses = method.losses(batch, main(method))
    expected = 2.0 * imitation(network.pool(features_lr_syn), targets, 3.0)
    torch.testing.assert_close(losses["distill"], expected)
    expected = 0.5 * imitation(network.pool(method.raft(features_lr_syn)), targets, 3.0)
    torch.testing.assert_close(losses["transfer"], expected)


def test_other_terms_stay_and_no_weight_means_no_term():
    batch = random_batch()
    plain, taught = small_method("ftwa").eval(), small_method("ftwa", **TAUGHT).eval()
    without = plain.losses(batch, main(plain))
    assert set(without) == {"identity", "triplet", "raft"}
    assert plain.teacher is None
    for name, loss in taught.losses(batch, main(taught)).items():
        if name in without:
            torch.testing.assert_close(loss, without[name])
    assert {n: p.shape for n, p in plain.named_parameters()} == {
        n: p.shape for n, p in taught.named_parameters()
    }
    one = small_method("ftwa", weight_transfer=1.0)
    assert "distill" not in one.losses(batch, main(one))


def test_one_space_learns_from_the_same_teacher():
    method = move(small_method("baseline-twins", weight_distill=2.0, teacher="start")).eval()
    batch, network = random_batch(), method.network
    twins = network.pool(network.encoder_id(network.encoder_hr(batch.images_lr_syn)))
    expected = 2.0 * imitation(twins, method.teacher(batch.images_hr), 1.0)
    losses = method.losses(batch, main(method))
    torch.testing.assert_close(losses["distill"], expected)
    assert set(losses) == {"identity", "triplet", "distill"}


def test_no_gradient_reaches_the_hr_encoder_through_the_teacher():
    # In eval mode: batch statistics, which E_ID shares among streams, would carry some over.
    method = move(small_method("ftwa", **TAUGHT)).eval()
    losses = method.losses(random_batch(), main(method))
    (losses["distill"] + losses["transfer"]).backward()
    assert all(p.grad is None or not p.grad.any() for p in method.network.encoder_hr.parameters())
    assert any(p.grad is not None and p.grad.any() for p in method.network.encoder_lr.parameters())
    assert any(p.grad is not None and p.grad.any() for p in method.raft.parameters())


def test_average_follows_and_start_stays():
    batch = random_batch()
    for teacher, momentum in (("average", 0.75), ("start", 0.75)):
        method = small_method(
            "ftwa", weight_distill=1.0, teacher=teacher, teacher_momentum=momentum
        ).train()
        key = "path.0.conv1.conv.weight"
        before = method.teacher.state_dict()[key].clone()
        move(method)
        now = method.network.encoder_hr.conv1.conv.weight.detach()
        method.losses(batch, main(method))
        share = 0.75 if teacher == "average" else 1.0
        expected = share * before + (1 - share) * now
        torch.testing.assert_close(method.teacher.state_dict()[key], expected)
        assert not torch.allclose(before, now)


def test_teacher_keeps_to_evaluation_mode_and_out_of_the_way():
    method = small_method("ftwa", weight_distill=1.0, teacher="start").train()
    assert method.training
    assert not any(module.training for module in method.teacher.modules())
    assert list(method.teacher.parameters()) == []
    before = {n: t.clone() for n, t in method.teacher.state_dict().items()}
    method.losses(random_batch(), main(method))
    assert all(torch.equal(t, before[n]) for n, t in method.teacher.state_dict().items())
    hr = random_batch().images_hr
    torch.testing.assert_close(
        small_method("ftwa", weight_distill=1.0, teacher="start").teacher(hr), method.teacher(hr)
    )


def test_teacher_is_in_the_checkpoint_and_not_in_the_model_file():
    method = small_method("ftwa", weight_distill=1.0, teacher="average")
    plain = small_method("ftwa")
    assert any(n.startswith("teacher.") for n in method.state_dict())
    assert shipped_state(method).keys() == plain.state_dict().keys()
    drop_training_parts(method)
    assert method.state_dict().keys() == plain.state_dict().keys()
    with pytest.raises(ConfigError, match="loaded to embed and has no teacher"):
        method.losses(random_batch(), main(method))


def test_method_without_training_parts_ships_whole():
    layer = torch.nn.Linear(2, 2)
    drop_training_parts(layer)
    assert shipped_state(layer).keys() == layer.state_dict().keys()


def test_resolution_comes_first_and_moves_what_meets_lr_images_alone():
    method = small_case("ftwa, resolution first")
    first, then = method.phases
    assert (first.name, first.first, first.last) == ("resolution", 0.0, 0.25)
    assert (then.name, then.first, then.last) == ("main", 0.25, 1.0)
    names = [n for g in method.parameter_groups(first) for n, _ in g.parameters]
    assert {n.split(".")[0] for n in names} == {"network", "raft"}
    assert all(n.startswith(("raft.", "network.encoder_lr.")) for n in names)
    control = small_case("baseline-twins, taught")
    names = [n for g in control.parameter_groups(control.phases[0]) for n, _ in g.parameters]
    assert all(n.startswith("network.encoder_hr.") for n in names)


@pytest.mark.parametrize("teacher", ["self", "start"])
def test_resolution_reads_no_label_and_moves_no_statistics_of_the_rest(teacher):
    method = small_method("ftwa", teacher=teacher, resolution_share=0.5).train()
    batch, other = random_batch(), random_batch()
    object.__setattr__(other, "labels", other.labels * 0)
    object.__setattr__(other, "images_lr", other.images_lr + 1)
    before = {n: t.clone() for n, t in method.state_dict().items()}
    losses = method.losses(batch, method.phases[0])
    again = method.losses(other, method.phases[0])
    assert set(losses) == {"distill", "transfer"}
    assert all(torch.equal(losses[n], again[n]) for n in losses)
    moved = {n for n, t in method.state_dict().items() if not torch.equal(t, before[n])}
    assert moved
    assert all(n.startswith("network.encoder_lr.") for n in moved)
    assert all(module.training for module in method.network.modules())


def test_resolution_terms_by_hand():
    method = move(small_method("ftwa", resolution_share=0.5, weight_similarity=2.0)).eval()
    network, batch = method.network, random_batch()
    targets = network.pool(network.encoder_id(network.encoder_hr(batch.images_hr)))
    features = network.encoder_id(network.encoder_lr(batch.images_lr_syn))
    losses = method.losses(batch, method.phases[0])
    torch.testing.assert_close(losses["distill"], imitation(network.pool(features), targets, 2.0))
    torch.testing.assert_close(
        losses["transfer"], imitation(network.pool(method.raft(features)), targets, 2.0)
    )


def test_resolution_brings_twins_to_their_hr_images():
    method = small_method("ftwa", resolution_share=0.5, weight_similarity=0.0).train()
    phase, batch = method.phases[0], random_batch()
    parameters = [p for g in method.parameter_groups(phase) for _, p in g.parameters]
    optimiser = torch.optim.Adam(parameters, lr=2e-3)
    seen = []
    for _ in range(8):
        losses = method.losses(batch, phase)
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
        seen.append(losses["transfer"].item())
    assert seen[-1] < 0.7 * seen[0]
    assert functional.relu(torch.tensor(seen)).sum() > 0


def test_resolution_waits_for_nothing_to_thaw():
    from dataclasses import replace

    from methods.builders import small_blueprint

    from resolute.core.rng import Streams
    from resolute.methods.ftwa import build_ftwa

    blueprint = small_blueprint("ftwa", resolution_share=0.5)
    blueprint = replace(blueprint, optimiser=OptimiserConfig(frozen_epochs=3))
    first, then = build_ftwa(blueprint, streams=Streams(0))[0].phases
    assert (first.optimiser.frozen_epochs, then.optimiser.frozen_epochs) == (0, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_distill": -1.0}, "weight_distill"),
        ({"weight_similarity": -1.0}, "weight_similarity"),
        ({"teacher_momentum": 1.5}, "teacher_momentum"),
        ({"resolution_share": 1.0}, "resolution_share"),
        ({"weight_distill": 1.0, "spaces": 1, "twins": False}, "no twin to teach"),
        ({"resolution_share": 0.1, "spaces": 1, "twins": False}, "no twin to teach"),
        ({"weight_transfer": 1.0, "spaces": 1}, "one space has no T"),
    ],
)
def test_settings_that_contradict(changes, message):
    with pytest.raises(ConfigError, match=message):
        FTWAConfig(**changes)
