"""``resolute evaluate``: score runs, or anybody's embeddings, under a named protocol."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from resolute.cli.overrides import parse, take_settings
from resolute.cli.scores import heights_table, print_table, scores_table
from resolute.core.config import override
from resolute.core.errors import ConfigError
from resolute.evaluation.protocol import PROTOCOLS, Protocol, find_protocol
from resolute.evaluation.report import Report


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
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = (
        "resolute evaluate RUN [RUN ...] [--section.field VALUE ...]\n"
        "       resolute evaluate --features QUERY.npz GALLERY.npz [--protocol NAME]"
    )
    parser.epilog = (
        "Several runs of one method are several trials: their mean and deviation are printed.\n"
        "Settings change what is scored: --method.fusion mean, --data.root ROOT, --data.trial 3,\n"
        "--evaluation.unseen_rates 8,16. A result with changed settings is printed, not kept.\n"
        "Feature files: npz with vectors, pids, camids and optional rates, heights, quality; or\n"
        "one pytorch_result.mat. Protocol fields change as --protocol.camera_rule none."
    )
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN", help="run folders")
    add("--features", nargs="+", type=Path, metavar="FILE", help="embeddings of query and gallery")
    add("--protocol", default="mlr", help=f"for --features: {', '.join(PROTOCOLS)} (default: mlr)")
    add("--raw", action="store_true", help="for --features: do not L2-normalise the vectors")
    add("--seed", type=int, default=0, help="for --features: seed of the draws (default: 0)")
    add("--heights", action="store_true", help="also a table by native height of the query")
    add("--json", type=Path, metavar="FILE", help="also write the scores as JSON")
    own, overrides = take_settings(words)
    options = parse(parser, own)
    if bool(options.runs) == bool(options.features):
        raise ConfigError("expected run folders, or --features with feature files")
    if options.features:
        rows, title = _score_features(options, overrides)
    else:
        rows, title = score_runs(options.runs, overrides)
    print_table(scores_table(title, rows))
    if options.heights:
        print_table(heights_table(rows))
    if options.json:
        plain = {
            method: {name: [r.to_mapping() for r in reports] for name, reports in scores.items()}
            for method, scores in rows.items()
        }
        options.json.write_text(json.dumps(plain, indent=1) + "\n")
    return 0


Rows = dict[str, dict[str, list[Report]]]


def score_runs(runs: Sequence[str], overrides: Mapping[str, str]) -> tuple[Rows, str]:
    """Score run folders.

    Args:
        runs: run folders.
        overrides: settings to change by dotted path.

    Returns:
        Reports by method and name of the score, and a title that names benchmark and protocol.
    """
    from resolute.engine.memory import keep_freed_memory
    from resolute.engine.score import evaluate

    keep_freed_memory()
    rows: Rows = {}
    titles: dict[str, None] = {}
    for folder in runs:
        result = evaluate(folder, overrides=overrides)
        titles[result.data] = None
        for name, report in result.scores.items():
            rows.setdefault(result.method, {}).setdefault(name, []).append(report)
    first = next(iter(rows.values()))["protocol"][0]
    return rows, "\n".join([*titles, f"protocol {first.protocol}, in percent"])


def _score_features(options: argparse.Namespace, overrides: dict[str, str]) -> tuple[Rows, str]:
    from resolute.core.rng import Streams
    from resolute.evaluation.features import load_query_gallery
    from resolute.evaluation.scoring import evaluate

    protocol: Protocol = find_protocol(options.protocol)
    for path in overrides:
        if not path.startswith("protocol."):
            raise ConfigError(f"--{path}: with --features only --protocol.FIELD can change")
    protocol = override(
        protocol, {path.removeprefix("protocol."): text for path, text in overrides.items()}
    )
    (query, query_labels), (gallery, gallery_labels) = load_query_gallery(
        *options.features, normalise=not options.raw
    )
    report = evaluate(
        protocol,
        (query, gallery),
        query_labels,
        gallery_labels,
        streams=Streams(options.seed),
    )
    name = " ".join(path.name for path in options.features)
    return {name: {"protocol": [report]}}, f"{protocol.describe()}, in percent"
