"""Resampling inside a network: torchaudio's windowed-sinc filter, written as one matrix product a block of samples.

A convolution with 15 taps and two output channels, which is what 16 to 32 kHz is, takes longer to differentiate than a
whole MobileNet. As a product of blocks with a matrix it costs a tenth, and gives the same samples.
"""

import math

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from models.framing import cut_frames

MIN_BLOCK = 64  # samples; a block smaller than the filter would be read several times over


class Resampler(nn.Module):
    """Sounds [B, N] from one sample rate to another, as `torchaudio.functional.resample` with its defaults does.

    Arguments
    ---------
    rate, new_rate: Hz, whole numbers.
    """

    matrix: Tensor

    def __init__(self, rate: int, new_rate: int):
        super().__init__()
        divisor = math.gcd(rate, new_rate)
        self.step, self.new_step = rate // divisor, new_rate // divisor
        blocks = -(-MIN_BLOCK // self.step)
        self.block, self.new_block = blocks * self.step, blocks * self.new_step
        self.before = self.after = 0  # samples that a block needs of its neighbours
        if rate != new_rate:
            self._measure(rate, new_rate)

    def _measure(self, rate: int, new_rate: int) -> None:
        """The response of torchaudio's filter to an impulse at every sample that reaches one block of the output."""
        reach = max(1, rate / new_rate) * 16  # twice the filter's half width
        context = self.step * math.ceil(reach / self.step)
        impulses = torch.eye(2 * context + self.block)
        start = context // self.step * self.new_step
        response = torchaudio.functional.resample(impulses, rate, new_rate)[:, start : start + self.new_block]
        reached = response.abs().amax(dim=1).nonzero().flatten()
        first, last = int(reached[0]), int(reached[-1])
        self.before, self.after = context - first, last + 1 - context - self.block
        self.register_buffer("matrix", response[first : last + 1].clone(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform [B, N] float32 to [B, ceil(N new_rate / rate)]."""
        if self.step == self.new_step:
            return waveform
        num_samples = waveform.shape[1]
        blocks = -(-num_samples // self.block)
        padding = self.before, blocks * self.block - num_samples + self.after
        whole = torch.ones(len(self.matrix), dtype=waveform.dtype, device=waveform.device)
        pieces = cut_frames(F.pad(waveform, padding), whole, self.block)  # [B, blocks, samples]
        resampled = (pieces @ self.matrix).flatten(1)
        return resampled[:, : -(-num_samples * self.new_step // self.step)]
