"""Sounds cut into overlapping frames and put together again: sums of shifted blocks, in both directions.

`torch.Tensor.unfold` differentiates, and `torch.istft` adds its frames, sample by sample. Here frames are added as
whole blocks of a hop, which takes a fraction of the time and gives the same sums, to rounding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def cut_frames(waveform: Tensor, window: Tensor, hop: int) -> Tensor:
    """waveform [B, N] to frames [B, T, W], each `hop` samples after the last one and times the window [W]."""
    return _CutFrames.apply(waveform, window, hop)


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """frames [B, T, W], each `hop` samples after the last one, to their sum [B, (T - 1) hop + W]. Without a graph."""
    batch, count, width = frames.shape
    blocks = -(-width // hop)
    total = frames.new_zeros(batch, count + blocks - 1, hop)
    for number in range(blocks):
        block = frames[..., number * hop : (number + 1) * hop]
        total[:, number : number + count, : block.shape[2]] += block
    return total.flatten(1)[:, : (count - 1) * hop + width]


def padded_frames(waveform: Tensor, window: Tensor, hop: int, n_fft: int, start: int = 0) -> Tensor:
    """The frames of `cut_frames` from sample `start` of an FFT's n_fft on, zeros beside them: [B, T, n_fft].

    Written where they belong, which saves the FFT a copy. Without a graph.
    """
    cut = waveform.unfold(1, len(window), hop)
    frames = waveform.new_zeros(*cut.shape[:2], n_fft)
    torch.mul(cut, window, out=frames[..., start : start + len(window)])
    return frames


class _CutFrames(torch.autograd.Function):
    """`cut_frames`, whose gradient is `overlap_add`."""

    @staticmethod
    def forward(ctx, waveform: Tensor, window: Tensor, hop: int) -> Tensor:
        ctx.save_for_backward(window)
        ctx.hop, ctx.num_samples = hop, waveform.shape[1]
        return waveform.unfold(1, len(window), hop) * window

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None, None]:
        (window,) = ctx.saved_tensors
        gradient = overlap_add(slope * window, ctx.hop)
        behind = ctx.num_samples - gradient.shape[1]  # samples that no frame reaches
        return F.pad(gradient, (0, behind)), None, None
