"""From run folders to the report's file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resolute.core.errors import ConfigError
from resolute.inference.load import find_model
from resolute.report.exhibit import Asked, exhibit
from resolute.report.page import page
from resolute.report.series import chapters

FALSE_MATCH_RATES = (0.01, 0.001, 0.0001)


def write_report(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    asked: Asked | None = None,
    rates: Sequence[float] = FALSE_MATCH_RATES,
    has_pictures: bool = True,
) -> Path:
    """Write one self-contained page about runs.

    The images of each run are embedded anew, one run after the other.

    Args:
        folders: run folders; those of one method and benchmark are its trials.
        out: file to write, atomically.
        overrides: settings to change by dotted path, for example ``{"data.root": "~/viper"}``.
        asked: which queries to show, and whether to draw strips.
        rates: false-match rates to draw thresholds at, 0..1.
        has_pictures: whether the page holds pictures of the data set.

    Returns:
        The file.

    Raises:
        ConfigError: if no folder or one twice is given, a rate is no share, or settings do not fit.
        CheckpointError: if a folder holds no model, or it is damaged.
        DatasetError: if images are missing or broken.
        ProtocolError: if an evaluation cannot be right.
    """
    paths = [Path(folder).expanduser() for folder in folders]
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(f"report: expected run folders, each once, got {len(paths)}")
    wrong = [rate for rate in rates if not 0 < rate < 1]
    if wrong:
        raise ConfigError(f"false-match rates: expected fractions 0 < r < 1, got {wrong[0]:g}")
    for path in paths:
        find_model(path)  # before the first is embedded, which takes minutes
    asked = asked or Asked()
    exhibits = [exhibit(path, overrides=overrides or {}, asked=asked) for path in paths]
    text = page(chapters(exhibits), rates=rates, has_pictures=has_pictures)
    file = Path(out).expanduser()
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
    return file
