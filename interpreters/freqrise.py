"""FreqRISE: random masks of the spectrogram, each weighted by the score of what it leaves.

Brüsch et al., FreqRISE: Explaining time series using frequency masking, 2024 (arXiv 2406.13584), in its form for the
STFT; the masks are RISE's (Petsiuk et al., BMVC 2018, arXiv 1806.07421). It asks the classifier for answers only.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from interpreters.gradients import Attribution, ClassScore
from models.classifier import ClassifierInfo
from models.errors import UsageError


class FreqRISE(Attribution):
    """Importance of a bin: the mean of f(M X) M over random masks M, divided by the share p that a mask keeps.

    A mask is a coarse grid whose cells are 1 with probability p and else 0, enlarged bilinearly and shifted by a random
    part of a cell, as in RISE: its values lie in [0, 1].

    Arguments
    ---------
    output: what is measured, "probability" (the papers'), "logit" or "log_odds" of the asked class.
    cell: frames and bins of a cell. keep: p, in (0, 1). samples: masks, each a pass of the classifier.
    chunk, seed, quantile: as the base has them.

    Raises UsageError for an argument out of range.
    """

    requires = frozenset()
    methods = ("freqrise",)

    def __init__(
        self,
        info: ClassifierInfo,
        output: str = "probability",
        cell: Sequence[int] = (16, 32),
        keep: float = 0.5,
        samples: int = 300,
        chunk: int = 8,
        seed: int = 1234,
        quantile: float | Sequence[float] | None = 0.9,
    ):
        super().__init__(info, "freqrise", output, samples, chunk, seed, quantile)
        if len(cell) != 2 or min(cell) < 1:
            raise UsageError(f"cell={cell!r} must be two whole numbers of 1 or more: frames and bins")
        if not 0 < keep < 1:
            raise UsageError(f"keep={keep} must be in (0, 1)")
        self.cell, self.keep = tuple(cell), keep

    @torch.no_grad()
    def attribute(self, score: ClassScore, log_magnitude: Tensor) -> Tensor:
        frames, bins = log_magnitude.shape[1:]
        total = torch.zeros_like(log_magnitude)
        for first in range(0, self.samples, self.chunk):
            count = min(self.chunk, self.samples - first)
            masks = torch.stack([self.draw_mask(frames, bins) for _ in range(count)]).to(log_magnitude)
            total += (score(log_magnitude * masks)[:, None, None] * masks).sum(dim=0)
        return total / (self.samples * self.keep)

    def draw_mask(self, frames: int, bins: int) -> Tensor:
        """One mask [frames, bins] in [0, 1] from torch's generator."""
        height, width = (min(size, cell) for size, cell in zip((frames, bins), self.cell, strict=True))
        # one cell more than fits, so that the grid can be shifted by up to a cell
        rows, columns = -(-frames // height) + 1, -(-bins // width) + 1
        grid = (torch.rand(1, 1, rows, columns) < self.keep).float()
        enlarged = F.interpolate(grid, (rows * height, columns * width), mode="bilinear", align_corners=False)
        top, left = (int(torch.randint(cell, ())) for cell in (height, width))
        return enlarged[0, 0, top : top + frames, left : left + bins]
