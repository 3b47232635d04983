"""The quick start: drawn data, two methods, one table; the same numbers each time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from resolute.engine.config import RunConfig
from resolute.engine.progress import Progress
from resolute.engine.result import Result
from resolute.engine.run import train
from resolute.engine.score import evaluate
from resolute.recipes.ftwa import quickstart

METHODS = ("baseline", "ftwa")


def configs(*, is_smoke: bool) -> list[RunConfig]:
    """Return the settings of the quick start's runs.

    Args:
        is_smoke: a fraction of the data and steps, to see that everything works: no score to
            look at.
    """
    runs = [quickstart(method) for method in METHODS]
    if not is_smoke:
        return runs
    return [
        replace(
            run,
            data=replace(run.data, synthetic=replace(run.data.synthetic, num_identities=80)),
            loader=replace(run.loader, batch_size=32),
            train=replace(run.train, epochs=2),
        )
        for run in runs
    ]


def run_quickstart(
    folder: Path,
    *,
    is_smoke: bool = False,
    progress: Callable[[RunConfig], Progress | None] = lambda _: None,
) -> list[Result]:
    """Draw the data, train Baseline and FTWA, and score both.

    Args:
        folder: one run folder per method is made in it; finished runs are not trained again, an
            interrupted one goes on.
        is_smoke: see :func:`configs`; its run folders have names of their own.
        progress: gives what is told how a run goes.

    Returns:
        One result per method, with the unseen rate 8 and undegraded queries.
    """
    results = []
    for config in configs(is_smoke=is_smoke):
        run_dir = folder / (f"{config.name}-smoke" if is_smoke else config.name)
        if not (run_dir / "model.safetensors").exists():
            begun = (run_dir / "checkpoint.safetensors").exists()
            train(
                config,
                run_dir,
                resume="exact" if begun else "no",
                progress=progress(config),
            )
        results.append(evaluate(run_dir))
    return results
