import torch
from torch import nn

from resolute.methods.modes import evaluating, keeping_statistics


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))


def test_batch_norms_see_their_batch_and_forget_it():
    part, images = network(), torch.randn(5, 3, 4, 4) + 3
    part[2].eval()
    with torch.no_grad():
        expected = nn.functional.batch_norm(part[0](images), None, None, training=True)
        before = {name: tensor.clone() for name, tensor in part.state_dict().items()}
        with keeping_statistics(part):
            torch.testing.assert_close(part(images), expected)
        assert all(torch.equal(t, before[name]) for name, t in part.state_dict().items())
        part(images)
    assert part[1].num_batches_tracked == 1  # remembers again


def test_frozen_batch_norms_stay_frozen():
    part, images = network(), torch.randn(5, 3, 4, 4) + 3
    part[1].eval()
    part[2].eval()
    with keeping_statistics(part):
        torch.testing.assert_close(part(images), part.eval()(images))


def test_every_part_gets_its_own_mode_back():
    part = network()
    part[1].eval()
    with evaluating(part):
        assert not any(module.training for module in part.modules())
    assert [module.training for module in part] == [True, False, True]
