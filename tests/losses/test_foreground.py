import pytest
import torch

from resolute.core.errors import ShapeError
from resolute.losses.foreground import attention_loss, foreground_loss, foreground_mask


@pytest.mark.parametrize("rows_twice", [False, True])
def test_mask_is_the_published_formula(rows_twice):
    mask = foreground_mask(256, 128, rows_twice=rows_twice)
    for i, j in [(0, 0), (127, 63), (128, 64), (255, 127), (17, 99), (200, 3)]:
        other = i if rows_twice else j
        literal = 2 ** (-abs(i - 127.5) / 256) * 2 ** (-abs(other - 63.5) / 128)
        assert mask[i, j].item() == pytest.approx(literal, rel=1e-6)


def test_mask_follows_any_size_and_is_symmetric():
    mask = foreground_mask(6, 5)
    assert mask.shape == (6, 5)
    assert mask[2, 2] == mask.max() == pytest.approx(2 ** (-0.5 / 6))
    torch.testing.assert_close(mask, mask.flip(0).flip(1))


def test_rows_twice_is_the_same_in_every_column_and_not_symmetric():
    mask = foreground_mask(8, 4, rows_twice=True)
    assert torch.equal(mask[:, 0], mask[:, 3])
    assert not torch.allclose(mask, mask.flip(0))


def test_foreground_loss_by_loop():
    generator = torch.Generator().manual_seed(0)
    restored, target = torch.randn(2, 2, 3, 4, 5, generator=generator)
    mask = foreground_mask(4, 5)
    total = sum(
        (float(mask[y, x]) * float(restored[n, c, y, x]) - float(mask[y, x] * target[n, c, y, x]))
        ** 2
        for n in range(2)
        for c in range(3)
        for y in range(4)
        for x in range(5)
    )
    assert foreground_loss(restored, target, mask).item() == pytest.approx(total / 120, rel=1e-5)


def test_a_mistake_in_the_middle_costs_more():
    mask, target = foreground_mask(8, 8), torch.zeros(1, 3, 8, 8)
    middle, corner = target.clone(), target.clone()
    middle[..., 4, 4], corner[..., 0, 0] = 1.0, 1.0
    ratio = foreground_loss(middle, target, mask) / foreground_loss(corner, target, mask)
    assert ratio.item() == pytest.approx((mask[4, 4] / mask[0, 0]).item() ** 2, rel=1e-5)


def test_attention_loss_by_loop():
    generator = torch.Generator().manual_seed(1)
    attentions, resolution = torch.rand(3, 5, 2, generator=generator), torch.tensor([1.0, 0.5, 0.2])
    total = 0.0
    for n in range(3):
        for level in range(5):
            total += (float(attentions[n, level, 0]) - float(resolution[n])) ** 2
            total += (float(attentions[n, level, 1]) - (1 - float(resolution[n]))) ** 2
    assert attention_loss(attentions, resolution).item() == pytest.approx(total / 3, rel=1e-5)
    perfect = torch.stack([resolution, 1 - resolution], dim=1)[:, None].expand(3, 5, 2)
    assert attention_loss(perfect, resolution) == 0


def test_shapes_are_checked():
    images = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ShapeError, match="target"):
        foreground_loss(images, torch.zeros(1, 3, 4, 5), torch.ones(4, 4))
    with pytest.raises(ShapeError, match="mask"):
        foreground_loss(images, images, torch.ones(4, 5))
    with pytest.raises(ShapeError, match="attentions"):
        attention_loss(torch.zeros(2, 5, 3), torch.zeros(2))
    with pytest.raises(ShapeError, match="resolution"):
        attention_loss(torch.zeros(2, 5, 2), torch.zeros(3))
