"""What makes SING SING: its joint loss, which image goes through which network, its matching."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from methods.builders import (
    pretrained_and_new,
    random_batch,
    random_images,
    small_blueprint,
    small_method,
    started_method,
)
from torch.nn import functional

from resolute.core.distance import distance_matrix
from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.data.degrade import to_input
from resolute.engine.config import TrainConfig
from resolute.engine.distributed import World
from resolute.engine.phases import start_phases
from resolute.methods.catalogue import METHODS
from resolute.methods.graph import Traceable
from resolute.methods.settings.sing import SINGConfig
from resolute.methods.sing import rate_weights
from resolute.models.dgd import DGD
from resolute.recipes.catalogue import find_recipe

FACTORS = (2.0, 3.0, 4.0)


def mixed_batch(**changes):
    """Twins at rates 4, 2, 3, 2, 4, 3; native LR images of heights 48, 20, 32, ... (h_ref 96)."""
    batch = random_batch()
    return replace(
        batch,
        rates_syn=torch.tensor([4.0, 2, 3, 2, 4, 3]),
        heights_lr=torch.tensor([48, 20, 32, 96, 24, 33]),
        **changes,
    )


def sharpening(method):
    """Move the super-resolution networks, each by another amount, off the identity."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in method.restoration.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=generator))
    return method


def main(method):
    return method.phases[-1]


@pytest.mark.parametrize("route", ["all", "nearest"])
def test_joint_loss_image_by_image(route):
    method = sharpening(
        small_method(
            "sing",
            lr_route=route,
            weight_restoration=0.5,
            weight_identity=2.0,
            restoration_reduction="image_sum",
        )
    ).eval()
    batch = mixed_batch()
    losses = method.losses(batch, main(method))
    nearest = {"twins": [2, 0, 1, 0, 2, 1], "native": [0, 2, 1, 0, 2, 1]}
    std = torch.tensor(method.input_spec.std).view(3, 1, 1)

    def entropy(image, label):
        logits = method.classifier(method.neck(method.network(image[None])))[0]
        return -float(logits.log_softmax(0)[label])

    squares, terms = 0.0, {"syn": [], "hr": [], "lr": []}
    method.requires_grad_(False)
    for i, label in enumerate(batch.labels.tolist()):
        hr = batch.images_hr[i, :, 8:-8, 8:-8]
        twin = method.restoration(batch.images_lr_syn[i : i + 1], nearest["twins"][i])[0]
        squares += float((((twin - hr) * std * 255) ** 2).sum()) / 2
        terms["syn"].append(entropy(twin, label))
        terms["hr"].append(entropy(hr, label))
        for m in range(3) if route == "all" else [nearest["native"][i]]:
            lr = method.restoration(batch.images_lr[i : i + 1], m)[0]
            terms["lr"].append(entropy(lr, label))
    assert losses["restoration"].item() == pytest.approx(0.5 * squares / 6, rel=1e-4)
    for name, values in terms.items():
        expected = 2.0 * sum(values) / len(values)
        assert losses[f"identity_{name}"].item() == pytest.approx(expected, rel=1e-4), name


def test_each_network_learns_from_twins_of_its_own_rate_alone():
    method = sharpening(small_method("sing", restoration_share=0.25)).train()
    first = method.phases[0]
    batch = mixed_batch()
    for i, rate in enumerate(FACTORS):
        method.zero_grad(set_to_none=False)
        only = replace(batch, rates_syn=torch.full((6,), rate))
        method.losses(only, first)["restoration"].backward()
        moved = [
            any(p.grad is not None and p.grad.any() for p in network.parameters())
            for network in method.restoration.networks
        ]
        assert moved == [j == i for j in range(3)]


def test_restoration_phase_moves_nothing_else_and_reads_no_label():
    method = small_method("sing", restoration_share=0.5, backbone="resnet18")
    runs = start_phases(
        method,
        config=TrainConfig(epochs=4),
        world=World(),
        device=torch.device("cpu"),
        has_unused_parameters=False,
    )
    method.train()
    assert [(run.phase.name, run.phase.first, run.phase.last) for run in runs] == [
        ("restoration", 0.0, 0.5),
        ("main", 0.5, 1.0),
    ]
    before = {n: t.clone() for n, t in method.state_dict().items()}
    batch = mixed_batch()
    unlabelled = replace(batch, labels=torch.full_like(batch.labels, -1))
    losses = runs[0].update(unlabelled, epoch=0, factor=1.0)
    assert set(losses) == {"restoration"}
    moved = {n for n, t in method.state_dict().items() if not torch.equal(t, before[n])}
    assert moved
    assert all(n.startswith("restoration.") for n in moved)
    before = {n: t.clone() for n, t in method.state_dict().items()}
    runs[1].update(batch, epoch=2, factor=1.0)
    moved = {n for n, t in method.state_dict().items() if not torch.equal(t, before[n])}
    assert {n for n, _ in method.network.named_parameters(prefix="network")} <= moved


def test_super_resolution_gets_sharper_in_its_phase():
    method = small_method("sing", restoration_share=0.5, widths=(8, 8), padding=True).train()
    (run, _) = start_phases(
        method,
        config=TrainConfig(epochs=4),
        world=World(),
        device=torch.device("cpu"),
        has_unused_parameters=False,
    )
    levels = torch.rand(6, 1, 64, 32, generator=torch.Generator().manual_seed(0))  # grey pictures
    smooth = functional.avg_pool2d(levels, 3, stride=1, padding=1).expand(-1, 3, -1, -1)
    blurred = functional.avg_pool2d(smooth, 3, stride=1, padding=1)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (method.input_spec.mean, method.input_spec.std)
    )
    batch = mixed_batch(images_hr=(smooth - mean) / std, images_lr_syn=(blurred - mean) / std)
    found = [run.update(batch, epoch=0, factor=1.0)["restoration"].item() for _ in range(80)]
    assert found[-1] < 0.8 * found[0]


def test_published_multipliers_are_groups():
    method = small_method("sing", restoration_factor=1e-8, restoration_tail_factor=1e-9)
    groups = {g.name: g for g in method.parameter_groups(main(method))}
    names = {k: {n for n, _ in g.parameters} for k, g in groups.items()}
    own = {f"restoration.networks.{i}" for i in range(3)}
    assert names["restoration.weight"] == {f"{n}.{k}.weight" for n in own for k in (0, 2)}
    assert names["restoration.tail"] == {f"{n}.4.weight" for n in own}
    assert names["restoration.bias"] == {f"{n}.{k}.bias" for n in own for k in (0, 2, 4)}
    assert groups["restoration.weight"].learning_rate_factor == 1e-8
    assert groups["restoration.tail"].learning_rate_factor == 1e-9
    assert groups["restoration.bias"].learning_rate_factor == 1e-9
    assert groups["new.weight"].learning_rate_factor == 1.0


def test_only_the_backbone_moves_as_pretrained(tmp_path):
    slow, _ = pretrained_and_new(started_method(tmp_path, "sing", pooling="gem"))
    assert slow
    assert all(n.startswith("network.") for n in slow)
    assert "network.avgpool.exponent" not in slow


def test_rate_weights_by_loop():
    ratios = [1.0, 2.4, 3.0, 30.0]
    found = rate_weights(torch.tensor(ratios), torch.tensor(FACTORS), theta=1.5)
    for row, rho in zip(found.tolist(), ratios, strict=True):
        alphas = [math.exp(-((rho - m) ** 2) / 1.5**2) for m in FACTORS]
        assert max(row) == 1
        for value, alpha in zip(row, alphas, strict=True):
            assert value == pytest.approx(alpha / max(alphas), rel=1e-4)
    assert torch.tensor(-((30.0 - 4) ** 2)).exp() == 0  # why the largest is divided out
    assert rate_weights(torch.tensor([30.0]), torch.tensor(FACTORS), theta=1.0)[0, 2] == 1


def literal_vectors(method, images, i):
    """Vectors per factor of LR image i, one network after the other."""
    inputs = to_input(images.take(torch.tensor([i])), method.input_spec)
    with torch.no_grad():
        return [
            method.neck(method.network(method.restoration(inputs, m)))[0].numpy() for m in range(3)
        ]


def test_matching_on_three_images_by_hand():
    method = sharpening(small_method("sing", theta=2.0)).eval()
    images = random_images((0, 1, 1), heights=[96, 48, 26])  # rho 2 and 96 / 26
    embedding = method.embed(images)
    assert embedding.vectors.shape[:2] == (3, 3)
    assert (embedding.metric, embedding.fusion) == ("euclidean", "weighted")
    inputs = to_input(images.take(torch.tensor([0])), method.input_spec)
    with torch.no_grad():
        gallery = method.neck(method.network(inputs[:, :, 8:-8, 8:-8]))[0].numpy()
    for stream in range(3):
        np.testing.assert_allclose(embedding.vectors[0, stream], gallery, atol=1e-5)
    assert embedding.quality[0].tolist() == [1, 1, 1]
    assert not np.allclose(np.linalg.norm(gallery), 1)
    for i, rho in ((1, 2.0), (2, 96 / 26)):
        wanted = literal_vectors(method, images, i)
        np.testing.assert_allclose(embedding.vectors[i], np.stack(wanted), atol=1e-5)
        alphas = np.array([math.exp(-((rho - m) ** 2) / 4) for m in FACTORS])
        np.testing.assert_allclose(embedding.quality[i], alphas / alphas.max(), rtol=1e-5)
        np.testing.assert_allclose(
            embedding.norms[i], [np.linalg.norm(v) for v in wanted], rtol=1e-5
        )


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_fusion_weighted_is_the_published_rule_up_to_a_number_per_query(metric):
    # sum a_m D_m: a HR image has equal trust in all streams, so only the query's weights are left.
    method = sharpening(small_method("sing", theta=2.0, metric=metric)).eval()
    query = method.embed(random_images((1, 1, 1), heights=[48, 32, 26]))
    gallery = method.embed(random_images((0, 0, 0), seed=3))
    found = distance_matrix(query, gallery)
    for q, height in enumerate((48, 32, 26)):
        alphas = [math.exp(-((96 / height - m) ** 2) / 4) for m in FACTORS]
        for g in range(3):
            rule = 0.0
            for stream, alpha in enumerate(alphas):
                gap = query.vectors[q, stream] - gallery.vectors[g, stream]
                d = float((gap * gap).sum())
                rule += alpha * (d if metric == "sqeuclidean" else math.sqrt(d))
            assert found[q, g] == pytest.approx(rule / sum(alphas), rel=1e-3)


def test_area_ratio_by_hand():
    method = small_method("sing", ratio="area", theta=2.0)
    images = random_images((1, 1), heights=[48, 24])  # of 48 x 24 and 24 x 12 pixels
    quality = method.embed(images).quality
    for row, (height, width) in zip(quality, ((48, 24), (24, 12)), strict=True):
        rho = 96 * 36 / (height * width)  # 36 = 96 * 48 / 128
        exponents = [-((rho - m) ** 2) / 4 for m in FACTORS]
        expected = [math.exp(e - max(exponents)) for e in exponents]
        np.testing.assert_allclose(row, expected, rtol=1e-4)


def test_one_vector_ranks_hr_images_as_the_weighted_distances_do():
    # sum a |v_m - g|^2 / sum a = |v - g|^2 + what depends on the query alone
    method = sharpening(small_method("sing", metric="sqeuclidean")).eval()
    joined = sharpening(small_method("sing", metric="sqeuclidean", matching="vectors")).eval()
    lr, hr = random_images((1,) * 5, heights=[48, 40, 32, 26, 20]), random_images((0,) * 6, seed=3)
    apart, query, gallery = method.embed(lr), joined.embed(lr), joined.embed(hr)
    assert query.vectors.shape[1] == 1
    whole = distance_matrix(query, gallery)
    for q in range(5):
        a = apart.quality[q] / apart.quality[q].sum()
        rule = np.array(
            [
                sum(
                    a[m] * ((apart.vectors[q, m] - gallery.vectors[g, 0]) ** 2).sum()
                    for m in range(3)
                )
                for g in range(6)
            ]
        )
        gap = rule - whole[q]
        np.testing.assert_allclose(gap, gap[0], rtol=1e-3, atol=1e-3)
        assert gap[0] >= -1e-4


def test_normalised_vectors_have_length_one():
    images = random_images((0, 1, 2), heights=[96, 30, 64])
    for matching in ("distances", "vectors"):
        method = small_method("sing", normalise=True, matching=matching, flip=True)
        vectors = method.embed(images).vectors
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=2), 1, rtol=1e-5)


def test_unknown_resolution_follows_native_height_and_averages_near_the_border():
    method = sharpening(small_method("sing")).eval()  # h_ref 96: border at 64
    heights = [96, 40, 64]
    unknown = method.embed(random_images((2, 2, 2), heights=heights))
    told = method.embed(random_images((0, 1, 0), heights=heights))
    np.testing.assert_allclose(unknown.vectors[:2], told.vectors[:2], atol=1e-5)
    as_lr = method.embed(random_images((1, 1, 1), heights=heights))
    np.testing.assert_allclose(
        unknown.vectors[2], (told.vectors[2] + as_lr.vectors[2]) / 2, atol=1e-5
    )
    np.testing.assert_allclose(unknown.quality[2], (1 + as_lr.quality[2]) / 2, atol=1e-5)


def test_flip_makes_mirrored_images_equal():
    method = sharpening(small_method("sing", flip=True)).eval()
    images = random_images((1, 1), heights=[96, 96])
    pixels = images.pixels.clone()
    pixels[1] = pixels[0].flip(-1)
    vectors = method.embed(replace(images, pixels=pixels)).vectors
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-4)


def test_identity_network_sees_what_super_resolution_leaves():
    seen = []
    for padding, expected in ((True, (64, 32)), (False, (48, 16))):
        method = small_method("sing", padding=padding)
        method.network.register_forward_hook(lambda _, args, __: seen.append(args[0].shape[2:]))
        method.embed(random_images((0,)))
        assert seen.pop() == expected
        assert set(shown := method.pictures(mixed_batch())) == {"HR", "LR", "restored"}
        assert {row.shape[2:] for row in shown.values()} == {expected}


def test_pictures_are_in_the_order_of_the_batch():
    method = small_method("sing", padding=True)  # the identity at the start
    batch = mixed_batch()
    batch = replace(batch, images_lr_syn=batch.images_lr_syn / 10)  # in the valid range
    torch.testing.assert_close(
        method.pictures(batch)["restored"], batch.images_lr_syn, atol=1e-3, rtol=1e-3
    )


def sized_blueprint(*, backbone, height, width, **changes):
    blueprint = small_blueprint("sing", **changes)
    model = replace(blueprint.model, backbone=backbone, height=height, width=width)
    return replace(blueprint, model=model)


def test_a_backbone_bound_to_one_size_is_given_it():
    for height, width, padding in ((256, 128, True), (272, 144, False)):
        METHODS["sing"](
            sized_blueprint(backbone="osnet_gn_x0_5", height=height, width=width, padding=padding),
            streams=Streams(0),
        )
    with pytest.raises(ConfigError, match="learned for 256x128, got 240x112"):
        METHODS["sing"](
            sized_blueprint(backbone="osnet_gn_x0_5", height=256, width=128),
            streams=Streams(0),
        )


def test_published_network_at_the_published_size():
    blueprint = sized_blueprint(
        backbone="resnet50", height=160, width=72, identity_network="dgd", widths=(64, 32)
    )
    method, start = METHODS["sing"](blueprint, streams=Streams(0))
    assert start == "random weights"
    assert isinstance(method.network, DGD)
    seen = []
    method.network.register_forward_hook(lambda _, args, __: seen.append(args[0].shape))
    assert method.embed(random_images((1,))).vectors.shape == (1, 3, 256)
    assert seen == [(3, 3, 144, 56)]
    parameters = sum(p.numel() for p in method.parameters())
    assert parameters == 3 * 57_281 + 6_748_192 + 256 * 5 + 5


def test_published_network_has_no_start_weights():
    blueprint = small_blueprint("sing", identity_network="dgd")
    blueprint = replace(blueprint, model=replace(blueprint.model, weights="net.pth"))
    with pytest.raises(ConfigError, match="'dgd' has no start weights"):
        METHODS["sing"](blueprint, streams=Streams(0))


def test_a_model_that_needs_native_sizes_offers_no_graphs():
    assert not isinstance(small_method("sing"), Traceable)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factors": ()}, "rising factors"),
        ({"factors": (3.0, 2.0)}, "rising factors"),
        ({"factors": (0.5, 2.0)}, ">= 1"),
        ({"theta": 0.0}, "theta"),
        ({"restoration_factor": 0.0}, "restoration_factor"),
        ({"weight_identity": -1.0}, "weight_identity"),
        ({"restoration_share": 1.0}, "restoration_share"),
        ({"constant": 2.0}, "constant"),
    ],
)
def test_settings_that_contradict(changes, message):
    with pytest.raises(ConfigError, match=message):
        SINGConfig(**changes)


def test_rows_that_differ_in_matching_alone_train_alike():
    usual = SINGConfig()
    for changes in ({"theta": 4.0}, {"normalise": True}, {"matching": "vectors"}, {"flip": True}):
        assert SINGConfig(**changes).as_trained() == usual
    assert SINGConfig(ratio="area").as_trained() != usual  # it routes native images in training


def test_recipes():
    published = find_recipe("sing", "caviar", "paper")
    assert (published.model.height, published.model.width) == (160, 72)
    assert published.method.identity_network == "dgd"
    assert (published.optimiser.name, published.optimiser.learning_rate) == ("sgd", 0.01)
    steps = math.ceil(500 / published.loader.batch_size)  # CAVIAR has 500 training images
    share = published.method.restoration_share
    assert round(published.train.epochs * (1 - share)) * steps == pytest.approx(1000, rel=0.01)
    short = find_recipe("sing", "mlr-viper")
    baseline = find_recipe("baseline-twins", "mlr-viper")
    assert short.method.padding
    assert round(short.train.epochs * (1 - short.method.restoration_share)) == baseline.train.epochs
    assert (short.optimiser, short.schedule) == (baseline.optimiser, baseline.schedule)
