"""What takes the place of what a mask removes: silence, a noise floor, or another clip.

A score rests on this choice: silence is unlike any sound the classifier was trained on, a noise floor hides what is
quieter than it, another clip also asks the classifier to prefer what was kept to a rival.
"""

from dataclasses import replace

import torch
from torch import Tensor

from models.frontend import Spectrogram, compress, expand

SILENCE_POWER = 1e-20  # of a bin; rounding alone leaves more in a sound
NOISE_FLOOR_DB = -40.0  # below the clip's root-mean-square magnitude


def filled(spectrogram: Spectrogram, mask: Tensor, filling: Spectrogram) -> Spectrogram:
    """What `mask` keeps of a spectrogram, and `filling` in the rest of the plane.

    mask: [B, T, F] in [0, 1]. filling: of the same shape; it is weighed by 1 - mask, and the two are added as complex
    STFTs. With a binary mask every bin is the one's or the other's.
    """
    kept = expand(spectrogram.log_magnitude * mask) * spectrogram.phase
    rest = expand(filling.log_magnitude * (1 - mask)) * filling.phase
    parts = torch.view_as_real(kept + rest)
    # the modulus has no finite gradient at silence, nor a norm where magnitudes are denormal numbers
    magnitude = (parts.square().sum(dim=-1) + SILENCE_POWER).sqrt()
    # The phase of a denormal number is NaN, so those become 0. Its gradient would grow beyond bounds: it has none.
    audible = parts.detach() * (parts.detach().abs() > torch.finfo(parts.dtype).tiny)
    return replace(spectrogram, log_magnitude=compress(magnitude), phase=torch.sgn(torch.view_as_complex(audible)))


def added(spectrogram: Spectrogram, addition: Spectrogram) -> Spectrogram:
    """The sounds of two batches of equal shape together, without a graph."""
    stft = (spectrogram.magnitude * spectrogram.phase + addition.magnitude * addition.phase).detach()
    return replace(spectrogram, log_magnitude=compress(stft.abs()), phase=torch.sgn(stft))


def scaled(spectrogram: Spectrogram, gain: Tensor) -> Spectrogram:
    """The sounds times gain [B] (of amplitude, 0 or more)."""
    return replace(spectrogram, log_magnitude=compress(gain[:, None, None] * spectrogram.magnitude))


def shifted(spectrogram: Spectrogram, clips: int = 0, frames: int = 0) -> Spectrogram:
    """Every clip in the place of the one `clips` after it, and that many frames later, in a circle each."""

    def roll(plane: Tensor) -> Tensor:
        return plane.roll((clips, frames), dims=(0, 1))

    return replace(spectrogram, log_magnitude=roll(spectrogram.log_magnitude), phase=roll(spectrogram.phase))


def noise_floor(spectrogram: Spectrogram, seed: int, level_db: float = NOISE_FLOOR_DB) -> Spectrogram:
    """White noise as long as the clips, `level_db` dB relative to each clip's root-mean-square magnitude.

    Every clip has the same noise but for its level, drawn from `seed`, so that scores can be repeated.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = spectrogram.phase.shape[1:]
    parts = torch.randn(*shape, 2, generator=generator).to(spectrogram.log_magnitude)
    rms = spectrogram.magnitude.square().mean(dim=(1, 2), keepdim=True).sqrt()
    # a complex normal number of unit variance has a mean square of 1
    stft = torch.view_as_complex(parts) / 2**0.5 * (rms * 10 ** (level_db / 20))
    return replace(spectrogram, log_magnitude=compress(stft.abs()), phase=torch.sgn(stft))
