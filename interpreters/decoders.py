"""Decoders of a classifier's feature maps: to one logit for every time-frequency bin, or to a sequence along time."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from speechbrain.lobes.models.Cnn14 import CNN14PSI_stft
from speechbrain.lobes.models.L2I import CNN14PSI_stft_2d, PsiOptimized
from torch import Tensor, nn

from interpreters.interpolation import resize
from models.errors import UsageError
from models.transposed import use_products

FITS = ("stretch", "crop")


class _Refine(nn.Sequential):
    """3 x 3 convolution, normalisation over the clip (the same at every batch size) and GELU."""

    def __init__(self, before: int, after: int):
        super().__init__(nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(1, after), nn.GELU())


class LightDecoder(nn.Module):
    """A small U-Net decoder for maps of any number, channels and size, and clips of any length.

    From coarse to fine, each map is projected, added to what came from below and refined. The coarsest has
    `width` channels, each finer one half as many, down to `narrowest`. The finest result is mapped along
    frequency by a learned matrix, because maps may lie on a mel axis and masks lie on a linear one. Four
    refinements, each with half the channels down to width / 16, then grow to one value a cell of [T, F], and
    the logit is enlarged once.

    Arguments
    ---------
    map_channels: C of each map, fine to coarse.
    width: channels at the coarsest map's resolution; a multiple of 16.
    bands: frequency bands between the maps and the mask.
    cell: frames and bins of a cell. The maps know little of single bins.
    use_input: also show the last refinement the log1p magnitude, for finer masks than the maps alone give.
        The published decoders see the maps only.
    narrowest: channels at the finest maps' resolutions, where most of the time goes; None, or a number
        from `width` on: `width` everywhere.

    Raises UsageError for a width that cannot be halved four times, a narrowest that is none of its halves, no
    bands, and a cell of another form.
    """

    def __init__(
        self,
        map_channels: Sequence[int],
        width: int = 128,
        bands: int = 32,
        use_input: bool = False,
        cell: Sequence[int] = (2, 2),
        narrowest: int | None = None,
    ):
        super().__init__()
        if len(cell) != 2 or min(cell) < 1:
            raise UsageError(f"cell={cell!r} must be two whole numbers of 1 or more: frames and bins")
        if width < 16 or width % 16 or bands < 1:
            raise UsageError(f"width={width} must be a positive multiple of 16 and bands={bands} at least 1")
        halves = [width // 2**stage for stage in range(5)]
        narrowest = width if narrowest is None else min(narrowest, width)
        if narrowest not in halves:
            raise UsageError(f"narrowest={narrowest} must be one of {', '.join(map(str, halves))}, the halves of width")
        self.bands, self.use_input, self.cell = bands, use_input, tuple(cell)
        widths = []  # of each map, fine to coarse
        for steps in reversed(range(len(map_channels))):
            widths.append(max(narrowest, width // 2**steps))
        finest = widths[0] if widths else width
        finer_widths = [finest, *widths[:-1]]
        self.projections = nn.ModuleList(
            nn.Conv2d(have, need, 1) for have, need in zip(map_channels, widths, strict=True)
        )
        self.merges = nn.ModuleList(_Refine(before, after) for before, after in zip(widths, finer_widths, strict=False))
        self.position = nn.Parameter(torch.randn(finest, 1, bands) * 0.02)
        self.warp = nn.Linear(bands, bands)
        channels = [max(halves[-1], finest // 2**stage) for stage in range(5)]
        self.ups = nn.ModuleList(_Refine(channels[stage], channels[stage + 1]) for stage in range(3))
        self.ups.append(_Refine(channels[3] + use_input, channels[4]))
        self.last = nn.Conv2d(channels[4], 1, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # on CPU a step takes a quarter less

    def forward(self, maps: Sequence[Tensor], log_magnitude: Tensor) -> Tensor:
        """maps [B, C, h, w], fine to coarse, and log1p magnitude [B, T, F] to float32 logits [B, T, F]."""
        hidden: Tensor | None = None
        for features, project, merge in reversed(list(zip(maps, self.projections, self.merges, strict=True))):
            skip = project(features.to(self.position.dtype, memory_format=torch.channels_last))
            hidden = merge(skip if hidden is None else skip + resize(hidden, skip.shape[2:]))
        if hidden is None:
            raise ValueError("the classifier has no maps to decode")
        hidden = resize(hidden, (hidden.shape[2], self.bands)) + self.position
        hidden = hidden + self.warp(hidden)
        frames, bins = log_magnitude.shape[1:]
        cells = -(-frames // self.cell[0]), -(-bins // self.cell[1])
        start = hidden.shape[2:]
        for stage, up in enumerate(self.ups, start=1):
            share = stage / len(self.ups)
            # A geometric path, so that every stage grows by the same factor at any clip length.
            size = tuple(round(a * (b / a) ** share) for a, b in zip(start, cells, strict=True))
            hidden = resize(hidden, size)
            if self.use_input and stage == len(self.ups):
                pooled = F.adaptive_avg_pool2d(log_magnitude.unsqueeze(1), size)
                hidden = torch.cat((hidden, pooled.to(hidden.dtype)), dim=1)
            hidden = up(hidden)
        return resize(self.last(hidden).float(), (frames, bins)).squeeze(1)


class _PublishedDecoder(nn.Module):
    """What the published decoders share: they take four maps of D, D/2, D/4 and D/8 channels, coarse to fine.

    D is the largest multiple of 8 up to the coarsest map's channels. Other channels are projected by 1 x 1
    convolutions.

    Arguments
    ---------
    map_channels: C of the maps, fine to coarse. instead: the decoder to use for other maps than these.

    Raises UsageError for a number of maps other than four, and for fewer than 8 channels in the coarsest.
    """

    def __init__(self, map_channels: Sequence[int], instead: str):
        super().__init__()
        if len(map_channels) != 4 or map_channels[-1] < 8:
            raise UsageError(
                f"{type(self).__name__} needs four maps with at least 8 channels in the coarsest, and this "
                f"classifier's have {tuple(map_channels)}: use {instead}"
            )
        self.width = map_channels[-1] // 8 * 8
        projections: list[nn.Module] = []
        for shrink, channels in zip((1, 2, 4, 8), reversed(map_channels), strict=True):
            wanted = self.width // shrink
            projections.append(nn.Identity() if channels == wanted else nn.Conv2d(channels, wanted, 1))
        self.projections = nn.ModuleList(projections)

    @property
    def takes_maps_as_they_are(self) -> bool:
        """Whether the classifier's maps have the published channels, so that released weights fit."""
        return all(isinstance(projection, nn.Identity) for projection in self.projections)

    def inputs(self, maps: Sequence[Tensor], rows: int, dtype: torch.dtype) -> list[Tensor]:
        """The maps, fine to coarse, in the order, of the channels and of the sizes that the network takes.

        rows: of the coarsest map.
        """
        sizes = ((rows, 2), (rows, 2), (2 * rows, 5), (4 * rows + 1, 10))
        inputs = []
        for feature_map, project, size in zip(reversed(maps), self.projections, sizes, strict=True):
            pooled = F.adaptive_avg_pool2d(feature_map.to(dtype), size)
            # channels last, as CNN14's maps lie, the gradient of transposed convolutions takes twice as long on a CPU
            inputs.append(project(pooled).contiguous())
        return inputs


class PaperDecoder(_PublishedDecoder):
    """The decoder of the L-MAC paper (SpeechBrain's `CNN14PSI_stft`), for any classifier and clip length.

    Its transposed convolutions fit together only for maps of (a, 2), (a, 2), (2a, 5) and (4a + 1, 10), coarse
    to fine, so maps of other sizes are average-pooled to these with a = T // 32; CNN14's at 431 frames are
    left as they are. Channels other than D, D/2, D/4, D/8 are projected by 1 x 1 convolutions. It has 236.7M
    parameters for CNN14 (D = 2048).

    Arguments
    ---------
    map_channels: C of the four maps, fine to coarse; D is the last.
    fit: how the network's rows, 425 for 431 frames, become frames. "stretch": they are resized. "crop": each is
        the frame of its number, as the published code trained it, and frames beyond the last row repeat it (the
        published code drops them).

    Raises UsageError for a number of maps other than four, fewer than 8 channels in the coarsest, and another fit.
    """

    def __init__(self, map_channels: Sequence[int], fit: str = "stretch"):
        if fit not in FITS:
            raise UsageError(f"fit={fit!r} must be one of {', '.join(FITS)}: crop as published")
        super().__init__(map_channels, instead="LightDecoder")
        self.fit = fit
        self.psi = use_products(CNN14PSI_stft(dim=self.width, outdim=1))

    def forward(self, maps: Sequence[Tensor], log_magnitude: Tensor) -> Tensor:
        """maps [B, C, h, w], fine to coarse, and log1p magnitude [B, T, F] to float32 logits [B, T, F]."""
        frames, bins = log_magnitude.shape[1:]
        rows = max(1, frames // 32)
        logits = self.psi(self.inputs(maps, rows, self.psi.convt1.weight.dtype)).float()  # [B, 1, rows, bins]
        if self.fit == "crop":
            beyond = max(0, frames - logits.shape[2])
            logits = F.pad(logits[:, :, :frames], (0, 0, 0, beyond), mode="replicate")
        return resize(logits, (frames, bins)).squeeze(1)


class MapDecoder(nn.Module):
    """U-Net decoder: a classifier's maps, coarse to fine, to a sequence of features along time.

    Every map passes a 1 x 1 convolution; the coarser result is resized to the next finer map, concatenated
    with it and convolved. Frequency is then averaged into `bands` and joined with the channels: maps may have
    any number, channels and size.

    Arguments
    ---------
    map_channels: C of each map, fine to coarse. width: channels inside. out_channels: of the sequence.
    """

    def __init__(self, map_channels: Sequence[int], width: int, out_channels: int, bands: int = 8):
        super().__init__()
        self.bands = bands
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1), nn.GroupNorm(1, width)) for channels in map_channels
        )
        self.merge = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.GroupNorm(1, width), nn.ReLU())
            for _ in map_channels[1:]
        )
        self.output = nn.Conv1d(width * bands, out_channels, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """maps [B, C, h, w], fine to coarse with h along time, to [B, out_channels, h of the finest]."""
        skips = [lateral(feature_map.float()) for lateral, feature_map in zip(self.lateral, maps, strict=True)]
        x = skips[-1]
        for merge, skip in zip(reversed(self.merge), reversed(skips[:-1]), strict=True):
            x = F.interpolate(x, skip.shape[2:], mode="bilinear", align_corners=False)
            x = merge(torch.cat([x, skip], dim=1))
        x = F.adaptive_avg_pool2d(x, (x.shape[2], self.bands))
        return self.output(x.transpose(2, 3).flatten(1, 2))


class PaperMapDecoder(_PublishedDecoder):
    """The U-Net decoder of the published LMAC-TD, for any classifier and clip length.

    Nine transposed convolutions, with a skip to each of the four maps. They fit together for one size of maps
    only: (13, 2), (13, 2), (26, 5) and (53, 10), coarse to fine, which CNN14 has at 5 s of 16 kHz; other maps are
    average-pooled to these. The result has 11082 steps of 256 features. The published code gives its first 9999
    to the frames of a filterbank with a stride of 8 samples, one to each, without stretching them, and so does
    this. `Codec` has one frame more at each end, which repeats its neighbour.

    It has 139.1M parameters for CNN14. Source: `CNN14PSI_encoderdecoder` in lmac-td-code c431179, whose names the
    convolutions keep. Like there, nothing lies between the last two.

    Arguments
    ---------
    map_channels: C of the four maps, fine to coarse. out_channels: must be 256.

    Raises UsageError for another number of maps, fewer than 8 channels in the coarsest, and other out_channels.
    """

    STEPS = 9999
    ROWS = 13

    def __init__(self, map_channels: Sequence[int], out_channels: int):
        if out_channels != 256:
            raise UsageError(
                f"PaperMapDecoder makes 256 features, and the codec has filters={out_channels}: set filters to 256, "
                "or use MapDecoder"
            )
        super().__init__(map_channels, instead="MapDecoder")
        quarter, eighth, sixteenth = self.width // 4, self.width // 8, max(1, self.width // 16)
        self.convt1 = nn.ConvTranspose2d(self.width, quarter, 7, (3, 2), 1)
        self.convt2 = nn.ConvTranspose2d(self.width // 2, quarter, 7, (3, 2), 1)
        self.convt3 = nn.ConvTranspose2d(quarter, quarter, (12, 11), (3, 2), 1)
        self.convt4 = nn.ConvTranspose2d(quarter, quarter, 7, (5, 4), 1)
        self.convt5 = nn.ConvTranspose2d(quarter, eighth, 7, 2, 1)
        self.convt6 = nn.ConvTranspose2d(eighth, eighth, (7, 11), (5, 4), (2, 1))
        self.convt7 = nn.ConvTranspose2d(eighth, eighth, (4, 3), 2, (0, 5))
        self.convt8 = nn.ConvTranspose2d(eighth, sixteenth, (10, 7), (3, 1), (4, 2))
        self.convt9 = nn.ConvTranspose2d(sixteenth, 1, (8, 10), (7, 3), 0)
        use_products(self)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """maps [B, C, h, w], fine to coarse, to [B, 256, 10001]."""
        coarsest, coarse, fine, finest = self.inputs(maps, self.ROWS, self.convt1.weight.dtype)
        hidden = F.relu(self.convt1(coarsest)) + F.relu(self.convt2(coarse))
        hidden = F.relu(self.convt3(hidden)) + F.relu(self.convt4(fine))
        hidden = F.relu(self.convt5(hidden)) + F.relu(self.convt6(finest))
        hidden = self.convt9(self.convt8(F.relu(self.convt7(hidden))))  # [B, 1, 11082, 256]
        sequence = hidden.squeeze(1).transpose(1, 2)[:, :, : self.STEPS]
        return F.pad(sequence, (1, 1), mode="replicate")


class PaperActivationDecoder(_PublishedDecoder):
    """The decoder of L2I in SpeechBrain (`CNN14PSI_stft_2d`), for any classifier and clip length.

    Its transposed convolutions fit together for maps of (a, 2), (a, 2), (2a, 5) and (4a + 1, 10), coarse to fine, and
    make 32a + 15 steps of them. The published attention has a weight for each of 431 steps, so a = 13: CNN14's maps at
    5 s of 16 kHz are left as they are and have a step for every frame; other maps are average-pooled to these sizes.
    It ends in a ReLU. Channels other than D, D/2, D/4, D/8 are projected by 1 x 1 convolutions. It has 237.6M
    parameters for CNN14 (D = 2048) and 100 components.

    Arguments
    ---------
    map_channels: C of the four maps, fine to coarse; D is the last. out_channels: components.

    Raises UsageError for a number of maps other than four, and for fewer than 8 channels in the coarsest.
    """

    ROWS = 13

    def __init__(self, map_channels: Sequence[int], out_channels: int):
        super().__init__(map_channels, instead="MapDecoder")
        self.psi = use_products(CNN14PSI_stft_2d(dim=self.width, K=out_channels))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """maps [B, C, h, w], fine to coarse, to activations [B, out_channels, 431], 0 or more."""
        return self.psi(self.inputs(maps, self.ROWS, self.psi.convt1.weight.dtype))


class Conv2dActivationDecoder(nn.Module):
    """The decoder of L2I in SpeechBrain for the Conv2d of PIQ's paper (`PsiOptimized`), from the coarsest map alone.

    Its transposed convolutions make 417 steps of a map of (26, 32), which Conv2d has at 5 s of 16 kHz; other maps are
    average-pooled to that size. It ends in a ReLU, and has 3.8M parameters for 256 channels and 100 components.

    Arguments
    ---------
    map_channels: C of the maps, fine to coarse. out_channels: components.

    Raises UsageError where there is no map.
    """

    MAP = (26, 32)
    takes_maps_as_they_are = True

    def __init__(self, map_channels: Sequence[int], out_channels: int):
        if not map_channels:
            raise UsageError("Conv2dActivationDecoder needs a feature map, and this classifier has none")
        super().__init__()
        self.psi = PsiOptimized(map_channels[-1], out_channels, use_adapter=False, adapter_reduce_dim=False)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """maps [B, C, h, w], fine to coarse, to activations [B, out_channels, 417], 0 or more."""
        pooled = F.adaptive_avg_pool2d(maps[-1].to(self.psi.decoder[0].weight.dtype), self.MAP)
        activations, _ = self.psi(pooled)  # [B, 1, 417, out_channels]
        return activations.squeeze(1).transpose(1, 2)
