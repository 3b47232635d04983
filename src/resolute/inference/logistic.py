"""Logistic and isotonic fits of a chance, in plain numpy.

Letters: N samples, F features.
"""

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ProtocolError

Floats = NDArray[np.float64]

_MAX_STEPS = 100
_ENOUGH = 1e-10


def sigmoid(values: Floats) -> Floats:
    """Turn log odds into chances without overflow.

    Args:
        values: any shape.

    Returns:
        Chances in 0..1, same shape.

    Examples:
        >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + small), small / (1 + small))


def log_loss(log_odds: Floats, labels: NDArray[np.bool_], weights: Floats) -> float:
    """Compute the weighted mean of -ln(chance given to what happened).

    Args:
        log_odds: shape (N,).
        labels: what happened, shape (N,).
        weights: not negative, shape (N,).

    Returns:
        Nats per sample, >= 0.
    """
    signed = np.where(labels, log_odds, -log_odds)
    return float(np.average(np.logaddexp(0, -signed), weights=weights))


def fit_logistic(
    features: Floats, labels: NDArray[np.bool_], weights: Floats, *, l2: float
) -> Floats:
    """Fit log odds = bias + features @ coefficients by Newton's method (IRLS).

    Minimises the weighted log loss plus ``l2 / 2`` times the squared coefficients; the bias is
    free. The objective is convex; each step is halved until it descends.

    Args:
        features: shape (N, F); of like scale, or the penalty means little.
        labels: what happened, shape (N,).
        weights: not negative, shape (N,).
        l2: penalty, > 0, or separable data have no finite fit.

    Returns:
        Bias, then F coefficients, shape (F + 1,).

    Raises:
        ProtocolError: if only one of the two outcomes happened: there is nothing to fit.
    """
    if labels.all() or not labels.any():
        raise ProtocolError(
            f"expected both outcomes among {len(labels)} samples, got one: nothing can be fitted"
        )
    design = np.column_stack([np.ones(len(features)), features])  # (N, F + 1)
    weights = weights / weights.sum()
    penalty = np.full(design.shape[1], l2)
    penalty[0] = 0.0

    def objective(theta: Floats) -> float:
        return log_loss(design @ theta, labels, weights) + 0.5 * float(penalty @ theta**2)

    theta = np.zeros(design.shape[1])
    value = objective(theta)
    for _ in range(_MAX_STEPS):
        chance = sigmoid(design @ theta)
        gradient = design.T @ (weights * (chance - labels)) + penalty * theta
        curvature = (design * (weights * chance * (1 - chance))[:, None]).T @ design
        # A whisker on the diagonal keeps a saturated fit solvable.
        step = np.linalg.solve(curvature + np.diag(penalty + 1e-12), gradient)
        size = 1.0
        while (tried := objective(theta - size * step)) > value and size > 1e-6:
            size /= 2
        theta, before, value = theta - size * step, value, tried
        if before - value < _ENOUGH:
            break
    return theta


def fit_isotonic(
    values: Floats, labels: NDArray[np.bool_], weights: Floats
) -> tuple[Floats, Floats]:
    """Fit the best falling step function of one value (pool adjacent violators).

    Args:
        values: shape (N,).
        labels: what happened, shape (N,).
        weights: positive, shape (N,).

    Returns:
        Mean value and chance of each step, values rising, chances falling.
    """
    order = np.argsort(values, kind="stable")
    sums = (weights * labels)[order].tolist()
    totals = weights[order].tolist()
    moments = (weights * values)[order].tolist()
    blocks: list[list[float]] = []  # sum of labels, of weights, of weighted values
    for label, weight, moment in zip(sums, totals, moments, strict=True):
        blocks.append([label, weight, moment])
        while len(blocks) > 1 and blocks[-1][0] * blocks[-2][1] >= blocks[-2][0] * blocks[-1][1]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    table = np.array(blocks)
    return table[:, 2] / table[:, 1], table[:, 0] / table[:, 1]
