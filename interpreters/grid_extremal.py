"""Extremal perturbation on the cells of a mask grid, which cover unequal shares of the plane."""

import torch
from torch import Tensor

from interpreters.extremal import Extremal
from interpreters.mask_grid import MaskGrid
from models.classifier import ClassifierInfo
from models.frontend import Spectrogram

SOFTNESS = 1.0  # of the step that the gradient sees


class GridExtremal(Extremal):
    """`Extremal` with a `MaskGrid` in the place of its even one; the start is given to `improved`.

    Arguments
    ---------
    grid: of the scores. area: share of the plane that every step keeps. steps, keep, hold: as `Extremal` has them.
    """

    def __init__(self, info: ClassifierInfo, grid: MaskGrid, area: float, steps: int, keep: float, hold: float):
        super().__init__(info, areas=area, steps=steps, keep=keep, hold=hold, start="flat")
        self.grid = grid

    def cut(self, scores: Tensor, area: float, clips: Spectrogram) -> Tensor:
        """[B, rows, bands] 1 on the highest scores that cover at most the area together, at least one, and 0 elsewhere.

        Its gradient is that of sigmoid((scores - threshold) / SOFTNESS), the threshold being the lowest score kept.
        """
        flat = scores.flatten(1)
        ordered, order = flat.detach().sort(dim=1, descending=True)
        covered = self.grid.share(clips.log_magnitude.shape[1]).flatten()[order].cumsum(dim=1)
        count = (covered <= area * (1 + 1e-6)).sum(dim=1, keepdim=True).clamp(min=1)
        threshold = ordered.gather(1, count - 1)
        mask = (flat >= threshold).to(flat.dtype)
        soft = torch.sigmoid((flat - threshold) / SOFTNESS)
        return (mask + (soft - soft.detach())).view_as(scores)

    def enlarge(self, cells: Tensor, clips: Spectrogram) -> Tensor:
        """[B, rows, bands] to [B, T, F], every bin with the value of its cell."""
        return self.grid.enlarge(cells, clips.log_magnitude.shape[1])
