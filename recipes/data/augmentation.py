"""Augmentation of training clips: waveforms and their targets together, because mixing changes both."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TrainingClips:
    """waveform [B, N] and target [B, K], class weights in [0, 1]."""

    waveform: Tensor
    target: Tensor


class Augmentation(nn.Module):
    """Time shift, mixup, random gain and any SpeechBrain waveform augmentation, in that order.

    Arguments
    ---------
    waveform: a `speechbrain.augment.augmenter.Augmenter` (drop frequencies, drop chunks, …) or None.
    shift: roll every clip in time by a random amount, wrapping around.
    mixup_alpha: Beta parameter of mixup (Zhang et al., ICLR 2018); 0 for none.
    gain_db: largest attenuation in dB, drawn uniformly in [-gain_db, 0] a clip.
    """

    def __init__(
        self,
        waveform: nn.Module | None = None,
        shift: bool = False,
        mixup_alpha: float = 0.0,
        gain_db: float = 0.0,
    ):
        super().__init__()
        self.waveform, self.shift, self.mixup_alpha, self.gain_db = waveform, shift, mixup_alpha, gain_db

    def forward(self, clips: TrainingClips) -> TrainingClips:
        """New clips of the same shapes; draws from torch's global generator only."""
        waveform, target = clips.waveform, clips.target
        batch, samples = waveform.shape
        if self.shift:
            offsets = torch.randint(samples, (batch, 1)).to(waveform.device)
            positions = torch.arange(samples, device=waveform.device).expand(batch, -1)
            waveform = waveform.gather(1, (positions + offsets) % samples)
        if self.mixup_alpha > 0:
            share = torch.distributions.Beta(self.mixup_alpha, self.mixup_alpha).sample((batch, 1))
            share = torch.maximum(share, 1 - share).to(waveform)
            partner = torch.randperm(batch).to(waveform.device)
            waveform = share * waveform + (1 - share) * waveform[partner]
            target = share * target + (1 - share) * target[partner]
        if self.gain_db > 0:
            waveform = waveform * 10 ** (-self.gain_db / 20 * torch.rand(batch, 1).to(waveform))
        if self.waveform is not None:
            waveform, _ = self.waveform(waveform, torch.ones(batch, device=waveform.device))
        return TrainingClips(waveform, target)
