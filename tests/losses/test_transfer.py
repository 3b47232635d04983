"""Teacher and student against loops, and where the gradient goes."""

import math

import pytest
import torch

from resolute.core.errors import ShapeError
from resolute.losses.transfer import cosine_loss, similarity_matrix_loss

LOSSES = (cosine_loss, similarity_matrix_loss)


def two_sets(seed=0, num_images=5, dim=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, num_images, dim, generator=generator, dtype=torch.float64)


def cosine(a, b):
    a, b = a.tolist(), b.tolist()
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


@pytest.mark.parametrize("seed", range(3))
def test_both_losses_by_loop(seed):
    students, teachers = two_sets(seed)
    num_images = len(students)
    cosines = [cosine(s, t) for s, t in zip(students, teachers, strict=True)]
    expected = sum(1 - c for c in cosines) / num_images
    assert cosine_loss(students, teachers).item() == pytest.approx(expected, rel=1e-5)
    squares = [
        (cosine(students[i], students[j]) - cosine(teachers[i], teachers[j])) ** 2
        for i in range(num_images)
        for j in range(num_images)
    ]
    expected = sum(squares) / num_images**2
    assert similarity_matrix_loss(students, teachers).item() == pytest.approx(expected, rel=1e-4)


def test_length_is_nothing_and_a_turned_set_has_the_same_neighbourhoods():
    students, teachers = two_sets()
    for loss in LOSSES:
        torch.testing.assert_close(loss(students, teachers), loss(3 * students, teachers / 2))
        assert loss(students, 5 * students).item() == pytest.approx(0, abs=1e-6)
    turned = torch.linalg.qr(two_sets(seed=9, num_images=7)[0])[0]
    assert similarity_matrix_loss(students @ turned, students).item() == pytest.approx(0, abs=1e-6)
    assert cosine_loss(students @ turned, students) > 0.1


@pytest.mark.parametrize("loss", LOSSES)
def test_the_student_alone_takes_the_gradient(loss):
    students, teachers = two_sets()
    students.requires_grad = teachers.requires_grad = True
    loss(students, teachers).backward()
    assert teachers.grad is None
    assert students.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_a_vector_of_zeros_breaks_nothing(loss):
    students = torch.zeros(2, 3, requires_grad=True)
    loss(students, torch.ones(2, 3)).backward()
    assert torch.isfinite(students.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_bf16_is_computed_in_float32(loss):
    students, teachers = two_sets().bfloat16()
    assert loss(students, teachers).dtype == torch.float32


@pytest.mark.parametrize("loss", LOSSES)
def test_shapes_are_checked(loss):
    with pytest.raises(ShapeError, match="teachers"):
        loss(torch.zeros(3, 4), torch.zeros(3, 5))


def test_similarities_under_autocast_are_those_without():
    generator = torch.Generator().manual_seed(0)
    students, teachers = torch.randn(2, 8, 64, generator=generator)
    plain = similarity_matrix_loss(students, teachers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(similarity_matrix_loss(students, teachers), plain)
