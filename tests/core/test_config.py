"""Settings: one default each, every wrong key named."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from resolute.core.config import (
    attribute_texts,
    explain,
    from_mapping,
    override,
    to_mapping,
    unknown_name,
    walk,
)
from resolute.core.errors import ConfigError
from resolute.data.benchmark import DataConfig
from resolute.data.mlr import MlrPolicy
from resolute.engine.config import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """Inner.

    Attributes:
        rates: the rates,
            over two lines.
        kind: which kind.
    """

    rates: tuple[float, ...] = (2.0, 3.0)
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """Outer.

    Attributes:
        inner: a section.
        count: a number.
        is_on: a flag.
        name: a text.
        paths: texts.
    """

    inner: Inner = field(default_factory=Inner)
    count: int = 3
    is_on: bool = False
    name: str = "x"
    paths: tuple[str, ...] = ()


def test_round_trip_through_plain_values():
    config = override(Outer(), {"inner.rates": "4,8", "is_on": "true", "count": "7"})
    assert config.inner.rates == (4.0, 8.0)
    assert config.is_on is True
    assert config.count == 7
    assert from_mapping(Outer, to_mapping(config)) == config


def test_complete_settings_under_a_name_of_ones_own_need_no_preset():
    config = RunConfig(data=DataConfig(mlr=MlrPolicy(name="mine", lr_camids=(3,))))
    assert override(RunConfig(), dict(walk(config))) == config


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("a=/data/my sets, b=/cams(2)", ("a=/data/my sets", "b=/cams(2)")),
        ("[a, (b)]", ("a", "(b)")),
        ("(2)", ("2",)),
        ("", ()),
    ],
)
def test_texts_in_a_list_keep_their_spaces_and_brackets(text, paths):
    assert override(Outer(), {"paths": text}).paths == paths
    assert override(Outer(), {"inner.rates": "(4 8)"}).inner.rates == (4.0, 8.0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("cuont", 1, "unknown setting 'cuont': did you mean 'count'"),
        ("rates", 1, "did you mean 'inner.rates'"),
        ("count", "many", "count: expected a whole number, got 'many'"),
        ("count", 1.5, "expected a whole number"),
        ("count", True, "expected a number"),
        ("is_on", "perhaps", "is_on: expected true or false"),
        ("inner.kind", "c", "inner.kind: unknown value 'c': choose one of a, b"),
        ("inner.rates", "2,nan", "inner.rates: expected a number, got 'nan'"),
        ("inner.rates", [10**400], "inner.rates: expected a number, got 1000"),
        ("count", float("inf"), "count: expected a whole number, got inf"),
        ("inner.rates", "2,x", "inner.rates: expected a number, got 'x'"),
        ("name", 5, "name: expected text"),
    ],
)
def test_wrong_settings_are_named(path, value, message):
    with pytest.raises(ConfigError, match=message):
        override(Outer(), {path: value})


def test_a_section_needs_keys():
    with pytest.raises(ConfigError, match="inner: expected a section"):
        from_mapping(Outer, {"inner": 3})


def test_unknown_name_lists_choices_when_nothing_is_near():
    assert unknown_name("method", "zzz", ["ftwa", "sing"]).endswith("choose one of ftwa, sing")


def test_texts_come_from_the_docstring():
    assert attribute_texts(Inner)["rates"] == "the rates, over two lines."
    assert dict(explain(Outer()))["inner.kind"] == "which kind."


def test_every_setting_of_a_run_is_explained():
    silent = [path for path, text in explain(RunConfig()) if not text]
    assert silent == []
    assert [path for path, _ in explain(RunConfig())] == [path for path, _ in walk(RunConfig())]
