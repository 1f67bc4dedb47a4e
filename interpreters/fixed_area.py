"""Explanations as binary masks of a stated area, and masks of that area which know nothing of the classifier.

Methods cut at one area cannot win by keeping more. What they are held against looks at the sound alone: its loudest
bins, its loudest patches (a mask of whole patches leaks less than scattered bins, so resolution counts), patches drawn
at random, a constant, and the loudest bins that hold as much log energy as the method's own mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from interpreters.maps import clip_seed

PATCH = (8, 16)  # frames by bins: 93 ms by 250 Hz in the papers' front end


def top_share(importance: Tensor, area: float, seed: int = 0) -> Tensor:
    """[B, T, F] 1 on the round(area T F) most important bins, at least one, and 0 on the rest.

    importance: [B, T, F] of any sign and scale. area: in (0, 1]. Of equally important bins those in patches drawn first
    are taken, in an order that follows from `seed` and is the same for every clip: were they drawn bin by bin, a map
    that is level over large parts would be cut into scattered bins, which tell a classifier more than they look.
    """
    frames, bins = importance.shape[1:]
    count = max(1, round(area * frames * bins))
    drawn = _patch_order(frames, bins, seed).to(importance.device)
    values = importance.flatten(1)[:, drawn]
    # a sort takes three times as long
    smallest = values.kthvalue(frames * bins - count + 1, dim=1, keepdim=True).values
    above, equal = values > smallest, values == smallest
    missing = count - above.sum(dim=1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(dim=1) <= missing))
    mask = torch.empty_like(values)
    mask[:, drawn] = chosen.to(mask.dtype)
    return mask.view_as(importance)


def loudest_patches(log_magnitude: Tensor, patch: tuple[int, int] = PATCH) -> Tensor:
    """[B, T, F] the mean log1p magnitude of the patch that each bin lies in; patches at the end may be cut short."""
    frames, bins = log_magnitude.shape[1:]
    means = F.avg_pool2d(log_magnitude.unsqueeze(1), patch, ceil_mode=True, count_include_pad=False)
    return _enlarged(means.squeeze(1), patch, frames, bins)


def random_patches(log_magnitude: Tensor, seed: int, patch: tuple[int, int] = PATCH) -> Tensor:
    """[B, T, F] one random number for each patch; a clip's draw follows from its content and `seed`."""
    frames, bins = log_magnitude.shape[1:]
    drawn = []
    for clip in log_magnitude:
        generator = torch.Generator().manual_seed(clip_seed(clip, seed))
        drawn.append(torch.rand(_patches(frames, bins, patch), generator=generator))
    return _enlarged(torch.stack(drawn).to(log_magnitude), patch, frames, bins)


def equal_energy(log_magnitude: Tensor, mask: Tensor) -> Tensor:
    """[B, T, F] the loudest bins, as many as hold at most the log1p magnitude that the mask [B, T, F] keeps, or one."""
    loudest, order = log_magnitude.flatten(1).double().sort(dim=1, descending=True, stable=True)
    allowed = (log_magnitude.double() * mask).sum(dim=(1, 2))
    within = loudest.cumsum(dim=1) <= allowed[:, None] * (1 + 1e-9)
    within[:, 0] = True
    kept = torch.zeros_like(log_magnitude).flatten(1).scatter_(1, order, within.to(log_magnitude.dtype))
    return kept.view_as(log_magnitude)


def _patches(frames: int, bins: int, patch: tuple[int, int]) -> tuple[int, int]:
    """Patches along time and frequency, those cut short among them."""
    return -(-frames // patch[0]), -(-bins // patch[1])


def _enlarged(values: Tensor, patch: tuple[int, int], frames: int, bins: int) -> Tensor:
    """[B, rows, columns] to [B, frames, bins], every bin with the value of its patch."""
    rows = torch.arange(frames, device=values.device) // patch[0]
    columns = torch.arange(bins, device=values.device) // patch[1]
    return values[:, rows[:, None], columns]


def _patch_order(frames: int, bins: int, seed: int) -> Tensor:
    """[frames bins] positions in the flattened plane, patch after patch, the patches in an order drawn from `seed`."""
    rows, columns = _patches(frames, bins, PATCH)
    place = torch.randperm(rows * columns, generator=torch.Generator().manual_seed(seed))
    turn = _enlarged(place.view(1, rows, columns), PATCH, frames, bins)
    return turn.flatten().argsort(stable=True)
