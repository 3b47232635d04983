"""Small methods and batches for tests."""

from dataclasses import replace

import torch

from resolute.core.images import Batch, Images
from resolute.core.rng import Stream, Streams
from resolute.methods.blueprint import Blueprint
from resolute.methods.catalogue import METHODS
from resolute.methods.config import OptimiserConfig, ScheduleConfig
from resolute.methods.settings.cad_net import CADNetConfig
from resolute.methods.settings.csr_gan import CSRGANConfig
from resolute.methods.settings.ftwa import FTWAConfig
from resolute.methods.settings.plain_sr import PlainSRConfig
from resolute.methods.settings.rain import RAINConfig
from resolute.methods.settings.rife import RIFEConfig
from resolute.methods.settings.sing import SINGConfig
from resolute.methods.variants import VARIANTS
from resolute.models.backbone import build_backbone
from resolute.models.config import ModelConfig

HEIGHT, WIDTH = 64, 32

# What makes a method small enough for tests, by the class of its settings.
SMALL = {
    FTWAConfig: {"raft_width": 16, "raft_blocks": 1},
    PlainSRConfig: {"width": 8, "num_blocks": 1},
    SINGConfig: {"widths": (4, 4), "restoration_reduction": "mean"},
    CSRGANConfig: {
        "chain_height": 0,
        "chain_width": 0,
        "generator_width": 8,
        "generator_blocks": 1,
        "discriminator_width": 4,
    },
    RIFEConfig: {"ffsr_width": 8},
    RAINConfig: {"decoder_widths": (16, 8, 8), "decoder_convs": 1, "discriminator_width": 4},
    CADNetConfig: {
        "decoder_widths": (16, 8, 8),
        "decoder_convs": 1,
        "feature_width": 4,
        "image_width": 4,
    },
}

# Every row of Table 2 as it is, and sets of options that are off in all of them.
CASES = {name: (name, {}) for name in VARIANTS} | {
    "ftwa, own teacher": ("ftwa", {"weight_distill": 1.0, "weight_transfer": 0.5}),
    "ftwa, resolution first": (
        "ftwa",
        {"weight_transfer": 1.0, "teacher": "average", "resolution_share": 0.25},
    ),
    "ftwa, commensurate": (
        "ftwa",
        {"centre_quality": True, "scale_spaces": True, "evaluator_height": True},
    ),
    "ftwa, balanced": ("ftwa", {"balance_quality": True}),
    "ftwa, watched": ("ftwa", {"evaluator_watches": True}),
    "ftwa, adapters": (
        "ftwa",
        {"encoder_lr": "adapter", "weight_distill": 1.0, "resolution_share": 0.25},
    ),
    "ftwa_b-twins, adapters": ("ftwa_b-twins", {"encoder_lr": "adapter", "adapter_rank": 0}),
    "ftwa, generalised mean": ("ftwa", {"pooling": "gem"}),
    "sing, published network": ("sing", {"identity_network": "dgd", "normalise": True}),
    "sing, restoration first": (
        "sing",
        {"restoration_share": 0.25, "factors": (3.0,), "padding": True, "normalise": True},
    ),
    "sing, one vector": ("sing", {"matching": "vectors", "lr_route": "nearest", "factors": (3.0,)}),
    "csr-gan, spread": (
        "csr-gan",
        {"entries": "spread", "native_lr": False, "generator_residual": True},
    ),
    "rife-ffsr, published": (
        "rife-ffsr",
        {"normalised": False, "mask_rows_twice": True, "ffsr_zero_tail": True},
    ),
    "rain, few labels": ("rain", {"labelled": 0.6}),
    "cad-net, no adversaries": ("cad-net", {"weight_feature": 0.0, "weight_image": 0.0}),
    "baseline-twins, taught": (
        "baseline-twins",
        {"weight_distill": 1.0, "teacher": "start", "resolution_share": 0.25},
    ),
}


def small_case(case, **more):
    """A small method of one of ``CASES``."""
    name, changes = CASES[case]
    return small_method(name, **changes, **more)


def small_blueprint(
    name="ftwa", *, num_identities=5, backbone="osnet_x0_25", pooling="backbone", **changes
):
    return Blueprint(
        name=name,
        model=ModelConfig(backbone=backbone, height=HEIGHT, width=WIDTH, pooling=pooling),
        method=replace(VARIANTS[name], **{**SMALL.get(type(VARIANTS[name]), {}), **changes}),
        optimiser=OptimiserConfig(learning_rate=2e-3),
        schedule=ScheduleConfig(),
        num_identities=num_identities,
        height_reference=96.0,
    )


def small_method(name="ftwa", *, seed=0, **changes):
    method, _ = METHODS[name](small_blueprint(name, **changes), streams=Streams(seed))
    return method


def started_method(folder, name="ftwa", *, left_out="nothing", backbone="resnet18", **changes):
    """A small method from a weight file without the tensors whose name begins with ``left_out``."""
    state = build_backbone(backbone).state_dict()
    path = folder / "start.pth"
    torch.save({n: t for n, t in state.items() if not n.startswith(left_out)}, path)
    blueprint = small_blueprint(name, backbone=backbone, **changes)
    model = replace(blueprint.model, weights=str(path), partial_weights=left_out != "nothing")
    method, _ = METHODS[name](replace(blueprint, model=model), streams=Streams(0))
    return method


def pretrained_and_new(method, phase=None):
    """Names of the parameters that move as pre-trained ones, and of those that move as new ones."""
    groups = method.parameter_groups(phase or method.phases[-1])
    return tuple(
        {n for g in groups if g.name.startswith(kind) for n, _ in g.parameters}
        for kind in ("pretrained", "new")
    )


def random_batch(num_pairs=6, *, num_instances=2, seed=0):
    generator = Streams(seed).torch(Stream.TIES, 1)

    def pixels():
        return torch.randn(num_pairs, 3, HEIGHT, WIDTH, generator=generator)

    return Batch(
        images_hr=pixels(),
        images_lr=pixels(),
        images_lr_syn=pixels(),
        labels=torch.arange(num_pairs) // num_instances,
        rates_lr=torch.full((num_pairs,), 2.0),
        rates_syn=torch.full((num_pairs,), 3.0),
        heights_hr=torch.full((num_pairs,), 96),
        heights_lr=torch.full((num_pairs,), 32),
        heights_lr_syn=torch.full((num_pairs,), 32),
        sources_hr=torch.arange(num_pairs),
        sources_lr=torch.arange(num_pairs) + num_pairs,
    )


def random_images(resolutions=(0, 1, 0, 1), *, heights=None, seed=0):
    generator = Streams(seed).torch(Stream.TIES, 2)
    num_images = len(resolutions)
    heights = heights or [96 if r == 0 else 32 for r in resolutions]
    return Images(
        pixels=torch.randint(
            0, 256, (num_images, 3, 96, 48), generator=generator, dtype=torch.uint8
        ),
        native_sizes=torch.tensor([[h, h // 2] for h in heights]),
        resolution=torch.tensor(resolutions),
    )
