"""What takes the place of what a mask removes: silence, a noise floor, or another clip.

A score rests on this choice: silence is unlike any sound the classifier was trained on, a noise floor hides what is
quieter than it, another clip also asks the classifier to prefer what was kept to a rival.
"""

from dataclasses import replace

import torch
from torch import Tensor

from models.frontend import Spectrogram, compress, expand

NOISE_FLOOR_DB = -40.0  # below the clip's root-mean-square magnitude


def filled(spectrogram: Spectrogram, mask: Tensor, filling: Spectrogram) -> Spectrogram:
    """What `mask` keeps of a spectrogram, and `filling` in the rest of the plane.

    mask: [B, T, F] in [0, 1]. filling: of the same shape; it is weighed by 1 - mask, and the two are added as complex
    STFTs. With a binary mask every bin is the one's or the other's.
    """
    kept = expand(spectrogram.log_magnitude * mask) * spectrogram.phase
    rest = expand(filling.log_magnitude * (1 - mask)) * filling.phase
    parts = torch.view_as_real(kept + rest)
    # the norm has a zero gradient at silence, unlike the modulus of a complex tensor
    magnitude = torch.linalg.vector_norm(parts, dim=-1)
    return replace(spectrogram, log_magnitude=compress(magnitude), stft=torch.view_as_complex(parts))


def noise_floor(spectrogram: Spectrogram, seed: int, level_db: float = NOISE_FLOOR_DB) -> Spectrogram:
    """White noise as long as the clips, `level_db` dB relative to each clip's root-mean-square magnitude.

    Every clip has the same noise but for its level, drawn from `seed`, so that scores can be repeated.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = spectrogram.stft.shape[1:]
    parts = torch.randn(*shape, 2, generator=generator).to(spectrogram.log_magnitude)
    rms = spectrogram.magnitude.square().mean(dim=(1, 2), keepdim=True).sqrt()
    # a complex normal number of unit variance has a mean square of 1
    stft = torch.view_as_complex(parts) / 2**0.5 * (rms * 10 ** (level_db / 20))
    return replace(spectrogram, log_magnitude=compress(stft.abs()), stft=stft)
