"""The network of the amortised mask: a small U-Net over the mask's grid that is shown the sound and the activations."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpreters.activation import Activation
from interpreters.mask_grid import MaskGrid, mel_position
from models.classifier import ClassifierInfo


def standardized(plane: Tensor) -> Tensor:
    """Every channel of [B, C, h, w] less its mean and over its deviation in the clip; a constant one becomes 0."""
    centred = plane - plane.mean(dim=(2, 3), keepdim=True)
    deviation = centred.square().mean(dim=(2, 3), keepdim=True).sqrt()
    return centred / deviation.clamp(min=1e-6)


def loudness_gate(plane: Tensor) -> Tensor:
    """Log1p magnitudes [B, 1, h, w] over their root mean square in the clip, same shape: 0 in silence."""
    rms = plane.square().mean(dim=(2, 3), keepdim=True).sqrt()
    return plane / rms.clamp(min=1e-6)


class Refine(nn.Sequential):
    """3 x 3 convolution, normalisation over the clip (the same at every batch size) and SiLU."""

    def __init__(self, before: int, after: int):
        super().__init__(nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(1, after), nn.SiLU())


class MapPlacement(nn.Module):
    """Brings a classifier's feature map, whose columns are spaced as the classifier spaces them, onto mel bands.

    mel_top: Hz at the upper end of the maps where their columns lie on a mel axis, None where they lie evenly up to
    half the sample rate. centres: [bands] Hz. nyquist: Hz.
    """

    position: Tensor

    def __init__(self, centres: Tensor, nyquist: float, mel_top: float | None):
        super().__init__()
        position = centres / nyquist if mel_top is None else mel_position(centres, mel_top)
        self.register_buffer("position", position, persistent=False)  # 0 at the lower end of the map, 1 at the upper

    def forward(self, feature_map: Tensor, rows: int) -> Tensor:
        """[B, C, h, w] to [B, C, rows, bands], bilinear."""
        width = feature_map.shape[3]
        in_time = F.interpolate(feature_map, (rows, width), mode="bilinear", align_corners=False)
        column = (self.position * width - 0.5).clamp(0, width - 1)
        below = column.long()
        above = (below + 1).clamp(max=width - 1)
        weight = (column - below).to(feature_map)
        return torch.lerp(in_time[..., below], in_time[..., above], weight)


class MaskNetwork(nn.Module):
    """Logits of a mask on the grid, from the pooled log1p magnitude, the class's activations and the area asked for.

    The U-Net corrects a starting point, and its last layer starts at 0, so training begins from there. Loudness enters
    in one of two ways:

        gated       as a factor of the class's activations: the U-Net sees every map's Grad-CAM and its product with
                    `loudness_gate`, and starts from that product of the coarsest map
        not gated   beside them: the U-Net sees the level as a channel of its own, and starts from Grad-CAM plus level

    A mask that is not gated keeps the loudness in it whatever the classifier says. With the gate, loudness counts for
    or against a place as the class's activation does, and where that is 0, for nothing.

    Arguments
    ---------
    info: of the classifier. grid: of the mask. gated: see above. channels: of the U-Net's levels, fine to coarse, two
    or more. cam_weight: of the standardised Grad-CAM in the start. level_weight: of the standardised level there, where
    it is not gated. Both are learned on.
    """

    def __init__(
        self,
        info: ClassifierInfo,
        grid: MaskGrid,
        gated: bool,
        channels: Sequence[int] = (24, 32, 48, 64),
        cam_weight: float = 2.0,
        level_weight: float = 1.5,
    ):
        super().__init__()
        self.gated = gated
        self.grid = grid
        count = len(info.map_channels)
        levels = len(channels)
        centres = grid.band_centres()
        placements = []
        for _ in range(levels):
            placements.append(MapPlacement(centres, grid.nyquist, info.mel_top))
            centres = centres.unfold(0, 2, 2).mean(dim=1)
        self.placements = nn.ModuleList(placements)
        self.level_of_map = [max(0, levels - count + number) for number in range(count)]
        of_loudness = count if gated else 1
        shown = of_loudness + 1 + count  # between them the area, at the end Grad-CAM of every map
        self.first = Refine(shown, channels[0])
        self.downs = nn.ModuleList(Refine(before, after) for before, after in pairwise(channels))
        self.projections = nn.ModuleList(
            nn.Conv2d(map_channels, channels[level], 1)
            for map_channels, level in zip(info.map_channels, self.level_of_map, strict=True)
        )
        self.ups = nn.ModuleList(Refine(after + before, before) for before, after in pairwise(channels))
        self.last = nn.Conv2d(channels[0], 1, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        self.prior = nn.Parameter(torch.tensor([cam_weight] if gated else [cam_weight, level_weight]))

    def forward(self, log_magnitude: Tensor, activations: Sequence[Activation], area: Tensor) -> Tensor:
        """log1p magnitude [B, T, F], activations of B clips and area [B] in (0, 1) to logits [B, rows, bands]."""
        pooled = self.grid.pool(log_magnitude).unsqueeze(1)
        cams = []
        for activation in activations:
            cams.append(standardized(self.placements[0](activation.cam, pooled.shape[2])))
        if self.gated:
            gate = loudness_gate(pooled)
            loudness = [cam * gate for cam in cams]
            start = self.prior[0] * loudness[-1]
        else:
            loudness = [standardized(pooled)]
            start = self.prior[0] * cams[-1] + self.prior[1] * loudness[0]
        asked = area.log()[:, None, None, None].expand_as(pooled)
        hidden = self.first(torch.cat([*loudness, asked, *cams], dim=1))
        skips = []
        for depth in range(len(self.downs) + 1):
            hidden = hidden + self._activations_at(depth, activations, hidden.shape[2])
            if depth < len(self.downs):
                skips.append(hidden)
                hidden = self.downs[depth](F.avg_pool2d(hidden, 2, ceil_mode=True))
        for skip, up in zip(reversed(skips), reversed(self.ups), strict=True):
            grown = F.interpolate(hidden, skip.shape[2:], mode="bilinear", align_corners=False)
            hidden = up(torch.cat([grown, skip], dim=1))
        return (start + self.last(hidden)).squeeze(1)

    def _activations_at(self, depth: int, activations: Sequence[Activation], rows: int) -> Tensor | float:
        """What the maps that belong to a level of the U-Net say there: [B, channels, rows, bands], or 0."""
        total = 0.0
        for activation, level, project in zip(activations, self.level_of_map, self.projections, strict=True):
            if level == depth:
                total = total + self.placements[depth](project(activation.product), rows)
        return total
