import dataclasses

import pytest

from resolute.core.config import attribute_texts, from_mapping, override, to_mapping
from resolute.core.errors import ConfigError
from resolute.evaluation.protocol import PROTOCOLS, Protocol, find_protocol


def test_presets():
    assert list(PROTOCOLS) == ["mlr", "market", "cuhk03-classic", "separate-camera", "all-shot"]
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == str(protocol) == name
        assert find_protocol(name) is protocol
        assert protocol.on_unmatched == "raise"
    assert PROTOCOLS["mlr"].num_draws == 100
    assert PROTOCOLS["mlr"].camera_rule == "none"
    assert PROTOCOLS["market"].camera_rule == "same-camera"


def test_changed_settings_are_printed():
    changed = override(PROTOCOLS["market"], {"camera_rule": "none", "on_unmatched": "skip"})
    assert str(changed) == "market[camera_rule=none, on_unmatched=skip]"
    assert str(Protocol(name="mine", ap="trapezoid")) == "mine[ap=trapezoid]"
    assert str(Protocol()) == "custom"


def test_describe():
    assert PROTOCOLS["mlr"].describe() == (
        "mlr: one random gallery image per identity, 100 draws; camera rule none; "
        "step AP over the drawn list"
    )
    assert PROTOCOLS["market"].describe() == (
        "market: whole gallery; camera rule same-camera; step AP"
    )


def test_is_a_setting_like_any_other():
    protocol = PROTOCOLS["cuhk03-classic"]
    assert from_mapping(Protocol, to_mapping(protocol)) == protocol
    assert set(attribute_texts(Protocol)) == {f.name for f in dataclasses.fields(Protocol)}


def test_refuses_values_it_does_not_know():
    with pytest.raises(
        ConfigError, match=r"protocol.gallery: unknown value 'single_shot'.*single-"
    ):
        Protocol(gallery="single_shot")
    with pytest.raises(ConfigError, match="at least 1, got 0 and 50"):
        Protocol(num_draws=0)
    with pytest.raises(ConfigError, match="at least 1, got 100 and 0"):
        Protocol(max_rank=0)
    with pytest.raises(ConfigError, match="unknown protocol 'markt': did you mean 'market'"):
        find_protocol("markt")
