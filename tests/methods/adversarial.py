"""What the tests of methods with discriminators share."""

import math

import torch
from methods.builders import random_batch

from resolute.engine.config import TrainConfig
from resolute.engine.distributed import World
from resolute.engine.phases import start_phases


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def mean_log(scores, *, is_real):
    """-log D(x), or -log(1 - D(x)), averaged by a loop over all scores."""
    values = [sigmoid(x) for x in scores.detach().flatten().tolist()]
    return sum(-math.log(v if is_real else 1 - v) for v in values) / len(values)


def hardest_triplets(vectors, labels, sources, margin):
    """Batch-hard triplet terms by loops, averaged over all anchors."""
    total = 0.0
    for i in range(len(vectors)):
        positives, negatives = [], []
        for j in range(len(vectors)):
            distance = math.dist(vectors[i].tolist(), vectors[j].tolist())
            if labels[j] != labels[i]:
                negatives.append(distance)
            elif sources[j] != sources[i]:
                positives.append(distance)
        if positives and negatives:
            total += max(0.0, max(positives) - min(negatives) + margin)
    return total / len(vectors)


def cross_entropy(logits, label):
    exponentials = [math.exp(x) for x in logits.tolist()]
    return -math.log(exponentials[label] / sum(exponentials))


def check_phases_stay_apart(method):
    """Run each phase of the engine; nothing of another phase may move, statistics neither."""
    runs = start_phases(
        method,
        config=TrainConfig(epochs=1),
        world=World(),
        device=torch.device("cpu"),
        has_unused_parameters=False,
    )
    method.train()
    assert [run.phase.name for run in runs] == ["discriminator", "main"]
    for run in runs:
        before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
        run.update(random_batch(), epoch=0, factor=1.0)
        moved = {n for n, t in method.state_dict().items() if not torch.equal(t, before[n])}
        own = {n for group in run.groups for n, _ in group.parameters}
        buffers = {n for n, _ in method.named_buffers()}
        if run.phase.name == "discriminator":
            assert moved == own
        else:
            assert moved & {n for n, _ in method.named_parameters()} <= own
            assert len(moved & own) > 0.9 * len(own)
            assert any(n.endswith("running_mean") for n in moved & buffers)
            assert not any(n.startswith("discriminators.") for n in moved)
