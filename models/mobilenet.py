"""MobileNetV3 pretrained on AudioSet: the network, its 32 kHz mel front end and its published weights.

Howard et al., Searching for MobileNetV3, ICCV 2019 (arXiv 1905.02244), table 1; trained on AudioSet by
Schmid et al., Efficient Large-Scale Audio Tagging, ICASSP 2023 (arXiv 2211.04772), in widths from 0.4 (`mn04_as`) to 4
(`mn40_as`). The modules are named after the published state dicts, so that hardly a tensor needs renaming.
"""

import math
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchaudio.compliance.kaldi import get_mel_banks

from models.classifier import Features
from models.convolution import PointwiseConv2d
from models.errors import UsageError
from models.folding import normed_convolution
from models.framing import overlap_add, padded_frames
from models.frontend import FrontEnd, Spectrogram
from models.pretrained import fill, read_checkpoint
from models.resampling import Resampler

# Table 1 at width 1: kernel, expanded channels, output channels, squeeze-and-excite, hard-swish, stride
BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
STEM, HIDDEN, TAGS = 16, 1280, 527
LAST = 6  # channels of the last map for each one of the last block
WIDTHS = {"mn04": 0.4, "mn05": 0.5, "mn10": 1.0, "mn20": 2.0, "mn30": 3.0, "mn40": 4.0}
"""Factor of every number of channels, by the names of the release."""

ROWS = 4  # of the last map: 128 mel bands at 1/32
# the last layer at 1/4, 1/8, 1/16 and 1/32 of the image
MAP_LAYERS = (3, 6, 12, 16)
NORM_EPS = 0.001  # of every batch norm
PREEMPHASIS = 0.97
FLOOR = 1e-5  # added to the power of a mel band before the logarithm


class PreemphasisMelAdapter(nn.Module):
    """Log mel power of the pre-emphasised sound at 32 kHz, scaled as PaSST and the AudioSet MobileNets were trained.

    The spectrogram is synthesised, so that masks reach the network, then analysed again: pre-emphasis 0.97,
    FFT of 1024, symmetric Hann window of 800, hop of 320 samples, 128 Kaldi mel bands from 0 to 15 kHz,
    (log(x + 1e-5) + 4.5) / 5.
    Always float32, differentiable, and finite at silence.

    frontend: the classifier's front end; its rate may be any.
    """

    matrix: Tensor
    window: Tensor
    sample_rate, n_fft, window_length, hop, num_mels = 32000, 1024, 800, 320, 128
    mel_low, mel_top = 0.0, 15000.0  # Hz

    def __init__(self, frontend: FrontEnd):
        super().__init__()
        self.frontend = frontend
        self.resample = Resampler(frontend.sample_rate, self.sample_rate)
        window = torch.hann_window(self.window_length, periodic=False)
        bands, _ = get_mel_banks(
            self.num_mels, self.n_fft, self.sample_rate, self.mel_low, self.mel_top, 100.0, -500.0, 1.0
        )
        # Kaldi leaves the bin at half the sample rate out
        self.register_buffer("matrix", F.pad(bands, (0, 1)), persistent=False)  # [num_mels, n_fft / 2 + 1]
        self.register_buffer("window", window, persistent=False)

    def forward(self, spectrogram: Spectrogram) -> Tensor:
        """Spectrogram of [B, T, F] to [B, 1, num_mels, 100 frames a second]."""
        if spectrogram.log_magnitude.device.type != "cpu":
            return self._image(spectrogram)
        # the planes of one clip fit a processor's cache, those of a batch do not
        return torch.cat([self._image(clip) for clip in spectrogram.single_clips()])

    def _image(self, spectrogram: Spectrogram) -> Tensor:
        waveform = self.frontend.synthesize(spectrogram)
        with torch.autocast(waveform.device.type, enabled=False):
            waveform = self.resample(waveform)
            # the reflected borders need more samples than half a window
            waveform = F.pad(waveform, (0, max(0, self.n_fft - waveform.shape[1])))
            waveform = _Preemphasis.apply(waveform, self.window_length // 2)
            power = _PowerSpectrum.apply(waveform, self.window, self.hop, self.n_fft)  # [B, frames, bins]
            mel = torch.log(power @ self.matrix.T + FLOOR)
            return ((mel + 4.5) / 5).transpose(1, 2).unsqueeze(1)

    @property
    def silence(self) -> float:
        """Every band of digital silence."""
        return (math.log(FLOOR) + 4.5) / 5


class _Preemphasis(torch.autograd.Function):
    """Each sample less `PREEMPHASIS` times the one before it, mirrored at both ends: [B, N] to [B, N - 1 + 2 border].

    Slices, a difference and `F.pad` do the same, and their gradients take three times as long.
    """

    @staticmethod
    def forward(ctx, waveform: Tensor, border: int) -> Tensor:
        ctx.border, samples = border, waveform.shape[1] - 1
        result = waveform.new_empty(len(waveform), samples + 2 * border)
        emphasised = result[:, border : border + samples]
        torch.sub(waveform[:, 1:], waveform[:, :-1], alpha=PREEMPHASIS, out=emphasised)
        result[:, :border] = emphasised[:, 1 : 1 + border].flip(1)
        result[:, border + samples :] = emphasised[:, samples - 1 - border : samples - 1].flip(1)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None]:
        border, samples = ctx.border, slope.shape[1] - 2 * ctx.border
        of_waveform = F.pad(slope[:, border : border + samples], (1, 0))
        emphasised = of_waveform[:, 1:]
        emphasised[:, 1 : 1 + border] += slope[:, :border].flip(1)
        emphasised[:, samples - 1 - border : samples - 1] += slope[:, border + samples :].flip(1)
        of_waveform[:, :-1] -= PREEMPHASIS * emphasised
        return of_waveform, None


class _PowerSpectrum(torch.autograd.Function):
    """|FFT|^2 of a waveform's frames [B, T, n_fft / 2 + 1]: from [B, N], times the window [W], hop samples apart.

    The gradient of sum_k g_k |X_k|^2 by sample n of a frame is 2 Re sum_k g_k X_k exp(2 pi i k n / n_fft): one inverse
    real FFT. Autograd's own way is a complex FFT of twice the size, several copies and the power's two halves.
    """

    @staticmethod
    def forward(ctx, waveform: Tensor, window: Tensor, hop: int, n_fft: int) -> Tensor:
        spectrum = torch.fft.rfft(padded_frames(waveform, window, hop, n_fft))
        ctx.save_for_backward(spectrum, window)
        ctx.num_samples, ctx.hop, ctx.n_fft = waveform.shape[1], hop, n_fft
        return spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None, None, None]:
        spectrum, window = ctx.saved_tensors
        # the inverse real FFT counts every bin twice, but for the first and the last one
        weighted = spectrum * slope
        weighted[..., 0] *= 2
        weighted[..., -1] *= 2
        frames = torch.fft.irfft(weighted, ctx.n_fft, norm="forward")[..., : len(window)].mul_(window)
        gradient = overlap_add(frames, ctx.hop)
        return F.pad(gradient, (0, ctx.num_samples - gradient.shape[1])), None, None, None


class MobileNet(nn.Module):
    """MobileNetV3-Large of one input channel and one of the release's widths, with its tagging head.

    The embedding joins the last map averaged over time, with frequency kept apart (4 x C), the hidden layer and
    AudioSet's 527 tags: a linear probe errs less on ESC-50 than on any one of them.

    Arguments
    ---------
    weights: path of a published state dict, such as `mn04_as_mAP_432.pt` of width mn04, or None: from scratch.
    freeze_norm: keep the batch norm's running statistics in training too. Those of AudioSet describe sounds better
        than a few batches of a small set do.
    size: one of `WIDTHS`, from "mn04" (1M parameters) to "mn40" (68M).
    norm_momentum: of the batch norm's running statistics, in (0, 1]. The published 0.01 needs hundreds of steps until
        they hold, so a short training from scratch wants more.

    Raises UsageError for another size, and for weights that are missing or are not exactly this network's.
    """

    title, widths = "MobileNet", WIDTHS
    memory_format = torch.channels_last  # a third faster on CPU

    def __init__(
        self,
        weights: str | None = None,
        freeze_norm: bool = False,
        size: str = "mn04",
        norm_momentum: float = 0.01,
    ):
        super().__init__()
        if size not in self.widths:
            raise UsageError(f"size={size!r} is not one of {', '.join(self.widths)}")
        self.size, self.freeze_norm = size, freeze_norm
        width = self.widths[size]
        channels = multiple_of_8(STEM * width)
        layers: list[nn.Module] = [_conv(1, channels, 3, stride=2, activation=nn.Hardswish)]
        for kernel, expanded, out, squeeze, swish, stride in BLOCKS:
            expanded, out = multiple_of_8(expanded * width), multiple_of_8(out * width)
            layers.append(self._block(channels, kernel, expanded, out, squeeze, swish, stride))
            channels = out
        last, hidden = LAST * channels, multiple_of_8(HIDDEN * width)
        layers.append(_conv(channels, last, 1, activation=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        # the published head has dropout in the place of the identity
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(last, hidden),
            nn.Hardswish(),
            nn.Identity(),
            nn.Linear(hidden, TAGS),
        )
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = norm_momentum
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.embedding_size = ROWS * last + hidden + TAGS
        self.provenance = "from scratch"
        if weights is not None:
            self._load(Path(weights))
            self.provenance = str(weights)

    def train(self, mode: bool = True) -> "MobileNet":
        """Training or evaluation mode; a frozen batch norm stays in the latter."""
        super().train(mode)
        if self.freeze_norm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):  # torchrun makes them SyncBatchNorm on GPUs
                    module.eval()
        return self

    def forward(self, image: Tensor) -> Features:
        """image [B, 1, mel, time] to Features with the maps at 1/4, 1/8, 1/16 and 1/32 of its size."""
        maps = []
        image = image.contiguous(memory_format=self.memory_format)
        for number, layer in enumerate(self.features):
            image = layer(image)
            if number in MAP_LAYERS:
                maps.append(image.transpose(2, 3))
        rows = F.adaptive_avg_pool2d(image, (ROWS, 1)).flatten(1)
        hidden = self.classifier[:-1](image)
        return Features(torch.cat([rows, hidden, self.classifier[-1](hidden)], dim=1), tuple(maps))

    def _block(
        self, channels: int, kernel: int, expanded: int, out: int, squeeze: bool, swish: bool, stride: int
    ) -> nn.Module:
        """A layer between two maps of `channels` and `out` channels."""
        return _InvertedResidual(channels, kernel, expanded, out, squeeze, swish, stride)

    def _load(self, path: Path) -> None:
        state = {self._own_name(key): value for key, value in read_checkpoint(path).items()}
        named = [size for size in self.widths if size != self.size and path.name.startswith(f"{size}_")]
        hint = f" (pass --size={named[0]})" if named else ""
        fill(self, state, f"weights={str(path)!r} are not those of the {self.title} {self.size}{hint}")

    @staticmethod
    def _own_name(published: str) -> str:
        """What a tensor of the release is called here."""
        return published.replace(".conc_se_layers.0.", ".")


class _InvertedResidual(nn.Module):
    """Expand, filter each channel, optionally weigh channels, project; plus the input where shapes agree."""

    def __init__(self, channels: int, kernel: int, expanded: int, out: int, squeeze: bool, swish: bool, stride: int):
        super().__init__()
        activation = nn.Hardswish if swish else nn.ReLU
        layers: list[nn.Module] = []
        if expanded != channels:
            layers.append(_conv(channels, expanded, 1, activation=activation))
        layers.append(_conv(expanded, expanded, kernel, stride, expanded, activation))
        if squeeze:
            layers.append(_SqueezeExcite(expanded))
        layers.append(_conv(expanded, out, 1))
        self.block = nn.Sequential(*layers)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.residual else self.block(x)


class _SqueezeExcite(nn.Module):
    """Channel weights in [0, 1] from the channels' means (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int):
        super().__init__()
        squeezed = multiple_of_8(channels // 4)
        self.fc1, self.fc2 = nn.Linear(channels, squeezed), nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3))))))
        return x * weights[:, :, None, None]


def multiple_of_8(wanted: float) -> int:
    """The multiple of 8 next to a number of channels, and one more where that took more than a tenth away."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class _ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm and activation; what is frozen takes one step for the first two."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, activation: nn.Module):
        super().__init__(convolution, norm, activation)

    def forward(self, x: Tensor) -> Tensor:
        convolution, norm, activation = self
        return activation(normed_convolution(x, cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm)))


def _conv(
    channels: int,
    out: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] = nn.Identity,
) -> nn.Sequential:
    convolution: nn.Conv2d
    if kernel == 1:
        convolution = PointwiseConv2d(channels, out, bias=False)
    else:
        convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return _ConvNorm(convolution, nn.BatchNorm2d(out, eps=NORM_EPS), activation())
