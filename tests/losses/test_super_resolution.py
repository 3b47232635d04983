import pytest
import torch

from resolute.core.errors import ShapeError
from resolute.losses.super_resolution import image_euclidean, image_l1


def pair():
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(2, 3, 4, 5, generator=generator) * 255 for _ in range(2))


def differences(restored, target):
    return [
        float(restored[n, c, y, x]) - float(target[n, c, y, x])
        for n in range(2)
        for c in range(3)
        for y in range(4)
        for x in range(5)
    ]


def test_euclidean_by_loop():
    restored, target = pair()
    squares = [d * d for d in differences(restored, target)]
    found = image_euclidean(restored, target)
    assert found.item() == pytest.approx(sum(squares) / (2 * 2), rel=1e-5)
    mean = image_euclidean(restored, target, reduction="mean")
    assert mean.item() == pytest.approx(sum(squares) / len(squares) / 255 / 255, rel=1e-5)


def test_l1_by_loop():
    restored, target = pair()
    absolute = [abs(d) for d in differences(restored, target)]
    assert image_l1(restored, target).item() == pytest.approx(sum(absolute) / len(absolute))


@pytest.mark.parametrize("loss", [image_euclidean, image_l1])
def test_shapes_are_checked(loss):
    with pytest.raises(ShapeError, match="target"):
        loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))


def test_bf16_images_give_a_float32_loss():
    restored, target = pair()
    assert image_l1(restored.bfloat16(), target).dtype == torch.float32
    assert image_euclidean(restored.bfloat16(), target).dtype == torch.float32
