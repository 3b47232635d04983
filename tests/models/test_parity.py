import numpy as np
import pytest
import torch
from PIL import Image

from resolute.core.types import InputSpec
from resolute.models.config import ModelConfig
from resolute.models.pretrained import recognise, start_backbone


@pytest.mark.data
def test_variant_gives_the_reference_embeddings(shared):
    weights = shared / "weights" / "osnet_gn_x0_5_msmt17.safetensors"
    assert recognise(weights).backbone == "osnet_gn_x0_5"
    backbone, report = start_backbone(ModelConfig(backbone="osnet_gn_x0_5", weights=str(weights)))
    assert report.unexpected == ("classifier.weight",)
    reference = np.load(shared / "weights" / "osnet_gn_x0_5_reference.npz")
    spec = InputSpec()
    mean, std = np.array(spec.mean), np.array(spec.std)
    pixels = []
    for name in reference["files"]:
        with Image.open(shared / "data" / str(name)) as image:
            size = (spec.width, spec.height)
            resized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        pixels.append((np.asarray(resized) / 255 - mean) / std)
    images = torch.from_numpy(np.stack(pixels)).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        ours = backbone.eval()(images)
    theirs = torch.from_numpy(reference["embeddings"])
    cosine = torch.nn.functional.cosine_similarity(ours, theirs)
    assert cosine.min() > 0.9999
    torch.testing.assert_close(ours.norm(dim=1), theirs.norm(dim=1), rtol=0.01, atol=0)
