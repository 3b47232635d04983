import math

import numpy as np
import pytest
import torch
from methods.adversarial import (
    check_phases_stay_apart,
    cross_entropy,
    hardest_triplets,
    mean_log,
)
from methods.builders import (
    pretrained_and_new,
    random_batch,
    random_images,
    small_blueprint,
    small_method,
    started_method,
)
from safetensors.torch import save_file

from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams
from resolute.data.degrade import to_input
from resolute.methods.cad_net import build_cad_net
from resolute.methods.contract import drop_training_parts, shipped_state
from resolute.methods.modes import keeping_statistics
from resolute.methods.settings.cad_net import ROWS, CADNetConfig
from resolute.models.backbone import build_backbone

TERMS = {"identity", "triplet", "feature", "reconstruction", "image"}


def phase_of(method, name="main"):
    return next(phase for phase in method.phases if phase.name == name)


def test_the_terms_by_loops():
    method = small_method(
        "cad-net",
        backbone="resnet18",
        weight_identity=0.5,
        weight_triplet=1.5,
        weight_feature=0.3,
        weight_reconstruction=0.7,
        weight_image=0.2,
    ).train()
    with torch.no_grad():
        method.classifier.weight.mul_(300)
    batch = random_batch()
    images = torch.cat([batch.images_hr, batch.images_lr_syn, batch.images_lr])
    with torch.no_grad(), keeping_statistics(method):
        maps = method.encoder(images)
        restored = method.decoder(maps)
        f = maps[-1].mean(dim=(2, 3))
        g = method.encoder_restored(restored)[-1].mean(dim=(2, 3))
        vectors = torch.cat([f, g], dim=1)
        logits = method.classifier(method.neck(vectors))
        scores = method.discriminators["feature"](maps[-1])
        fakes = method.discriminators["image"](restored)
        reals = method.discriminators["image"](batch.images_hr)
    assert vectors.shape == (18, 1024)
    losses = method.losses(batch, phase_of(method))
    assert set(losses) == TERMS

    labels = [0, 0, 1, 1, 2, 2] * 3
    terms = [cross_entropy(logits[i], labels[i]) for i in range(18)]
    expected = sum(terms[:6]) / 6 + sum(terms[6:]) / 12
    assert losses["identity"].item() == pytest.approx(0.5 * expected, rel=1e-4)

    sources = [*range(6), *range(6), *range(6, 12)]
    expected = hardest_triplets(vectors[:6], labels[:6], sources[:6], margin=2.0)
    expected += hardest_triplets(vectors[6:], labels[6:], sources[6:], margin=2.0)
    assert losses["triplet"].item() == pytest.approx(1.5 * expected, rel=1e-4)

    expected = mean_log(scores[6:], is_real=True)
    assert losses["feature"].item() == pytest.approx(0.3 * expected, rel=1e-4)
    gaps = [(restored[i] - batch.images_hr[i % 6]).abs().mean().item() for i in range(12)]
    assert losses["reconstruction"].item() == pytest.approx(0.7 * sum(gaps) / 6, rel=1e-4)
    expected = mean_log(fakes, is_real=True)
    assert losses["image"].item() == pytest.approx(0.2 * expected, rel=1e-4)

    taught = method.losses(batch, phase_of(method, "discriminator"))
    assert set(taught) == {"feature", "image"}
    expected = mean_log(scores[:6], is_real=True) + mean_log(scores[6:], is_real=False)
    assert taught["feature"].item() == pytest.approx(expected, rel=1e-4)
    expected = mean_log(reals, is_real=True) + mean_log(fakes, is_real=False)
    assert taught["image"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_phases_leave_each_other_alone(name):
    check_phases_stay_apart(small_method(name, backbone="resnet18"))


@pytest.mark.parametrize(
    ("weights", "terms", "parts"),
    [
        ({"weight_identity": 0.0}, TERMS - {"identity"}, ["feature", "image"]),
        ({"weight_triplet": 0.0}, TERMS - {"triplet"}, ["feature", "image"]),
        ({"weight_feature": 0.0}, TERMS - {"feature"}, ["image"]),
        ({"weight_reconstruction": 0.0}, TERMS - {"reconstruction"}, ["feature", "image"]),
        ({"weight_image": 0.0}, TERMS - {"image"}, ["feature"]),
        ({"weight_feature": 0.0, "weight_image": 0.0}, TERMS - {"feature", "image"}, []),
    ],
)
def test_a_term_of_weight_zero_leaves_with_its_network(weights, terms, parts):
    method = small_method("cad-net", **weights).train()
    assert set(method.losses(random_batch(), phase_of(method))) == terms
    assert list(method.discriminators) == parts
    assert len(method.phases) == (2 if parts else 1)
    if parts:
        taught = method.losses(random_batch(), phase_of(method, "discriminator"))
        assert list(taught) == parts


def test_what_tells_people_apart_teaches_the_decoder_through_the_restored_image():
    method = small_method("cad-net", backbone="resnet18").train()
    losses = method.losses(random_batch(), phase_of(method))
    losses["identity"].backward()
    grads = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
    assert any(n.startswith("decoder.") and g.abs().max() > 0 for n, g in grads.items())
    method = small_method("cad-net-f", backbone="resnet18").train()
    method.losses(random_batch(), phase_of(method))["identity"].backward()
    assert all(p.grad is None for p in method.decoder.parameters())


def test_one_hr_picture_per_identity_gives_triplets_among_lr_images_alone():
    method = small_method("cad-net", backbone="resnet18", num_identities=6).train()
    batch = random_batch(num_instances=1)
    images = torch.cat([batch.images_hr, batch.images_lr_syn, batch.images_lr])
    with torch.no_grad(), keeping_statistics(method):
        maps = method.encoder(images)
        vectors = method._join(maps, method.decoder(maps))
    losses = method.losses(batch, phase_of(method))
    expected = hardest_triplets(vectors[6:], [*range(6)] * 2, [*range(12)], margin=2.0)
    assert losses["triplet"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_matches_by_the_branches_of_its_row(name):
    method = small_method(name, backbone="resnet18").eval()
    with torch.no_grad():
        method.neck.weight.uniform_(0.5, 1.5)
    images = random_images((0, 1, 2))
    embedding = method.embed(images)
    shown = method.feature_maps(images)
    with torch.no_grad():
        maps = method.encoder(to_input(images, method.input_spec))
        parts = {"f": maps[-1]}
        if name != "cad-net-f":
            parts["g"] = method.encoder_restored(method.decoder(maps))[-1]
        if name == "cad-net-g":
            del parts["f"]
        pooled = torch.cat([m.mean(dim=(2, 3)) for m in parts.values()], dim=1)
    assert shown.keys() == parts.keys()
    assert all(torch.equal(shown[k], parts[k]) for k in parts)
    neck = method.neck
    for i in range(3):
        v = (pooled[i] - neck.running_mean) / (neck.running_var + neck.eps).sqrt() * neck.weight
        length = math.sqrt(sum(x * x for x in v.tolist()))
        np.testing.assert_allclose(embedding.vectors[i, 0], v.detach() / length, atol=1e-5)
    assert (embedding.quality == 1).all()


def test_both_encoders_start_from_one_file_with_weights_of_their_own(tmp_path):
    with Streams(8).torch_default(Stream.INITIALISATION):
        started = build_backbone("osnet_x0_25").state_dict()
    path = tmp_path / "start.safetensors"
    save_file(started, path)
    blueprint = small_blueprint("cad-net")
    model = type(blueprint.model)(backbone="osnet_x0_25", weights=str(path), height=64, width=32)
    blueprint = type(blueprint)(
        **{f: getattr(blueprint, f) for f in blueprint.__dataclass_fields__} | {"model": model}
    )
    method, matched = build_cad_net(blueprint, streams=Streams(0))
    assert "filled" in matched
    first, second = method.encoder.state_dict(), method.encoder_restored.state_dict()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
        assert tensor.data_ptr() != second[name].data_ptr()
    names = {g.name for g in method.parameter_groups(phase_of(method))}
    assert names == {"new.weight", "new.bias", "pretrained.weight", "pretrained.bias"}
    names = {g.name for g in method.parameter_groups(phase_of(method, "discriminator"))}
    assert names == {"new.weight", "new.bias"}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("cad-net", {"encoder", "decoder", "encoder_restored", "neck"}),
        ("cad-net-f", {"encoder", "neck"}),
        ("cad-net-g", {"encoder", "decoder", "encoder_restored", "neck"}),
    ],
)
def test_model_files_hold_what_embedding_needs(name, parts):
    method = small_method(name, backbone="resnet18")
    assert {n.split(".")[0] for n in shipped_state(method)} == parts
    phase = phase_of(method)
    drop_training_parts(method)
    assert method.embed(random_images()).vectors.shape[1] == 1
    rows = ["HR", "LR"] if name == "cad-net-f" else ["HR", "LR", "restored"]
    assert list(method.pictures(random_batch())) == rows
    with pytest.raises(ConfigError, match="cad-net: this model was loaded to embed"):
        method.losses(random_batch(), phase)


def test_pictures_leave_no_trace():
    method = small_method("cad-net").train()
    before = {n: t.clone() for n, t in method.state_dict().items()}
    rows = method.pictures(random_batch())
    assert {row.shape for row in rows.values()} == {(6, 3, 64, 32)}
    assert all(torch.equal(t, before[n]) for n, t in method.state_dict().items())


def test_finite_under_autocast():
    method = small_method("cad-net").train()
    for phase in method.phases:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = method.losses(random_batch(), phase)
        sum(losses.values()).backward()
        for group in method.parameter_groups(phase):
            assert all(torch.isfinite(p.grad).all() for _, p in group.parameters)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_image": -1.0}, r"method\.weight_image: expected >= 0, got -1\.0"),
        ({"margin": -0.1}, r"method\.margin: expected >= 0"),
        ({"weight_identity": 0.0, "weight_triplet": 0.0}, "nothing would tell people apart"),
        (
            {"branches": "f", "weight_reconstruction": 0.0, "weight_image": 0.0},
            "with f alone the decoder learns from weight_reconstruction and weight_image",
        ),
        ({"label_smoothing": -0.1}, r"method\.label_smoothing: expected 0 <= s < 1"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        CADNetConfig(**settings)


def test_the_exponent_of_f_alone_moves_at_full_rate(tmp_path):
    slow, quick = pretrained_and_new(started_method(tmp_path, "cad-net-g", pooling="gem"))
    assert [n for n in quick if n.endswith("exponent")]
    assert not [n for n in slow if n.endswith("exponent")]
    assert any(n.startswith("encoder_restored.") for n in slow)
