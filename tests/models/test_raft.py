import pytest
import torch
from torch import nn
from torch.nn import functional

from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams
from resolute.models.raft import RAFT, RAFTB


def build(*args, **settings):
    with Streams(3).torch_default(Stream.INITIALISATION):
        return RAFT(*args, **settings)


def features(channels=8):
    return torch.randn(2, channels, 4, 3, generator=Streams(1).torch(Stream.SYNTHETIC))


def counted(channels, width, blocks):
    """The parameters of every convolution, added by hand from the description."""

    def conv(cin, cout, kernel):
        return cin * cout * kernel * kernel + cout

    half, squeezed = width // 2, width // 16
    block = (
        conv(width, width, 3)
        + 2 * conv(half, width, 3)
        + conv(half, half, 3)
        + conv(2 * width, width, 1)
        + conv(width, squeezed, 1)
        + conv(squeezed, width, 1)
    )
    join = conv(blocks * width, width, 1)
    return conv(channels, width, 3) + blocks * block + join + conv(width, channels, 3)


def literal_block(block, x, slope):
    """A RAFTB written out step by step from its description, with the block's parameters."""

    def act(y):
        return functional.leaky_relu(y, slope)

    half = x.shape[1] // 2
    first, second, third = (convolution[0] for convolution in block.distil)
    y = act(first(x))
    kept_a, y = y[:, :half], y[:, half:]
    y = act(second(y))
    kept_b, y = y[:, :half], y[:, half:]
    y = act(third(y))
    kept_c, y = y[:, :half], y[:, half:]
    kept_d = act(block.last[0](y))
    joined = block.join(torch.cat([kept_a, kept_b, kept_c, kept_d], dim=1))
    mean = joined.mean(dim=(2, 3), keepdim=True)
    weight = torch.sigmoid(block.attention[3](act(block.attention[1](mean))))
    return x + joined * weight


def literal_raft(raft, x, slope):
    def act(y):
        return functional.leaky_relu(y, slope)

    head = act(raft.head[0](x))
    one = literal_block(raft.blocks[0], head, slope)
    two = literal_block(raft.blocks[1], one, slope)
    joined = act(raft.join[0](torch.cat([one, two], dim=1))) + head
    return x + raft.tail[0](joined)


def test_equals_the_literal_definition():
    slope = 0.2
    raft = build(8, width=16, num_blocks=2, slope=slope, zero_tail=False)
    x = features()
    torch.testing.assert_close(raft(x), literal_raft(raft, x, slope))
    assert (raft(x) - x).abs().max() > 1e-3


@pytest.mark.parametrize(("channels", "width", "blocks"), [(2048, 64, 3), (256, 64, 3), (8, 32, 2)])
def test_parameter_count(channels, width, blocks):
    with torch.device("meta"):
        raft = RAFT(channels, width=width, num_blocks=blocks)
    total = sum(p.numel() for p in raft.parameters())
    assert total == counted(channels, width, blocks)


def test_figures_of_the_shipped_settings():
    assert counted(2048, 64, 3) == 2_649_772
    assert sum(p.numel() for p in RAFTB(64).parameters()) == 92_004


def test_starts_as_the_identity():
    x = features()
    assert torch.equal(build(8, width=16)(x), x)


def test_at_the_first_step_only_the_tail_has_a_gradient_then_all():
    raft = build(8, width=16)
    # Not a flipped x: the signs of its differences add up to nothing at the tail's bias.
    x, target = features(), features().square()
    optimiser = torch.optim.SGD(raft.parameters(), lr=0.1)
    for step in range(2):
        optimiser.zero_grad()
        (raft(x) - target).abs().mean().backward()
        live = {n for n, p in raft.named_parameters() if p.grad.abs().max() > 0}
        if step == 0:
            assert live == {"tail.0.weight", "tail.0.bias"}
        optimiser.step()
    assert live == {n for n, _ in raft.named_parameters()}


def test_options_change_what_they_say():
    x = features()
    plain = build(8, width=16, zero_tail=False)
    no_residual = build(8, width=16, zero_tail=False, input_residual=False)
    torch.testing.assert_close(no_residual(x) + x, plain(x))
    activated = build(8, width=16, zero_tail=False, input_residual=False, bare_tail=False)
    expected = functional.leaky_relu(no_residual(x), 0.05)
    torch.testing.assert_close(activated(x), expected)
    assert len(build(8, width=16, num_blocks=5).blocks) == 5
    assert {
        m.negative_slope for m in build(8, slope=0.1).modules() if isinstance(m, nn.LeakyReLU)
    } == {0.1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 24}, "width: expected a multiple of 16, got 24"),
        ({"width": 0}, "width: expected a multiple of 16, got 0"),
        ({"num_blocks": 0}, "num_blocks: expected at least 1, got 0"),
        ({"input_residual": False}, "zero_tail: without input_residual .* set zero_tail to false"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        RAFT(8, **settings)
