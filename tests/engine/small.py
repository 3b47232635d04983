"""The smallest run that is a real one: drawn data, a real recipe, two epochs."""

from resolute.core.config import override
from resolute.recipes.catalogue import find_recipe


def small_config(name="ftwa", cache="", **changes):
    settings = {
        "data.cache": str(cache),
        "data.synthetic.num_identities": 24,
        "data.synthetic.images_per_camera": 2,
        "model.height": 64,
        "model.width": 32,
        "loader.batch_size": 16,
        "train.epochs": 2,
        "train.threads": 1,
        **{path.replace("__", "."): value for path, value in changes.items()},
    }
    return override(find_recipe(name, "mlr-synthetic", "quickstart"), settings)
