"""How far embeddings of degraded images are from those of a teacher that saw the HR pictures.

Letters: N images, D embedding.
"""

import torch
from torch import Tensor
from torch.nn import functional

from resolute.core.shapes import check_shape


def cosine_loss(students: Tensor, teachers: Tensor) -> Tensor:
    """Compute the mean of 1 - cosine between each student vector and its teacher's [ours].

    The teacher takes no gradient.

    Args:
        students: one vector per image, shape (N, D).
        teachers: the target of each, shape (N, D).

    Returns:
        A scalar in 0..2, float32.

    Raises:
        ShapeError: if the shapes differ.
    """
    check_shape("N D", students=students, teachers=teachers)
    cosines = functional.cosine_similarity(students.float(), teachers.detach().float(), dim=1)
    return (1 - cosines).mean()


def similarity_matrix_loss(students: Tensor, teachers: Tensor) -> Tensor:
    """Compare who resembles whom in a batch: for the students, and for the teachers [Tung 2019].

    Mean squared difference between the two matrices of cosines. It asks for the right
    neighbourhoods, not for the right places, and the teacher takes no gradient [ours].

    Args:
        students: one vector per image, shape (N, D).
        teachers: the target of each, shape (N, D).

    Returns:
        A scalar, float32.

    Raises:
        ShapeError: if the shapes differ.
    """
    check_shape("N D", students=students, teachers=teachers)
    own = functional.normalize(students.float(), dim=1)
    wanted = functional.normalize(teachers.detach().float(), dim=1)
    with torch.autocast(own.device.type, enabled=False):  # bf16 would round the cosines
        return (own @ own.T - wanted @ wanted.T).square().mean()  # both (N, N)
