import pytest
import torch

from resolute.core.errors import ShapeError
from resolute.core.rng import Stream, Streams
from resolute.models.backbone import build_backbone
from resolute.models.batch_norm import measure_batch_norm


def network():
    with Streams(3).torch_default(Stream.INITIALISATION):
        return build_backbone("osnet_x0_25")


def images(count, seed=1):
    return torch.randn(count, 3, 64, 32, generator=Streams(seed).torch(Stream.SYNTHETIC))


def test_statistics_change_and_outputs_do_not():
    net = network().double().eval()
    x = images(6).double()
    with torch.no_grad():
        before = net(x)
        assert measure_batch_norm(net, [x[:4], x[4:]]) == 6
        torch.testing.assert_close(net(x), before)
        # Normalised by the very images that were measured: nearly nothing changes either.
        torch.testing.assert_close(net.train()(x), before, rtol=1e-3, atol=1e-3)
    first = net.conv1.conv(x)
    net = network().double()
    measure_batch_norm(net, [x])
    assert net.training
    bn = net.conv1.bn
    torch.testing.assert_close(bn.running_mean, first.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(bn.running_var, first.var(dim=(0, 2, 3), unbiased=False))
    assert not bn._forward_pre_hooks


def test_no_images_is_an_error():
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(ShapeError, match="at least one image"):
        measure_batch_norm(net, [])
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
