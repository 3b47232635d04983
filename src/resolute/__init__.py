"""Resolute: person re-identification across camera resolutions.

    import resolute as rs

    config = rs.recipe("ftwa", "mlr-synthetic", "quickstart")
    rs.train(config, "runs/mine")
    print(rs.evaluate("runs/mine").scores["protocol"].ranks)

Names load on first use, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from resolute.core.version import __version__

if TYPE_CHECKING:
    from resolute.core.config import override
    from resolute.core.errors import ReidError
    from resolute.core.types import Embedding, Record, Split
    from resolute.data.benchmark import open_split
    from resolute.engine.run import train
    from resolute.engine.score import evaluate
    from resolute.inference.load import Model, compare, load
    from resolute.recipes.catalogue import find_recipe as recipe
    from resolute.retrieval.gallery import Gallery
    from resolute.retrieval.types import Item, VectorSpace, Where

__all__ = [
    "Embedding",
    "Gallery",
    "Item",
    "Model",
    "Record",
    "ReidError",
    "Split",
    "VectorSpace",
    "Where",
    "__version__",
    "compare",
    "evaluate",
    "load",
    "open_split",
    "override",
    "recipe",
    "train",
]

_HOMES = {
    "Embedding": "resolute.core.types",
    "Gallery": "resolute.retrieval.gallery",
    "Item": "resolute.retrieval.types",
    "Model": "resolute.inference.load",
    "Record": "resolute.core.types",
    "ReidError": "resolute.core.errors",
    "Split": "resolute.core.types",
    "VectorSpace": "resolute.retrieval.types",
    "Where": "resolute.retrieval.types",
    "compare": "resolute.inference.load",
    "evaluate": "resolute.engine.score",
    "load": "resolute.inference.load",
    "open_split": "resolute.data.benchmark",
    "override": "resolute.core.config",
    "recipe": "resolute.recipes.catalogue",
    "train": "resolute.engine.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'resolute' has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    return getattr(home, "find_recipe" if name == "recipe" else name)


def __dir__() -> list[str]:
    return sorted(__all__)
