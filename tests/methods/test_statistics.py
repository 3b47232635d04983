"""Making the two spaces commensurate: the running means, and what matching does with them."""

import math

import numpy as np
import pytest
import torch
from methods.builders import random_batch, random_images, small_method

from resolute.core.distance import distance_matrix
from resolute.core.errors import ConfigError
from resolute.methods.ftwa import balanced
from resolute.methods.settings.ftwa import FTWAConfig
from resolute.methods.statistics import MOMENTUM, MatchingStatistics

ALL = {"centre_quality": True, "scale_spaces": True, "evaluator_height": True}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_opinions(method):
    """Move T and W off their neutral start."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for n, p in method.named_parameters():
            if n.startswith("raft.") or ".evaluator." in n:
                p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return method


def distance(a, b, metric):
    a, b = a / a.norm(), b / b.norm()
    squared = float((a - b).square().sum())
    return squared if metric == "sqeuclidean" else math.sqrt(squared)


def test_means_by_loop():
    statistics = MatchingStatistics()
    labels = torch.tensor([0, 0, 1, 2])
    of_hr, of_lr = draw(8, 5), draw(8, 5, seed=1)  # four HR images, then four LR images
    statistics.track_distances(of_hr, of_lr, labels)
    for row, metric in enumerate(("sqeuclidean", "euclidean")):
        for space, vectors in enumerate((of_hr, of_lr)):
            found = [
                distance(vectors[i], vectors[4 + j], metric)
                for i in range(4)
                for j in range(4)
                if labels[i] != labels[j]
            ]
            mean = sum(found) / len(found)
            expected = 1 + MOMENTUM * (mean - 1)
            assert statistics.distance[row, space].item() == pytest.approx(expected, rel=1e-5)
    w_hr, w_lr = draw(8).sigmoid(), draw(8, seed=1).sigmoid()
    statistics.track_quality(w_hr, w_lr)
    for role in range(2):
        rows = range(4 * role, 4 * role + 4)
        mean = sum(math.log(w_hr[i] / w_lr[i]) for i in rows) / 4
        assert statistics.log_ratio[role].item() == pytest.approx(MOMENTUM * mean, rel=1e-4)


def test_one_identity_has_no_negative_pair_and_changes_nothing():
    statistics = MatchingStatistics()
    statistics.track_distances(draw(4, 3), draw(4, 3, seed=1), torch.tensor([7, 7]))
    assert torch.equal(statistics.distance, torch.ones(2, 2))


def test_an_average_image_of_either_role_trusts_both_spaces_alike():
    statistics = MatchingStatistics()
    w_hr = torch.tensor([0.8, 0.8, 0.3, 0.3])  # two HR images, then two LR images
    w_lr = torch.tensor([0.25, 0.25, 0.6, 0.6])
    for _ in range(400):
        statistics.track_quality(w_hr, w_lr)
    quality = torch.stack([w_hr, w_lr], dim=1)
    for role in range(2):
        centred = statistics.centred(quality[2 * role : 2 * role + 2], role=role)
        torch.testing.assert_close(centred[:, 0], centred[:, 1])
    # Who trusts the HR space more than others of its role still does, by the same factor.
    other = statistics.centred(torch.tensor([[0.8, 0.125]]), role=0)
    assert (other[0, 0] / other[0, 1]).item() == pytest.approx(2, rel=1e-4)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_two_people_are_one_apart_in_each_space(metric):
    statistics, labels = MatchingStatistics(), torch.arange(6)
    spaces = (draw(12, 4), draw(12, 4, seed=1).abs())  # the second is narrow
    for _ in range(400):
        statistics.track_distances(*spaces, labels)
    vectors = torch.stack([torch.nn.functional.normalize(v, dim=1) for v in spaces], dim=1)
    scaled = statistics.scaled(vectors, metric=metric)
    for space in range(2):
        pairs = torch.cdist(scaled[:6, space], scaled[6:, space])
        pairs = pairs.square() if metric == "sqeuclidean" else pairs
        assert pairs[~torch.eye(6, dtype=torch.bool)].mean().item() == pytest.approx(1, rel=1e-4)


def test_training_is_the_same_and_tracks_the_pairs_that_matching_meets():
    plain, tracking = (small_method("ftwa", track_matching=on) for on in (False, True))
    for method in (plain, tracking):
        with_opinions(method).train()
    batch = random_batch()
    expected, found = (m.losses(batch, m.phases[0]) for m in (plain, tracking))
    assert all(torch.equal(expected[n], found[n]) for n in expected)
    assert plain.statistics is None
    states = plain.state_dict(), tracking.state_dict()
    assert all(torch.equal(t, states[1][n]) for n, t in states[0].items())

    tracking.statistics = MatchingStatistics()
    tracking.eval()
    with torch.no_grad():
        network = tracking.network
        maps = network.maps(batch.images_hr, torch.cat([batch.images_lr, batch.images_lr_syn]))
        f_hr, f_lr, f_lr_syn = maps.chunk(3)
        v = [network.pool(f) for f in (f_hr, tracking.raft(f_lr), f_lr_syn, f_lr)]
        reference = MatchingStatistics()
        reference.track_distances(torch.cat(v[:2]), torch.cat(v[2:]), batch.labels)
        w_hr = tracking.space_hr.quality(torch.cat(v[:2]))
        reference.track_quality(w_hr, tracking.space_lr.quality(torch.cat(v[2:])))
    tracking.training = True  # only the flag: batch norms stay in evaluation mode
    tracking.losses(batch, tracking.phases[0])
    torch.testing.assert_close(tracking.statistics.distance, reference.distance)
    torch.testing.assert_close(tracking.statistics.log_ratio, reference.log_ratio)
    assert not torch.allclose(reference.distance, torch.ones(2, 2))


def test_one_model_is_matched_with_and_without():
    images = random_images((0, 1, 0, 1))
    method = with_opinions(small_method("ftwa", track_matching=True))
    method.statistics.log_ratio.copy_(torch.tensor([0.7, -0.3]))
    method.statistics.distance.copy_(torch.tensor([[0.5, 2.0], [0.4, 0.8]]))
    state, plain = method.state_dict(), method.embed(images)
    for metric, means in (("sqeuclidean", (0.5, 2.0)), ("euclidean", (0.4, 0.8))):
        changed = small_method("ftwa", metric=metric, centre_quality=True, scale_spaces=True)
        changed.load_state_dict(state)
        embedding = changed.embed(images)
        for space, fusion in enumerate(("hr", "lr")):
            before = distance_matrix(plain, plain, fusion=fusion, metric=metric)
            after = distance_matrix(embedding, embedding, fusion=fusion)
            np.testing.assert_allclose(after, before / means[space], atol=3e-3)
        ratio = np.log(embedding.quality[:, 0] / embedding.quality[:, 1])
        before = np.log(plain.quality[:, 0] / plain.quality[:, 1])
        np.testing.assert_allclose(ratio, before - np.array([0.7, -0.3, 0.7, -0.3]), atol=1e-5)


def test_scales_outlive_the_mirror_image():
    method = small_method("ftwa", scale_spaces=True, flip=True)
    method.statistics.distance.fill_(0.25)
    vectors = method.embed(random_images((0, 1))).vectors
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=2), 2.0, rtol=1e-5)


def test_evaluator_reads_the_height_of_the_image_and_of_its_own_lr_version():
    method = with_opinions(small_method("ftwa", evaluator_height=True, gallery_rates=(2.0, 5.0)))
    seen = {}
    for name in ("space_hr", "space_lr"):
        getattr(method, name).evaluator.register_forward_hook(
            lambda _m, inputs, _out, name=name: seen.setdefault(name, []).append(inputs[1])
        )
    method.eval()
    batch = random_batch()
    object.__setattr__(batch, "heights_hr", torch.tensor([96, 48, 96, 96, 96, 96]))
    object.__setattr__(batch, "heights_lr_syn", torch.tensor([19, 24, 24, 24, 24, 24]))
    method.losses(batch, method.phases[0])
    heights = {name: (96.0 * values.pop().exp()).round().long() for name, values in seen.items()}
    assert heights["space_hr"].tolist() == [*batch.heights_hr, *batch.heights_lr]
    assert heights["space_lr"].tolist() == [*batch.heights_lr, *batch.heights_lr_syn]
    method.embed(random_images((0, 0, 1), heights=[96, 48, 30]))
    of_hr = [(96.0 * h.exp()).round().long().tolist() for h in seen["space_hr"]]
    of_lr = [(96.0 * h.exp()).round().long().tolist() for h in seen["space_lr"]]
    assert of_hr == [[96, 48], [30]]
    assert of_lr == [[48, 24, 19, 9], [30]]


def test_height_can_change_the_quality():
    method = with_opinions(small_method("ftwa", evaluator_height=True))
    images = random_images((1, 1))
    pixels = images.pixels.clone()
    pixels[1] = pixels[0]
    object.__setattr__(images, "pixels", pixels)
    same = method.embed(images).quality
    np.testing.assert_allclose(same[0], same[1], rtol=1e-6)
    log_heights = torch.tensor([0.0, -2.0])
    v = torch.zeros(2, method.network.embedding_dim)
    weights = method.space_hr.quality(v, log_heights)
    assert weights[0] != weights[1]
    with pytest.raises(ConfigError, match="reads native heights, and got none"):
        method.space_hr.quality(v)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"track_matching": True, "spaces": 1}, "track_matching: needs two spaces"),
        ({"scale_spaces": True, "spaces": 1}, "scale_spaces: needs two spaces"),
        ({"centre_quality": True, "evaluator": "ones"}, "centre_quality: needs the evaluator"),
        ({"evaluator_height": True, "evaluator": "ones"}, "evaluator_height: needs the eval"),
    ],
)
def test_settings_that_contradict(changes, message):
    with pytest.raises(ConfigError, match=message):
        FTWAConfig(**changes)


@pytest.mark.parametrize(
    "changes", [{"evaluator_height": True}, {"scale_spaces": True}, {"encoder_lr": "adapter"}]
)
def test_what_needs_more_than_pixels_is_not_exported(changes):
    with pytest.raises(ConfigError, match=f"method.{next(iter(changes))}: a model with it cannot"):
        small_method("ftwa", **changes).graphs()


def test_distances_are_tracked_under_autocast():
    vectors = draw(8, 4)
    plain, cast = MatchingStatistics(), MatchingStatistics()
    labels = torch.arange(4)
    plain.track_distances(vectors, vectors, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast.track_distances(vectors, vectors, labels)
    assert torch.equal(plain.distance, cast.distance)


def test_balanced_qualities_have_mean_log_ratio_zero_and_no_common_push():
    hr = draw(6).sigmoid().requires_grad_()
    lr = draw(6, seed=1).sigmoid()
    balanced_hr, balanced_lr = balanced(hr, lr)
    ratios = (balanced_hr / balanced_lr).log()
    literal = [math.log(a / b) for a, b in zip(hr.tolist(), lr.tolist(), strict=True)]
    centred = [value - sum(literal) / 6 for value in literal]
    assert ratios.tolist() == pytest.approx(centred, abs=1e-5)
    # Multiplying all of w_HR by one number changes nothing: the gradient along it is zero.
    (ratios**3).sum().backward()
    assert (hr.grad * hr.detach()).sum().item() == pytest.approx(0, abs=1e-5)


def test_balance_keeps_a_biased_evaluator_from_shutting_a_space_out():
    """Both roles are matched as if their evaluators were fair on average."""
    method = small_method("ftwa", balance_quality=True)
    with torch.no_grad():
        method.space_hr.evaluator.score.bias.fill_(-6.0)
    for seed in range(60):
        method.train().losses(random_batch(seed=seed), method.phases[0])
    found = method.embed(random_images()).quality
    assert found[:, 0] / found[:, 1] == pytest.approx([1.0] * 4, rel=0.3)


def test_balance_needs_an_evaluator():
    with pytest.raises(ConfigError, match=r"method\.balance_quality: needs an evaluator"):
        FTWAConfig(evaluator="ones", balance_quality=True)


def test_watching_evaluators_leave_the_network_alone():
    """The network's gradient is that of FTWA_R; the evaluators' is that of equations 5 and 7."""

    def gradients(method):
        phase = method.phases[0]
        losses = method.train().losses(random_batch(), phase)
        torch.stack([*losses.values()]).sum().backward()
        return losses, {n: p.grad for n, p in method.named_parameters() if p.grad is not None}

    watching = with_opinions(small_method("ftwa", evaluator_watches=True))
    plain = small_method("ftwa_r")
    plain.load_state_dict(
        {n: t for n, t in watching.state_dict().items() if n in plain.state_dict()}
    )
    losses, found = gradients(watching)
    _, expected = gradients(plain)
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-7), name
    whole = with_opinions(small_method("ftwa", evaluator_detach=True))
    weighted, theirs = gradients(whole)
    assert losses["quality"].item() == pytest.approx(
        (weighted["identity"] + weighted["triplet"]).item(), rel=1e-5
    )
    for name in theirs:
        if ".evaluator." in name:
            assert torch.allclose(found[name], theirs[name], atol=1e-7), name


def test_watching_needs_an_evaluator():
    with pytest.raises(ConfigError, match=r"method\.evaluator_watches: needs an evaluator"):
        FTWAConfig(evaluator="ones", evaluator_watches=True)
