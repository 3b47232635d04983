"""The scores of one run with everything needed to get them again."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from resolute.core.errors import ConfigError
from resolute.evaluation.report import Report
from resolute.evaluation.verification import Verification

RESULT_NAME = "result.json"

# A list of numbers, or of such lists, over several lines: per identity there are hundreds.
_NUMBERS = re.compile(r'\[\n(?:[^\[\]{}"]|\[[^\[\]{}"]*\])*\]')


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Scores and their provenance.

    Attributes:
        method: name of the recipe's method.
        data: printed name of the benchmark: set, policy, LR view, rates, kernel, trial.
        split_digest: sha256 over all records in their roles.
        scores: reports by name: ``protocol`` is the benchmark's own; ``r=8`` all queries at an
            unseen rate; ``hr`` undegraded queries; ``fusion=mean`` another fusion; ``flip``,
            ``rerank`` and ``expanded`` where they were asked for.
        start: file name and sha256 of the start weights, and how many tensors matched.
        model: sha256 of the model file.
        num_parameters: trainable parameters of the model file.
        config: the effective settings.
        training: steps, duration in seconds, images per second, last losses, ``precision`` (the
            numbers it multiplied in), ``device`` (the GPU's name, or ``cpu``), ``parameters``: the
            trainable ones with those of parts that serve training alone, and ``resumed`` where the
            run went on later: duration and speed are then those of its last part.
        versions: of Python and the packages that decide numbers.
        command: how to get this result again.
        measures: ``identities`` trained on and tested; and where it was asked, what
            :func:`resolute.engine.measure.measure` found besides scores.
        verification: what one threshold for all pairs can do, by name of the score; empty where
            nobody asked.
        notes: what a reader of the scores has to know, in the method's own words.
    """

    method: str
    data: str
    split_digest: str
    scores: Mapping[str, Report]
    start: Mapping[str, str]
    model: str
    num_parameters: int
    config: Mapping[str, Any]
    training: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str
    measures: Mapping[str, Any] = field(default_factory=dict)
    verification: Mapping[str, Verification] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def is_trained(self) -> bool:
        """Whether the network was trained here; False for an anchor that embeds as it came."""
        return bool(self.training["steps"])

    @property
    def precision(self) -> str:
        """The numbers training multiplied in; of older versions as asked, untrained none."""
        if not self.is_trained:
            return ""
        asked = "bf16" if self.config["train"]["amp"] else "float32"
        return str(self.training.get("precision") or asked)

    @property
    def trained_in(self) -> str:
        """The numbers training multiplied in and, where it was no CPU, the device."""
        device = str(self.training.get("device", "cpu"))
        return self.precision if device == "cpu" else f"{self.precision}, {device}"

    def to_mapping(self) -> dict[str, Any]:
        """Return what JSON stores."""
        mapping = asdict(self)
        for field_name, values in (("scores", self.scores), ("verification", self.verification)):
            mapping[field_name] = {name: value.to_mapping() for name, value in values.items()}
        return mapping

    def write(self, path: Path) -> None:
        """Write the result as JSON, atomically.

        Args:
            path: file to write.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        text = json.dumps(self.to_mapping(), indent=1)
        text = _NUMBERS.sub(lambda found: json.dumps(json.loads(found[0])), text)
        part.write_text(text + "\n")
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Result":
        """Read what :meth:`write` wrote.

        Args:
            path: the JSON file.

        Returns:
            The result.

        Raises:
            ConfigError: if the file is missing or no result.
        """
        try:
            mapping = json.loads(path.read_text())
            _check_types(mapping)
            scores = {name: Report.from_mapping(r) for name, r in mapping["scores"].items()}
            pairs = mapping.get("verification", {})
            verification = {name: Verification.from_mapping(v) for name, v in pairs.items()}
            read = {"scores": scores, "verification": verification}
            return cls(**{**mapping, **read, "notes": tuple(mapping.get("notes", ()))})
        except OSError as error:
            raise ConfigError(f"cannot read result {path}: {error.strerror}") from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(f"{path}: not a result of this library ({error})") from None


def _check_types(mapping: Mapping[str, Any]) -> None:
    """Check what tables look up without asking.

    Raises:
        KeyError: if a part is missing.
        TypeError: if it is of another kind.
    """
    for name in ("scores", "start", "config", "training", "versions"):
        if not isinstance(mapping[name], dict):
            raise TypeError(f"{name} is no mapping")
    for name in ("data", "train"):
        if not isinstance(mapping["config"][name], dict):
            raise TypeError(f"config.{name} is no mapping")
    if "protocol" not in mapping["scores"]:
        raise TypeError("scores of the protocol are missing")
