"""Transposed convolutions as torch computes them, to rounding, in ways that take less time on a CPU.

oneDNN, torch's library for convolutions on CPUs, reaches a third of its rate on those of many channels. As products of
matrices (im2col backwards: Chellapilla et al., High performance convolutional neural networks for document processing,
2006) they run at 100 to 150 of 170 GFLOP/s.
"""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.convolution import is_plain, same_layer

WIDE = 512  # input channels, from which products are faster
Network = TypeVar("Network", bound=nn.Module)
BLOCK = 2**24  # numbers that lie between product and map at once, 64 MiB


class WideTransposedConv2d(nn.ConvTranspose2d):
    """A transposed convolution of one group, without dilation or output padding, by products in float32 on a CPU."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[B, C, H, W] to [B, D, H', W']."""
        if output_size is not None or not is_plain(input):
            return super().forward(input, output_size)
        return _ByColumns.apply(input, self.weight, self.bias, self.stride, self.padding)


def use_products(network: Network) -> Network:
    """The same network, in which `WideTransposedConv2d` takes the place, and the weights, of torch's where it pays."""
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.ConvTranspose2d and _pays(layer):
                setattr(parent, name, same_layer(WideTransposedConv2d, layer))
    return network


def _pays(layer: nn.ConvTranspose2d) -> bool:
    is_simple = layer.groups == 1 and layer.dilation == (1, 1) and layer.output_padding == (0, 0)
    return is_simple and layer.in_channels >= WIDE


class _ByColumns(torch.autograd.Function):
    """A transposed convolution of weights [C, D, h, w]: every input position's product with all of them is a column of
    D h w numbers, which are added where they belong. Some of the D channels are taken at a time, so that columns are
    few.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]):
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        kernel = (weight.shape[2], weight.shape[3])
        height = (x.shape[2] - 1) * stride[0] + kernel[0] - 2 * padding[0]
        width = (x.shape[3] - 1) * stride[1] + kernel[1] - 2 * padding[1]
        maps = x.new_empty(len(x), weight.shape[1], height, width)
        for clip, inputs in enumerate(x.flatten(2)):
            for channels in _blocks(x, weight):
                columns = weight[:, channels].flatten(1).t() @ inputs
                maps[clip, channels] = F.fold(
                    columns.unsqueeze(0), (height, width), kernel, padding=padding, stride=stride
                )[0]
        return maps if bias is None else maps.add_(bias[:, None, None])

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        of_x = torch.zeros_like(x, memory_format=torch.contiguous_format) if wants_x else None
        of_weight = torch.zeros_like(weight, memory_format=torch.contiguous_format) if wants_weight else None
        kernel = (weight.shape[2], weight.shape[3])
        for clip, inputs in enumerate(x.flatten(2)):
            for channels in _blocks(x, weight):
                columns = F.unfold(slope[clip : clip + 1, channels], kernel, padding=ctx.padding, stride=ctx.stride)[0]
                if of_x is not None:
                    of_x[clip].view(x.shape[1], -1).addmm_(weight[:, channels].flatten(1), columns)
                if of_weight is not None:
                    of_weight[:, channels].view(x.shape[1], -1).addmm_(inputs, columns.t())
        return of_x, of_weight, slope.sum(dim=(0, 2, 3)) if wants_bias else None, None, None


def _blocks(x: Tensor, weight: Tensor) -> list[slice]:
    """Output channels D, as many at a time as make `BLOCK` numbers from one clip of x [B, C, H, W]."""
    channels, of_channel = weight.shape[1], weight.shape[2] * weight.shape[3] * x.shape[2] * x.shape[3]
    size = max(1, BLOCK // of_channel)
    return [slice(begin, min(begin + size, channels)) for begin in range(0, channels, size)]


def transposed_to_plane(x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    """`F.conv_transpose2d` of [B, C, H, W] with weights [C, 1, h, w] and a stride of 1: [B, 1, H + h - 1 - 2 p, …].

    oneDNN computes one output channel as it would sixteen. On a CPU in float32, the products of all inputs with all
    weights are taken first, and added where they belong: a 12 x 12 kernel of 64 channels takes a seventh of the time.
    """
    if is_plain(x) and weight.dtype is torch.float32:
        return _ToPlane.apply(x, weight, padding)
    return F.conv_transpose2d(x, weight, padding=padding)


class _ToPlane(torch.autograd.Function):
    """`transposed_to_plane` by products."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        (batch, channels, height, width), (rows, columns) = x.shape, weight.shape[2:]
        plane = x.new_zeros(batch, 1, height + rows - 1, width + columns - 1)
        of_taps = weight.flatten(1).t()  # [h w, C]
        for clip in range(batch):  # the products of one clip are as large as h w planes
            inputs = x[clip].permute(1, 2, 0).reshape(height * width, channels)
            products = (of_taps @ inputs.t()).view(rows, columns, height, width)
            for row in range(rows):
                for column in range(columns):
                    plane[clip, 0, row : row + height, column : column + width] += products[row, column]
        above, beside = padding
        return plane[..., above : plane.shape[2] - above, beside : plane.shape[3] - beside]

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], False)
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            slope, x, weight, None, [1, 1], ctx.padding, [1, 1], True, [0, 0], 1, wanted
        )
        return of_x, of_weight, None
