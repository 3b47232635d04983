"""Digests, labels and embeddings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from resolute.core.errors import ConfigError, ProtocolError, ShapeError
from resolute.core.images import Images
from resolute.core.shapes import check_shape
from resolute.core.types import Embedding, InputSpec, Labels, Record, Resolution, Split


class Pixels:
    def pixels(self):
        return np.zeros((4, 2, 3), np.uint8)

    def token(self):
        return "zero"


def record(key="a.png", **changes):
    base = Record(key=key, pid=1, camid=0, resolution=Resolution.HR, source=Pixels())
    return replace(base, **changes)


def split(**roles):
    return Split(**({"name": "s", "train": (), "query": (), "gallery": ()} | roles))


def test_digest_sees_every_field_and_role():
    base = split(query=(record(),))
    others = [
        split(gallery=(record(),)),
        split(query=(record("b.png"),)),
        split(query=(record(pid=2),)),
        split(query=(record(camid=2),)),
        split(query=(record(resolution=Resolution.LR),)),
        split(query=(record(rate=2.0),)),
    ]
    assert len({s.digest() for s in [base, *others]}) == 7
    assert base.digest() == split(query=(record(),), name="other").digest()


def test_labels_take_and_check():
    labels = Labels.of([record(), record(pid=5, rate=3.0)], [10, 20])
    assert labels.take(np.array([1])).pids.tolist() == [5]
    assert labels.rates.tolist() == [1.0, 3.0]
    with pytest.raises(ShapeError, match="labels"):
        Labels(
            pids=np.zeros(2, np.int64),
            camids=np.zeros(3, np.int64),
            rates=np.ones(2),
            heights=np.zeros(2, np.int64),
        )


def test_embedding_shapes():
    good = Embedding(vectors=np.zeros((2, 1, 3), np.float32), quality=np.ones((2, 1), np.float32))
    assert len(Embedding.concatenate([good, good])) == 4
    assert len(good.take(slice(0, 1))) == 1
    with pytest.raises(ShapeError, match="embedding"):
        Embedding(vectors=np.zeros((2, 3), np.float32), quality=np.ones((2, 1), np.float32))


def test_embedding_carries_its_optional_arrays():
    bare = Embedding(vectors=np.zeros((2, 1, 3), np.float32), quality=np.ones((2, 1), np.float32))
    full = replace(
        bare,
        norms=np.array([[1], [2]], np.float32),
        native_sizes=np.array([[8, 4], [6, 3]]),
        reliability=np.array([0.5, 0.25], np.float32),
    )
    both = Embedding.concatenate([full, full.take(np.array([1]))])
    assert both.norms.ravel().tolist() == [1, 2, 2]
    assert both.native_sizes.tolist() == [[8, 4], [6, 3], [6, 3]]
    assert both.reliability.tolist() == [0.5, 0.25, 0.25]
    assert bare.take(slice(0, 1)).norms is None
    of_one, of_other = replace(bare, fingerprint="a"), replace(bare, fingerprint="b")
    assert Embedding.concatenate([of_one, of_one]).fingerprint == "a"
    assert of_one.take(slice(0, 1)).fingerprint == "a"
    with pytest.raises(ProtocolError, match="parts of one model, got those of 'a', 'b'"):
        Embedding.concatenate([of_one, of_other])
    with pytest.raises(ConfigError, match="fingerprint: expected text, empty where unknown, got 5"):
        replace(bare, fingerprint=5)
    with pytest.raises(ShapeError, match="norms in all parts or in none"):
        Embedding.concatenate([full, bare])
    with pytest.raises(ShapeError, match="expected reliability"):
        replace(bare, reliability=np.zeros(3, np.float32))


def test_images_check_and_take():
    images = Images(
        pixels=torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        native_sizes=torch.tensor([[4, 4], [2, 3]]),
        resolution=torch.tensor([0, 1]),
    )
    assert images.take(torch.tensor([1])).native_sizes.tolist() == [[2, 3]]
    with pytest.raises(ShapeError, match="native_sizes"):
        Images(pixels=images.pixels, native_sizes=torch.zeros(2, 3), resolution=images.resolution)


def test_input_spec_too_small():
    with pytest.raises(ConfigError, match="input size"):
        InputSpec(height=4)


def test_check_shape_binds_letters():
    assert check_shape("N *", a=np.zeros((2, 3)), b=np.zeros((2, 9))) == {"N": 2}
    with pytest.raises(ShapeError, match="b: expected N = 2"):
        check_shape("N", a=np.zeros(2), b=np.zeros(3))
    with pytest.raises(ShapeError, match="expected shape"):
        check_shape("N 2", a=np.zeros(2))
