import pytest
import torch

from resolute.core.errors import ConfigError
from resolute.core.rng import Stream, Streams
from resolute.models.swa import BNNeck, Classifier, QualityEvaluator


def embedding(count=6, dim=10):
    return torch.randn(count, dim, generator=Streams(1).torch(Stream.SYNTHETIC))


@pytest.mark.parametrize(("floor", "start"), [(0.0, 0.5), (0.2, 0.6)])
def test_every_weight_starts_equal(floor, start):
    weights = QualityEvaluator(10, floor=floor)(embedding())
    assert weights.shape == (6,)
    torch.testing.assert_close(weights, torch.full((6,), start))


def test_evaluator_by_hand():
    evaluator = QualityEvaluator(2, hidden=2, floor=0.1)
    with torch.no_grad():
        evaluator.hidden.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        evaluator.hidden.bias.zero_()
        evaluator.score.weight.copy_(torch.tensor([[2.0, 3.0]]))
        evaluator.score.bias.fill_(-1.0)
    # first row: relu(1), relu(-2) -> 2 - 1 = 1; second: relu(-1), relu(1) -> 3 - 1 = 2
    weights = evaluator(torch.tensor([[1.0, 2.0], [-1.0, -1.0]]))
    torch.testing.assert_close(weights, 0.1 + 0.9 * torch.sigmoid(torch.tensor([1.0, 2.0])))


def test_weights_are_as_fine_under_autocast():
    evaluator = QualityEvaluator(2, hidden=1)
    with torch.no_grad():
        evaluator.hidden.weight.fill_(1.0)
        evaluator.hidden.bias.zero_()
        evaluator.score.weight.fill_(1.0)
    steps = torch.arange(32)[:, None] / 2**10  # exact in bf16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weights = evaluator(torch.cat([steps, torch.zeros_like(steps)], dim=1))
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, torch.sigmoid(steps[:, 0]))


def test_evaluator_keeps_its_range_and_learns_after_the_first_step():
    evaluator = QualityEvaluator(10, floor=0.3)
    optimiser = torch.optim.SGD(evaluator.parameters(), lr=1.0)
    for _ in range(2):
        optimiser.zero_grad()
        evaluator(embedding()).square().sum().backward()
        optimiser.step()
    assert all(p.grad.abs().max() > 0 for p in evaluator.parameters())
    evaluator.score.bias.data.fill_(-100.0)
    torch.testing.assert_close(evaluator(embedding()), torch.full((6,), 0.3))


def test_classifier_is_linear_without_bias_from_small_numbers():
    with Streams(3).torch_default(Stream.INITIALISATION):
        classifier = Classifier(500, 40)
    assert classifier.bias is None
    assert classifier.weight.std().item() == pytest.approx(0.001, rel=0.03)
    v = embedding(dim=500)
    torch.testing.assert_close(classifier(v), v @ classifier.weight.T)


def test_neck_normalises_and_its_bias_never_moves():
    neck = BNNeck(10)
    v = embedding()
    out = neck(v)
    expected = (v - v.mean(0)) / (v.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(out, expected)
    assert not neck.bias.requires_grad
    assert neck.weight.requires_grad
    assert not neck.bias.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 0}, "hidden: expected at least 1, got 0"),
        ({"floor": 1.0}, "floor: expected 0 <= floor < 1, got 1.0"),
        ({"floor": -0.1}, "floor: expected 0 <= floor < 1, got -0.1"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        QualityEvaluator(4, **settings)
