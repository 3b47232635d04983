"""The model card: what a model is for, what it is not for, and how good it is, in Markdown."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resolute.core.errors import CheckpointError
from resolute.inference.calibration import CALIBRATION_NAME, Calibration
from resolute.inference.model_file import read_metadata

CARD_NAME = "model_card.md"

_USE = """## Intended use

Ranking crops of people by likeness of appearance within one place and time: research on
re-identification, and helping a person search footage that they are entitled to search. The
output is a ranked list of candidates for a human to look at, never a decision.

## Excluded uses

Identifying people by name; decisions about a person without a human who checks; watching people
because of who they are or what they believe; any use that the law of the place forbids. Vectors
of people are biometric data in many laws: keep them no longer than needed, and be able to delete
them.

Clothes carry most of what the model sees. It does not hold over days, changes of clothes, or
crops too small to show a person. People in like clothes look like one person to it."""


def model_card(
    metadata: Mapping[str, Any],
    *,
    result: Mapping[str, Any] | None = None,
    calibration: Calibration | None = None,
) -> str:
    """Write the card of a model.

    Args:
        metadata: of the model file: blueprint, config, split, start, training, notes, command.
        result: of ``result.json``; None where the model was not scored.
        calibration: of the model; None where none was fitted.

    Returns:
        Markdown.
    """
    blueprint = metadata["blueprint"]
    model = blueprint["model"]
    parts = [
        f"# {blueprint['name']} on {model['backbone']}",
        f"Person re-identification across resolutions, input {model['height']} x "
        f"{model['width']} pixels.",
        _USE,
        _training(metadata),
        _scores(result),
        _calibration(calibration),
    ]
    return "\n\n".join(parts) + "\n"


def write_card(folder: Path, *, result: Mapping[str, Any] | None = None) -> Path:
    """Write ``model_card.md`` beside a model, with the calibration that lies there.

    Args:
        folder: run folder with ``model.safetensors``.
        result: what ``result.json`` holds, if anything.

    Returns:
        The card's path.

    Raises:
        CheckpointError: if there is no model, or the card cannot be written.
    """
    metadata = read_metadata(folder / "model.safetensors")
    path = folder / CALIBRATION_NAME
    calibration = Calibration.read(path) if path.is_file() else None
    card = folder / CARD_NAME
    try:
        card.write_text(model_card(metadata, result=result, calibration=calibration))
    except OSError as error:
        raise CheckpointError(f"{card}: could not be written: {error.strerror}") from error
    return card


def _training(metadata: Mapping[str, Any]) -> str:
    start, training = metadata.get("start", {}), metadata.get("training", {})
    lines = ["## Training data", ""]
    steps = training.get("steps", 0)
    if steps:
        lines.append(f"- trained here on {metadata['split']}, {steps} steps")
        also = metadata.get("config", {}).get("data", {}).get("also_train", [])
        lines += [f"- also trained on {name}" for name in also]
    else:
        lines.append("- not trained here: it embeds with its start weights as they came")
    lines += [f"- {note}" for note in metadata.get("notes", [])]
    name = start.get("name", "unknown")
    sha = start.get("sha256", "")
    lines.append(f"- start weights: {name}" + (f", sha256 {sha}" if sha else ""))
    height = metadata["blueprint"]["height_reference"]
    lines.append(f"- median height of its sharp training images: {height:.0f} pixels")
    lines.append(f"- made by: `{metadata.get('command', 'unknown')}`")
    return "\n".join(lines)


def _scores(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return "## Scores\n\nNot scored yet: `resolute evaluate RUN` writes them."
    rows = ["## Scores", "", f"On {result['data']}, in percent.", "",
            "| queries | count | Rank-1 | mAP |", "|---|---|---|---|"]  # fmt: skip
    for name, report in result["scores"].items():
        rank1 = 100 * report["cmc"][0]
        mean_ap = 100 * report[f"mean_ap_{report['ap']}"]
        words = {"protocol": "low resolution, the protocol", "hr": "sharp"}.get(name, name)
        rows.append(f"| {words} | {report['num_valid']} | {rank1:.1f} | {mean_ap:.1f} |")
    heights = result["scores"].get("protocol", {}).get("per_height", {})
    for height, cell in heights.items():
        rank1 = 100 * cell["rank1"]
        rows.append(f"| height {height} | {cell['count']} | {rank1:.1f} | |")
    return "\n".join(rows)


def _calibration(calibration: Calibration | None) -> str:
    if calibration is None:
        return (
            "## Calibration\n\nNone: distances rank, they are no probabilities. "
            "`resolute calibrate RUN` fits them."
        )
    low, middle, high = calibration.heights
    lines = [
        "## Calibration",
        "",
        f"Fitted on {calibration.data}: {calibration.num_same} pairs of one person, "
        f"{calibration.num_different} of two, heights {low:.0f} to {high:.0f} pixels (median "
        f"{middle:.0f}). Probabilities start from a prior of {calibration.prior:g}. On other "
        "cameras they are a hint.",
        "",
        "| false matches | distance below | matches found | pairs of two people below |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {t.false_match_rate:g} | {t.distance:.4f} | {100 * t.match_rate:.1f} % | "
        f"{t.num_negatives} |"
        for t in calibration.thresholds
    ]
    fit = calibration.reliability
    if fit is not None:
        lines += [
            "",
            f"Reliability: fitted on {fit.num_queries} images among {fit.num_gallery}, "
            f"{100 * fit.rank1:.1f} % of which found their person first.",
        ]
    return "\n".join(lines)
