"""Bicubic or a small network, then ReID: who trains on what, and what stands still."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from methods.builders import random_batch, random_images, small_blueprint, small_method
from torch.nn import functional

from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.data.degrade import to_input
from resolute.engine.config import TrainConfig
from resolute.engine.distributed import World
from resolute.engine.phases import start_phases
from resolute.losses.identity import identity_terms
from resolute.losses.triplet import triplet_terms
from resolute.methods.catalogue import METHODS
from resolute.methods.settings.plain_sr import PlainSRConfig
from resolute.recipes.catalogue import find_recipe


def sharpening(method):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in method.restorer.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return method


def main(method):
    return method.phases[-1]


def changed(batch, *names):
    return replace(batch, **{name: getattr(batch, name) + 1 for name in names})


def test_bicubic_trains_on_hr_images_alone():
    method = small_method("sr-bicubic", weight_identity=2.0, weight_triplet=0.5).eval()
    batch = random_batch()
    losses = method.losses(batch, main(method))
    other = method.losses(changed(batch, "images_lr", "images_lr_syn"), main(method))
    assert {n: v.item() for n, v in losses.items()} == {n: v.item() for n, v in other.items()}
    assert [phase.name for phase in method.phases] == ["main"]
    v = method.network(batch.images_hr)
    entropy = identity_terms(method.classifier(method.neck(v)), batch.labels).mean()
    torch.testing.assert_close(losses["identity"], 2.0 * 2 * entropy)
    triplet = triplet_terms(v, batch.labels, batch.sources_hr, margin=0.3).mean()
    torch.testing.assert_close(losses["triplet"], 0.5 * triplet)


@pytest.mark.parametrize("twins", [True, False])
def test_network_trains_on_hr_and_sharpened_images(twins):
    method = sharpening(small_method("sr-net", twins=twins)).eval()
    batch = random_batch()
    losses = method.losses(batch, main(method))
    kinds = [batch.images_hr, method.restorer(batch.images_lr)]
    kinds += [method.restorer(batch.images_lr_syn)] if twins else []
    v = [method.network(images) for images in kinds]
    f = [identity_terms(method.classifier(method.neck(x)), batch.labels).mean() for x in v]
    of_hr = (f[0] + f[2]) / 2 if twins else f[0]
    torch.testing.assert_close(losses["identity"], 3.0 * (of_hr + f[1]))
    sources = [batch.sources_hr, batch.sources_lr, batch.sources_hr][: len(v)]
    triplet = triplet_terms(
        torch.cat(v), batch.labels.repeat(len(v)), torch.cat(sources), margin=0.3
    )
    torch.testing.assert_close(losses["triplet"], triplet.mean())


def test_first_phase_lowers_the_mean_difference_to_the_hr_image():
    method = sharpening(small_method("sr-net")).train()
    batch = random_batch()
    losses = method.losses(batch, method.phases[0])
    gap = (method.restorer(batch.images_lr_syn) - batch.images_hr).abs()
    assert set(losses) == {"restoration"}
    assert losses["restoration"].item() == pytest.approx(float(gap.detach().mean()), rel=1e-5)
    unlabelled = replace(batch, labels=torch.full_like(batch.labels, -1))
    assert torch.equal(
        method.losses(unlabelled, method.phases[0])["restoration"].detach(), gap.mean().detach()
    )


def test_phases_leave_each_other_alone():
    method = small_method("sr-net", restoration_share=0.5, backbone="resnet18")
    runs = start_phases(
        method,
        config=TrainConfig(epochs=2),
        world=World(),
        device=torch.device("cpu"),
        has_unused_parameters=False,
    )
    method.train()
    for run, is_own in zip(
        runs,
        (lambda n: n.startswith("restorer."), lambda n: not n.startswith("restorer.")),
        strict=True,
    ):
        before = {n: t.clone() for n, t in method.state_dict().items()}
        epoch = 0 if run.phase.name == "restoration" else 1
        run.update(random_batch(), epoch=epoch, factor=1.0)
        moved = {n for n, t in method.state_dict().items() if not torch.equal(t, before[n])}
        assert moved
        assert all(is_own(n) for n in moved)


def test_restoration_learns():
    method = small_method("sr-net", restoration_share=0.5).train()
    runs = start_phases(
        method,
        config=TrainConfig(epochs=2),
        world=World(),
        device=torch.device("cpu"),
        has_unused_parameters=False,
    )
    smooth = functional.avg_pool2d(random_batch().images_hr, 3, stride=1, padding=1)
    blurred = functional.avg_pool2d(smooth, 3, stride=1, padding=1)
    batch = replace(random_batch(), images_hr=smooth, images_lr_syn=blurred)
    found = [runs[0].update(batch, epoch=0, factor=1.0)["restoration"].item() for _ in range(60)]
    assert found[-1] < 0.9 * found[0]


def test_matching_on_three_images_by_hand():
    method = sharpening(small_method("sr-net", backbone="resnet18")).eval()
    images = random_images((0, 1, 1), heights=[96, 48, 26])
    embedding = method.embed(images)
    assert embedding.vectors.shape[:2] == (3, 1)
    assert (embedding.quality == 1).all()
    inputs = to_input(images, method.input_spec)
    with torch.no_grad():
        inputs = torch.cat([inputs[:1], method.restorer(inputs[1:])])
        v = method.neck(method.network(inputs))
    expected = functional.normalize(v, dim=1).numpy()
    np.testing.assert_allclose(embedding.vectors[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(embedding.norms[:, 0], v.norm(dim=1).numpy(), rtol=1e-5)


def test_only_lr_images_are_enlarged_bicubically():
    method = small_method("sr-bicubic").eval()
    plain = small_method("sr-bicubic", enlargement="bilinear").eval()
    images = random_images((0, 1, 2), heights=[96, 30, 30])
    found, other = method.embed(images).vectors, plain.embed(images).vectors
    np.testing.assert_array_equal(found[0], other[0])
    assert not np.allclose(found[1], other[1], atol=1e-4)
    spec = replace(method.input_spec, interpolation="bicubic")
    with torch.no_grad():
        v = method.network(to_input(images.take(torch.tensor([1])), spec))
    np.testing.assert_allclose(found[1], functional.normalize(v, dim=1).numpy(), atol=1e-5)


def test_unknown_resolution_follows_native_height():
    method = sharpening(small_method("sr-net")).eval()  # h_ref 96: border at 64
    heights = [96, 40, 64]
    unknown = method.embed(random_images((2, 2, 2), heights=heights)).vectors
    as_hr = method.embed(random_images((0, 0, 0), heights=heights)).vectors
    as_lr = method.embed(random_images((1, 1, 1), heights=heights)).vectors
    np.testing.assert_allclose(unknown[0], as_hr[0], atol=1e-5)
    np.testing.assert_allclose(unknown[1], as_lr[1], atol=1e-5)
    both = as_hr[2] + as_lr[2]
    np.testing.assert_allclose(unknown[2], both / np.linalg.norm(both), atol=1e-5)


def test_graphs_say_why_not():
    with pytest.raises(ConfigError, match="enlarges all images alike, LR ones by bicubic too"):
        small_method("sr-bicubic").graphs()
    graphs = sharpening(small_method("sr-net")).eval().graphs()
    inputs = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(graphs.hr.network(inputs)[0], graphs.lr.network(inputs)[0])


def test_pictures():
    shown = small_method("sr-net").pictures(random_batch())
    assert set(shown) == {"HR", "LR", "restored"}
    assert set(small_method("sr-bicubic").pictures(random_batch())) == {"HR", "LR"}


def test_odd_input_size():
    blueprint = small_blueprint("sr-net")
    blueprint = replace(blueprint, model=replace(blueprint.model, height=65))
    with pytest.raises(ConfigError, match="make both even"):
        METHODS["sr-net"](blueprint, streams=Streams(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"restoration": "network", "enlargement": "bicubic"}, "learns from bilinear"),
        ({"restoration_share": 0.0}, "before it is frozen"),
        ({"width": 0}, "width"),
        ({"margin": -1.0}, "margin"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"constant": -0.1}, "constant"),
    ],
)
def test_settings_that_contradict(changes, message):
    with pytest.raises(ConfigError, match=message):
        PlainSRConfig(**changes)


def test_enlargement_trains_nothing():
    assert PlainSRConfig(enlargement="bicubic").as_trained() == PlainSRConfig()


@pytest.mark.parametrize("flavour", ["recommended", "quickstart", "paper"])
def test_recipes_are_the_baseline_s(flavour):
    baseline = find_recipe("baseline-twins", "mlr-viper", flavour)
    for row in ("sr-bicubic", "sr-net"):
        config = find_recipe(row, "mlr-viper", flavour)
        for name in ("model", "optimiser", "schedule", "loader", "data"):
            assert getattr(config, name) == getattr(baseline, name)
        for name in ("weight_identity", "weight_triplet", "margin", "mining", "label_smoothing"):
            assert getattr(config.method, name) == getattr(baseline.method, name)
        share = config.method.restoration_share if row == "sr-net" else 0
        assert round(config.train.epochs * (1 - share)) == baseline.train.epochs
