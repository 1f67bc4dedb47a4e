"""A convolution and the batch norm behind it as one convolution, where nothing of the two is learned."""

from typing import cast

import torch
from torch import Tensor, nn


def normed_convolution(x: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """`norm(convolution(x))` of x [B, C, H, W], to rounding; the convolution has no bias.

    With its statistics and weights fixed, batch norm is a factor and an offset for each channel. These become part of
    the convolution, which saves a pass over its output, and another one over its gradient. While batch norm is in
    training, or a gradient by the weights is wanted, the two are applied one after the other.
    """
    learned = torch.is_grad_enabled() and (convolution.weight.requires_grad or norm.weight.requires_grad)
    if norm.training or learned:
        return norm(convolution(x))
    scale = norm.weight * torch.rsqrt(cast(Tensor, norm.running_var) + norm.eps)
    offset = norm.bias - cast(Tensor, norm.running_mean) * scale
    return convolution._conv_forward(x, convolution.weight * scale[:, None, None, None], offset)
