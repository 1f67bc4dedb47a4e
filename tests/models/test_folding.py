"""A convolution and its batch norm in one step, against the two steps."""

import pytest
import torch
from torch import nn

from models.folding import normed_convolution


def pair(groups: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups, bias=False)
    norm = nn.BatchNorm2d(8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 2)
    return convolution, norm.eval()


@pytest.mark.parametrize("groups", [1, 4])
def test_what_is_frozen_takes_one_step_with_the_same_result(groups):
    convolution, norm = pair(groups)
    image = torch.randn(2, 4, 9, 11, requires_grad=True)
    expected = norm(convolution(image))
    slope = torch.randn_like(expected)
    expected_gradient = torch.autograd.grad(expected, image, slope)
    convolution.requires_grad_(False)
    norm.requires_grad_(False)
    calls = []
    norm.register_forward_hook(lambda *_: calls.append("norm"))
    folded = normed_convolution(image, convolution, norm)
    assert calls == []
    torch.testing.assert_close(folded, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(folded, image, slope), expected_gradient, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("training, learned", [(True, False), (False, True)])
def test_what_learns_or_counts_takes_two_steps(training, learned):
    convolution, norm = pair(1)
    norm.train(training)
    convolution.requires_grad_(learned)
    norm.requires_grad_(learned)
    calls = []
    norm.register_forward_hook(lambda *_: calls.append("norm"))
    normed_convolution(torch.randn(2, 4, 9, 11), convolution, norm)
    assert calls == ["norm"]


def test_without_a_gradient_trainable_weights_are_folded_too():
    convolution, norm = pair(1)
    image = torch.randn(2, 4, 9, 11)
    expected = norm(convolution(image))
    norm.register_forward_hook(lambda *_: pytest.fail("batch norm was called"))
    with torch.no_grad():
        torch.testing.assert_close(normed_convolution(image, convolution, norm), expected, atol=1e-5, rtol=1e-5)
