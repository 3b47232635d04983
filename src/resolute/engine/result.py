"""The scores of one run with everything needed to get them again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resolute.core.errors import ConfigError
from resolute.evaluation.report import Report

RESULT_NAME = "result.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Scores and their provenance.

    Attributes:
        method: name of the recipe's method.
        data: printed name of the benchmark: set, policy, LR view, rates, kernel, trial.
        split_digest: sha256 over all records in their roles.
        scores: reports by name: ``protocol`` is the benchmark's own; ``r=8`` all queries at an
            unseen rate; ``hr`` undegraded queries; ``fusion=mean`` another fusion.
        start: file name and sha256 of the start weights, and how many tensors matched.
        model: sha256 of the model file.
        num_parameters: trainable parameters.
        config: the effective settings.
        training: steps, duration in seconds, images per second, last losses.
        versions: of Python and the packages that decide numbers.
        command: how to get this result again.
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

    def write(self, path: Path) -> None:
        """Write the result as JSON, atomically.

        Args:
            path: file to write.
        """
        mapping = {**asdict(self), "scores": {n: r.to_mapping() for n, r in self.scores.items()}}
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(mapping, indent=1) + "\n")
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
            scores = {name: Report.from_mapping(r) for name, r in mapping["scores"].items()}
            return cls(**{**mapping, "scores": scores})
        except OSError as error:
            raise ConfigError(f"cannot read result {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: not a result of this library ({error})") from None
