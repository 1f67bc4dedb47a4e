"""Convolutions as `torch.nn.Conv2d` computes them, to rounding, in ways that take less time on a CPU.

oneDNN, torch's library for convolutions on CPUs, has three gaps. A map few columns wide keeps its vector units half
idle. The weights' gradient of a depthwise kernel wider than 3 takes ten times as long as its arithmetic, in float32 and
in bf16. And torch asks it for no 1 x 1 convolution of a small batch on one thread.
"""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Convolution = TypeVar("Convolution", bound=nn.Conv2d | nn.ConvTranspose2d)
NARROW = 8  # columns, below which patches times weights are faster than oneDNN's convolution
MANY = 16  # clips, from which on torch hands 1 x 1 convolutions to oneDNN on one thread, too
SIDE = 3  # of the kernels whose patches are products, and columns of a depthwise one that oneDNN is fast at


class NarrowConv2d(nn.Conv2d):
    """A 3 x 3 convolution of stride 1 with a border of zeros and no bias, as a matrix product where maps are narrow.

    At 5 columns and 1024 channels, a product of patches takes two thirds of the time, at 2 columns and 2048 a third.
    Weights lie channels first, in which layout torch's fused Adam takes less than half of its time.
    """

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> "NarrowConv2d":
        """The same layer, which takes over the convolution's weights, or a copy where they lie channels last."""
        layer = same_layer(cls, convolution)
        if not layer.weight.is_contiguous():
            layer.weight = nn.Parameter(layer.weight.detach().contiguous())
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, D, H, W]."""
        if x.shape[3] < NARROW and is_plain(x):
            return _Patches.apply(x, self.weight)
        return super().forward(x)


class DepthwiseConv2d(nn.Conv2d):
    """A 5 x 5 depthwise convolution without bias, whose weights' gradient is put together from two of 5 x 3.

    Of these, one sees the input from the left edge of the kernel and one up to its right edge.
    """

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> "DepthwiseConv2d":
        """The same layer, which takes over the convolution's weights."""
        return same_layer(cls, convolution)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H', W']."""
        if x.device.type != "cpu" or not (self.weight.requires_grad and torch.is_grad_enabled()):
            return super().forward(x)
        precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        return _Depthwise.apply(x.to(precision), self.weight.to(precision), self.stride, self.padding)


class PointwiseConv2d(nn.Conv2d):
    """A 1 x 1 convolution, as a matrix product for a few clips on a CPU whose maps lie channels last."""

    def __init__(self, channels: int, out: int, bias: bool = True):
        super().__init__(channels, out, kernel_size=1, bias=bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[B, C, H, W] to [B, D, H, W]."""
        is_fast = input.device.type != "cpu" or len(input) >= MANY
        if is_fast or not input.is_contiguous(memory_format=torch.channels_last):
            return super()._conv_forward(input, weight, bias)
        return F.linear(input.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def same_layer(kind: type[Convolution], convolution: nn.Conv2d | nn.ConvTranspose2d) -> Convolution:
    """A layer of another kind with the weights, and the bias, of a convolution without dilation."""
    channels, out, kernel = convolution.in_channels, convolution.out_channels, convolution.kernel_size
    stride, padding, groups = convolution.stride, convolution.padding, convolution.groups
    with torch.device("meta"):  # no random start is drawn for what is replaced at once
        layer = kind(channels, out, kernel, stride, padding, groups=groups, bias=False)  # type: ignore[arg-type]
    layer.weight, layer.bias = convolution.weight, convolution.bias
    return layer


def is_plain(x: Tensor) -> bool:
    """Whether a layer computes in float32 on a CPU."""
    return x.device.type == "cpu" and x.dtype is torch.float32 and not torch.is_autocast_enabled("cpu")


def _patches(x: Tensor) -> Tensor:
    """The 3 x 3 surroundings of every position of [B, C, H, W], zeros outside: [B H W, C 9]."""
    batch, channels, height, width = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    of_clip, of_row, of_column, _ = padded.stride()
    strides = (of_clip, of_row, of_column, 1, of_row, of_column)
    surroundings = padded.as_strided((batch, height, width, channels, SIDE, SIDE), strides)
    return surroundings.reshape(batch * height * width, channels * SIDE * SIDE)


class _Patches(torch.autograd.Function):
    """A 3 x 3 convolution with a border of zeros: `_patches` times weights."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        batch, _, height, width = x.shape
        product = _patches(x) @ weight.flatten(1).t()
        return product.view(batch, height, width, -1).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        batch, channels, height, width = x.shape
        slope = slope.permute(0, 2, 3, 1).reshape(batch * height * width, -1)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            surroundings = (slope @ weight.flatten(1)).view(batch, height, width, channels, SIDE, SIDE)
            padded = slope.new_zeros(batch, height + 2, width + 2, channels)
            for row in range(SIDE):
                for column in range(SIDE):
                    padded[:, row : row + height, column : column + width] += surroundings[..., row, column]
            of_x = padded[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            of_weight = (slope.t() @ _patches(x)).view_as(weight)
        return of_x, of_weight


class _Depthwise(torch.autograd.Function):
    """A 5 x 5 depthwise convolution."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        slope = slope.contiguous(memory_format=torch.channels_last)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = _gradients(slope, x, weight, ctx.stride, ctx.padding, (True, False, False))[0]
        above, beside = ctx.padding
        padded = F.pad(x, (beside, beside, above, above))
        reach = ctx.stride[1] * (slope.shape[3] - 1) + SIDE  # columns that a kernel of three sees
        of_weight = torch.empty_like(weight)
        for left in (0, weight.shape[3] - SIDE):
            columns = slice(left, left + SIDE)
            seen = padded[..., left : left + reach].contiguous(memory_format=torch.channels_last)
            kernel = weight[..., columns].contiguous()  # its numbers do not matter
            of_weight[..., columns] = _gradients(slope, seen, kernel, ctx.stride, (0, 0), (False, True, False))[1]
        return of_x, of_weight, None, None


def _gradients(
    slope: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Of a depthwise convolution without bias by its input, weights and bias, where wanted."""
    none = [0, 0]
    return torch.ops.aten.convolution_backward(
        slope, x, weight, None, stride, padding, [1, 1], False, none, len(weight), wanted
    )
