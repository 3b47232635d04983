"""What a method sees, by name: the maps its embeddings are pooled from."""

import numpy as np
import pytest
import torch
from methods.builders import CASES, random_images, small_case, small_method
from torch.nn import functional

from resolute.core.errors import ConfigError
from resolute.methods.maps import feature_maps


@pytest.mark.parametrize("name", ["ftwa", "ftwa_r", "baseline", "ftwa_b-twins"])
def test_vectors_are_pooled_from_these_maps(name):
    method = small_method(name).eval()
    images = random_images((1, 0, 1, 0))
    maps = feature_maps(method, images)
    names = ("hr", "lr") if method.config.spaces == 2 else ("features",)
    assert tuple(maps) == names
    embedding = method.embed(images)
    with torch.inference_mode():
        for stream, features in enumerate(maps.values()):
            pooled = method.network.pool(features)
            space = method.space_lr if stream else method.space_hr
            vectors = functional.normalize(space.neck(pooled), dim=1)
            np.testing.assert_allclose(embedding.vectors[:, stream], vectors, atol=1e-5)


def test_unknown_images_are_told_by_height():
    method = small_method().eval()
    low, high = random_images((2,), heights=[20]), random_images((2,), heights=[95])
    for images, resolution in ((low, 1), (high, 0)):
        told = random_images((resolution,), heights=[int(images.native_sizes[0, 0])])
        for name, features in feature_maps(method, images).items():
            torch.testing.assert_close(features, feature_maps(method, told)[name])


def test_a_method_may_name_its_own_maps():
    class Stranger:
        def feature_maps(self, images):
            return {"mine": torch.zeros(len(images), 1, 2, 2)}

    assert list(feature_maps(Stranger(), random_images())) == ["mine"]
    with pytest.raises(ConfigError, match="object shows no feature maps: give it a function"):
        feature_maps(object(), random_images())


@pytest.mark.parametrize("case", CASES)
def test_every_method_shows_maps_of_both_roles_in_order(case):
    method = small_case(case).eval()
    images = random_images((1, 0, 2, 0))
    maps = feature_maps(method, images)
    assert maps
    for name, features in maps.items():
        assert features.ndim == 4
        for row in range(4):
            alone = feature_maps(method, images.take(torch.tensor([row])))[name]
            torch.testing.assert_close(features[row], alone[0], atol=1e-4, rtol=1e-3)
