"""Linear interpolation of maps and sequences, with the ends of an axis at the edges of its first and last step."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, C, h, w] to [B, C, *size], bilinear."""
    if image.shape[2:] == size:
        return image
    return F.interpolate(image, size, mode="bilinear", align_corners=False)


def resize_map(maps: Tensor, frames: int, bins: int) -> Tensor:
    """[B, 1, h, w] to [B, frames, bins] by bilinear interpolation in float32."""
    return F.interpolate(maps.float(), (frames, bins), mode="bilinear", align_corners=False).squeeze(1)


def sample_at(sequence: Tensor, position: Tensor) -> Tensor:
    """Linear interpolation of sequence [B, C, h], its steps sharing [0, 1] evenly, at positions [L]."""
    index = (position * sequence.shape[2] - 0.5).clamp(0, sequence.shape[2] - 1)
    below = index.long()
    above = (below + 1).clamp(max=sequence.shape[2] - 1)
    return torch.lerp(sequence[:, :, below], sequence[:, :, above], (index - below).to(sequence))


def stretch(sequence: Tensor, steps: int) -> Tensor:
    """[B, C, h] to [B, C, steps], linear; the sequence itself where it has as many."""
    if sequence.shape[2] == steps:
        return sequence
    return sample_at(sequence, (torch.arange(steps, device=sequence.device) + 0.5) / steps)
