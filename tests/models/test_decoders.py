import pytest
import torch
from torch.nn import functional

from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams
from resolute.core.types import InputSpec
from resolute.models.backbone import build_backbone
from resolute.models.decoders import Decoder, decoder_of
from resolute.models.staged import Staged

SHAPES = [(4, 16, 8), (6, 16, 8), (8, 8, 4), (10, 4, 2)]
SPEC = InputSpec(height=64, width=32)


def build(shapes=SHAPES, widths=(12, 8, 6), *, num_convs=2, has_skips=True, spec=SPEC):
    with Streams(3).torch_default(Stream.INITIALISATION):
        return Decoder(shapes, widths, num_convs=num_convs, has_skips=has_skips, input_spec=spec)


def maps(shapes=SHAPES, *, num_images=2):
    generator = Streams(1).torch(Stream.SYNTHETIC)
    return [torch.randn(num_images, *shape, generator=generator) for shape in shapes]


def counted(inputs, widths, num_convs):
    """The parameters of every layer, added by hand: convolutions without bias, batch norms."""
    total = 0
    for channels, width in zip(inputs[:-1], widths, strict=True):
        total += 9 * channels * width + 2 * width
        total += (num_convs - 1) * (9 * width * width + 2 * width)
    if num_convs == 1:
        return total + 9 * inputs[-1] * 3 + 3
    total += 9 * inputs[-1] * widths[-1] + 2 * widths[-1]
    total += (num_convs - 2) * (9 * widths[-1] ** 2 + 2 * widths[-1])
    return total + 9 * widths[-1] * 3 + 3


def size(module):
    return sum(p.numel() for p in module.parameters())


def test_a_literal_pass_in_eval_mode():
    decoder = build(num_convs=1).eval()
    given = maps()

    def block(x, layers, *, is_last=False):
        convolution = layers if is_last else layers[0]
        x = functional.conv_transpose2d(
            x, convolution.weight, convolution.bias, stride=2, padding=1, output_padding=1
        )
        if is_last:
            return x
        norm = layers[1]
        x = functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, eps=norm.eps
        )
        return torch.where(x > 0, x, 0.2 * x)

    x = block(given[3], decoder.blocks[0][0])  # (2, 12, 8, 4)
    x = block(torch.cat([x, given[2]], dim=1), decoder.blocks[1][0])  # (2, 8, 16, 8)
    # Of two maps of one size the later one joins.
    x = block(torch.cat([x, given[1]], dim=1), decoder.blocks[2][0])  # (2, 6, 32, 16)
    x = block(x, decoder.blocks[3][0], is_last=True)  # (2, 3, 64, 32)
    pixels = (torch.tanh(x) + 1) / 2
    mean, std = (torch.tensor(v)[:, None, None] for v in (SPEC.mean, SPEC.std))
    torch.testing.assert_close(decoder(given), (pixels - mean) / std)


def test_a_stride_of_one_is_a_transposed_convolution_with_its_kernel_turned():
    decoder = build(widths=(12, 8, 6, 5), num_convs=1, has_skips=False).eval()
    convolution = decoder.blocks[0][0][0]
    x = maps()[-1]
    turned = convolution.weight.flip(2, 3).transpose(0, 1)
    torch.testing.assert_close(
        convolution(x), functional.conv_transpose2d(x, turned, padding=1), atol=1e-5, rtol=1e-5
    )
    assert [b[0][0].stride for b in list(decoder.blocks)[:-1]] == [(1, 1), (2, 2), (2, 2), (2, 2)]
    assert decoder(maps()).shape == (2, 3, 64, 32)


@pytest.mark.parametrize("num_convs", [1, 2, 3])
@pytest.mark.parametrize("has_skips", [False, True])
def test_parameter_count(num_convs, has_skips):
    decoder = build(num_convs=num_convs, has_skips=has_skips)
    inputs = (10, 12 + 8, 8 + 6, 6) if has_skips else (10, 12, 8, 6)
    assert size(decoder) == counted(inputs, (12, 8, 6), num_convs)
    assert decoder.skips == ((None, 2, 1, None) if has_skips else (None,) * 4)


def test_figures_of_the_published_widths():
    # ARN's decoder: 2048-1024-512-256-64-3, three convolutions each.
    with torch.device("meta"):
        encoder = Staged(build_backbone("resnet50"))
        decoder = decoder_of(
            encoder, (1024, 512, 256, 64), num_convs=3, has_skips=False, input_spec=InputSpec()
        )
    assert encoder.map_shapes(256, 128)[-1] == (2048, 16, 8)
    assert size(decoder) == counted((2048, 1024, 512, 256, 64), (1024, 512, 256, 64), 3)
    assert size(decoder) == 49_853_251


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [("resnet18", 64, 32), ("osnet_x0_25", 64, 32), ("osnet_gn_x0_5", 256, 128)],
)
def test_shapes_are_those_of_the_real_maps(name, height, width):
    encoder = Staged(build_backbone(name))
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    shapes = encoder.map_shapes(height, width)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    made = encoder.eval()(torch.randn(1, 3, height, width))
    assert shapes == [tuple(m.shape[1:]) for m in made]
    assert torch.equal(encoder.pool(made[-1]), encoder.pool(made[-1]))
    spec = InputSpec(height=height, width=width)
    decoder = decoder_of(encoder, (8, 8, 8), num_convs=1, has_skips=True, input_spec=spec)
    assert decoder.eval()(made).shape == (1, 3, height, width)


def test_every_pixel_can_be_reached_and_no_other():
    decoder = build(num_convs=1)
    with torch.no_grad():
        for sign, pixel in ((-1, 0.0), (1, 1.0)):
            decoder.blocks[-1][0].weight.zero_()
            decoder.blocks[-1][0].bias.fill_(50.0 * sign)
            images = decoder(maps())
            mean, std = (torch.tensor(v)[:, None, None] for v in (SPEC.mean, SPEC.std))
            torch.testing.assert_close(images, ((pixel - mean) / std).expand_as(images))


def test_finite_under_autocast_in_float32():
    decoder = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = decoder(maps())
    assert images.dtype == torch.float32
    assert torch.isfinite(images).all()


def test_the_state_holds_no_constants():
    assert not any("scale" in name or "shift" in name for name in build().state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_convs": 0}, r"at least one convolution per block, got \(12, 8, 6\) and 0"),
        ({"widths": ()}, "expected widths of at least 1"),
        ({"widths": (0, 8, 8)}, "expected widths of at least 1"),
        ({"widths": (8, 8)}, "expected at least 3 widths to come from a 4x2 map .* got 2"),
        ({"spec": InputSpec(height=70, width=32)}, "doublings of a 4x2 map do not give .* 70x32"),
        ({"spec": InputSpec(height=64, width=64)}, "doublings of a 4x2 map do not give .* 64x64"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(**settings)
