"""``resolute evaluate``: score runs, or anybody's embeddings, under a named protocol."""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolute.cli.overrides import parse, take_settings
from resolute.cli.scores import heights_table, print_table, scores_table, verification_table
from resolute.core.config import override
from resolute.core.errors import ConfigError
from resolute.engine.config import EvaluationConfig
from resolute.evaluation.protocol import PROTOCOLS, Protocol, find_protocol
from resolute.evaluation.report import Report
from resolute.evaluation.verification import Verification

if TYPE_CHECKING:
    from resolute.engine.result import Result

Rows = dict[str, dict[str, list[Report]]]

# What --features can be asked for; all else of the section is about runs.
_OF_FEATURES = ("rerank", "rerank_k1", "rerank_k2", "rerank_lambda", "expand", "expand_alpha",
                "verification")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scored:
    """What is printed.

    Attributes:
        rows: reports by row and name of the score, one per trial; a row is called by its method.
        title: names benchmark and protocol.
        verification: verifications by the same names.
    """

    rows: Rows
    title: str
    verification: dict[str, dict[str, list[Verification]]] = field(default_factory=dict)


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and score.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.

    Raises:
        ConfigError: if the words do not fit together.
    """
    _describe(parser)
    own, overrides = take_settings(words)
    options = parse(parser, own)
    if bool(options.runs) == bool(options.features):
        raise ConfigError("expected run folders, or --features with feature files")
    _check_fit(options, overrides)
    overrides = {**overrides, **_asked(options)}
    if options.features:
        scored = _score_features(options, overrides)
    else:
        scored = score_each(
            options.runs, overrides, runtime=options.runtime, precision=options.precision
        )
    print_table(scores_table(scored.title, scored.rows))
    if scored.verification:
        print_table(verification_table(scored.verification))
    if options.heights:
        print_table(heights_table(scored.rows))
    if options.json:
        options.json.write_text(json.dumps(_plain(scored), indent=1) + "\n")
    if options.activation_maps:
        _draw_maps(options, overrides)
    return 0


def _check_fit(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Refuse what only the other of runs and features can be asked for.

    Raises:
        ConfigError: if there is such an option.
    """
    if options.features and (options.runtime or options.precision):
        raise ConfigError("--runtime and --precision: only for exported files, not --features")
    if options.runs and (options.raw or options.seed is not None):
        raise ConfigError("--raw and --seed: only for --features; a run has --data.seed")
    if options.runs and any(path.startswith("protocol.") for path in overrides):
        raise ConfigError("--protocol.FIELD: only for --features; a run has --protocol NAME")


def _describe(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = (
        "resolute evaluate RUN [RUN ...] [--protocol NAME] [--section.field VALUE ...]\n"
        "       resolute evaluate --features QUERY.npz GALLERY.npz [--protocol NAME]"
    )
    parser.epilog = (
        "Runs that differ in trial and seed alone are one row: their mean and deviation are\n"
        "printed. Others are rows of their own, with the folder of their first run in brackets.\n"
        "Settings change what is scored: --method.fusion mean, --data.root ROOT,\n"
        "--data.mlr.rates 8, --evaluation.unseen_rates 8,16, --evaluation.rerank_k1 30. A result\n"
        "with other settings or rows is printed, not kept; a recipe with evaluation.rerank true\n"
        "keeps it.\n"
        "People that the run was trained on are refused, as other halves (--data.trial) have.\n"
        "Feature files: npz with vectors, pids, camids and optional rates, heights, quality; or\n"
        "one pytorch_result.mat. Only there protocol fields change: --protocol.camera_rule none."
    )
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN", help="run folders, or files exported from them")
    add("--runtime", default="", help="of an exported file: onnxruntime or openvino")
    add("--precision", default="", help="of an exported file: f32 or bf16")
    add("--features", nargs="+", type=Path, metavar="FILE", help="embeddings of query and gallery")
    add(
        "--protocol",
        metavar="NAME",
        help=f"{', '.join(PROTOCOLS)} (default: the run's own; of features mlr)",
    )
    add("--raw", action="store_true", help="for --features: do not L2-normalise the vectors")
    add("--seed", type=int, help="for --features: seed of the draws (default: 0)")
    add("--flip", action="store_true", help="also a row with mirror images averaged in")
    add("--expand", type=int, metavar="N", help="also a row with queries expanded by N neighbours")
    add("--rerank", action="store_true", help="also a row after k-reciprocal re-ranking")
    add("--tpr", action="store_true", help="also a table of TPR at FPR, equal error rate and AUC")
    add("--heights", action="store_true", help="also a table by native height of the query")
    add("--activation-maps", type=Path, metavar="DIR", help="also draw activation maps of queries")
    add("--queries", type=int, default=8, metavar="N", help="queries to draw maps of (default: 8)")
    add("--json", type=Path, metavar="FILE", help="also write the scores as JSON")


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """Turn the flags into the settings they stand for."""
    asked: dict[str, Any] = {}
    if options.runs and options.protocol is not None:
        asked["evaluation.protocol"] = options.protocol
    if options.flip:
        asked["evaluation.flip"] = True
    if options.expand is not None:
        asked["evaluation.expand"] = options.expand
    if options.rerank:
        asked["evaluation.rerank"] = True
    if options.tpr:
        asked["evaluation.verification"] = True
    return asked


def score_each(
    runs: Sequence[str], overrides: Mapping[str, Any], *, runtime: str = "", precision: str = ""
) -> Scored:
    """Score run folders.

    Args:
        runs: run folders, or files exported from them.
        overrides: settings to change by dotted path.
        runtime: of exported files.
        precision: of exported files.

    Returns:
        Scores by row; runs that differ in trial and seed alone are the trials of one row.
    """
    from resolute.engine.memory import keep_freed_memory
    from resolute.engine.score import evaluate

    keep_freed_memory()
    results = [
        evaluate(folder, overrides=overrides, runtime=runtime, precision=precision)
        for folder in runs
    ]
    rows: Rows = {}
    verification: dict[str, dict[str, list[Verification]]] = {}
    for row, result in zip(_rows_of(runs, results), results, strict=True):
        for name, report in result.scores.items():
            rows.setdefault(row, {}).setdefault(name, []).append(report)
        for name, pairs in result.verification.items():
            verification.setdefault(row, {}).setdefault(name, []).append(pairs)
    sets = dict.fromkeys(result.data for result in results)
    protocols = dict.fromkeys(result.scores["protocol"].protocol for result in results)
    title = "\n".join([*sets, f"protocol {', '.join(protocols)}, in percent"])
    return Scored(rows, title, verification)


def _rows_of(runs: Sequence[str], results: Sequence["Result"]) -> list[str]:
    """Name the row of each run: its method and, where that says too little, the row's first run.

    Results of one method, benchmark and set of settings are the trials of one row; the second of
    one trial and seed begins another.
    """
    from resolute.engine.settings import in_common
    from resolute.tables.gains import place
    from resolute.tables.rows import benchmark_of

    taken: Counter[Any] = Counter()
    first: dict[Any, str] = {}  # run by row
    keys = []
    for run, result in zip(runs, results, strict=True):
        recipe = f"{in_common(result.config)} {result.start['sha256']}"
        kind = (result.method, benchmark_of(result), recipe)
        cell = (kind, place(result))
        key = (*kind, taken[cell])
        taken[cell] += 1
        first.setdefault(key, run)
        keys.append(key)
    num_rows = Counter(method for method, *_ in first)
    is_mixed = len({benchmark for _, benchmark, *_ in first}) > 1
    return [
        f"{key[0]} ({first[key]})" if is_mixed or num_rows[key[0]] > 1 else key[0] for key in keys
    ]


def score_runs(runs: Sequence[str], overrides: Mapping[str, Any]) -> tuple[Rows, str]:
    """Score run folders for a table of their own.

    Args:
        runs: run folders.
        overrides: settings to change by dotted path.

    Returns:
        Reports by method and name of the score, and a title that names benchmark and protocol.
    """
    scored = score_each(runs, overrides)
    return scored.rows, scored.title


def _score_features(options: argparse.Namespace, overrides: Mapping[str, Any]) -> Scored:
    from resolute.core.rng import Streams
    from resolute.engine.extras import Scorer
    from resolute.evaluation.features import load_query_gallery

    if options.flip or options.activation_maps:
        raise ConfigError("--flip and --activation-maps need a run: features have no images")
    changes: dict[str, dict[str, Any]] = {"protocol": {}, "evaluation": {}}
    for path, value in overrides.items():
        section, _, name = path.partition(".")
        if section != "protocol" and (section != "evaluation" or name not in _OF_FEATURES):
            raise ConfigError(
                f"--{path}: with --features only --protocol.FIELD and --evaluation.NAME can "
                f"change, NAME one of {', '.join(_OF_FEATURES)}"
            )
        changes[section][name] = value
    protocol: Protocol = override(find_protocol(options.protocol or "mlr"), changes["protocol"])
    asked = override(EvaluationConfig(), changes["evaluation"])
    query, gallery = load_query_gallery(*options.features, normalise=not options.raw)
    scorer = Scorer(
        protocol,
        gallery,
        streams=Streams(options.seed or 0),
        trial=0,
        has_verification=asked.verification,
    )
    scorer.put("protocol", query)
    scorer.put_extras(asked, query)
    name = " ".join(path.name for path in options.features)
    return Scored(
        {name: {key: [report] for key, report in scorer.scores.items()}},
        f"{protocol.describe()}, in percent",
        {name: {key: [pairs] for key, pairs in scorer.verification.items()}}
        if scorer.verification
        else {},
    )


def _plain(scored: Scored) -> dict[str, Any]:
    plain: dict[str, Any] = {
        method: {
            name: [report.to_mapping() for report in trials] for name, trials in scores.items()
        }
        for method, scores in scored.rows.items()
    }
    for method, scores in scored.verification.items():
        plain[method]["verification"] = {
            name: [pairs.to_mapping() for pairs in trials] for name, trials in scores.items()
        }
    return plain


def _draw_maps(options: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    from resolute.engine.maps import draw_activation_maps

    for folder in options.runs:
        out = options.activation_maps
        if len(options.runs) > 1:
            out = out / Path(folder).resolve().name
        written = draw_activation_maps(
            folder, out, num_queries=options.queries, overrides=overrides
        )
        print(f"{out}: activation maps of {len(written)} queries")
