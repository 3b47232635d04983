import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from methods.adversarial import cross_entropy, mean_log
from methods.builders import (
    random_batch,
    random_images,
    small_blueprint,
    small_method,
    started_method,
)
from torch import nn
from torch.nn import functional

from resolute.core.errors import CheckpointError, ConfigError
from resolute.core.rng import Streams
from resolute.data.degrade import resize, to_input
from resolute.engine.config import TrainConfig
from resolute.engine.distributed import World
from resolute.engine.phases import start_phases
from resolute.engine.provenance import notes_of
from resolute.methods.catalogue import METHODS
from resolute.methods.contract import drop_training_parts, shipped_state
from resolute.methods.maps import feature_maps
from resolute.methods.modes import evaluating, keeping_statistics
from resolute.methods.settings.csr_gan import CSRGANConfig
from resolute.models.perceptual import Perceptual
from resolute.recipes.catalogue import find_recipe

PHASES = ["warmup", "discriminator", "generator", "identity"]


def phase_of(method, name):
    return next(phase for phase in method.phases if phase.name == name)


def losses_of(method, name, batch=None):
    return method.losses(batch or random_batch(), phase_of(method, name))


def photographs(count=6, **fields):
    """A batch whose pixels are those of pictures: grey levels 0..1, normalised."""
    batch = random_batch(count)
    spec = small_method("csr-gan").input_spec
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))

    def picture(noise):
        return (functional.avg_pool2d(noise, 5, 1, 2).mul(2).sigmoid() - mean) / std

    images = {n: picture(getattr(batch, n)) for n in ("images_hr", "images_lr", "images_lr_syn")}
    return replace(batch, **images, **fields)


def unit(method, images):
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (method.input_spec.mean, method.input_spec.std)
    )
    return 2 * (images * std + mean) - 1


def bicubic(images, size):
    found = functional.interpolate(images, size=size, mode="bicubic", antialias=True)
    return found.clamp(-1, 1)


def normalised(method, images):
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (method.input_spec.mean, method.input_spec.std)
    )
    return ((images + 1) / 2 - mean) / std


def chain_by_hand(method, images_hr):
    """What each generator makes when all images enter at the smallest size, and the targets."""
    pixels = unit(method, images_hr)
    x, fakes, reals = bicubic(pixels, method.chain.sizes[0]), [], []
    for generator, size in zip(method.chain.generators, method.chain.sizes[1:], strict=True):
        x = generator(x)
        fakes.append(x)
        reals.append(bicubic(pixels, size))
    return fakes, reals


def squared(a, b):
    """Mean squared error by a loop."""
    pairs = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
    return math.fsum((x - y) ** 2 for x, y in pairs) / a.numel()


def test_pixel_adversarial_and_discriminator_losses_by_loops():
    method = small_method("csr-gan", weight_pixel=0.5, weight_adversarial=0.2).train()
    batch = photographs()
    with torch.no_grad(), keeping_statistics(method):
        for judge in method.discriminators:
            judge.score.weight.mul_(100)  # away from the undecided start
        fakes, reals = chain_by_hand(method, batch.images_hr)
        of_fake = [judge(x) for judge, x in zip(method.discriminators, fakes, strict=True)]
        of_real = [judge(x) for judge, x in zip(method.discriminators, reals, strict=True)]
        pixel = 0.5 * sum(squared(a, b) for a, b in zip(fakes, reals, strict=True))
        found = {name: losses_of(method, name, batch) for name in PHASES}
    assert set(found["warmup"]) == {"pixel"}
    assert set(found["generator"]) == {"pixel", "adversarial"}
    assert found["warmup"]["pixel"].item() == pytest.approx(pixel, rel=1e-4)
    assert found["generator"]["pixel"].item() == pytest.approx(pixel, rel=1e-4)
    deceived = 0.2 * sum(mean_log(s, is_real=True) for s in of_fake)
    assert found["generator"]["adversarial"].item() == pytest.approx(deceived, rel=1e-4)
    judged = sum(mean_log(s, is_real=True) for s in of_real)
    judged += sum(mean_log(s, is_real=False) for s in of_fake)
    assert set(found["discriminator"]) == {"real_or_fake"}
    assert found["discriminator"]["real_or_fake"].item() == pytest.approx(judged, rel=1e-4)


@pytest.mark.parametrize("native_lr", [True, False])
def test_identity_losses_by_loops(native_lr):
    method = small_method("csr-gan", backbone="resnet18", dropout=0.0, native_lr=native_lr).train()
    batch = photographs(heights_lr=torch.tensor([64, 32, 20, 16, 9, 8]))
    with torch.no_grad():
        method.classifier.weight.mul_(300)
        losses = losses_of(method, "identity", batch)
        with evaluating(method.chain):
            restored = normalised(
                method, bicubic(chain_by_hand(method, batch.images_hr)[0][-1], (64, 32))
            )
            lr = batch.images_lr.clone()
            for i, stage in enumerate([3, 2, 2, 1, 1, 0]):
                if stage < 3:
                    x = bicubic(unit(method, lr[i : i + 1]), method.chain.sizes[stage])
                    for generator in list(method.chain.generators)[stage:]:
                        x = generator(x)
                    lr[i] = normalised(method, bicubic(x, (64, 32)))[0]
        images = [batch.images_hr, restored, *([lr] if native_lr else [])]
        with keeping_statistics(method):
            logits = method.classifier(method.backbone(torch.cat(images)))
    labels = batch.labels.tolist() * len(images)
    terms = [cross_entropy(row, label) for row, label in zip(logits, labels, strict=True)]
    assert losses["identity"].item() == pytest.approx(sum(terms[:6]) / 6, rel=1e-3)
    others = terms[6:]
    assert losses["identity_restored"].item() == pytest.approx(sum(others) / len(others), rel=1e-3)


def test_spread_entries_meet_their_own_targets_and_labels():
    method = small_method("csr-gan", entries="spread", dropout=0.0).eval()
    with torch.no_grad():
        method.classifier.weight.mul_(300)
        batch = photographs()
        pixels = unit(method, batch.images_hr)
        total = 0.0
        final = {}
        for i in range(6):
            x = bicubic(pixels[i : i + 1], method.chain.sizes[i % 3])
            for stage in range(i % 3, 3):
                x = method.chain.generators[stage](x)
                real = bicubic(pixels[i : i + 1], method.chain.sizes[stage + 1])
                total += squared(x, real) / (2 * (stage + 1))  # 2, 4 and 6 images per stage
            final[i] = normalised(method, bicubic(x, (64, 32)))
        assert losses_of(method, "warmup", batch)["pixel"].item() == pytest.approx(total, rel=1e-4)
        method.config = replace(method.config, native_lr=False)
        found = losses_of(method, "identity", batch)["identity_restored"].item()
        logits = {i: method.classifier(method.backbone(x))[0] for i, x in final.items()}
    expected = [cross_entropy(row, int(batch.labels[i])) for i, row in logits.items()]
    assert found == pytest.approx(sum(expected) / 6, rel=1e-3)


class Eye(nn.Module):
    """Stands for VGG-19: some features, some outputs."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), *[nn.ReLU() for _ in range(27)])
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Linear(16, 5)


def test_perceptual_terms_by_loops_where_there_is_a_vgg():
    method = small_method("csr-gan", perceptual_weights="vgg19.pth").train()
    method.perceptual = Perceptual(Eye())
    batch = photographs(3)
    with torch.no_grad(), keeping_statistics(method):
        fakes, reals = chain_by_hand(method, batch.images_hr)
        seen = [method.perceptual(normalised(method, x)) for x in fakes]
        wanted = [method.perceptual(normalised(method, x)) for x in reals]
        losses = losses_of(method, "generator", batch)
        assert set(losses_of(method, "warmup", batch)) == {"pixel"}
    assert set(losses) == {"pixel", "adversarial", "perceptual", "logits"}
    expected = sum((a[0] - b[0]).square().mean() for a, b in zip(seen, wanted, strict=True))
    assert losses["perceptual"].item() == pytest.approx(2e-6 * expected.item(), rel=1e-3)
    expected = squared(seen[-1][1], wanted[-1][1])
    assert losses["logits"].item() == pytest.approx(expected, rel=1e-3)


def test_a_chain_that_ends_below_the_hr_images_says_so():
    low = {"chain_height": 48, "chain_width": 24}
    blueprint = small_blueprint("csr-gan", **low)
    method, _ = METHODS["csr-gan"](blueprint, streams=Streams(0))
    assert notes_of(method)[-1] == (
        "CSR-GAN's chain ends at 48 pixels, below the HR images' 96: LR images above 24 pass no "
        "generator"
    )
    method, _ = METHODS["csr-gan"](replace(blueprint, height_reference=50.0), streams=Streams(0))
    assert len(notes_of(method)) == 2


def test_without_a_vgg_its_notes_say_so():
    blueprint = small_blueprint("csr-gan")
    method, start = METHODS["csr-gan"](blueprint, streams=Streams(0))
    assert start == "random weights"
    note, rates = notes_of(method)
    assert note == "CSR-GAN without its two perceptual terms: no VGG-19 weights were given"
    assert "r = 8 is no unseen rate" in rates
    named = replace(blueprint, method=replace(blueprint.method, perceptual_weights="/x/vgg19.pth"))
    method, start = METHODS["csr-gan"](named, streams=Streams(0))
    assert start == "random weights; perceptual terms: VGG-19 from vgg19.pth"
    assert notes_of(method) == [rates]
    for name in PHASES:  # at the very first step, not when its turn comes
        with pytest.raises(CheckpointError, match="no such file"):
            losses_of(method, name)


def test_what_only_trains_stays_out_of_the_model_file():
    method = small_method("csr-gan", perceptual_weights="vgg19.pth")
    method.perceptual = Perceptual(Eye())
    parts = {name.split(".")[0] for name in shipped_state(method)}
    assert parts == {"chain", "backbone", "classifier"}
    assert not any(name.startswith("perceptual") for name in method.state_dict())
    drop_training_parts(method)
    method.embed(random_images())
    with pytest.raises(ConfigError, match="loaded to embed"):
        losses_of(method, "warmup")


@pytest.mark.parametrize("changes", [{}, {"entries": "spread"}])
def test_phases_leave_each_other_alone(changes):
    method = small_method("csr-gan", warmup_share=0.5, **changes)
    runs = start_phases(
        method,
        config=TrainConfig(epochs=2),
        world=World(),
        device=torch.device("cpu"),
        has_unused_parameters=False,
    )
    assert [run.phase.name for run in runs] == PHASES
    active = [[run.phase.name for run in runs if run.is_active(epoch, 2)] for epoch in (0, 1)]
    assert active == [["warmup"], PHASES[1:]]
    own = {
        "warmup": ("chain.",),
        "generator": ("chain.",),
        "discriminator": ("discriminators.",),
        "identity": ("backbone.", "classifier."),
    }
    method.train()
    for run in runs:
        before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
        run.update(photographs(), epoch=0, factor=1.0)
        moved = {n for n, t in method.state_dict().items() if not torch.equal(t, before[n])}
        assert moved, run.phase.name
        assert all(n.startswith(own[run.phase.name]) for n in moved), run.phase.name
        assert any(n.endswith("running_mean") for n in moved), run.phase.name
        assert any(n.endswith("weight") for n in moved), run.phase.name


def test_entry_stage_by_hand():
    method = small_method("csr-gan")  # the chain ends at 64 pixels
    heights = torch.tensor([4, 8, 9, 16, 17, 32, 33, 96])
    assert method.entries_of(heights).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_matching_on_three_images_by_hand():
    method = small_method("csr-gan", backbone="resnet18").eval()
    images = random_images((0, 1, 2), heights=[96, 30, 12])
    found = method.embed(images)
    sharp, half, quarter = (images.take(torch.tensor([i])) for i in range(3))
    with torch.no_grad():
        inputs = [to_input(sharp, method.input_spec)]
        for image, stage in ((half, 2), (quarter, 1)):
            x = resize(image, *method.chain.sizes[stage], interpolation="bicubic") / 127.5 - 1
            for generator in list(method.chain.generators)[stage:]:
                x = generator(x)
            inputs.append(normalised(method, bicubic(x, (64, 32))))
        expected = functional.normalize(method.backbone(torch.cat(inputs)))
    np.testing.assert_allclose(found.vectors[:, 0], expected.numpy(), atol=1e-5)
    assert found.native_sizes[:, 0].tolist() == [96, 30, 12]
    other = method.embed(replace(images, resolution=torch.tensor([1, 0, 1])))
    assert np.array_equal(found.vectors, other.vectors)
    maps = feature_maps(method, images)["features"]
    pooled = functional.normalize(maps.mean(dim=(2, 3)))
    np.testing.assert_allclose(pooled.numpy(), found.vectors[:, 0], atol=1e-5)


def test_a_residual_chain_restores_nothing_before_it_learns():
    method = small_method("csr-gan", generator_residual=True).eval()
    batch = photographs(2)
    rows = method.pictures(replace(batch, heights_lr_syn=torch.tensor([32, 64])))
    assert set(rows) == {"HR", "LR", "restored"}
    assert torch.equal(rows["restored"][1], rows["LR"][1])  # its height needs no generator
    pixels = unit(method, rows["LR"])
    small = bicubic(pixels[:1], (32, 16))
    expected = functional.interpolate(small, scale_factor=2, mode="bicubic").clamp(-1, 1)
    torch.testing.assert_close(unit(method, rows["restored"])[:1], expected, atol=1e-4, rtol=1e-4)


def test_pixels_go_there_and_back():
    method = small_method("csr-gan")
    images = photographs().images_hr
    torch.testing.assert_close(method.normalised(method.unit(images)), images, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(method.unit(images), unit(method, images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("height", "reference", "model", "expected"),
    [
        (0, 128.0, (256, 128), [(16, 8), (128, 64)]),
        (0, 161.0, (256, 128), [(21, 11), (168, 88)]),
        (0, 500.0, (256, 128), [(32, 16), (256, 128)]),
        (128, 300.0, (224, 224), [(16, 6), (128, 48)]),
    ],
)
def test_size_of_the_chain(height, reference, model, expected):
    blueprint = small_blueprint("csr-gan", chain_height=height, chain_width=48 if height else 0)
    size = replace(blueprint.model, height=model[0], width=model[1])
    blueprint = replace(blueprint, model=size, height_reference=reference)
    method, _ = METHODS["csr-gan"](blueprint, streams=Streams(0))
    assert [method.chain.sizes[0], method.chain.sizes[-1]] == expected


def test_only_the_backbone_is_pretrained(tmp_path):
    method = started_method(tmp_path, "csr-gan", pooling="gem")
    groups = {p.name: method.parameter_groups(p) for p in method.phases}
    for name in PHASES[:3]:
        assert {g.name for g in groups[name]} == {"new.weight", "new.bias"}
    new = [n for g in groups["identity"] if g.name.startswith("new") for n, _ in g.parameters]
    assert sorted(new) == ["backbone.avgpool.exponent", "classifier.weight"]


def test_cannot_be_exported():
    with pytest.raises(ConfigError, match="depends on its native height"):
        small_method("csr-gan").graphs()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chain_height": 100}, "chain_height: expected a multiple of 8"),
        ({"chain_width": -8}, "chain_width: expected a multiple of 8"),
        ({"generator_width": 0}, "generator_width: expected >= 1"),
        ({"generator_blocks": 0}, "generator_blocks: expected >= 1"),
        ({"discriminator_width": 0}, "discriminator_width: expected >= 1"),
        ({"weight_pixel": -1.0}, "weight_pixel: expected >= 0"),
        ({"weight_logits": -1.0}, "weight_logits: expected >= 0"),
        ({"warmup_share": 0.0}, "warmup_share: expected 0 < s < 1"),
        ({"dropout": 1.0}, "dropout: expected 0 <= s < 1"),
        ({"label_smoothing": -0.1}, "label_smoothing: expected 0 <= s < 1"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ConfigError, match=message):
        CSRGANConfig(**changes)


def test_recipes():
    paper = find_recipe("csr-gan", "mlr-viper", "paper")
    method = paper.method
    assert (paper.train.epochs, paper.model.height, paper.model.width) == (2100, 224, 224)
    assert (method.chain_height, method.chain_width, method.dropout) == (128, 48, 0.9)
    assert method.warmup_share * paper.train.epochs == pytest.approx(100)
    assert method.gan_schedule.milestones == (0.5,)
    short = find_recipe("csr-gan", "mlr-viper", "recommended")
    usual = find_recipe("baseline-twins", "mlr-viper", "recommended")
    assert replace(short, name=usual.name, method=usual.method) == usual
