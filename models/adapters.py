"""Adapters: from a Spectrogram to what a backbone takes as input."""

from typing import Protocol, cast

import torch
import torch.nn.functional as F
from speechbrain.processing.features import Filterbank
from torch import Tensor, nn
from torchaudio.compliance.kaldi import mel_scale

from models.frontend import FrontEnd, Spectrogram, compress


class ImageAdapter(nn.Module):
    """The log1p spectrogram as a square image of 3 channels: equal ones, as the FocalNet paper feeds FocalNet and ViT,
    or ones that are learned.

    Arguments
    ---------
    size: height and width in pixels; time runs down the rows, frequency along the columns.
    mean, std: subtracted from and divided into the log1p magnitude; the paper uses 0 and 1.
    projection: hidden channels of a learned `Projection`; 0: none.
    """

    def __init__(self, size: int = 224, mean: float = 0.0, std: float = 1.0, projection: int = 0):
        super().__init__()
        self.size, self.mean, self.std = size, mean, std
        self.projection = Projection(size, projection) if projection else None

    def forward(self, spectrogram: Spectrogram) -> Tensor:
        """Spectrogram of [B, T, F] to [B, 3, size, size]."""
        plane = spectrogram.log_magnitude.unsqueeze(1)  # [B, 1, T, F]
        image = (self._resized(plane) - self.mean) / self.std
        if self.projection is None:
            return image.expand(-1, 3, -1, -1)
        local = self._resized(self.projection.local((plane - self.mean) / self.std))
        return self.projection.level(image + local)

    def _resized(self, plane: Tensor) -> Tensor:
        """[B, C, T, F] to [B, C, size, size]."""
        return F.interpolate(plane, (self.size, self.size), mode="bilinear", align_corners=False)


class Projection(nn.Module):
    """What is learned on the way from one spectrogram to three channels, in place of three replicas of it.

    The paper stacks replicas (arXiv 2402.02754, section 2.3). Here each channel is a replica plus the answer of two
    convolutions with a GELU between them, taken before the image is made smaller, and each column (frequency) of each
    channel has a gain and an offset. So a channel may respond to onsets or to tones, and a convolution is told at what
    frequency it is. No bin reaches further than two kernels' halves, 4 bins: a map of the image still shows places.

    It starts as three replicas: the second convolution, the gains' distances from 1 and the offsets are 0. Its start is
    drawn aside, so that a network of the same seed starts with the same weights with and without it.

    Arguments
    ---------
    size: columns of the image.
    hidden: channels between the convolutions.
    """

    KERNEL = 5

    def __init__(self, size: int, hidden: int):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            first = nn.Conv2d(1, hidden, self.KERNEL, padding="same")
            second = nn.Conv2d(hidden, 3, self.KERNEL, padding="same")
        nn.init.zeros_(second.weight)
        nn.init.zeros_(cast(Tensor, second.bias))
        self.local = nn.Sequential(first, nn.GELU(), second)
        self.gain = nn.Parameter(torch.zeros(3, 1, size))  # less 1, so that weight decay draws it to a replica
        self.offset = nn.Parameter(torch.zeros(3, 1, size))

    def level(self, image: Tensor) -> Tensor:
        """[B, 3, size, size], every column with its channel's gain and offset."""
        return image * (1 + self.gain) + self.offset


class PlaneAdapter(nn.Module):
    """The log1p spectrogram as it is.

    min_frames: shorter clips are padded with silent frames at the end, so that poolings leave something.
    """

    def __init__(self, min_frames: int = 16):
        super().__init__()
        self.min_frames = min_frames

    def forward(self, spectrogram: Spectrogram) -> Tensor:
        """Spectrogram of [B, T, F] to [B, max(T, min_frames), F]."""
        plane = spectrogram.log_magnitude
        return F.pad(plane, (0, 0, 0, max(0, self.min_frames - plane.shape[1])))


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


class MelBands(Protocol):
    """An adapter whose `num_mels` bands lie evenly on Kaldi's mel axis between `mel_low` and `mel_top`, in Hz.

    silence: what every band has where there is no sound.
    """

    frontend: FrontEnd
    num_mels: int
    mel_low: float
    mel_top: float

    @property
    def silence(self) -> float: ...


def to_linear(adapter: MelBands, first: float, step: float, count: int) -> Tensor:
    """[count, F] weights that bring values at mel bands first, first + step, … to the front end's linear bins.

    Linear interpolation between bands, nothing above what the network hears.
    """
    frontend = adapter.frontend
    low, high = mel_scale(torch.tensor([adapter.mel_low, adapter.mel_top]))
    hertz = torch.arange(frontend.num_bins) * frontend.sample_rate / frontend.n_fft
    band = (mel_scale(hertz) - low) / (high - low) * (adapter.num_mels + 1) - 1
    position = ((band - first) / step).clamp(0, count - 1)
    weights = (1 - (position - torch.arange(count).unsqueeze(1)).abs()).clamp(min=0)
    return weights * (hertz <= adapter.mel_top)
