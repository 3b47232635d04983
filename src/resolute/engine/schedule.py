"""Learning rate over a run, as a pure function of the step."""

import math

from resolute.methods.config import ScheduleConfig


def learning_rate_factor(
    step: int, *, steps_per_epoch: int, epochs: int, schedule: ScheduleConfig
) -> float:
    """Compute what the base learning rate is multiplied by at one step.

    Warm-up rises on a straight line, step by step, from ``warmup_start`` at step 0 to 1 at the
    first step after it [assumed: strong baseline, there by epoch]. Milestones fall on epoch
    boundaries [FTWA 3.2]. The cosine runs from the end of the warm-up to zero at the end of the
    run [ours]. The polynomial is Caffe's: (1 - step / steps) to the given power [SING]. A phase
    that fills a part of the run counts that part as the run.

    Args:
        step: steps made so far, 0 <= step < epochs * steps_per_epoch.
        steps_per_epoch: steps in one epoch.
        epochs: epochs in the run.
        schedule: fractions of the run and factors.

    Returns:
        A factor in [0, 1].

    Examples:
        >>> paper = ScheduleConfig()
        >>> [
        ...     round(
        ...         learning_rate_factor(100 * e, steps_per_epoch=100, epochs=120, schedule=paper),
        ...         4,
        ...     )
        ...     for e in (0, 5, 10, 39, 40, 70)
        ... ]
        [0.01, 0.505, 1.0, 1.0, 0.2, 0.04]
    """
    warmup_steps = round(schedule.warmup * epochs * steps_per_epoch)
    if step < warmup_steps:
        warm = schedule.warmup_start + (1 - schedule.warmup_start) * step / warmup_steps
    else:
        warm = 1.0
    if schedule.shape == "cosine":
        done = max(0, step - warmup_steps) / (epochs * steps_per_epoch - warmup_steps)
        return warm * (1 + math.cos(math.pi * done)) / 2
    if schedule.shape == "polynomial":
        left = 1 - step / (epochs * steps_per_epoch)
        return float(warm * left**schedule.power)
    epoch = step // steps_per_epoch
    drops = sum(epoch >= max(1, epoch_at(m, epochs)) for m in schedule.milestones)
    return warm * schedule.gamma**drops


def epoch_at(fraction: float, epochs: int) -> int:
    """Round a fraction of the run to an epoch boundary, halves upward.

    Args:
        fraction: of the run, 0..1.
        epochs: epochs in the run.

    Returns:
        A number of epochs, 0..epochs.

    Examples:
        >>> epoch_at(40 / 120, 120), epoch_at(0.5, 1)
        (40, 1)
    """
    return math.floor(fraction * epochs + 0.5)
