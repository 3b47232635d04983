"""Every method by name, and how it is built from settings."""

from typing import Protocol

from torch import nn

from resolute.core.rng import Streams
from resolute.methods.blueprint import Blueprint
from resolute.methods.cad_net import build_cad_net
from resolute.methods.config import MethodConfig
from resolute.methods.csr_gan import build_csr_gan
from resolute.methods.ftwa import build_ftwa
from resolute.methods.plain_sr import build_plain_sr
from resolute.methods.rain import build_rain
from resolute.methods.rife import build_rife
from resolute.methods.settings.cad_net import CADNetConfig
from resolute.methods.settings.csr_gan import CSRGANConfig
from resolute.methods.settings.ftwa import FTWAConfig
from resolute.methods.settings.plain_sr import PlainSRConfig
from resolute.methods.settings.rain import RAINConfig
from resolute.methods.settings.rife import RIFEConfig
from resolute.methods.settings.sing import SINGConfig
from resolute.methods.sing import build_sing
from resolute.methods.variants import VARIANTS


class Builder(Protocol):
    """Builds a method that keeps the contract, a torch module."""

    def __call__(self, blueprint: Blueprint, *, streams: Streams) -> tuple[nn.Module, str]:
        """Give the method, and one line on which start weights matched."""


# One line per method: the class of its settings says which it is.
BUILDERS: dict[type[MethodConfig], Builder] = {
    FTWAConfig: build_ftwa,
    PlainSRConfig: build_plain_sr,
    SINGConfig: build_sing,
    CSRGANConfig: build_csr_gan,
    RIFEConfig: build_rife,
    RAINConfig: build_rain,
    CADNetConfig: build_cad_net,
}

METHODS: dict[str, Builder] = {name: BUILDERS[type(row)] for name, row in VARIANTS.items()}
