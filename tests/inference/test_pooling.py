from dataclasses import replace

import numpy as np
import pytest
from inference.small import person, save_small

from resolute.core.errors import ProtocolError, ShapeError
from resolute.core.types import Embedding
from resolute.inference.load import load
from resolute.inference.pooling import pool
from resolute.inference.tracklet import embed_tracklet


def embedding(count=6, seed=0, **changes):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 2, 5))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    fields = {
        "vectors": vectors.astype(np.float32),
        "quality": rng.uniform(0.2, 0.9, (count, 2)).astype(np.float32),
        "norms": rng.uniform(1, 3, (count, 2)).astype(np.float32),
        "native_sizes": rng.integers(20, 200, (count, 2)),
        "reliability": rng.uniform(0.1, 0.9, count).astype(np.float32),
    }
    return Embedding(**({"fingerprint": "abc"} | fields | changes))


@pytest.mark.parametrize("kind", ["reliability", "height", "even"])
def test_pool_by_definition(kind):
    images = embedding()
    weights = images.reliability.astype(float)
    if kind == "height":
        images = embedding(reliability=None)
        weights = images.native_sizes[:, 0].astype(float)
    elif kind == "even":
        images = embedding(reliability=None, native_sizes=None)
        weights = np.ones(6)
    tracks = np.array([7, 3, 7, 3, 3, 9])
    pooled = pool(images, tracks)
    assert len(pooled) == 3
    for row, track in enumerate([3, 7, 9]):
        members = np.flatnonzero(tracks == track)
        for s in range(2):
            total = sum(weights[i] * images.vectors[i, s] for i in members)
            assert pooled.vectors[row, s] == pytest.approx(total / np.linalg.norm(total), abs=1e-6)
        share = (
            sum(weights[i] * images.quality[i, 0] / images.quality[i].sum() for i in members)
            / weights[members].sum()
        )
        found = pooled.quality[row, 0] / pooled.quality[row].sum()
        assert found == pytest.approx(share, abs=1e-6)
        best = members[np.argmax(weights[members])]
        if images.native_sizes is not None:
            assert pooled.native_sizes[row].tolist() == images.native_sizes[best].tolist()


def test_lengths_are_kept():
    images = embedding(2)
    long = replace(images, vectors=5 * images.vectors)
    for one in (long.take(slice(1)), long.take(slice(1, 2))):
        twice = pool(Embedding.concatenate([one, one]))
        assert twice.vectors == pytest.approx(one.vectors, abs=1e-5)
    assert pool(long).vectors == pytest.approx(5 * pool(images).vectors, abs=1e-5)
    # The average of the lengths, an image counting by its reliability; directions count alike.
    uneven = images.vectors * np.array([1, 3], dtype=np.float32)[:, None, None]
    pooled = pool(replace(images, vectors=uneven)).vectors
    length = images.reliability @ [1, 3] / images.reliability.sum()
    assert pooled == pytest.approx(length * pool(images).vectors, abs=1e-5)


def test_one_image_is_itself_and_order_does_not_matter():
    images = embedding()
    assert np.array_equal(pool(images, np.arange(6)).vectors, images.vectors)
    order = np.array([3, 1, 5, 0, 2, 4])
    assert pool(images.take(order)).vectors == pytest.approx(pool(images).vectors, abs=1e-6)
    assert pool(images).fingerprint == "abc"


def test_pooling_mistakes():
    with pytest.raises(ProtocolError, match="at least one image"):
        pool(embedding().take(slice(0)))
    with pytest.raises(ShapeError, match="tracks: expected shape"):
        pool(embedding(), [1, 2])
    quality = np.ones((6, 2), dtype=np.float32)
    quality[2] = 0
    with pytest.raises(ProtocolError, match="image 2 has quality 0"):
        pool(embedding(quality=quality))


def test_tracklet_of_a_model(tmp_path):
    model = load(save_small(tmp_path / "run"))
    images = [person(1, index=i) for i in range(3)]
    pooled = embed_tracklet(model, images)
    assert len(pooled) == 1
    assert pooled.vectors == pytest.approx(pool(model.embed(images)).vectors, abs=1e-6)
