"""Dynamic MobileNets pretrained on AudioSet: MobileNetV3 whose kernels, activations and weights depend on the clip.

Schmid et al., Dynamic Convolutional Neural Networks as Efficient Pre-trained Audio Models, 2023 (arXiv 2310.15648).
They hear what `models.mobilenet.MobileNet` hears and have its layers, tagging head and embedding; what is here is the
block. Its modules are named after the published state dicts.
"""

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.mobilenet import BLOCKS, NORM_EPS, MobileNet, multiple_of_8

KERNELS = 4  # that a dynamic convolution mixes
LINES = 2  # of which a dynamic ReLU takes the larger one
SMALLEST, LARGEST = 32, 128  # size of a context at width 1


class DyMN(MobileNet):
    """A dynamic MobileNet of one of the release's widths, with its tagging head.

    Every block sums its input up in a context, a vector for each clip. From it come the kernels of its convolutions
    (dynamic convolution, equation 6), the activation of every channel (dynamic ReLU, equation 4), and, before it is
    averaged over them, weights of every row and every column of each channel (coordinate attention). Squeeze-and-excite
    falls away.

    Arguments
    ---------
    weights: path of a published state dict, such as `dymn04_as.pt`, or None: from scratch.
    freeze_norm, norm_momentum: as in `MobileNet`.
    size: "dymn04" (2M parameters), "dymn10" (11M) or "dymn20" (40M).

    The softmax over kernels has the temperature 1, at which the published weights end. The authors lower it from 30 in
    the first epochs of a training from scratch, which is not done here.

    Raises UsageError for another size, and for weights that are missing or are not exactly this network's.
    """

    title, widths = "dynamic MobileNet", {"dymn04": 0.4, "dymn10": 1.0, "dymn20": 2.0}
    memory_format = torch.contiguous_format  # a quarter faster on CPU

    def __init__(
        self,
        weights: str | None = None,
        freeze_norm: bool = False,
        size: str = "dymn04",
        norm_momentum: float = 0.01,
    ):
        super().__init__(weights, freeze_norm, size, norm_momentum)

    def _block(
        self, channels: int, kernel: int, expanded: int, out: int, squeeze: bool, swish: bool, stride: int
    ) -> nn.Module:
        width = self.widths[self.size]
        smallest, largest = multiple_of_8(SMALLEST * width), multiple_of_8(LARGEST * width)
        context = min(max(multiple_of_8(expanded // 4), smallest), largest)
        return _DynamicBlock(channels, kernel, expanded, out, swish, stride, context)

    @staticmethod
    def _own_name(published: str) -> str:
        number = re.match(r"layers\.(\d+)\.", published)
        if number is not None:
            return f"features.{int(number[1]) + 1}.{published[number.end() :]}"
        return published.replace("in_c.", "features.0.").replace("out_c.", f"features.{len(BLOCKS) + 1}.")


class _DynamicBlock(nn.Module):
    """Expand, filter each channel, weigh its rows and columns, project; plus the input where shapes agree."""

    def __init__(self, channels: int, kernel: int, expanded: int, out: int, swish: bool, stride: int, context: int):
        super().__init__()
        self.context_gen = _Context(channels, expanded, context, stride)
        self.expands = expanded != channels
        if self.expands:
            self.exp_conv = _Pointwise(channels, expanded, context)
            self.exp_norm = nn.BatchNorm2d(expanded, eps=NORM_EPS)
            self.exp_act = nn.Hardswish() if swish else nn.ReLU()
        self.depth_conv = _Depthwise(expanded, kernel, stride, context)
        self.depth_norm = nn.BatchNorm2d(expanded, eps=NORM_EPS)
        self.depth_act = _DynamicReLU(expanded, context)
        self.proj_conv = _Pointwise(expanded, out, context)
        self.proj_norm = nn.BatchNorm2d(out, eps=NORM_EPS)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, mel, time] to [B, out, mel / stride, time / stride]."""
        context, rows, columns = self.context_gen(x)
        y = x
        if self.expands:
            y = self.exp_act(self.exp_norm(self.exp_conv(y, context)))
        y = self.depth_act(self.depth_norm(self.depth_conv(y, context)), context)
        y = self.proj_norm(self.proj_conv(y * rows * columns, context))
        return x + y if self.residual else y


class _Context(nn.Module):
    """What a block's input is like: as a vector, and along mel and along time."""

    def __init__(self, channels: int, expanded: int, context: int, stride: int):
        super().__init__()
        self.stride = stride
        self.joint_conv = nn.Conv2d(channels, context, 1, bias=False)
        self.joint_norm = nn.BatchNorm2d(context, eps=NORM_EPS)
        self.conv_f = nn.Conv2d(context, expanded, 1)
        self.conv_t = nn.Conv2d(context, expanded, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, C, mel, time] to the context [B, H], and weights of rows and columns in [0, 1].

        These are [B, expanded, mel / stride, 1] and [B, expanded, 1, time / stride].
        """
        means = torch.cat([x.mean(dim=3), x.mean(dim=2)], dim=2).unsqueeze(3)  # [B, C, mel + time, 1]
        joint = F.hardswish(self.joint_norm(self.joint_conv(means)))
        along_mel, along_time = joint.split([x.shape[2], x.shape[3]], dim=2)
        rows = self.conv_f(self._pooled(along_mel)).sigmoid()
        columns = self.conv_t(self._pooled(along_time)).sigmoid()
        return joint.mean(dim=(2, 3)), rows, columns.transpose(2, 3)

    def _pooled(self, sequence: Tensor) -> Tensor:
        """[B, H, length, 1] at the block's stride."""
        if self.stride == 1:
            return sequence
        return F.avg_pool2d(sequence, (3, 1), (self.stride, 1), (1, 0))


class _DynamicKernel(nn.Module):
    """A kernel of `size` numbers for every clip: the mean of four learned ones, weighted by the clip's context.

    std: of the four as training starts, when all have the same weight.
    """

    def __init__(self, size: int, std: float, context: int):
        super().__init__()
        self.residuals = nn.Sequential(_context_layer(context, KERNELS))
        self.weight = nn.Parameter(std * torch.randn(1, 1, KERNELS, size))

    def kernel(self, context: Tensor) -> Tensor:
        """context [B, H] to [B, size]."""
        weights = self.residuals(context).softmax(dim=1)
        return weights @ self.weight[0, 0]


class _Pointwise(_DynamicKernel):
    """Dynamic convolution of 1 x 1 without bias."""

    def __init__(self, channels: int, out: int, context: int):
        super().__init__(out * channels, (2 / out) ** 0.5, context)
        self.out = out

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """[B, channels, h, w] to [B, out, h, w]."""
        kernel = self.kernel(context).unflatten(1, (self.out, -1))
        return (kernel @ x.flatten(2)).unflatten(2, x.shape[2:])


class _Depthwise(_DynamicKernel):
    """Dynamic convolution of each channel for itself, without bias."""

    def __init__(self, channels: int, size: int, stride: int, context: int):
        super().__init__(channels * size**2, (2 / (channels * size**2)) ** 0.5, context)
        self.size, self.stride = size, stride

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """[B, channels, h, w] to [B, channels, h / stride, w / stride]."""
        clips, channels = x.shape[:2]
        # every channel of every clip has a kernel of its own
        kernel = self.kernel(context).reshape(clips * channels, 1, self.size, self.size)
        joined = x.reshape(1, clips * channels, *x.shape[2:])
        filtered = F.conv2d(joined, kernel, None, self.stride, self.size // 2, groups=clips * channels)
        return filtered[0].unflatten(0, (clips, channels))


class _DynamicReLU(nn.Module):
    """The larger of two lines in every channel, whose slopes and offsets the context tells (Chen et al., ECCV 2020).

    They start as the lines of a ReLU, x and 0, and a context moves slopes by at most 1 and offsets by at most 0.5.
    """

    lambdas: Tensor
    init_v: Tensor

    def __init__(self, channels: int, context: int):
        super().__init__()
        self.coef_net = nn.Sequential(_context_layer(context, 2 * LINES * channels))
        self.register_buffer("lambdas", torch.tensor([1.0, 1.0, 0.5, 0.5]))
        self.register_buffer("init_v", torch.tensor([1.0, 0.0, 0.0, 0.0]))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """[B, channels, h, w] to the same shape."""
        moved = 2 * self.coef_net(context).sigmoid() - 1  # [B, channels * 4]
        lines = moved.unflatten(1, (-1, 2 * LINES)) * self.lambdas + self.init_v
        slope, other_slope, offset, other_offset = lines[:, :, :, None, None].unbind(dim=2)  # [B, channels, 1, 1]
        return torch.maximum(x * slope + offset, x * other_slope + other_offset)


def _context_layer(context: int, out: int) -> nn.Linear:
    """A layer that tells little of its input as training starts."""
    layer = nn.Linear(context, out)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer
