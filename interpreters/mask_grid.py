"""A coarse grid over the time-frequency plane, on which masks are learned: frames by bands of equal width in mel.

A classifier hears low frequencies finely and high ones coarsely, and so do the cells: a mask on them spends its area
where the classifier can tell the difference.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import UsageError

MEL_CORNER_HZ = 700.0  # O'Shaughnessy's formula: mel(f) = 2595 log10(1 + f / 700)


def mel_position(hertz: Tensor, top: float) -> Tensor:
    """Where frequencies in Hz lie on a mel axis, from 0 at 0 Hz to 1 at `top` Hz, same shape."""
    return torch.log(1 + hertz / MEL_CORNER_HZ) / math.log(1 + top / MEL_CORNER_HZ)


class MaskGrid(nn.Module):
    """Cells of `frames_per_cell` frames by one of `bands` mel bands, over spectrograms of `bins` frequency bins.

    A band that is narrower than the bins' spacing may hold no bin; it is then never shown and weighs nothing.

    Arguments
    ---------
    bins: F of the spectrograms, from 0 Hz to half the sample rate. sample_rate: Hz.
    frames_per_cell, bands: 1 or more.

    Raises UsageError for less.
    """

    member: Tensor
    bins_in_band: Tensor

    def __init__(self, bins: int, sample_rate: int, frames_per_cell: int = 4, bands: int = 64):
        super().__init__()
        if frames_per_cell < 1 or bands < 1:
            raise UsageError(f"frames_per_cell={frames_per_cell} and bands={bands} must be 1 or more")
        self.bins, self.bands, self.frames_per_cell = bins, bands, frames_per_cell
        self.nyquist = sample_rate / 2
        hertz = torch.linspace(0, self.nyquist, bins)
        band = (mel_position(hertz, self.nyquist) * bands).long().clamp(max=bands - 1)
        member = F.one_hot(band, bands).float()  # [bins, bands]
        self.register_buffer("member", member, persistent=False)
        self.register_buffer("bins_in_band", member.sum(dim=0), persistent=False)

    def rows(self, frames: int) -> int:
        """Cells along time of a spectrogram of that many frames; the last one may be cut short."""
        return math.ceil(frames / self.frames_per_cell)

    def frames_in_row(self, frames: int) -> Tensor:
        """[rows] how many frames each row of cells holds."""
        starts = torch.arange(self.rows(frames), device=self.member.device) * self.frames_per_cell
        return (frames - starts).clamp(max=self.frames_per_cell).float()

    def share(self, frames: int) -> Tensor:
        """[rows, bands] share of the plane [frames, bins] that each cell covers; they sum to 1."""
        covered = self.frames_in_row(frames)[:, None] * self.bins_in_band
        return covered / (frames * self.bins)

    def pool(self, plane: Tensor) -> Tensor:
        """[B, frames, bins] to the mean over every cell [B, rows, bands]; 0 where a band holds no bin."""
        frames = plane.shape[1]
        in_bands = plane @ self.member / self.bins_in_band.clamp(min=1)
        padded = F.pad(in_bands, (0, 0, 0, self.rows(frames) * self.frames_per_cell - frames))
        sums = padded.unflatten(1, (-1, self.frames_per_cell)).sum(dim=2)
        return sums / self.frames_in_row(frames)[:, None]

    def enlarge(self, cells: Tensor, frames: int) -> Tensor:
        """[B, rows, bands] to [B, frames, bins]: every bin takes the value of its cell."""
        columns = cells @ self.member.T
        repeated = columns.unsqueeze(2).expand(-1, -1, self.frames_per_cell, -1)
        return repeated.flatten(1, 2)[:, :frames]

    def band_centres(self) -> Tensor:
        """[bands] centre frequency of every band in Hz."""
        position = (torch.arange(self.bands, device=self.member.device) + 0.5) / self.bands
        return MEL_CORNER_HZ * (torch.exp(position * math.log(1 + self.nyquist / MEL_CORNER_HZ)) - 1)
