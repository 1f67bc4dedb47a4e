"""Relaxed binary masks of a stated area: what is learned in training is what a cut at that area keeps afterwards.

Sources: Maddison, Mnih and Teh, The Concrete Distribution, ICLR 2017 (logistic noise and a temperature); Fong, Patrick
and Vedaldi, Understanding Deep Networks via Extremal Perturbations, ICCV 2019 (area as a constraint, not a penalty).
"""

import torch
from torch import Tensor

BISECTIONS = 30  # halves an interval of 100 to 1e-7
MARGIN = 20.0  # sigmoid(20) is 1 - 2e-9


@torch.no_grad()
def offset_for_area(logits: Tensor, area: Tensor, share: Tensor) -> Tensor:
    """[B] the offset b at which sigmoid(logits - b), weighted by the cells' shares of the plane, has the area asked.

    logits: [B, rows, bands]. area: [B] in (0, 1). share: [rows, bands], the part of the plane that each cell covers,
    summing to 1. Found by bisection, without a gradient.
    """
    low = logits.amin(dim=(1, 2)) - MARGIN
    high = logits.amax(dim=(1, 2)) + MARGIN
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        kept = (torch.sigmoid(logits - middle[:, None, None]) * share).sum(dim=(1, 2))
        too_much = kept > area
        low = torch.where(too_much, middle, low)
        high = torch.where(too_much, high, middle)
    return (low + high) / 2


def relaxed_binary(logits: Tensor, temperature: float) -> Tensor:
    """A draw of a mask in (0, 1) from logits of any shape, the nearer to 0 and 1 the lower the temperature (above 0).

    In the limit each cell is 1 with probability sigmoid(logit), independently of the rest.
    """
    uniform = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
    logistic = torch.log(uniform) - torch.log(1 - uniform)
    return torch.sigmoid((logits + logistic) / temperature)
