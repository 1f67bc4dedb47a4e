"""Convolutions that take less time on a CPU, against `torch.nn.Conv2d` and, where numbers are counted, in float64."""

import copy

import pytest
import torch
from torch import nn

from models.convolution import MANY, DepthwiseConv2d, NarrowConv2d, PointwiseConv2d


def passed(layer: nn.Conv2d, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Output, and the gradients of some function of it by input and weights."""
    layer, x = copy.deepcopy(layer), x.clone().requires_grad_()
    output = layer(x)
    slope = torch.linspace(-1, 1, output.numel(), dtype=x.dtype).view_as(output)
    output.backward(slope)
    return output, x.grad, layer.weight.grad


def agree(ours: nn.Conv2d, torchs: nn.Conv2d, x: torch.Tensor) -> bool:
    for mine, reference in zip(passed(ours, x), passed(copy.deepcopy(torchs).double(), x.double()), strict=True):
        torch.testing.assert_close(mine, reference.float(), rtol=1e-4, atol=1e-4)
    return True


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("width", [1, 2, 7, 8])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_narrow_map_is_convolved_as_any_other(width, memory_format):
    convolution = nn.Conv2d(5, 6, 3, padding=1, bias=False).to(memory_format=memory_format)
    layer = NarrowConv2d.of(convolution)
    assert torch.equal(layer.weight, convolution.weight) and layer.weight.is_contiguous()
    assert agree(layer, convolution, torch.randn(2, 5, 9, width).contiguous(memory_format=memory_format))


def test_a_narrow_map_needs_only_the_gradients_that_are_wanted():
    layer, x = NarrowConv2d.of(nn.Conv2d(3, 4, 3, padding=1, bias=False)), torch.randn(1, 3, 4, 2)
    layer.requires_grad_(False)
    x.requires_grad_()
    layer(x).sum().backward()
    assert layer.weight.grad is None
    # every input meets each weight that a neighbour inside the map applies to it
    corner = layer.weight.sum(dim=0)[:, :2, :2].sum(dim=(1, 2))
    torch.testing.assert_close(x.grad[0, :, 0, 0], corner)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_depthwise_kernel_of_five_has_the_gradient_of_torchs(stride, memory_format):
    convolution = nn.Conv2d(6, 6, 5, stride=stride, padding=2, groups=6, bias=False)
    layer = DepthwiseConv2d.of(convolution)
    assert agree(layer, convolution, torch.randn(2, 6, 9, 11).contiguous(memory_format=memory_format))


def test_one_weight_of_a_depthwise_kernel_is_a_sum_of_products():
    layer, x = DepthwiseConv2d.of(nn.Conv2d(1, 1, 5, padding=2, groups=1, bias=False)), torch.randn(1, 1, 4, 4)
    layer(x).sum().backward()
    assert layer.weight.grad[0, 0, 2, 2].item() == pytest.approx(x.sum().item(), abs=1e-5)
    assert layer.weight.grad[0, 0, 0, 4].item() == pytest.approx(x[..., :2, 2:].sum().item(), abs=1e-5)


def test_a_depthwise_kernel_of_five_has_the_gradient_of_torchs_in_bf16():
    convolution = nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False)
    layer = DepthwiseConv2d.of(nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False))
    layer.load_state_dict(convolution.state_dict())
    x, slope = torch.randn(2, 6, 9, 11), torch.randn(2, 6, 9, 11).bfloat16()
    for module in (convolution, layer):
        with torch.autocast("cpu", torch.bfloat16):
            module(x).backward(slope)
    assert layer.weight.grad.dtype is torch.float32
    torch.testing.assert_close(layer.weight.grad, convolution.weight.grad, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("clips", [2, MANY])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_pointwise_convolution_is_one(memory_format, clips, bias):
    layer = PointwiseConv2d(5, 3, bias)
    torchs = nn.Conv2d(5, 3, 1, bias=bias)
    torchs.load_state_dict(layer.state_dict())
    assert agree(layer, torchs, torch.randn(clips, 5, 4, 6).contiguous(memory_format=memory_format))


def test_a_layer_in_bf16_is_torchs():
    convolution = nn.Conv2d(5, 6, 3, padding=1, bias=False)
    x = torch.randn(2, 5, 9, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(NarrowConv2d.of(convolution)(x), convolution(x))
