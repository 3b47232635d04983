"""Every method by name, and how it is built from settings."""

from typing import Protocol

from torch import nn

from resolute.core.rng import Streams
from resolute.methods.blueprint import Blueprint
from resolute.methods.config import MethodConfig
from resolute.methods.ftwa import build_ftwa
from resolute.methods.settings.ftwa import FTWAConfig
from resolute.methods.variants import VARIANTS


class Builder(Protocol):
    """Builds a method that keeps the contract, a torch module."""

    def __call__(self, blueprint: Blueprint, *, streams: Streams) -> tuple[nn.Module, str]:
        """Give the method, and one line on which start weights matched."""


# One line per method: the class of its settings says which it is.
BUILDERS: dict[type[MethodConfig], Builder] = {
    FTWAConfig: build_ftwa,
}

METHODS: dict[str, Builder] = {name: BUILDERS[type(row)] for name, row in VARIANTS.items()}
