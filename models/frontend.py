"""The front end: the only owner of STFT, log1p compression, phase and inverse STFT.

A waveform enters the toolkit through `FrontEnd.analyze` and sound leaves it through `FrontEnd.synthesize`; between
the two, everything is a `Spectrogram`. The STFT is SpeechBrain's (`speechbrain.processing.features`), and its inverse
gives the samples of `torch.istft`.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from speechbrain.processing.features import STFT
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.errors import UsageError
from models.framing import overlap_add, padded_frames


def compress(magnitude: Tensor) -> Tensor:
    """log1p: linear magnitude (>= 0) to log1p magnitude."""
    return torch.log1p(magnitude)


def expand(log_magnitude: Tensor) -> Tensor:
    """expm1, the inverse of `compress`."""
    return torch.expm1(log_magnitude)


@dataclass(frozen=True)
class Spectrogram:
    """A batch of spectrograms of B clips, T frames and F bins.

    log_magnitude: [B, T, F] log1p magnitude, the quantity X that masks multiply in the papers.
    phase: [B, T, F] complex numbers of modulus 1: the STFT of the analysed sound over its modulus, 0 where that is 0.
    num_samples: length in samples of the sound it came from, so that the inverse has the same length.
    """

    log_magnitude: Tensor
    phase: Tensor
    num_samples: int

    @property
    def magnitude(self) -> Tensor:
        """[B, T, F] linear magnitude."""
        return expand(self.log_magnitude)

    def masked(self, mask: Tensor) -> "Spectrogram":
        """The same sound with its log1p magnitude multiplied by `mask` ([B, T, F] or broadcastable, in [0, 1]).

        Raises ValueError when the mask does not broadcast to [B, T, F].
        """
        try:
            fits = np.broadcast_shapes(mask.shape, self.log_magnitude.shape) == self.log_magnitude.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"mask {tuple(mask.shape)} does not fit {tuple(self.log_magnitude.shape)} [B, T, F]")
        return replace(self, log_magnitude=self.log_magnitude * mask)

    def __len__(self) -> int:
        return len(self.log_magnitude)

    def __getitem__(self, clips: slice | Tensor) -> "Spectrogram":
        """Some of the batch's clips, as a Spectrogram."""
        return replace(self, log_magnitude=self.log_magnitude[clips], phase=self.phase[clips])

    def single_clips(self) -> "list[Spectrogram]":
        """The batch's clips, one by one. Their gradients meet in one tensor, where those of slices are added up."""
        planes = zip(self.log_magnitude.split(1), self.phase.split(1), strict=True)
        return [replace(self, log_magnitude=log_magnitude, phase=phase) for log_magnitude, phase in planes]

    def stretches(self, starts: list[int], frames: int, num_samples: int) -> "Spectrogram":
        """Stretches of some frames, from each of S starts, as clips of that many samples: [B S, frames, F].

        Those of a clip stand one after another.
        """
        log_magnitudes, phases = [], []
        for start in starts:
            log_magnitudes.append(self.log_magnitude[:, start : start + frames])
            phases.append(self.phase[:, start : start + frames])
        log_magnitude = torch.stack(log_magnitudes, dim=1).flatten(0, 1)
        return Spectrogram(log_magnitude, torch.stack(phases, dim=1).flatten(0, 1), num_samples)

    def followed_by(self, following: "Spectrogram") -> "Spectrogram":
        """These clips and then those of another batch of the same size [*, T, F] and number of samples."""
        log_magnitude = torch.cat([self.log_magnitude, following.log_magnitude])
        return replace(self, log_magnitude=log_magnitude, phase=torch.cat([self.phase, following.phase]))


class _InverseSTFT(torch.autograd.Function):
    """What `torch.istft` computes, with a gradient that takes a fraction of its time.

    The waveform [B, N] of log1p magnitudes and phases [B, T, F]; frame t is centred on sample t x hop.

    Frames are the inverse real FFT of magnitude times phase, times the window [W] that they were analysed with, which
    lies in the middle of the FFT's samples. Their sum is divided by that of the squared windows.

    With G the real FFT of a waveform's slopes, framed and windowed alike, all bins times 2 / n_fft but the first and
    the last one times 1 / n_fft, the gradient of a magnitude m is Re(conj(phase) G), that of log(1 + m) is 1 + m times
    as large, and that of the phase m G.

    Raises ValueError for more samples than the frames reach.
    """

    @staticmethod
    def forward(ctx, log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int, num_samples: int) -> Tensor:
        count, n_fft = log_magnitude.shape[1], 2 * (log_magnitude.shape[2] - 1)
        start = (n_fft - len(window)) // 2
        first = n_fft // 2 - start  # of a frame's samples, the one it is centred on
        reach = (count - 1) * hop + len(window) - first
        if num_samples > reach:
            raise ValueError(f"{count} frames of {len(window)} samples, {hop} apart, reach {reach} of {num_samples}")
        magnitude = expand(log_magnitude)
        frames = torch.fft.irfft(magnitude * phase, n_fft)[..., start : start + len(window)] * window
        envelope = overlap_add(window.square().expand(1, count, -1), hop)
        sound = slice(first, first + num_samples)
        scale = 1 / envelope[:, sound]
        ctx.save_for_backward(magnitude, phase, window, scale)
        ctx.hop, ctx.start, ctx.padding = hop, start, (first, reach - num_samples)
        return overlap_add(frames, hop)[:, sound] * scale

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        magnitude, phase, window, scale = ctx.saved_tensors
        n_fft = 2 * (magnitude.shape[2] - 1)
        spectrum = torch.fft.rfft(padded_frames(F.pad(slope * scale, ctx.padding), window, ctx.hop, n_fft, ctx.start))
        weight = torch.full_like(magnitude[0, 0], 2 / n_fft)
        weight[0] = weight[-1] = 1 / n_fft
        of_log_magnitude = of_phase = None
        if ctx.needs_input_grad[0]:
            # four times as fast as a product of complex numbers, or a sum over pairs
            along_phase = (spectrum.real * phase.real).addcmul_(spectrum.imag, phase.imag)
            of_log_magnitude = along_phase.mul_(torch.addcmul(weight, magnitude, weight))
        if ctx.needs_input_grad[1]:
            of_phase = spectrum * (magnitude * weight)
        return of_log_magnitude, of_phase, None, None, None


class FrontEnd(nn.Module):
    """Short-time Fourier analysis and synthesis at one sample rate.

    Defaults are the papers': 16 kHz, 1024-point FFT, 23.2199 ms Hamming window, 11.6099 ms hop, which gives 513 bins
    and 431 frames for 5 s. Always float32, also under autocast.

    Arguments
    ---------
    sample_rate: Hz.
    n_fft: FFT size in samples; must hold one window.
    window_ms, hop_ms: milliseconds.

    Raises UsageError for a rate, FFT size, window or hop outside what can be inverted.
    """

    def __init__(
        self, sample_rate: int = 16000, n_fft: int = 1024, window_ms: float = 23.2199, hop_ms: float = 11.6099
    ):
        super().__init__()
        if sample_rate <= 0 or n_fft < 2 or n_fft % 2:
            raise UsageError(
                f"sample_rate={sample_rate} Hz must be positive and n_fft={n_fft} an even number from 2 on"
            )
        window, hop = (round(sample_rate / 1000 * ms) for ms in (window_ms, hop_ms))
        if not 0 < hop < window <= n_fft:
            raise UsageError(
                f"hop_ms={hop_ms} ({hop} samples), window_ms={window_ms} ({window} samples) and n_fft={n_fft} must "
                "satisfy 0 < hop < window <= n_fft at this sample rate"
            )
        self.sample_rate, self.n_fft, self.hop = sample_rate, n_fft, hop
        options = {"sample_rate": sample_rate, "win_length": window_ms, "hop_length": hop_ms, "n_fft": n_fft}
        self._stft = STFT(**options)

    @property
    def num_bins(self) -> int:
        return self.n_fft // 2 + 1

    def num_frames(self, num_samples: int) -> int:
        """Frames T of a clip of that many samples."""
        return num_samples // self.hop + 1

    def analyze(self, waveform: Tensor) -> Spectrogram:
        """waveform [B, N] in [-1, 1] to its Spectrogram. Raises ValueError for another shape or no samples."""
        if waveform.ndim != 2 or waveform.shape[1] == 0:
            raise ValueError(f"expected waveforms [B, N] with N > 0, got {tuple(waveform.shape)}")
        with torch.autocast(waveform.device.type, enabled=False):
            parts = self._stft(waveform.float()).contiguous()  # [B, T, F, 2]
            # The norm has a zero gradient at silence and is four times faster than the modulus of a complex tensor.
            magnitude = torch.linalg.vector_norm(parts, dim=-1)
            phase = torch.sgn(torch.view_as_complex(parts))
            return Spectrogram(compress(magnitude), phase, waveform.shape[1])

    def synthesize(self, spectrogram: Spectrogram) -> Tensor:
        """The waveform [B, N] of a Spectrogram: its magnitude with the phase of the sound it came from."""
        with torch.autocast(spectrogram.log_magnitude.device.type, enabled=False):
            window = self._stft.window.to(spectrogram.phase.device)
            log_magnitude = spectrogram.log_magnitude.float()
            return _InverseSTFT.apply(log_magnitude, spectrogram.phase, window, self.hop, spectrogram.num_samples)
