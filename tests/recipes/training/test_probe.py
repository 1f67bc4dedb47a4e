"""The linear head fitted before fine-tuning."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import one_hot

from models.labels import ONE_LABEL, SEVERAL_LABELS
from recipes.training.probe import logistic_regression


def test_two_classes_by_hand():
    """x = -1, +1 with labels 0, 1: by symmetry w = (-v, v), b = 0, and v solves 2 v penalty (1 + e^(2 v)) = 1."""
    x = torch.tensor([[-1.0], [1.0]]).repeat(500, 1)
    label = torch.tensor([0, 1]).repeat(500)
    weight, bias = logistic_regression(x, one_hot(label, 2), ONE_LABEL, penalty=0.05)
    scale = x.std(dim=0) + 1e-2  # the penalty is of weights on x / scale
    v = (weight[1] * scale).item()
    margin = 2 * weight[1].item()
    assert weight[0].item() == pytest.approx(-weight[1].item(), abs=1e-4)
    assert bias.abs().max() < 1e-4
    # derivative of log(1 + e^(-2 v / scale)) + 2 penalty v^2 with respect to v
    slope = -2 / scale.item() / (1 + torch.tensor(margin).exp().item()) + 4 * 0.05 * v
    assert slope == pytest.approx(0, abs=1e-4)


def test_scale_and_offset_of_a_feature_do_not_matter():
    torch.manual_seed(0)
    x, label = torch.randn(90, 5), torch.arange(90) % 3
    weight, bias = logistic_regression(x, one_hot(label, 3), ONE_LABEL, 0.01)
    moved = logistic_regression(x * 100 + 7, one_hot(label, 3), ONE_LABEL, 0.01)
    torch.testing.assert_close((x * 100 + 7) @ moved[0].T + moved[1], x @ weight.T + bias, atol=0.03, rtol=0.05)


def test_separable_clips_are_learned():
    torch.manual_seed(0)
    label = torch.arange(60) % 4
    x = one_hot(label, 4) + 0.1 * torch.randn(60, 4)
    weight, bias = logistic_regression(x, one_hot(label, 4), ONE_LABEL, 1e-3)
    assert torch.equal((x @ weight.T + bias).argmax(dim=1), label)


def test_the_minimum_is_scikit_learns():
    """Its objective is the sum over clips, with half the squared weights beside it: C = 1 / (2 n penalty)."""
    torch.manual_seed(0)
    x, label = torch.randn(120, 6), torch.arange(120) % 4
    x[range(120), label] += 1.5
    weight, bias = logistic_regression(x, one_hot(label, 4), ONE_LABEL, penalty=0.01)
    features = (x - x.mean(dim=0)) / (x.std(dim=0) + 1e-2)
    reference = LogisticRegression(C=1 / (2 * 120 * 0.01), tol=1e-8, max_iter=1000).fit(features, label)
    expected = torch.from_numpy(reference.predict_proba(features)).float()
    torch.testing.assert_close((x @ weight.T + bias).softmax(dim=1), expected, atol=2e-3, rtol=0)


def test_heads_of_several_labels_are_independent_and_scikit_learns():
    """The loss is the mean over K classes and the penalty the sum over them: C = 1 / (2 n K penalty) for each class."""
    torch.manual_seed(0)
    x = torch.randn(120, 6)
    truth = x[:, :3] + 0.5 * torch.randn(120, 3) > 0.3
    weight, bias = logistic_regression(x, truth, SEVERAL_LABELS, penalty=0.01)
    features = (x - x.mean(dim=0)) / (x.std(dim=0) + 1e-2)
    for k in range(3):
        reference = LogisticRegression(C=1 / (2 * 120 * 3 * 0.01), tol=1e-8, max_iter=1000).fit(features, truth[:, k])
        expected = torch.from_numpy(reference.predict_proba(features)[:, 1]).float()
        torch.testing.assert_close((x @ weight.T + bias)[:, k].sigmoid(), expected, atol=2e-3, rtol=0)
