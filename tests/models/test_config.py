import dataclasses
import subprocess
import sys

from resolute.core.config import attribute_texts, from_mapping
from resolute.models.config import ModelConfig


def test_every_setting_is_documented():
    assert list(attribute_texts(ModelConfig)) == [f.name for f in dataclasses.fields(ModelConfig)]


def test_settings_come_from_text():
    config = from_mapping(ModelConfig, {"backbone": "osnet_x0_5", "last_stride": "1"})
    assert config == ModelConfig(backbone="osnet_x0_5")


def test_loads_no_torch():
    code = "import sys, resolute.models.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
