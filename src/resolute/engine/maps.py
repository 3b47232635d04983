"""Activation maps of a run's queries, as PNG files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resolute.core.errors import ConfigError
from resolute.data.cache import PixelStore
from resolute.data.loader import native_batches
from resolute.engine.opening import open_run
from resolute.engine.process import torch_settings
from resolute.engine.run import cache_folder
from resolute.inference.heat import draw_maps, write_maps
from resolute.methods.maps import feature_maps


def draw_activation_maps(
    folder: str | Path,
    out: str | Path,
    *,
    num_queries: int,
    overrides: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Draw queries beside what each space of a method sees in them.

    Args:
        folder: run folder with ``model.safetensors``.
        out: folder of the PNG files, made if need be; files of the same names are replaced.
        num_queries: how many queries, evenly spread over their order; all, where there are fewer.
        overrides: settings to change by dotted path, as for
            :func:`resolute.engine.score.evaluate`.

    Returns:
        The files, in the order of the queries.

    Raises:
        ConfigError: if a setting is unknown, the number below 1, the data are not those the run
            was trained on, or the method has no maps.
        CheckpointError: if there is no model, or it is damaged.
        DatasetError: if images are missing or broken.
    """
    if num_queries < 1:
        raise ConfigError(f"activation maps: expected at least 1 query, got {num_queries}")
    out_dir = Path(out).expanduser()
    run = open_run(folder, overrides=overrides)
    config, query = run.config, run.split.query
    num_drawn = min(num_queries, len(query))
    positions = np.linspace(0, len(query) - 1, num_drawn).round().astype(int).tolist()
    records = tuple(query[position] for position in positions)
    store = PixelStore.open(records, cache_folder(config.data))
    method, spec = run.model.method, run.model.method.input_spec
    out_dir.mkdir(parents=True, exist_ok=True)
    written: dict[int, Path] = {}
    with torch_settings(threads=config.train.threads, device=run.device):
        for index, images in native_batches(store, records, config.evaluation.batch_size):
            maps = feature_maps(method, images.to(run.device))
            plain = {name: features.float().cpu().numpy() for name, features in maps.items()}
            title = ", ".join(["input", *plain])
            for place, number in enumerate(index.tolist()):
                height, width = images.native_sizes[place].tolist()
                pixels = images.pixels[place, :, :height, :width].permute(1, 2, 0).numpy()
                picture = draw_maps(
                    pixels,
                    {name: features[place] for name, features in plain.items()},
                    size=(spec.height, spec.width),
                )
                written[number] = write_maps(
                    picture,
                    out_dir,
                    key=records[number].key,
                    position=positions[number],
                    title=title,
                )
    return [path for _, path in sorted(written.items())]
