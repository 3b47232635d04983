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
from methods.builders import random_batch, random_images, small_method

from resolute.core.errors import ConfigError
from resolute.data.degrade import to_input
from resolute.methods.contract import drop_training_parts, shipped_state
from resolute.methods.modes import keeping_statistics
from resolute.methods.settings.rain import ROWS, RAINConfig

TERMS = {"identity", "triplet", "reconstruction", "adversarial"}


def phase_of(method, name="main"):
    return next(phase for phase in method.phases if phase.name == name)


def maps_of(method, batch):
    images = torch.cat([batch.images_hr, batch.images_lr_syn, batch.images_lr])
    with torch.no_grad(), keeping_statistics(method):
        return method.extractor(images)


def test_the_terms_by_loops():
    method = small_method(
        "rain",
        backbone="resnet18",
        weight_identity=0.5,
        weight_triplet=2.0,
        weight_reconstruction=0.7,
        weight_adversarial=0.3,
    ).train()
    with torch.no_grad():
        method.classifier.weight.mul_(300)
    batch = random_batch()
    maps = maps_of(method, batch)
    with torch.no_grad(), keeping_statistics(method):
        vectors = method.extractor.pool(maps[-1])
        logits = method.classifier(method.neck(vectors))
        restored = method.decoder([m[:12] for m in maps])
        scores = [d(maps[int(j)]) for j, d in method.discriminators.items()]
    losses = method.losses(batch, phase_of(method))
    assert set(losses) == TERMS

    labels = [0, 0, 1, 1, 2, 2] * 3
    terms = [cross_entropy(logits[i], labels[i]) for i in range(18)]
    expected = sum(terms[:6]) / 6 + sum(terms[6:]) / 12
    assert losses["identity"].item() == pytest.approx(0.5 * expected, rel=1e-4)

    sources = [*range(6), *range(6), *range(6, 12)]
    expected = hardest_triplets(vectors, labels, sources, margin=2.0)
    assert losses["triplet"].item() == pytest.approx(2.0 * expected, rel=1e-4)

    gaps = [(restored[i] - batch.images_hr[i % 6]).abs().mean().item() for i in range(12)]
    assert losses["reconstruction"].item() == pytest.approx(0.7 * sum(gaps) / 6, rel=1e-4)

    expected = sum(mean_log(s[6:], is_real=True) for s in scores)
    assert losses["adversarial"].item() == pytest.approx(0.3 * expected, rel=1e-4)

    taught = method.losses(batch, phase_of(method, "discriminator"))
    assert set(taught) == {"stage_2", "stage_3", "stage_4"}
    for loss, s in zip(taught.values(), scores, strict=True):
        expected = mean_log(s[:6], is_real=True) + mean_log(s[6:], is_real=False)
        assert loss.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("backbone", ["resnet18", "osnet_x0_25"])
def test_phases_leave_each_other_alone(backbone):
    check_phases_stay_apart(small_method("rain", backbone=backbone))


# Terms that each row leaves out, and how many discriminators it has.
ROW_CASES = {
    "rain": (set(), 3),
    "rain-single": (set(), 1),
    "rain-hr": ({"reconstruction", "adversarial"}, 0),
    "rain-no-cls": ({"identity"}, 3),
    "rain-no-tri": ({"triplet"}, 3),
    "rain-no-rec": ({"reconstruction"}, 3),
    "rain-no-adv": ({"adversarial"}, 0),
}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_each_row_has_its_terms_and_its_networks(name):
    left_out, parts = ROW_CASES[name]
    method = small_method(name).train()
    assert set(method.losses(random_batch(), phase_of(method))) == TERMS - left_out
    assert len(method.discriminators) == parts
    assert (method.decoder is None) == ("reconstruction" in left_out)
    assert (method.classifier is None) == ("identity" in left_out)
    names = [phase.name for phase in method.phases]
    assert names == (["discriminator", "main"] if parts else ["main"])


def test_hr_alone_reads_no_lr_image():
    method = small_method("rain-hr", backbone="resnet18").train()
    batch, other = random_batch(), random_batch(seed=1)
    mixed = type(batch)(
        **{
            f: getattr(other if f in ("images_lr", "images_lr_syn") else batch, f)
            for f in batch.__dataclass_fields__
        }
    )
    phase = phase_of(method)
    with keeping_statistics(method):
        first, second = method.losses(batch, phase), method.losses(mixed, phase)
    assert {k: v.item() for k, v in first.items()} == {k: v.item() for k, v in second.items()}


def test_hr_alone_weighs_cross_entropy_as_rows_with_lr_images_do():
    method = small_method("rain-hr", num_identities=5).train()
    with torch.no_grad():
        method.classifier.weight.zero_()
    loss = method.losses(random_batch(), phase_of(method))["identity"]
    assert loss.item() == pytest.approx(2 * math.log(5), rel=1e-5)


def test_labels_of_unlabelled_identities_are_read_by_no_loss():
    method = small_method(
        "rain", backbone="resnet18", labelled=0.5, num_identities=4, weight_triplet=1.0
    ).train()
    known = method.labelled.is_labelled
    unknown = (~known).nonzero().flatten()
    assert method.classifier.weight.shape[0] == int(known.sum()) == 2
    with torch.no_grad():
        method.classifier.weight.mul_(300)
    batch = random_batch(8)
    swapped = batch.labels.clone()
    swapped[batch.labels == unknown[0]] = unknown[1]

    def terms(labels):
        fields = {f: getattr(batch, f) for f in batch.__dataclass_fields__} | {"labels": labels}
        with keeping_statistics(method):
            losses = method.losses(type(batch)(**fields), phase_of(method))
        return {k: v.item() for k, v in losses.items()}

    usual = terms(batch.labels)
    assert terms(swapped) == usual
    first, second = known.nonzero().flatten()
    exchanged = torch.where(
        batch.labels == first, second, torch.where(batch.labels == second, first, batch.labels)
    )
    assert terms(exchanged)["identity"] != usual["identity"]

    # Only images with labels have a part: by loops.
    maps = maps_of(method, batch)
    with torch.no_grad(), keeping_statistics(method):
        vectors = method.extractor.pool(maps[-1])
        logits = method.classifier(method.neck(vectors))
    labels = batch.labels.repeat(3)
    kept = [i for i in range(24) if known[labels[i]]]
    classes = {int(identity): number for number, identity in enumerate((first, second))}
    entropies = {i: cross_entropy(logits[i], classes[int(labels[i])]) for i in kept}
    hr = [v for i, v in entropies.items() if i < 8]
    lr = [v for i, v in entropies.items() if i >= 8]
    expected = sum(hr) / len(hr) + sum(lr) / len(lr)
    assert usual["identity"] == pytest.approx(expected, rel=1e-4)
    sources = torch.tensor([*range(8), *range(8), *range(8, 16)])
    expected = hardest_triplets(vectors[kept], labels[kept], sources[kept], margin=2.0)
    assert usual["triplet"] == pytest.approx(expected, rel=1e-4)


def test_a_batch_without_any_label_still_trains():
    method = small_method("rain", backbone="resnet18", labelled=0.2, num_identities=5).train()
    unknown = (~method.labelled.is_labelled).nonzero().flatten()
    batch = random_batch()
    fields = {f: getattr(batch, f) for f in batch.__dataclass_fields__}
    fields["labels"] = unknown[batch.labels]
    losses = method.losses(type(batch)(**fields), phase_of(method))
    assert losses["identity"] == losses["triplet"] == 0
    sum(losses.values()).backward()
    for group in method.parameter_groups(phase_of(method)):
        for name, parameter in group.parameters:
            assert torch.isfinite(parameter.grad).all(), name


def test_who_has_labels_is_in_checkpoints_and_not_in_model_files():
    method = small_method("rain", labelled=0.4)
    assert "labelled.is_labelled" in method.state_dict()
    shipped = shipped_state(method)
    assert {name.split(".")[0] for name in shipped} == {"extractor"}
    shipped = shipped_state(small_method("rain", backbone="resnet18"))
    assert {name.split(".")[0] for name in shipped} == {"extractor", "neck"}


def test_matches_by_the_pooled_deep_map_alone():
    method = small_method("rain", backbone="resnet18").eval()
    with torch.no_grad():
        method.neck.weight.uniform_(0.5, 1.5)
    images = random_images((0, 1, 2))
    embedding = method.embed(images)
    with torch.no_grad():
        features = method.extractor(to_input(images, method.input_spec))[-1]
        pooled = features.mean(dim=(2, 3))
    neck = method.neck
    for i in range(3):
        v = (pooled[i] - neck.running_mean) / (neck.running_var + neck.eps).sqrt() * neck.weight
        length = math.sqrt(sum(x * x for x in v.tolist()))
        np.testing.assert_allclose(embedding.vectors[i, 0], v.detach() / length, atol=1e-5)
        assert embedding.norms[i, 0] == pytest.approx(length, rel=1e-4)
    assert (embedding.quality == 1).all()
    assert torch.equal(method.feature_maps(images)["features"], features)


def test_pictures_show_what_the_decoder_makes():
    method = small_method("rain").train()
    before = {n: t.clone() for n, t in method.state_dict().items()}
    rows = method.pictures(random_batch())
    assert list(rows) == ["HR", "LR", "restored"]
    assert {row.shape for row in rows.values()} == {(6, 3, 64, 32)}
    assert all(torch.equal(t, before[n]) for n, t in method.state_dict().items())
    assert list(small_method("rain-no-rec").pictures(random_batch())) == ["HR", "LR"]


@pytest.mark.parametrize("name", ["rain", "rain-single"])
def test_finite_under_autocast(name):
    method = small_method(name).train()
    for phase in method.phases:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = method.losses(random_batch(), phase)
        sum(losses.values()).backward()
        for group in method.parameter_groups(phase):
            assert all(torch.isfinite(p.grad).all() for _, p in group.parameters)


def test_a_model_loaded_to_embed_cannot_train():
    method = small_method("rain")
    drop_training_parts(method)
    with pytest.raises(ConfigError, match="rain: this model was loaded to embed"):
        method.losses(random_batch(), phase_of(method))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_identity": -1.0}, "method.weight_identity: expected >= 0, got -1.0"),
        ({"weight_identity": 0.0, "weight_triplet": 0.0}, "nothing would tell people apart"),
        ({"levels": 0}, "method.levels: expected at least 1, got 0"),
        ({"labelled": 0.0}, "method.labelled: expected 0 < share <= 1, got 0.0"),
        ({"label_smoothing": 1.0}, "method.label_smoothing: expected 0 <= s < 1"),
        ({"images": "hr"}, "method.images: without LR images there is nothing to restore"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        RAINConfig(**settings)


def test_more_levels_than_stages():
    with pytest.raises(ConfigError, match="this backbone has 4 stages, got 5"):
        small_method("rain", levels=5)
