"""Adapters: from a Spectrogram to what a backbone takes as input."""

import torch
import torch.nn.functional as F
from speechbrain.processing.features import Filterbank
from torch import Tensor, nn

from models.frontend import FrontEnd, Spectrogram, compress


class ImageAdapter(nn.Module):
    """The log1p spectrogram as a square image of 3 equal channels, as the FocalNet paper feeds FocalNet and ViT.

    Arguments
    ---------
    size: height and width in pixels; time runs down the rows, frequency along the columns.
    mean, std: subtracted from and divided into the log1p magnitude; the paper uses 0 and 1.
    """

    def __init__(self, size: int = 224, mean: float = 0.0, std: float = 1.0):
        super().__init__()
        self.size, self.mean, self.std = size, mean, std

    def forward(self, spectrogram: Spectrogram) -> Tensor:
        """Spectrogram of [B, T, F] to [B, 3, size, size]."""
        image = spectrogram.log_magnitude.unsqueeze(1)  # [B, 1, T, F]
        image = F.interpolate(image, (self.size, self.size), mode="bilinear", align_corners=False)
        return ((image - self.mean) / self.std).expand(-1, 3, -1, -1)


class MelAdapter(nn.Module):
    """log1p mel magnitudes of the same STFT (SpeechBrain's triangular filters).

    Arguments
    ---------
    frontend: the classifier's front end, for its rate and FFT size.
    num_mels: bands between f_min and f_max (Hz; None: half the sample rate).
    min_frames: shorter clips are padded with silent frames at the end, so that five poolings leave something.
    """

    matrix: Tensor

    def __init__(
        self,
        frontend: FrontEnd,
        num_mels: int = 80,
        f_min: float = 0.0,
        f_max: float | None = None,
        min_frames: int = 64,
    ):
        super().__init__()
        self.mel_top = f_max or frontend.sample_rate / 2
        filters = Filterbank(
            n_mels=num_mels,
            log_mel=False,
            f_min=f_min,
            f_max=self.mel_top,
            n_fft=frontend.n_fft,
            sample_rate=frontend.sample_rate,
        )
        # The filters of an identity are the filter matrix: SpeechBrain rebuilds it at every call.
        matrix = filters(torch.eye(frontend.num_bins).unsqueeze(0))[0]  # [F, num_mels]
        self.register_buffer("matrix", matrix, persistent=False)
        self.min_frames = min_frames

    def forward(self, spectrogram: Spectrogram) -> Tensor:
        """Spectrogram of [B, T, F] to [B, max(T, min_frames), num_mels]."""
        mel = compress(spectrogram.magnitude @ self.matrix)
        return F.pad(mel, (0, 0, 0, max(0, self.min_frames - mel.shape[1])))
