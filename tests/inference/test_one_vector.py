"""One vector from two streams, against the distances it stands for."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from resolute.core.distance import distance_matrix, fused_vectors
from resolute.core.errors import ProtocolError
from resolute.core.types import Embedding
from resolute.inference.one_vector import join, one_vector


def streams(count=7, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors = functional.normalize(torch.randn(count, 2, dim, generator=generator), dim=2)
    return vectors, torch.rand(count, 2, generator=generator) + 1e-3


def embedding(vectors, quality, fusion, constant=0.5):
    return Embedding(
        vectors=vectors.numpy(), quality=quality.numpy(), fusion=fusion, constant=constant
    )


@pytest.mark.parametrize("fusion", ["weighted", "query_weighted", "fused"])
def test_weighted_fusions_give_the_fused_vector(fusion):
    vectors, quality = streams()
    found = join(vectors, quality, fusion=fusion, constant=0.5).numpy()
    np.testing.assert_allclose(found, fused_vectors(embedding(vectors, quality, fusion)), atol=1e-6)
    tiny = join(vectors, quality * 1e-25, fusion=fusion, constant=0.5).numpy()
    np.testing.assert_allclose(tiny, found, atol=1e-6)


@pytest.mark.parametrize(("fusion", "constant"), [("mean", 0.5), ("constant", 0.2), ("hr", 0.5)])
def test_other_fusions_keep_the_distance_exactly(fusion, constant):
    vectors, quality = streams()
    found = join(vectors, quality, fusion=fusion, constant=constant).numpy()
    own = embedding(vectors, quality, fusion, constant)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    squared = ((found[:, None] - found[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared, distance_matrix(own, own), atol=1e-5)


def test_one_stream_stays_itself():
    vectors, quality = streams()
    one = join(vectors[:, :1], quality[:, :1], fusion="weighted", constant=0.5)
    assert torch.equal(one, vectors[:, 0])
    assert torch.equal(join(vectors, quality, fusion="lr", constant=0.5), vectors[:, 1])


def test_vectors_of_any_length_become_one_of_length_1():
    vectors, quality = streams()
    for kept in (1, 2):
        own = embedding(7 * vectors[:, :kept], quality[:, :kept], "weighted")
        expected = join(vectors[:, :kept], quality[:, :kept], fusion="weighted", constant=0.5)
        np.testing.assert_allclose(one_vector(own), expected.numpy(), atol=1e-6)


def test_an_image_without_a_vector_is_named():
    vectors, quality = streams()
    quality[2] = 0
    with pytest.raises(ProtocolError, match=r"image 2 has no vector \(1 such images\)"):
        one_vector(embedding(vectors, quality, "weighted"))
    assert np.isfinite(one_vector(embedding(vectors, quality, "mean"))).all()
