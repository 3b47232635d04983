"""Equations 6 and 7 against slow loops, and what must not count as a positive."""

import math

import pytest
import torch

from resolute.core.errors import ShapeError
from resolute.losses.triplet import (
    euclidean_distances,
    self_weighted_triplet_loss,
    triplet_terms,
)


def literal_distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def literal_terms(vectors, labels, sources, margin, mining):
    """[FTWA eq. 6], one anchor at a time."""
    terms = []
    n = len(vectors)
    for a in range(n):
        positives = [p for p in range(n) if labels[p] == labels[a] and sources[p] != sources[a]]
        negatives = [q for q in range(n) if labels[q] != labels[a]]
        distance = [literal_distance(vectors[a], vectors[k]) for k in range(n)]
        if not positives or not negatives:
            terms.append(0.0)
        elif mining == "hard":
            hardest = max(distance[p] for p in positives) - min(distance[q] for q in negatives)
            terms.append(max(0.0, margin + hardest))
        else:
            losses = [margin + distance[p] - distance[q] for p in positives for q in negatives]
            active = [x for x in losses if x > 0]
            terms.append(sum(active) / len(active) if active else 0.0)
    return terms


def random_union(seed):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(12, 4, generator=generator, dtype=torch.float64).float()
    labels = torch.randint(0, 4, (12,), generator=generator)
    sources = torch.randint(0, 9, (12,), generator=generator)
    return vectors, labels, sources


@pytest.mark.parametrize("mining", ["hard", "all"])
@pytest.mark.parametrize("seed", range(5))
def test_equation_6_by_loop(mining, seed):
    vectors, labels, sources = random_union(seed)
    terms = triplet_terms(vectors, labels, sources, margin=0.3, mining=mining)
    expected = literal_terms(vectors.tolist(), labels.tolist(), sources.tolist(), 0.3, mining)
    torch.testing.assert_close(terms, torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_equation_7_by_loop():
    generator = torch.Generator().manual_seed(3)
    num_pairs = 6
    labels = torch.arange(num_pairs) // 2
    v = {
        n: torch.randn(num_pairs, 5, generator=generator) for n in ("hr", "hr_syn", "lr", "lr_syn")
    }
    w = {n: torch.rand(num_pairs, generator=generator) + 0.05 for n in v}
    sources_hr, sources_lr = torch.arange(num_pairs), torch.arange(num_pairs) + num_pairs
    both = torch.cat([labels, labels])
    terms_hr = triplet_terms(
        torch.cat([v["hr"], v["hr_syn"]]), both, torch.cat([sources_hr, sources_lr]), margin=0.3
    )
    terms_lr = triplet_terms(
        torch.cat([v["lr"], v["lr_syn"]]), both, torch.cat([sources_lr, sources_hr]), margin=0.3
    )
    ours = self_weighted_triplet_loss(
        terms_hr.view(2, -1).mean(0),
        terms_lr.view(2, -1).mean(0),
        w["hr"] * w["hr_syn"],
        w["lr"] * w["lr_syn"],
    )

    spaces = {}
    for name, first, second in (("hr", "hr", "hr_syn"), ("lr", "lr", "lr_syn")):
        union = v[first].tolist() + v[second].tolist()
        order = (sources_hr, sources_lr) if name == "hr" else (sources_lr, sources_hr)
        spaces[name] = literal_terms(union, both.tolist(), torch.cat(order).tolist(), 0.3, "hard")
    total = 0.0
    for i in range(num_pairs):
        l_hr = (spaces["hr"][i] + spaces["hr"][i + num_pairs]) / 2
        l_lr = (spaces["lr"][i] + spaces["lr"][i + num_pairs]) / 2
        a = float(w["hr"][i] * w["hr_syn"][i])
        b = float(w["lr"][i] * w["lr_syn"][i])
        total += (a * l_hr + b * l_lr) / (a + b)
    assert ours.item() == pytest.approx(total / num_pairs, rel=1e-4)


def test_one_picture_is_no_positive_of_itself():
    vectors = torch.tensor([[0.0], [9.0], [1.0], [5.0]])
    labels = torch.tensor([0, 0, 0, 1])
    sources = torch.tensor([7, 7, 8, 9])  # the far vector 1 shows the picture of vector 0
    terms = triplet_terms(vectors, labels, sources, margin=0.3)
    assert terms[0].item() == 0.0  # positive at 1, negative at 5
    assert terms[1].item() == pytest.approx(8 - 4 + 0.3)
    assert terms[3].item() == 0.0  # identity 1 has no positive at all


@pytest.mark.parametrize("mining", ["hard", "all"])
def test_equal_vectors_have_finite_gradients(mining):
    vectors = torch.zeros(4, 3, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    triplet_terms(vectors, labels, torch.arange(4), margin=0.3, mining=mining).mean().backward()
    assert torch.isfinite(vectors.grad).all()


def test_distances_are_symmetric_and_match_the_definition():
    vectors = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    distances = euclidean_distances(vectors)
    torch.testing.assert_close(distances, distances.T)
    assert distances[1, 3].item() == pytest.approx(
        literal_distance(vectors[1].tolist(), vectors[3].tolist()), rel=1e-5
    )


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match="labels"):
        triplet_terms(torch.zeros(3, 2), torch.zeros(2), torch.zeros(3), margin=0.3)
    with pytest.raises(ShapeError, match="weight_lr"):
        self_weighted_triplet_loss(torch.ones(2), torch.ones(2), torch.ones(2), torch.ones(3))


def test_distances_under_autocast_are_those_without():
    vectors = 15 + torch.randn(8, 2048, generator=torch.Generator().manual_seed(0))
    plain = euclidean_distances(vectors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(euclidean_distances(vectors), plain)
