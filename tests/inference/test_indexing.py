"""A gallery from a folder of images; what the command line tells is tested there."""

import pytest
from inference.small import noise, save_small
from PIL import Image

from resolute.core.errors import ConfigError
from resolute.inference.indexing import index_folder
from resolute.inference.load import load


def test_a_gallery_does_not_lie_among_its_images(tmp_path):
    model = load(save_small(tmp_path / "run"))
    crops = tmp_path / "crops"
    crops.mkdir()
    Image.fromarray(noise(40, 20)).save(crops / "a.png")
    for place in (crops, crops / "g", tmp_path / "x" / ".." / "crops" / "g"):
        with pytest.raises(ConfigError, match=r"lies among the images of .+; put it"):
            index_folder(model, crops, place)
    assert [path.name for path in crops.iterdir()] == ["a.png"]
    assert index_folder(model, crops, tmp_path / "crops-gallery").num_added == 1
    assert index_folder(model, crops, tmp_path / "crops-gallery").num_known == 1


def test_a_server_is_no_folder(tmp_path, monkeypatch):
    # Taken for a path, its address would lie below the working folder.
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise(40, 20)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="expected http://host:6333/collection"):
        index_folder(load(save_small(tmp_path / ".run")), tmp_path, "http://host")
