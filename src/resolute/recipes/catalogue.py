"""Recipes by name: method x data set x flavour."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError
from resolute.data.benchmark import WRITTEN, benchmark_names
from resolute.data.manifest import read_origin
from resolute.engine.config import RunConfig
from resolute.methods.config import MethodConfig
from resolute.methods.settings.cad_net import CADNetConfig
from resolute.methods.settings.csr_gan import CSRGANConfig
from resolute.methods.settings.ftwa import FTWAConfig
from resolute.methods.settings.plain_sr import PlainSRConfig
from resolute.methods.settings.rain import RAINConfig
from resolute.methods.settings.rife import RIFEConfig
from resolute.methods.settings.sing import SINGConfig
from resolute.methods.variants import VARIANTS, settings_class
from resolute.recipes import cad_net, csr_gan, ftwa, plain_sr, rain, rife, sing

Recipe = Callable[[str, str], RunConfig]  # (method, data set) -> complete settings

FLAVOURS: dict[str, str] = {
    "recommended": "a short fine-tuning from a ReID start, on a CPU too",
    "paper": "as published",
    "quickstart": "small, drawn data, minutes on two cores",
}

# One line per method.
RECIPES: dict[type[MethodConfig], Mapping[str, Recipe]] = {
    FTWAConfig: {
        "recommended": ftwa.recommended,
        "paper": ftwa.paper,
        "quickstart": ftwa.quickstart,
    },
    PlainSRConfig: {
        "recommended": plain_sr.recommended,
        "paper": plain_sr.paper,
        "quickstart": plain_sr.quickstart,
    },
    SINGConfig: {
        "recommended": sing.recommended,
        "paper": sing.paper,
        "quickstart": sing.quickstart,
    },
    CSRGANConfig: {
        "recommended": csr_gan.recommended,
        "paper": csr_gan.paper,
        "quickstart": csr_gan.quickstart,
    },
    RIFEConfig: {
        "recommended": rife.recommended,
        "paper": rife.paper,
        "quickstart": rife.quickstart,
    },
    RAINConfig: {
        "recommended": rain.recommended,
        "paper": rain.paper,
        "quickstart": rain.quickstart,
    },
    CADNetConfig: {
        "recommended": cad_net.recommended,
        "paper": cad_net.paper,
        "quickstart": cad_net.quickstart,
    },
}


def find_recipe(
    method: str, data: str, flavour: str = "recommended", *, root: str = ""
) -> RunConfig:
    """Look up a recipe by its three names.

    Args:
        method: for example ``ftwa``.
        data: for example ``mlr-viper``.
        flavour: ``recommended``, ``paper`` or ``quickstart``.
        root: folder of a written set, ``mlr-written``, whose recipe is that of the benchmark it
            was made of; of others it is left to ``data.root``.

    Returns:
        The complete settings; of a written set with its root, trial and seed.

    Raises:
        ConfigError: if one of the names is unknown; the message gives the nearest. If a written
            set's root is missing.
        DatasetError: if there is no written set.
    """
    for kind, name, known in (
        ("method", method, list(VARIANTS)),
        ("data set", data, benchmark_names()),
        ("recipe", flavour, list(FLAVOURS)),
    ):
        if name not in known:
            raise ConfigError(unknown_name(kind, name, known))
    if data == WRITTEN:
        return _of_written(method, flavour, root)
    return RECIPES[settings_class(method)][flavour](method, data)


def _of_written(method: str, flavour: str, root: str) -> RunConfig:
    if not root:
        raise ConfigError(
            f"{WRITTEN}: its recipe is that of the data set it was made of: give its folder "
            "(--data.root DIR), or name that data set"
        )
    origin = read_origin(Path(root).expanduser())
    recipe = find_recipe(method, origin.name, flavour)
    data = replace(recipe.data, name=WRITTEN, root=root, trial=origin.trial, seed=origin.seed)
    return replace(recipe, data=data)
