"""Protocols as values with a printed name.

A score means nothing without its protocol: the same distances give a higher Rank-1 over the whole
gallery than over single-shot galleries. ``docs/protocols.md`` defines each one.
"""

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args, get_type_hints

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How distances become scores.

    Attributes:
        name: name of the preset it started from.
        camera_rule: what is taken out of a query's list. same-camera = images of its identity by
            its own camera; separate-camera = every image of its camera; none = nothing, for
            cameras that are unknown.
        gallery: all = the whole gallery; single-shot = one random image per identity.
        num_draws: number of random galleries; used by single-shot only.
        draws: shared = one gallery per draw for all queries; per-query = a new one for each query.
        ap: definition of mAP. step = as Torchreid and FastReID; trapezoid = as the official
            Market-1501 script. A report holds both.
        ap_list: list that AP and INP are computed on. drawn = the list that is ranked; full = the
            whole gallery.
        on_unmatched: what a query without any match does. raise = stop with a diagnosis; skip =
            leave it out, counted; zero = count it as never found.
        distractors: what identity 0 means. zero = background images that match nobody and are
            never a query; none = a person like any other.
        max_rank: length of the CMC curve, shorter where the gallery is.
    """

    name: str = "custom"
    camera_rule: Literal["same-camera", "separate-camera", "none"] = "same-camera"
    gallery: Literal["all", "single-shot"] = "all"
    num_draws: int = 100
    draws: Literal["shared", "per-query"] = "shared"
    ap: Literal["step", "trapezoid"] = "step"
    ap_list: Literal["drawn", "full"] = "drawn"
    on_unmatched: Literal["raise", "skip", "zero"] = "raise"
    distractors: Literal["zero", "none"] = "zero"
    max_rank: int = 50

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            choices, value = get_args(hint), getattr(self, name)
            if choices and value not in choices:
                raise ConfigError(
                    f"protocol.{name}: " + unknown_name("value", value, list(choices))
                )
        if self.num_draws < 1 or self.max_rank < 1:
            raise ConfigError(
                "protocol: expected num_draws and max_rank of at least 1, got "
                f"{self.num_draws} and {self.max_rank}"
            )

    def __str__(self) -> str:
        base = PROTOCOLS.get(self.name, replace(_CUSTOM, name=self.name))
        changed = [
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)
            if getattr(self, f.name) != getattr(base, f.name)
        ]
        return f"{self.name}[{', '.join(changed)}]" if changed else self.name

    @property
    def is_single_shot(self) -> bool:
        """Whether galleries are drawn."""
        return self.gallery == "single-shot"

    def describe(self) -> str:
        """Say in one line what is done."""
        gallery = "whole gallery"
        if self.is_single_shot:
            gallery = f"one random gallery image per identity, {self.num_draws} draws"
        ap_list = f" over the {self.ap_list} list" if self.is_single_shot else ""
        return f"{self}: {gallery}; camera rule {self.camera_rule}; {self.ap} AP{ap_list}"


_CUSTOM = Protocol()

PROTOCOLS = {
    # One HR gallery image per identity, 100 draws, no camera rule [SING].
    "mlr": Protocol(name="mlr", camera_rule="none", gallery="single-shot"),
    # [Zheng 2015], with the AP of the toolboxes rather than of the official script.
    "market": Protocol(name="market"),
    # [Li 2014] as Torchreid has it: 10 draws per query, AP on the full list.
    "cuhk03-classic": Protocol(
        name="cuhk03-classic",
        gallery="single-shot",
        num_draws=10,
        draws="per-query",
        ap_list="full",
    ),
    "separate-camera": Protocol(name="separate-camera", camera_rule="separate-camera"),
    "all-shot": Protocol(name="all-shot", camera_rule="none"),
}


def find_protocol(name: str) -> Protocol:
    """Look up a preset.

    Args:
        name: a key of ``PROTOCOLS``.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in PROTOCOLS:
        raise ConfigError(unknown_name("protocol", name, list(PROTOCOLS)))
    return PROTOCOLS[name]
