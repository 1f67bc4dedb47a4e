"""Transposed convolutions that take less time on a CPU, against `torch.nn.ConvTranspose2d` in float64."""

import copy

import pytest
import torch
from torch import nn

from models import transposed
from models.transposed import WideTransposedConv2d, transposed_to_plane, use_products

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def passed(layer: nn.ConvTranspose2d, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, and the gradients of some function of it by input, weights and bias."""
    layer, x = copy.deepcopy(layer), x.clone().requires_grad_()
    output = layer(x)
    output.backward(torch.linspace(-1, 1, output.numel(), dtype=x.dtype).view_as(output))
    return [output, x.grad, *(parameter.grad for parameter in layer.parameters())]


def assert_agree(ours: nn.ConvTranspose2d, torchs: nn.ConvTranspose2d, x: torch.Tensor) -> None:
    for mine, reference in zip(passed(ours, x), passed(copy.deepcopy(torchs).double(), x.double()), strict=True):
        torch.testing.assert_close(mine, reference.float(), rtol=1e-4, atol=1e-4)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("memory_format", LAYOUTS)
@pytest.mark.parametrize("block", [1, 2**24])  # one output channel at a time, and all of them
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "bias"),
    [((4, 2), 2, 1, True), ((3, 5), (2, 3), (0, 2), True), ((1, 1), 1, 0, False), ((2, 3), (3, 4), 0, True)],
)
def test_a_wide_layer_is_torchs(monkeypatch, kernel, stride, padding, bias, block, memory_format):
    monkeypatch.setattr(transposed, "BLOCK", block)
    torchs = nn.ConvTranspose2d(5, 3, kernel, stride, padding, bias=bias)
    ours = WideTransposedConv2d(5, 3, kernel, stride, padding, bias=bias)
    ours.load_state_dict(torchs.state_dict())
    assert_agree(ours, torchs, torch.randn(2, 5, 6, 7).contiguous(memory_format=memory_format))


def test_a_wide_layer_computes_only_the_gradients_that_are_wanted():
    layer, x = WideTransposedConv2d(2, 1, 2, bias=False), torch.ones(1, 2, 2, 2, requires_grad=True)
    layer.requires_grad_(False)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    # every input meets all weights of its channel
    torch.testing.assert_close(x.grad[0, :, 1, 0], layer.weight.sum(dim=(1, 2, 3)))


def test_a_wide_layer_in_bf16_is_torchs():
    torchs, ours = nn.ConvTranspose2d(5, 3, 4, 2), WideTransposedConv2d(5, 3, 4, 2)
    ours.load_state_dict(torchs.state_dict())
    x = torch.randn(2, 5, 6, 7)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x), torchs(x))


def test_products_take_the_place_of_wide_layers_alone(monkeypatch):
    monkeypatch.setattr(transposed, "WIDE", 4)
    network = nn.Sequential(
        nn.ConvTranspose2d(4, 4, 3),
        nn.Sequential(nn.ConvTranspose2d(4, 3, 3), nn.ConvTranspose2d(3, 4, 3)),
        nn.ConvTranspose2d(4, 4, 3, groups=2),
        nn.ConvTranspose2d(4, 4, 3, dilation=2),
        nn.ConvTranspose2d(4, 4, 3, 2, output_padding=1),
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.randn(1, 4, 5, 5)
    expected = network(x)
    assert use_products(network) is network
    kinds = [
        type(layer) is WideTransposedConv2d for layer in network.modules() if isinstance(layer, nn.ConvTranspose2d)
    ]
    assert kinds == [True, True, False, False, False, False]
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize("memory_format", LAYOUTS)
def test_one_plane_of_a_transposed_convolution_is_torchs(memory_format):
    torchs = nn.ConvTranspose2d(3, 1, (4, 5), padding=(1, 2), bias=False)
    x = torch.randn(2, 3, 6, 7).contiguous(memory_format=memory_format)

    class Ours(nn.ConvTranspose2d):
        def forward(self, maps):
            return transposed_to_plane(maps, self.weight, self.padding)

    ours = Ours(3, 1, (4, 5), padding=(1, 2), bias=False)
    ours.load_state_dict(torchs.state_dict())
    assert_agree(ours, torchs, x)


def test_an_impulse_through_a_transposed_convolution_draws_its_kernel():
    kernel = torch.arange(1.0, 7.0).view(1, 1, 2, 3)
    impulse = torch.zeros(1, 1, 3, 3)
    impulse[0, 0, 1, 1] = 1
    plane = transposed_to_plane(impulse, kernel, (0, 0))
    assert plane.shape == (1, 1, 4, 5)
    assert plane[0, 0, 1:3, 1:4].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert plane.sum() == 21
