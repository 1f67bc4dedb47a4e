"""Extremal perturbation: the mask of a stated area that best keeps the asked class, sought for every clip anew.

Fong, Patrick and Vedaldi, Understanding Deep Networks via Extremal Perturbations and Smooth Masks, ICCV 2019 (arXiv
1910.08485). There the area is a penalty that grows and the mask ends near 0 or 1; here it is exact at every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from interpreters.gradients import Gradient
from interpreters.maps import MapInterpreter
from interpreters.mask_grid import MaskGrid
from interpreters.masking import checked_weights, evidence_of_parts
from interpreters.removal import filled, noise_floor
from models.classifier import AudioClassifier, ClassifierInfo, Evidence
from models.errors import UsageError
from models.frontend import Spectrogram
from models.settings import SettingsGroup

STARTS = ("grad_cam", "flat")
REMOVALS = ("silence", "noise")
TIE_BREAK = 1e-3  # deviation of what is added to the start, whose own deviation is 1
SOFTNESS = 0.3  # of the step that the gradient sees
GRID_SOFTNESS = 1.0  # of that step on a mel grid


@dataclass(frozen=True)
class Cells(SettingsGroup):
    """The cells of a mask, each shown or hidden as a whole.

    cell: frames and bins of one; they divide the plane evenly, so cells may be one larger. bands: mel bands in place of
    the bins of a cell (`MaskGrid`), as the classifier hears the plane; None: even cells.
    """

    cell: Sequence[int] = (8, 16)
    bands: int | None = None

    def check(self) -> None:
        if len(self.cell) != 2 or min(self.cell) < 1:
            raise UsageError(f"cell={self.cell!r} must be two whole numbers of 1 or more: frames and bins")


@dataclass(frozen=True)
class StartingMap(SettingsGroup):
    """Where the search starts: strength times Grad-CAM and level times the log1p magnitude of the cells.

    Each is scaled to mean 0 and deviation 1. start: "grad_cam" of the asked class, or "flat", without its part.
    """

    start: str = "grad_cam"
    strength: float = 1.0
    level: float = 0.0

    def check(self) -> None:
        if self.start not in STARTS:
            raise UsageError(f"start={self.start!r} must be one of {', '.join(STARTS)}")
        checked_weights("Extremal", strength=self.strength, level=self.level)


@dataclass(frozen=True)
class Search(SettingsGroup):
    """The steps of the search, and the areas that they keep in turn.

    areas: shares of the plane in (0, 1), a number or several. steps: of Adam. rate: its learning rate. chunk: clips
    that are optimised together; with 1, a clip has the same answer to the bit in any company. seed: of the noise and of
    the order of equal scores.
    """

    areas: float | Sequence[float] = (0.1, 0.2)
    steps: int = 30
    rate: float = 0.3
    chunk: int = 1
    seed: int = 1234

    def check(self) -> None:
        if not self.shares or not all(0 < area < 1 for area in self.shares):
            raise UsageError(f"areas={self.areas!r} must be a number in (0, 1) or a list of them")
        if self.steps < 1 or self.chunk < 1 or self.rate <= 0:
            raise UsageError(
                f"steps={self.steps} and chunk={self.chunk} must be 1 or more, and rate={self.rate} above 0"
            )

    @property
    def shares(self) -> tuple[float, ...]:
        """The areas in the order of their turns."""
        return tuple(self.areas) if isinstance(self.areas, Sequence) else (self.areas,)


@dataclass(frozen=True)
class Objective(SettingsGroup):
    """What the steps minimise: the weights of its terms, 0 or more, as `Extremal` names them.

    margin: in nats of log-odds. With it the kept part must be surer of the class than the whole clip, by so much, and
    is pushed no further; None: it must be as sure as can be, by cross-entropy, whose push fades as it gets there.
    removal: what takes the place of what is removed, in the search only: "silence", or "noise", white and 40 dB below
    the clip, drawn anew at every step. Another clip is not offered, since a clip must have the same answer in any
    company.
    """

    keep: float = 1.0
    remove: float = 1.0
    hold: float = 1.0
    smoothness: float = 0.0
    removal: str = "silence"
    margin: float | None = None

    def check(self) -> None:
        checked_weights("Extremal", keep=self.keep, remove=self.remove, hold=self.hold, smoothness=self.smoothness)
        if self.removal not in REMOVALS:
            raise UsageError(f"removal={self.removal!r} must be one of {', '.join(REMOVALS)}")


class Extremal(MapInterpreter):
    """Scores on a coarse grid of cells, of which the highest share is the mask, improved by gradient steps.

    Every step keeps exactly the cells of the highest scores, as many as an area of `search` says; the areas take turns.
    The gradient passes to the scores as if the mask were sigmoid((score - threshold) / softness): straight-through,
    softness 0.3 on even cells and 1 on mel bands. Per clip, with c the asked class, s the scores and s_0 those of the
    start,

        keep    w_k CE(f(kept), c), or with a margin m in log-odds l: w_k max(0, l_c(X) + m - l_c(kept))
        remove  w_r f_c(removed)
        hold    w_h mean (s - s_0)^2
        smoothness  w_s mean (difference of neighbouring scores)^2

    The scores after the last step are the importance, from which the quantile cuts the mask.

    `hold` keeps the mask near what the start knows. Without it, and with more steps, the mask serves the classifier
    better and points less at the sound's true source.

    Raises UsageError for grad_cam on a classifier without feature maps.
    """

    requires = frozenset({"gradient"})
    answers_any_class = True

    def __init__(
        self,
        info: ClassifierInfo,
        search: Search = Search(),
        cells: Cells = Cells(),
        starting_map: StartingMap = StartingMap(),
        objective: Objective = Objective(),
        quantile: float | Sequence[float] | None = 0.8,
    ):
        super().__init__(info, quantile)
        from_cam = starting_map.start == "grad_cam"
        if from_cam and "maps" not in info.provides:
            raise UsageError("start='grad_cam' needs feature maps, and this classifier has none: use start: flat")
        self.search, self.cells, self.starting_map, self.objective = search, cells, starting_map, objective
        self.grid = None
        if cells.bands is not None:
            self.grid = MaskGrid(info.n_fft // 2 + 1, info.sample_rate, cells.cell[0], cells.bands)
        self.grad_cam = Gradient(info, "grad_cam") if from_cam else None

    def importance(self, classifier, spectrogram, evidence, target=None):
        target = self.asked_class(evidence, target)
        frames, bins = spectrogram.log_magnitude.shape[1:]
        start = self._flat_start(len(spectrogram), frames, bins).to(spectrogram.log_magnitude.device)
        if self.grad_cam is not None:
            cam = self.grad_cam.importance(classifier, spectrogram, evidence, target)
            start = start + self.starting_map.strength * _standardized(self._pooled(cam, start))
        if self.starting_map.level:
            start = start + self.starting_map.level * _standardized(self._pooled(spectrogram.log_magnitude, start))
        return self.improved(classifier, spectrogram, target, start)

    def improved(self, classifier: AudioClassifier, spectrogram: Spectrogram, target: Tensor, start: Tensor) -> Tensor:
        """The importance [B, T, F] after all steps from the scores [B, rows, columns] of a start."""
        scores = []
        for first in range(0, len(spectrogram), self.search.chunk):
            clips = slice(first, first + self.search.chunk)
            scores.append(self.optimise(classifier, spectrogram[clips], target[clips], start[clips]))
        return self.enlarge(torch.cat(scores), spectrogram)

    def cut(self, scores: Tensor, area: float, clips: Spectrogram) -> Tensor:
        """[B, rows, columns] 1 on the cells of the highest scores that make up the area, with a gradient."""
        if self.grid is None:
            return exact_share(scores, area)
        return covering_share(scores, area, self.grid.share(clips.log_magnitude.shape[1]))

    def enlarge(self, cells: Tensor, clips: Spectrogram) -> Tensor:
        """[B, rows, columns] on the grid to [B, T, F], every bin with the value of its cell."""
        frames, bins = clips.log_magnitude.shape[1:]
        return _enlarged(cells, frames, bins) if self.grid is None else self.grid.enlarge(cells, frames)

    @torch.enable_grad()
    def optimise(self, classifier: AudioClassifier, clips: Spectrogram, target: Tensor, start: Tensor) -> Tensor:
        """The scores [B, rows, columns] after all steps, from those of the start, for the target [B]."""
        scores = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([scores], lr=self.search.rate)
        areas = self.search.shares
        goal = self.goal(classifier, clips, target)
        for step in range(self.search.steps):
            mask = self.enlarge(self.cut(scores, areas[step % len(areas)], clips), clips)
            of_kept, of_removed = self.heard_parts(classifier, clips, mask, step)
            objective = self.faithfulness(of_kept, of_removed, target, goal) + self.penalty(scores, start)
            (scores.grad,) = torch.autograd.grad(objective.sum(), scores)
            optimizer.step()
        return scores.detach()

    @torch.no_grad()
    def goal(self, classifier: AudioClassifier, clips: Spectrogram, target: Tensor) -> Tensor | None:
        """[B] the log-odds of the target that the kept part must reach; None without a margin."""
        if self.objective.margin is None:
            return None
        return classifier(clips).log_odds(target) + self.objective.margin

    def heard_parts(
        self, classifier: AudioClassifier, clips: Spectrogram, mask: Tensor, step: int
    ) -> tuple[Evidence, Evidence]:
        """What the classifier says of what a mask [B, T, F] keeps and of what it removes."""
        kept, removed = clips.masked(mask), clips.masked(1 - mask)
        if self.objective.removal == "noise":
            floor = noise_floor(clips, self.search.seed + step)
            kept, removed = filled(clips, mask, floor), filled(clips, 1 - mask, floor)
        return evidence_of_parts(classifier, kept, removed)

    def faithfulness(self, of_kept: Evidence, of_removed: Evidence, target: Tensor, goal: Tensor | None) -> Tensor:
        """[B] keep and remove terms for the target [B], by a `goal` where there is one; smaller is better."""
        lacking = of_kept.surprise(target)
        if goal is not None:
            lacking = (goal - of_kept.log_odds(target)).clamp(min=0)
        probability = of_removed.surprise(target).neg().exp()
        return self.objective.keep * lacking + self.objective.remove * probability

    def penalty(self, scores: Tensor, start: Tensor) -> Tensor:
        """[B] hold and smoothness terms of the scores [B, rows, columns]."""
        moved = (scores - start).square().mean(dim=(1, 2))
        rough = scores.diff(dim=1).square().sum(dim=(1, 2)) + scores.diff(dim=2).square().sum(dim=(1, 2))
        return self.objective.hold * moved + self.objective.smoothness * rough / scores[0].numel()

    def _flat_start(self, clips: int, frames: int, bins: int) -> Tensor:
        """[B, rows, columns] next to 0, the same for every clip: the order in which equal scores are taken."""
        if self.grid is None:
            height, width = self.cells.cell
            rows, columns = max(1, round(frames / height)), max(1, round(bins / width))
        else:
            rows, columns = self.grid.rows(frames), self.grid.bands
        generator = torch.Generator().manual_seed(self.search.seed)
        return TIE_BREAK * torch.randn(rows, columns, generator=generator).expand(clips, -1, -1)

    def _pooled(self, plane: Tensor, start: Tensor) -> Tensor:
        """[B, T, F] to the mean of every cell, in the shape of the start."""
        if self.grid is not None:
            return self.grid.pool(plane)
        return F.adaptive_avg_pool2d(plane, (start.shape[1], start.shape[2]))


def exact_share(scores: Tensor, area: float) -> Tensor:
    """[B, rows, columns] 1 on the round(area x cells) highest scores of a clip, at least one, and 0 on the rest.

    Its gradient is that of sigmoid((scores - threshold) / SOFTNESS), the threshold being the lowest score that is kept.
    """
    flat = scores.flatten(1)
    highest = flat.topk(max(1, round(area * flat.shape[1])), dim=1)
    mask = torch.zeros_like(flat).scatter(1, highest.indices, 1.0)
    return _straight_through(mask, flat - highest.values[:, -1:].detach(), SOFTNESS).view_as(scores)


def covering_share(scores: Tensor, area: float, share: Tensor) -> Tensor:
    """As `exact_share`, for cells that cover unequal shares of the plane: the highest that fit into the area together.

    share: [rows, columns], their sum is 1. At least one cell is kept; the gradient's softness is `GRID_SOFTNESS`.
    """
    flat = scores.flatten(1)
    ordered, order = flat.detach().sort(dim=1, descending=True)
    covered = share.flatten()[order].cumsum(dim=1)
    count = (covered <= area * (1 + 1e-6)).sum(dim=1, keepdim=True).clamp(min=1)
    threshold = ordered.gather(1, count - 1)
    mask = (flat >= threshold).to(flat.dtype)
    return _straight_through(mask, flat - threshold, GRID_SOFTNESS).view_as(scores)


def _straight_through(mask: Tensor, above: Tensor, softness: float) -> Tensor:
    """A binary mask with the gradient of sigmoid(above / softness). above: what scores are more than the threshold."""
    soft = torch.sigmoid(above / softness)
    return mask + (soft - soft.detach())


def _standardized(maps: Tensor) -> Tensor:
    """Maps [B, rows, columns] with mean 0 and deviation 1 each; a constant one becomes 0.

    Unlike `interpreters.amortized_network.standardized`, it has no floor under the deviation: the start of the search
    is scaled to deviation 1 however faint the map.
    """
    deviation, mean = torch.std_mean(maps, dim=(1, 2), correction=0, keepdim=True)
    return torch.where(deviation > 0, (maps - mean) / deviation, 0.0)


def _enlarged(cells: Tensor, frames: int, bins: int) -> Tensor:
    """[B, rows, columns] to [B, frames, bins], every bin with the value of its cell."""
    return F.interpolate(cells.unsqueeze(1), (frames, bins), mode="nearest").squeeze(1)
