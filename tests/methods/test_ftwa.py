"""What makes FTWA FTWA: its equations joined, its spaces, its variants."""

import numpy as np
import pytest
import torch
from methods.builders import (
    pretrained_and_new,
    random_batch,
    random_images,
    small_method,
    started_method,
)
from torch.nn import functional

from resolute.core.distance import distance_matrix
from resolute.core.errors import ConfigError
from resolute.core.images import RESOLUTION_HR, RESOLUTION_LR
from resolute.data.degrade import to_input
from resolute.losses.identity import identity_terms, pair_weighted_mean
from resolute.losses.reconstruction import feature_l1
from resolute.losses.triplet import self_weighted_triplet_loss, triplet_terms
from resolute.methods.settings.ftwa import FTWAConfig


def losses_of(method, batch):
    return method.losses(batch, method.phases[0])


def give_weights(method):
    """Move T and W off their neutral start."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for n, p in method.named_parameters():
            if n.startswith("raft.") or ".evaluator." in n:
                p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return method


def test_equation_8_joins_equations_2_5_and_7():
    method = give_weights(small_method("ftwa")).eval()
    batch = random_batch()
    # One LR image is borrowed: it shows the picture of another HR row of its identity.
    batch.sources_lr[1] = batch.sources_hr[0]
    network, hr, lr = method.network, method.space_hr, method.space_lr
    features_hr = network.encoder_id(network.encoder_hr(batch.images_hr))  # eq. 1
    features_lr = network.encoder_id(network.encoder_lr(batch.images_lr))
    features_lr_syn = network.encoder_id(network.encoder_lr(batch.images_lr_syn))
    features_hr_syn = method.raft(features_lr)  # eq. 3
    v = {
        "hr": network.pool(features_hr),
        "hr_syn": network.pool(features_hr_syn),
        "lr": network.pool(features_lr),
        "lr_syn": network.pool(features_lr_syn),
    }
    space = {"hr": hr, "hr_syn": hr, "lr": lr, "lr_syn": lr}
    w = {n: space[n].quality(x) for n, x in v.items()}  # eq. 4
    f = {n: identity_terms(space[n].logits(x), batch.labels) for n, x in v.items()}
    identity = pair_weighted_mean(f["hr"], f["lr_syn"], w["hr"], w["lr_syn"]) + pair_weighted_mean(
        f["lr"], f["hr_syn"], w["lr"], w["hr_syn"]
    )
    both = batch.labels.repeat(2)
    terms_hr = (
        triplet_terms(
            torch.cat([v["hr"], v["hr_syn"]]),
            both,
            torch.cat([batch.sources_hr, batch.sources_lr]),
            margin=0.3,
        )
        .view(2, -1)
        .mean(0)
    )
    terms_lr = (
        triplet_terms(
            torch.cat([v["lr"], v["lr_syn"]]),
            both,
            torch.cat([batch.sources_lr, batch.sources_hr]),
            margin=0.3,
        )
        .view(2, -1)
        .mean(0)
    )
    triplet = self_weighted_triplet_loss(
        terms_hr, terms_lr, w["hr"] * w["hr_syn"], w["lr"] * w["lr_syn"]
    )
    losses = losses_of(method, batch)
    torch.testing.assert_close(losses["identity"], 3.0 * identity)
    torch.testing.assert_close(losses["triplet"], 1.0 * triplet)
    torch.testing.assert_close(
        losses["raft"], 0.1 * feature_l1(features_hr, method.raft(features_lr_syn))
    )


def test_ftwa_starts_as_ftwa_r():
    batch = random_batch()
    whole, without = small_method("ftwa").eval(), small_method("ftwa_r").eval()
    without.load_state_dict(whole.state_dict(), strict=False)
    for name, loss in losses_of(without, batch).items():
        torch.testing.assert_close(losses_of(whole, batch)[name], loss)


def test_raft_starts_as_identity_so_ftwa_r_starts_as_not():
    batch = random_batch()
    raft, without = small_method("ftwa_r").eval(), small_method("ftwa_r-not").eval()
    without.load_state_dict(raft.state_dict(), strict=False)
    for name, loss in losses_of(without, batch).items():
        torch.testing.assert_close(losses_of(raft, batch)[name], loss)


def test_gradient_of_equation_2_reaches_the_lr_encoder_but_not_the_hr_encoder():
    # In eval mode: batch statistics, which E_ID shares among streams, would carry some over.
    method = give_weights(small_method("ftwa")).eval()
    losses_of(method, random_batch())["raft"].backward()
    assert all(p.grad is None or not p.grad.any() for p in method.network.encoder_hr.parameters())
    assert any(p.grad is not None and p.grad.any() for p in method.network.encoder_lr.parameters())
    assert any(p.grad is not None and p.grad.any() for p in method.network.encoder_id.parameters())


def test_detached_evaluator_sends_no_gradient_into_the_network():
    batch = random_batch()

    def gradient(**changes):
        method = give_weights(small_method("ftwa", **changes))
        v = method.network.pool(method.network.maps(batch.images_hr, None))
        method.space_hr.quality(v).sum().backward()
        return sum(
            float(p.grad.abs().sum()) for p in method.network.parameters() if p.grad is not None
        )

    assert gradient() > 0
    assert gradient(evaluator_detach=True) == 0


def test_baseline_ignores_twins_and_baseline_twins_uses_them():
    batch, other = random_batch(), random_batch()
    object.__setattr__(other, "images_lr_syn", other.images_lr_syn + 1)
    for name, is_equal in (
        ("baseline", True),
        ("ftwa_b", True),
        ("baseline-twins", False),
        ("ftwa_b-twins", False),
    ):
        method = small_method(name).eval()
        a, b = losses_of(method, batch)["identity"], losses_of(method, other)["identity"]
        assert torch.equal(a, b) == is_equal, name


def test_one_encoder_or_two():
    one = small_method("baseline").network
    assert one.encoder_lr is None
    two = small_method("ftwa").network
    first, second = next(two.encoder_hr.parameters()), next(two.encoder_lr.parameters())
    assert first is not second
    assert torch.equal(first, second)


def test_embedding_of_both_roles_by_hand():
    method = give_weights(small_method("ftwa", gallery_rates=(2.0, 4.0))).eval()
    images = random_images((0, 1))
    embedding = method.embed(images)
    network = method.network
    hr, lr = images.take(torch.tensor([0])), images.take(torch.tensor([1]))
    with torch.no_grad():
        v_hr = network.pool(network.encoder_id(network.encoder_hr(to_input(hr, method.input_spec))))
        twins = [
            network.pool(
                network.encoder_id(
                    network.encoder_lr(to_input(hr, method.input_spec, rates=torch.tensor([rate])))
                )
            )
            for rate in (2.0, 4.0)
        ]
        map_lr = network.encoder_id(network.encoder_lr(to_input(lr, method.input_spec)))
        v_lr, v_hr_syn = network.pool(map_lr), network.pool(method.raft(map_lr))
        mean_twin = sum(functional.normalize(t, dim=1) for t in twins)
        expected = torch.stack([torch.cat([v_hr, mean_twin]), torch.cat([v_hr_syn, v_lr])])
        quality = torch.stack(
            [
                torch.cat(
                    [
                        method.space_hr.quality(v_hr),
                        sum(method.space_lr.quality(t) for t in twins) / 2,
                    ]
                ),
                torch.cat([method.space_hr.quality(v_hr_syn), method.space_lr.quality(v_lr)]),
            ]
        )
    np.testing.assert_allclose(
        embedding.vectors, functional.normalize(expected, dim=2).numpy(), atol=2e-6
    )
    np.testing.assert_allclose(embedding.quality, quality.numpy(), atol=2e-6)


def test_unknown_resolution_follows_native_height():
    method = give_weights(small_method("ftwa"))  # h_ref 96: border at 64
    images = random_images((2, 2, 2), heights=[96, 40, 64])
    told = random_images((RESOLUTION_HR, RESOLUTION_LR, 2), heights=[96, 40, 64])
    unknown = method.embed(images)
    np.testing.assert_allclose(unknown.vectors[:2], method.embed(told).vectors[:2], atol=2e-6)
    as_hr = method.embed(random_images((0, 0, 0), heights=[96, 40, 64])).vectors[2]
    as_lr = method.embed(random_images((1, 1, 1), heights=[96, 40, 64])).vectors[2]
    both = as_hr + as_lr
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    np.testing.assert_allclose(unknown.vectors[2], both, atol=2e-6)


def test_constant_evaluator_answers_the_trained_means():
    method = give_weights(small_method("ftwa-const")).train()
    for step in range(3):
        losses_of(method, random_batch(seed=step))
    means = method.quality_mean.numpy()
    assert not np.allclose(means, 0.5)
    quality = method.embed(random_images((0, 1, 0))).quality
    np.testing.assert_allclose(quality, means[[0, 1, 0]])


def test_flip_makes_mirrored_images_equal():
    method = small_method("ftwa", flip=True)
    images = random_images((0, 0), heights=[96, 96])
    pixels = images.pixels.clone()
    pixels[1] = pixels[0].flip(-1)
    object.__setattr__(images, "pixels", pixels)
    vectors = method.embed(images).vectors
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"flip": True}, {"scale_spaces": True}])
def test_hr_space_alone_gives_the_same_vectors_and_runs_no_twin(changes, monkeypatch):
    flags, heights = (RESOLUTION_HR, RESOLUTION_LR, 2, 2, 2), [96, 40, 96, 40, 64]
    images = random_images(flags, heights=heights)
    method = give_weights(small_method("ftwa", fusion="hr", **changes))
    if changes.get("scale_spaces"):
        method.statistics.distance.copy_(torch.tensor([[0.5, 2.0], [0.7, 1.4]]))
    whole = method.embed(images)
    assert whole.vectors.shape[1] == 2
    method.drop_unread_space()
    seen = []
    monkeypatch.setattr(
        "resolute.methods.ftwa_matching.to_input",
        lambda images, spec, rates: seen.append(rates) or to_input(images, spec, rates=rates),
    )
    spared = method.embed(images)
    assert seen
    assert set(seen) == {None}  # no LR version was made of a HR image
    assert spared.vectors.shape[1] == spared.quality.shape[1] == spared.norms.shape[1] == 1
    np.testing.assert_allclose(spared.vectors[:, 0], whole.vectors[:, 0], atol=2e-6)
    np.testing.assert_allclose(spared.norms[:, 0], whole.norms[:, 0], rtol=1e-5)
    np.testing.assert_allclose(
        distance_matrix(spared, spared), distance_matrix(whole, whole), atol=1e-5
    )
    assert (spared.quality == 1).all()


def test_resnet_matches_after_its_necks():
    method = small_method("ftwa", backbone="resnet18")
    with torch.no_grad():
        method.space_hr.neck.running_mean += 3
    plain = small_method("ftwa", backbone="resnet18")
    images = random_images((0,))
    assert not np.allclose(method.embed(images).vectors[:, 0], plain.embed(images).vectors[:, 0])
    np.testing.assert_allclose(
        method.embed(images).vectors[:, 1], plain.embed(images).vectors[:, 1]
    )


def test_pretrained_network_moves_slower(tmp_path):
    from resolute.methods.config import OptimiserConfig
    from resolute.methods.contract import Phase

    method = started_method(tmp_path)
    phase = Phase(
        name="main",
        optimiser=OptimiserConfig(pretrained_factor=0.5, frozen_epochs=2, bias_decay=0.0),
        schedule=method.phases[0].schedule,
    )
    groups = {g.name: g for g in method.parameter_groups(phase)}
    assert groups["pretrained.weight"].learning_rate_factor == 0.5
    assert groups["pretrained.weight"].frozen_epochs == 2
    assert groups["new.weight"].frozen_epochs == 0
    assert groups["pretrained.bias"].weight_decay == 0.0
    assert all(n.startswith("network.") for n, _ in groups["pretrained.weight"].parameters)


@pytest.mark.parametrize(
    ("changes", "new"),
    [
        ({"encoder_lr": "adapter"}, "network.adapters."),
        ({"pooling": "gem"}, "network.pool.global_avgpool."),
    ],
)
def test_what_no_weight_file_fills_moves_at_full_rate(changes, new, tmp_path):
    slow, quick = pretrained_and_new(started_method(tmp_path, backbone="osnet_x0_25", **changes))
    assert any(n.startswith(new) for n in quick)
    assert not any(n.startswith(new) for n in slow)
    assert any(n.startswith("network.pool.fc.") for n in slow)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_lr": "adapter", "encoders": 1, "spaces": 1}, "one encoder has no E_L"),
        ({"twins": False}, "need twins"),
        ({"encoders": 1}, "two encoders"),
        ({"evaluator_floor": 1.0}, "evaluator_floor"),
        ({"constant": 2.0}, "constant"),
        ({"gallery_rates": (0.5,)}, "gallery_rates"),
        ({"margin": -1.0}, "margin"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"teacher": "start"}, r"method\.teacher start: there is nothing to teach"),
        ({"evaluator": "ones", "evaluator_detach": True}, "evaluator_detach: needs an evaluator"),
        ({"evaluator": "ones", "evaluator_floor": 0.1}, "evaluator_floor: needs an evaluator"),
        ({"spaces": 1, "evaluator_detach": True}, "evaluator_detach: needs two spaces"),
    ],
)
def test_settings_that_contradict(changes, message):
    with pytest.raises(ConfigError, match=message):
        FTWAConfig(**changes)
