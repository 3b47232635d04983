from dataclasses import replace

import numpy as np
import pytest
import torch
from methods.builders import random_batch, random_images, small_blueprint, small_method
from torch.nn import functional

from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.data.degrade import to_input
from resolute.methods.catalogue import METHODS
from resolute.methods.maps import feature_maps
from resolute.methods.modes import keeping_statistics
from resolute.methods.settings.rife import ROWS, RIFEConfig
from resolute.recipes.catalogue import find_recipe


def terms(method, batch):
    return method.losses(batch, method.phases[0])


def test_the_three_terms_by_hand():
    method = small_method("rife-ffsr", backbone="resnet18").train()
    batch = random_batch()
    batch.heights_lr.fill_(24)
    images = torch.cat([batch.images_hr, batch.images_lr_syn, batch.images_lr])
    with torch.no_grad(), keeping_statistics(method):
        restored = method.ffsr(images)
        embeddings, attentions = method.network(restored)
        logits = method.classifier(method.neck(embeddings))
        losses = terms(method, batch)
    entropy = functional.cross_entropy(logits, batch.labels.repeat(3))
    torch.testing.assert_close(losses["identity"], entropy)

    target = torch.cat([batch.images_hr, batch.images_hr])
    gaps = (restored[:12] - target) * method.mask
    torch.testing.assert_close(losses["restoration"], 0.1 * (gaps * gaps).mean())

    literal = 0.0
    for n in range(18):
        res = 1.0 if n < 6 else (32 / 96 if n < 12 else 24 / 96)
        for level in range(5):
            literal += float(attentions[n, level, 0] - res) ** 2
            literal += float(attentions[n, level, 1] - (1 - res)) ** 2
    assert losses["attention"].item() == pytest.approx(0.01 * literal / 18, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ffsr", {"identity", "restoration"}),
        ("rife", {"identity", "attention"}),
        ("rife-ffsr", {"identity", "restoration", "attention"}),
    ],
)
def test_each_row_has_the_terms_of_its_parts(name, expected):
    method = small_method(name).train()
    assert set(terms(method, random_batch())) == expected
    assert (method.ffsr is None) == ("restoration" not in expected)
    assert len(method.network.streams) == 1 + ("attention" in expected)
    assert set(method.pictures(random_batch())) == {"HR", "LR"} | (
        {"restored"} if method.ffsr else set()
    )


def test_weights_and_smoothing_count():
    batch = random_batch()
    method = small_method("rife-ffsr", backbone="resnet18").eval()
    heavy = small_method(
        "rife-ffsr",
        backbone="resnet18",
        weight_restoration=0.2,
        weight_attention=0.05,
        label_smoothing=0.3,
    ).eval()
    with torch.no_grad():
        for m in (method, heavy):
            m.classifier.weight.mul_(300)
        usual, changed = terms(method, batch), terms(heavy, batch)
    assert changed["restoration"] == pytest.approx(2 * usual["restoration"].item(), rel=1e-5)
    assert changed["attention"] == pytest.approx(5 * usual["attention"].item(), rel=1e-5)
    assert changed["identity"] != pytest.approx(usual["identity"].item(), rel=1e-3)


def test_resolution_is_at_most_one():
    method = small_method("rife")
    found = method.resolution(torch.tensor([24, 48, 96, 200]))
    torch.testing.assert_close(found, torch.tensor([0.25, 0.5, 1.0, 1.0]))


def test_lr_images_without_original_have_no_restoration_term():
    method = small_method("ffsr", backbone="resnet18").eval()
    batch, other = random_batch(), random_batch(seed=4)
    swapped = replace(batch, images_lr=other.images_lr)
    with torch.no_grad():
        first, second = terms(method, batch), terms(method, swapped)
    assert first["restoration"] == second["restoration"]
    assert first["identity"] != second["identity"]


def test_matching_on_three_images_ignores_their_resolution():
    method = small_method("rife-ffsr", backbone="resnet18").eval()
    with torch.no_grad():
        method.neck.weight.uniform_(0.5, 1.5)
        method.neck.running_mean.uniform_(-0.5, 0.5)
    images = random_images((0, 1, 2))
    found = method.embed(images)
    other = method.embed(replace(images, resolution=torch.tensor([1, 0, 1])))
    assert np.array_equal(found.vectors, other.vectors)
    with torch.no_grad():
        inputs = to_input(images, method.input_spec)
        v, _ = method.network(method.ffsr(inputs))
        bn = method.neck
        v = bn.weight * (v - bn.running_mean) / (bn.running_var + bn.eps).sqrt() + bn.bias
    np.testing.assert_allclose(found.vectors[:, 0], functional.normalize(v).numpy(), atol=1e-5)
    np.testing.assert_allclose(found.norms[:, 0], v.norm(dim=1).numpy(), rtol=1e-4)
    assert (found.quality == 1).all()
    assert found.metric == "sqeuclidean"

    plain = small_method("rife-ffsr", backbone="resnet18", normalised=False).eval()
    plain.load_state_dict(method.state_dict())
    np.testing.assert_allclose(plain.embed(images).vectors[:, 0], v.numpy(), rtol=1e-3, atol=1e-4)
    plain.config = replace(plain.config, flip=True)
    with torch.no_grad():
        u = plain.vectors(inputs.flip(-1))
    mean = functional.normalize(functional.normalize(v) + functional.normalize(u))
    mean *= ((v.norm(dim=1) + u.norm(dim=1)) / 2)[:, None]
    np.testing.assert_allclose(
        plain.embed(images).vectors[:, 0], mean.numpy(), rtol=1e-3, atol=1e-4
    )


def test_feature_maps_are_what_is_pooled():
    method = small_method("rife-ffsr", backbone="resnet18").eval()
    images = random_images()
    maps = feature_maps(method, images)["features"]
    vectors = method.neck(method.network.pool(maps)).detach()
    expected = method.embed(images).vectors[:, 0]
    np.testing.assert_allclose(functional.normalize(vectors).numpy(), expected, atol=1e-5)


def test_streams_start_alike_from_a_file_and_apart_without(tmp_path):
    blueprint = small_blueprint("rife", backbone="resnet18")
    method, start = METHODS["rife"](blueprint, streams=Streams(0))
    first, second = (s[0][0].weight for s in method.network.streams)
    assert start == "random weights"
    assert not torch.equal(first, second)
    assert {g.name for g in method.parameter_groups(method.phases[0])} == {
        "new.weight",
        "new.bias",
    }

    from resolute.models.backbone import build_backbone

    path = tmp_path / "start.pth"
    torch.save(build_backbone("resnet18").state_dict(), path)
    model = replace(blueprint.model, weights=str(path))
    method, start = METHODS["rife"](replace(blueprint, model=model), streams=Streams(0))
    first, second = (s[0][0].weight for s in method.network.streams)
    assert torch.equal(first, second)
    assert "filled" in start
    groups = method.parameter_groups(method.phases[0])
    new = {n for g in groups if g.name.startswith("new") for n, _ in g.parameters}
    assert all(n.startswith(("network.attentions.", "neck.", "classifier.")) for n in new)
    started = {n for g in groups if g.name.startswith("pretrained") for n, _ in g.parameters}
    assert all(n.startswith(("network.streams.", "network.pool")) for n in started)


def test_exports_unless_vectors_keep_their_length():
    assert small_method("rife-ffsr").graphs().hr.rates == (1.0,)
    with pytest.raises(ConfigError, match=r"set method\.normalised true"):
        small_method("rife-ffsr", normalised=False).graphs()


def test_input_size_is_checked():
    blueprint = small_blueprint("ffsr")
    odd = replace(blueprint, model=replace(blueprint.model, width=34))
    with pytest.raises(ConfigError, match="multiples of 4, got 64x34"):
        METHODS["ffsr"](odd, streams=Streams(0))
    alone = replace(odd, name="rife", method=ROWS["rife"])
    METHODS["rife"](alone, streams=Streams(0))  # no restoration, no bound


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"restores": False, "mixes": False}, "at least one"),
        ({"weight_restoration": -1.0}, "weight_restoration: expected >= 0"),
        ({"weight_attention": -1.0}, "weight_attention: expected >= 0"),
        ({"attention_hidden": 0}, "attention_hidden: expected >= 1"),
        ({"ffsr_width": 0}, "ffsr_width: expected >= 1"),
        ({"label_smoothing": 1.0}, "label_smoothing: expected 0 <= s < 1"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ConfigError, match=message):
        RIFEConfig(**changes)


def test_length_of_vectors_is_no_matter_of_training():
    assert RIFEConfig(normalised=False).as_trained() == RIFEConfig().as_trained()
    assert RIFEConfig(mask_rows_twice=True).as_trained() != RIFEConfig().as_trained()


def test_recipes():
    paper = find_recipe("rife-ffsr", "mlr-viper", "paper")
    assert paper.train.epochs == 60
    assert paper.optimiser.learning_rate == 3e-4
    assert paper.schedule.milestones == (1 / 3, 2 / 3)
    assert (paper.method.weight_restoration, paper.method.weight_attention) == (0.1, 0.01)
    assert not paper.method.normalised
    short = find_recipe("rife", "mlr-viper", "recommended")
    usual = find_recipe("baseline-twins", "mlr-viper", "recommended")
    assert replace(short, name=usual.name, method=usual.method) == usual
